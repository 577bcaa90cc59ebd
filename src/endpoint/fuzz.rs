//! What holds for every answer of a token endpoint.
#![expect(clippy::missing_panics_doc, reason = "to panic is what they are for")]

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, DATE, RETRY_AFTER},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    answer::{Reading, read},
    codes::ErrorCodes,
    pointer::Pointer,
    redactor::Redactor,
    response::{Accepted, Rules},
    rfc3339::parse_rfc3339,
    scope,
};
use crate::{
    error::Error,
    http::{Answer, retry_after, server_time},
    secret::Secret,
    token::{Scopes, TokenSet, jwt_expiry},
};

/// A token response: a byte that chooses how it is read, and its body.
pub fn token_response(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let outcome = reading(*choice, StatusCode::OK, *choice, body);
    let Ok(token) = outcome else { return };
    let access = token.access_token().expose();
    assert!(!access.is_empty() && access.bytes().all(|b| b.is_ascii_graphic()));
    assert!(token.lifetime().is_none_or(|lifetime| lifetime <= MAX_LIFETIME));
    let longest = token.lifetime().unwrap_or(MAX_LIFETIME);
    let hint = |hint: Duration| !hint.is_zero() && hint <= longest;
    assert!(token.refresh_in().is_none_or(hint));
    assert!(token.usable_in().is_none_or(|usable_in| usable_in <= MAX_LIFETIME));
    assert!(token.refresh_token().is_none_or(|token| !token.expose().is_empty()));
    let scopes = token.scopes().into_iter().flat_map(Scopes::iter);
    assert!(scopes.into_iter().all(|scope| Scopes::default().insert(scope).is_ok()));
    assert!(token.member("access_token").is_none() && token.member("refresh_token").is_none());
    let _ = jwt_expiry(access);
}

/// An error answer: a byte that chooses how it is read, two for its status, and its body.
pub fn error_response(data: &[u8]) {
    let [choice, high, low, body @ ..] = data else { return };
    let status = u16::from_be_bytes([*high, *low]);
    let Ok(status) = StatusCode::from_u16(status % 900 + 100) else { return };
    let outcome = reading(*choice, status, *choice, body);
    assert!(outcome.is_err() || status.is_success());
}

/// `Retry-After` and `Date`, a line each, and ISO 8601.
pub fn dates(data: &[u8]) {
    let mut lines = data.split(|b| *b == b'\n');
    let mut headers = HeaderMap::new();
    for name in [RETRY_AFTER, DATE] {
        let value = HeaderValue::from_bytes(lines.next().unwrap_or_default());
        headers.extend(value.ok().map(|value| (name, value)));
    }
    let now = server_time(&headers, SystemTime::UNIX_EPOCH + NOW);
    let bounds = Duration::from_millis(500)..=Duration::from_secs(3600);
    assert!(retry_after(&headers, now).is_none_or(|wait| bounds.contains(&wait)));
    if let Ok(text) = std::str::from_utf8(data) {
        // 9999-12-31T23:59:60-23:59, the last that can be written.
        let last = Duration::from_secs(253_402_300_800 + 86_400);
        assert!(parse_rfc3339(text.trim()).is_none_or(|since| since <= last));
    }
}

/// A scope member, as JSON or as text.
pub fn scopes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let mut requested = Scopes::default();
    let _ = requested.insert("a,b");
    let granted = scope::granted(Some(&value), &requested);
    if let Some(granted) = &granted {
        assert!(!granted.is_empty());
        assert!(granted.iter().all(|scope| Scopes::default().insert(scope).is_ok()));
        // Read again as it is written, it is the same.
        let written = Value::String(granted.to_string());
        assert_eq!(scope::granted(Some(&written), granted).as_ref(), Some(granted));
    }
    if let (Value::String(text), true) = (&value, scope::is_strict(Some(&value), &requested)) {
        let mut expected = Scopes::default();
        assert!(text.split(' ').all(|scope| expected.insert(scope).is_ok()));
        assert_eq!(granted, Some(expected));
    }
}

/// Reads an answer in a way that was chosen, and checks what holds for every error.
fn reading(choice: u8, status: StatusCode, label: u8, body: &[u8]) -> Result<TokenSet, Error> {
    let rules = Rules {
        strict: choice & 1 != 0,
        assume_bearer: choice & 2 != 0,
        max_lifetime: MAX_LIFETIME,
        token_at: if choice & 4 == 0 { None } else { Pointer::parse("/a/0") },
        bearer_types: if choice & 8 == 0 { Vec::new() } else { vec!["user".to_owned()] },
        accepted: Accepted::Bearer,
    };
    let labels = [JSON, "application/x-www-form-urlencoded", "text/plain", "text/html"];
    let mut answer: Answer = http::Response::new(body.to_vec().into());
    *answer.status_mut() = status;
    if let Some(label) = labels.get(usize::from(label >> 4)) {
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(label));
    }
    let now = (Instant::now(), SystemTime::UNIX_EPOCH + NOW);
    let requested = Scopes::default();
    let (rules, requested, codes) = (&rules, &requested, &ErrorCodes::default());
    let reading = Reading { rules, requested, method: "none", codes, sent: now, received: now };
    let secret = Secret::from(SECRET);
    let outcome = read(&answer, &reading, || Redactor::new([&secret])).map_err(Error::from);
    if let Err(error) = &outcome {
        let shown = error.to_string();
        assert!(shown.len() <= 1024 && shown.bytes().all(|b| (0x20..0x7f).contains(&b)), "{shown}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
    outcome
}

const MAX_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
const NOW: Duration = Duration::from_secs(1_566_161_738);
const JSON: &str = "application/json";
/// What was sent, and must not come back.
const SECRET: &str = "hunter2+";
