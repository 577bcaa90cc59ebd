//! Exchanges on the screen, without what is secret in them.

use std::sync::Mutex;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, LOCATION},
};
use serde_json::Value;
use tower_oauth::Token;

/// Prints, and remembers the secrets that went out, so that a server which repeats one does not
/// give it away.
#[derive(Default)]
pub(crate) struct Printer {
    secrets: Mutex<Vec<String>>,
}

impl Printer {
    pub(crate) fn request(&self, to: &str, method: &Method, url: &str, headers: &HeaderMap) {
        // A query may have keys in it.
        let (url, query) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?.."));
        println!("To {to}:\n  > {method} {url}{query}");
        self.headers('>', headers);
    }

    pub(crate) fn response(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) {
        println!("  < {status}");
        self.headers('<', headers);
        self.text('<', headers, body);
    }

    pub(crate) fn body(&self, headers: &HeaderMap, body: Option<&[u8]>) {
        self.text('>', headers, body.unwrap_or_default());
    }

    fn headers(&self, mark: char, headers: &HeaderMap) {
        for (name, value) in headers {
            let text = value.to_str().unwrap_or("..");
            let shown = match name {
                // The scheme says how, the rest is secret.
                _ if *name == AUTHORIZATION => {
                    let (scheme, secret) = text.split_once(' ').unwrap_or(("", text));
                    self.remember(secret);
                    self.remember_basic(secret);
                    format!("{scheme} ({} characters)", secret.len())
                }
                // A query may have keys in it.
                _ if *name == LOCATION => {
                    self.scrubbed(text.split('?').next().unwrap_or_default(), 300)
                }
                _ if value.is_sensitive() || !is_harmless(name) => "..".to_owned(),
                _ => self.scrubbed(text, 300),
            };
            println!("  {mark} {name}: {shown}");
        }
    }

    /// A form, JSON, or a piece of whatever it is.
    fn text(&self, mark: char, headers: &HeaderMap, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        if kind.starts_with("application/x-www-form-urlencoded") {
            for (name, value) in form_urlencoded::parse(body) {
                println!("  {mark}   {} = {}", self.scrubbed(&name, 60), self.value(&name, &value));
            }
        } else if let Ok(Value::Object(members)) = serde_json::from_slice(body) {
            for (name, value) in &members {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                println!("  {mark}   {} = {}", self.scrubbed(name, 60), self.value(name, &text));
            }
        } else {
            let text = self.scrubbed(&String::from_utf8_lossy(body), 300);
            println!("  {mark}   {text} ({} bytes)", body.len());
        }
    }

    fn value(&self, name: &str, value: &str) -> String {
        if SECRET.contains(&name) {
            self.remember(value);
            return format!("({} characters)", value.len());
        }
        self.scrubbed(value, 300)
    }

    fn remember(&self, secret: &str) {
        if let Ok(mut secrets) = self.secrets.lock()
            && !secret.is_empty()
        {
            secrets.push(secret.to_owned());
        }
    }

    /// The client's secret itself, as a server may repeat it.
    fn remember_basic(&self, encoded: &str) {
        let decoded = BASE64_STANDARD.decode(encoded).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, secret)) = text.as_deref().and_then(|text| text.split_once(':')) {
            self.remember(secret);
            let pair = format!("s={secret}");
            for (_, secret) in form_urlencoded::parse(pair.as_bytes()) {
                self.remember(&secret);
            }
        }
    }

    /// One line of at most so many characters, without the secrets that are known.
    fn scrubbed(&self, text: &str, cap: usize) -> String {
        let mut text = text.to_owned();
        if let Ok(secrets) = self.secrets.lock() {
            for secret in &*secrets {
                text = text.replace(secret, "..");
            }
        }
        let mut line: String = text.chars().flat_map(char::escape_debug).take(cap).collect();
        if text.len() > cap {
            line.push_str("...");
        }
        line.replace("\\\"", "\"")
    }
}

/// What a token is, and what a JWT says about itself.
pub(crate) fn token(token: &Token) {
    let text = token.access_token().expose();
    println!("  {} characters", text.len());
    let payload = text.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims = payload.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    for name in ["iss", "aud", "scope", "scp", "roles", "exp"] {
        if let Some(claim) = claims.as_ref().and_then(|claims| claims.get(name)) {
            println!("  {name}: {claim}");
        }
    }
}

/// Whether a header's value helps, and is nobody's secret.
fn is_harmless(name: &HeaderName) -> bool {
    let harmless = [
        "accept",
        "cache-control",
        "content-length",
        "content-type",
        "date",
        "host",
        "location",
        "retry-after",
        "server",
        "user-agent",
        "www-authenticate",
    ];
    harmless.contains(&name.as_str())
}

const SECRET: [&str; 12] = [
    "access_token",
    "actor_token",
    "assertion",
    "client_assertion",
    "client_secret",
    "code",
    "device_code",
    "id_token",
    "password",
    "refresh_token",
    "subject_token",
    "token",
];
