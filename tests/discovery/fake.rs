//! The Internet inside the test: what is at which URL, and who asked for it.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use serde_json::{Value, json};
use tower::service_fn;
use tower_oauth::{Discovery, FetchContext, TokenSource, Transport};

pub(crate) const ISSUER: &str = "https://idp.example";
pub(crate) const METADATA: &str = "https://idp.example/.well-known/oauth-authorization-server";
pub(crate) const OPENID: &str = "https://idp.example/.well-known/openid-configuration";
pub(crate) const TOKEN: &str = "https://idp.example/token";
pub(crate) const REVOKE: &str = "https://idp.example/revoke";
pub(crate) const INTROSPECT: &str = "https://idp.example/introspect";

/// What is answered; `None` loses the answer.
pub(crate) type Reply = Option<Response<String>>;

#[expect(clippy::unnecessary_wraps, reason = "as a reply that is lost")]
pub(crate) fn reply(status: u16, body: impl Into<String>) -> Reply {
    Some(Response::builder().status(status).body(body.into()).unwrap())
}

pub(crate) fn with_header(reply: Reply, name: &'static str, value: &str) -> Reply {
    reply.map(|mut reply| {
        reply.headers_mut().insert(name, value.parse().unwrap());
        reply
    })
}

/// The metadata of [`ISSUER`], with more members.
pub(crate) fn metadata(more: &Value) -> Reply {
    let mut all = json!({
        "issuer": ISSUER,
        "token_endpoint": TOKEN,
        "revocation_endpoint": REVOKE,
        "introspection_endpoint": INTROSPECT,
    });
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    reply(200, all.to_string())
}

pub(crate) fn granted() -> Reply {
    reply(200, r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#)
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn params(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    pub(crate) fn param(&self, name: &str) -> Option<String> {
        let found: Vec<_> = self.params().into_iter().filter(|(known, _)| known == name).collect();
        assert!(found.len() <= 1, "{name} is there twice");
        found.into_iter().next().map(|(_, value)| value)
    }

    /// The claims of the client's assertion.
    #[cfg(feature = "private-key-jwt")]
    pub(crate) fn claims(&self) -> Value {
        let assertion = self.param("client_assertion").expect("an assertion");
        let claims = assertion.split('.').nth(1).unwrap();
        let claims = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims);
        serde_json::from_slice(&claims.unwrap()).unwrap()
    }

    /// How many credentials of a client are in it, and of which kind.
    pub(crate) fn credentials(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        if self.headers.contains_key("authorization") {
            found.push("header");
        }
        for (name, kind) in [("client_secret", "secret"), ("client_assertion", "assertion")] {
            found.extend(self.param(name).map(|_| kind));
        }
        found
    }
}

#[derive(Clone, Default)]
pub(crate) struct Internet(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Where there is nothing, the answer is 404.
    pages: HashMap<String, Reply>,
    seen: Vec<Seen>,
}

impl Internet {
    /// An issuer whose metadata has these members too, and its endpoints.
    pub(crate) fn with_issuer(more: &Value) -> Self {
        let internet = Self::default();
        internet.put(METADATA, metadata(more));
        internet.put(TOKEN, granted());
        internet.put(REVOKE, reply(200, ""));
        internet.put(INTROSPECT, reply(200, r#"{"active":true}"#));
        internet
    }

    pub(crate) fn put(&self, url: &str, reply: Reply) {
        self.0.lock().unwrap().pages.insert(url.to_owned(), reply);
    }

    pub(crate) fn transport(&self) -> Transport {
        let internet = self.clone();
        Transport::new(service_fn(move |request| {
            let reply = internet.take(request);
            async move {
                // Long enough for others to come in the meantime.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                reply.ok_or_else(|| io::Error::other("connection reset"))
            }
        }))
    }

    /// A discovery of the issuer over this.
    pub(crate) fn discovery(&self) -> Discovery {
        Discovery::issuer(ISSUER).transport(self.transport())
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().seen.clone()
    }

    /// The URLs that were asked for, in their order.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.url).collect()
    }

    pub(crate) fn count(&self, url: &str) -> usize {
        self.seen().iter().filter(|seen| seen.url == url).count()
    }

    /// The one request to a URL.
    pub(crate) fn only(&self, url: &str) -> Seen {
        let seen: Vec<_> = self.seen().into_iter().filter(|seen| seen.url == url).collect();
        let [seen] = <[Seen; 1]>::try_from(seen).expect("exactly one request");
        seen
    }

    pub(crate) fn forget(&self) {
        self.0.lock().unwrap().seen.clear();
    }

    fn take(&self, request: Request<Bytes>) -> Reply {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string();
        let mut state = self.0.lock().unwrap();
        state.seen.push(Seen {
            method: parts.method,
            url: url.clone(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        });
        state.pages.get(&url).cloned().unwrap_or_else(|| reply(404, "not here"))
    }
}

/// Fetches once, without a token from before.
pub(crate) async fn fetch(
    source: &impl TokenSource,
) -> Result<tower_oauth::TokenSet, tower_oauth::Error> {
    source.fetch(FetchContext::first()).await
}
