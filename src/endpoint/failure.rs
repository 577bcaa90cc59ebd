use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use serde_json::{Map, Value};

use super::{
    codes::ErrorCodes,
    object::{media_type, without_mark},
    redactor::Redactor,
};
use crate::{
    error::{Error, ErrorKind, OAuthError, printable},
    secret::Members,
};

/// An answer that is an error.
pub(crate) struct Refusal<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// The members of the body, if it has any.
    pub(crate) members: Option<&'a Members>,
    /// How the client authenticated.
    pub(crate) method: &'static str,
    /// What error codes mean.
    pub(crate) codes: &'a ErrorCodes,
}

/// Whether an answer is a failure by its members, whatever its status: GitHub sends 200 with
/// `error`, Slack 200 with `"ok": false`. An `error` that says nothing, such as `""` or `false`
/// beside a token, is not one.
pub(crate) fn is_failure(members: &Members) -> bool {
    let error = match members.get("error") {
        Some(Value::String(error)) => !error.is_empty(),
        Some(Value::Object(_)) => true,
        _ => false,
    };
    error || members.get("ok") == Some(&Value::Bool(false))
}

/// Makes our error of an error answer ([RFC 6749 §5.2]), or of what a proxy sent in its place.
///
/// [RFC 6749 §5.2]: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
pub(crate) fn failure(refusal: &Refusal<'_>, redactor: &Redactor) -> Error {
    let said = refusal.members.map(|members| said(members, refusal.codes)).unwrap_or_default();
    let kind = kind(refusal, &said);
    let mut message = message(kind, said.code, refusal.method);
    if said.name.is_none() && said.description.is_none() {
        let shape = describe(refusal.headers, refusal.body, redactor);
        message = format!("{message}; its answer has no error code ({shape})");
    }
    let clean = |text: &str| redactor.clean(text);
    let (name, uri) = (said.name.map(clean), said.uri.map(clean));
    let description = said.description(clean);
    Error::new(kind, message).with_oauth(OAuthError::new(
        refusal.status,
        name.as_deref(),
        description.as_deref(),
        uri.as_deref(),
    ))
}

/// What an error answer says, all of it untrusted.
#[derive(Default)]
struct Said<'a> {
    /// The OAuth error code, or what is known to stand for one.
    code: Option<&'a str>,
    /// What to show as the code: that one, or the name in a nested error.
    name: Option<&'a str>,
    description: Option<&'a str>,
    /// What stands before the description.
    title: Option<&'a str>,
    uri: Option<&'a str>,
    /// Whether there is an error in it, of whatever form: a proxy's answer has none.
    is_error: bool,
}

impl Said<'_> {
    fn description(&self, clean: impl Fn(&str) -> String) -> Option<String> {
        match (self.title, self.description) {
            (Some(title), Some(detail)) => Some(format!("{}: {}", clean(title), clean(detail))),
            (title, detail) => title.or(detail).map(clean),
        }
    }
}

fn said<'a>(members: &'a Members, codes: &ErrorCodes) -> Said<'a> {
    let text = |name| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let error = members.get("error");
    let nested = error.and_then(Value::as_object);
    let nested_text = nested.and_then(|error| nested_text(error, "message"));
    let known = |name: &&str| codes.kind(name).is_some();
    // HubSpot: {"status": "BAD_REFRESH_TOKEN", "message": "m"}
    let own = text("error")
        .or_else(|| nested.and_then(nested_name))
        // Okta: {"errorCode": "invalid_client", "errorSummary": "s"}
        .or_else(|| text("errorCode"));
    let name = own.or_else(|| text("status").filter(known));
    // RFC 9457 §3.1: title and detail.
    let description = text("error_description").or(nested_text);
    let (title, description) = match (description, text("title"), text("detail")) {
        (None, title @ Some(_), detail) => (title, detail),
        (description, _, detail) => (None, description.or(detail)),
    };
    let other = ["message", "errorSummary"].into_iter().find_map(text);
    Said {
        code: text("error").or_else(|| name.filter(known)),
        name,
        description: description.or(if title.is_some() { None } else { other }),
        title,
        uri: text("error_uri"),
        is_error: name.is_some() || nested.is_some(),
    }
}

/// Google: `{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}`
fn nested_name(error: &Map<String, Value>) -> Option<&str> {
    let named = |name| nested_text(error, name).filter(|text| !text.is_empty());
    ["status", "code", "type"].into_iter().find_map(named)
}

fn nested_text<'a>(error: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    error.get(name).and_then(Value::as_str)
}

/// What kind of failure a status and an OAuth error code mean. The code is believed first, but for
/// 429: a server that throttles may say anything else with it.
fn kind(refusal: &Refusal<'_>, said: &Said<'_>) -> ErrorKind {
    let status = refusal.status;
    if status == StatusCode::TOO_MANY_REQUESTS {
        return ErrorKind::Throttled;
    }
    if let Some(kind) = said.code.and_then(|code| refusal.codes.kind(code)) {
        return kind;
    }
    match said.code {
        _ if status.is_server_error() => ErrorKind::Server,
        // Auth0 says so to a wrong secret; RFC 6749 §5.2 has 401 for refused clients only.
        Some("access_denied") if status == StatusCode::UNAUTHORIZED => ErrorKind::InvalidClient,
        // Spring and UAA say so to a wrong secret, and to a refresh token that is dead.
        Some(code) if status == StatusCode::UNAUTHORIZED && is(code, "unauthorized") => {
            ErrorKind::InvalidClient
        }
        Some(code) if status == StatusCode::UNAUTHORIZED && is(code, "invalid_token") => {
            ErrorKind::InvalidGrant
        }
        Some(_) => ErrorKind::Denied,
        None => match status {
            // A proxy's or firewall's page, not the authorization server's word.
            StatusCode::FORBIDDEN if is_page(refusal) => ErrorKind::Server,
            // Likewise: the server itself would say what is wrong, or nothing at all.
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND
                if says_something_else(refusal, said) =>
            {
                ErrorKind::Server
            }
            StatusCode::UNAUTHORIZED => ErrorKind::InvalidClient,
            StatusCode::REQUEST_TIMEOUT => ErrorKind::Timeout,
            StatusCode::BAD_REQUEST
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::UNSUPPORTED_MEDIA_TYPE => ErrorKind::InvalidRequest,
            _ => ErrorKind::Denied,
        },
    }
}

fn is(code: &str, known: &str) -> bool {
    code.eq_ignore_ascii_case(known)
}

/// Whether an answer has a body that is not an error of an authorization server. An object without
/// members says as little as no body.
fn says_something_else(refusal: &Refusal<'_>, said: &Said<'_>) -> bool {
    let is_empty = match refusal.members {
        Some(members) => members.iter().next().is_none(),
        None => without_mark(refusal.body).is_empty(),
    };
    !said.is_error && !is_empty
}

fn message(kind: ErrorKind, code: Option<&str>, method: &str) -> String {
    match (kind, code) {
        (ErrorKind::InvalidClient, Some("unauthorized_client")) => {
            "the authorization server does not let this client use this grant: check the client's \
             registration"
                .to_owned()
        }
        (ErrorKind::InvalidClient, _) if method == "none" => {
            "the authorization server does not accept the client: check the client id, and whether \
             it is registered as a public client"
                .to_owned()
        }
        (ErrorKind::InvalidClient, _) if method.ends_with("_jwt") => format!(
            "the authorization server does not accept the client: check the client id, what the \
             server knows of its key, and the assertion's audience, which is the issuer at some \
             servers and the token endpoint at others; {method} was used"
        ),
        (ErrorKind::InvalidClient, _) => format!(
            "the authorization server does not accept the client: check the client id, the secret \
             and the method, basic or post; {method} was used"
        ),
        (ErrorKind::InvalidRequest, None) => {
            "the endpoint does not take the request: check its URL, the parameters, and whether \
             the grant has ended"
                .to_owned()
        }
        (kind, _) => plain_message(kind).to_owned(),
    }
}

fn plain_message(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidGrant => {
            "the grant has ended: it is expired, revoked, already used, or another client's"
        }
        ErrorKind::InvalidRequest => {
            "the authorization server refuses the request as it is configured: check the grant, \
             scopes, resource, audience and other parameters"
        }
        ErrorKind::UnsupportedTokenType => {
            "the authorization server cannot revoke tokens of this kind: they end by themselves"
        }
        ErrorKind::Throttled => "the authorization server asks for fewer requests",
        ErrorKind::Server => "the authorization server, or a proxy before it, failed",
        ErrorKind::Timeout => "the authorization server gave up waiting for the request",
        _ => "the authorization server refuses the request",
    }
}

fn is_page(refusal: &Refusal<'_>) -> bool {
    let labelled = matches!(
        media_type(refusal.headers).as_deref(),
        Some("text/html" | "application/xhtml+xml")
    );
    refusal.members.is_none() && (labelled || without_mark(refusal.body).starts_with(b"<"))
}

/// A body by its type and size. Its text is not copied: a proxy's page may show anything.
pub(crate) fn describe(headers: &HeaderMap, body: &[u8], redactor: &Redactor) -> String {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // As it came: in lower case, or cut, a secret in it would not be found.
    let content_type = redactor.clean(content_type.unwrap_or("no content type"));
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    format!("{}, {} bytes", printable(media_type, TYPE_CAP), body.len())
}

const TYPE_CAP: usize = 60;
