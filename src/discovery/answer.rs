//! What an answer to a request for metadata means.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AGE, CACHE_CONTROL},
};
use tokio::time::Instant;

use crate::{
    error::{Error, ErrorKind},
    http::{Answer, retry_after, server_time},
};

/// Says whether an answer may hold a document, by its status; what it says instead if it does not.
///
/// Any answer that is no document leads on to the next place: real servers answer 400, 401, 403, 405 or
/// a redirect where they have none. All places have one origin, so that costs no trust.
///
/// # Errors
///
/// A fault that passes: it must not decide which document is read.
pub(super) fn has_document(
    answer: &Answer,
    received: (Instant, SystemTime),
) -> Result<Result<(), String>, Error> {
    let status = answer.status();
    let number = status.as_u16();
    let (kind, problem) = match status {
        StatusCode::OK => return Ok(Ok(())),
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Throttled, "asks for fewer requests"),
        StatusCode::REQUEST_TIMEOUT => (ErrorKind::Timeout, "gave up waiting for the request"),
        _ if status.is_server_error() => (ErrorKind::Server, "failed"),
        _ if status.is_redirection() => {
            return Ok(Err(format!("a redirect ({number}), which is not followed")));
        }
        _ => return Ok(Err(format!("status {number}"))),
    };
    let error = Error::new(kind, format!("the server {problem} (status {number})"));
    let (now, wall) = received;
    let wait = retry_after(answer.headers(), server_time(answer.headers(), wall));
    Err(match wait.and_then(|wait| now.checked_add(wait)) {
        Some(at) => error.with_retry_at(at),
        None => error,
    })
}

/// How long a document may be kept ([RFC 9111 §5.2.2]), within bounds.
///
/// [RFC 9111 §5.2.2]: https://www.rfc-editor.org/rfc/rfc9111#section-5.2.2
pub(super) fn life(headers: &HeaderMap) -> Duration {
    // One directive that is no text does not hide the others.
    let lines = headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
    let directives = lines.flat_map(|line| line.split(|b| *b == b','));
    let mut life = DEFAULT;
    for directive in directives.filter_map(|directive| std::str::from_utf8(directive).ok()) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match &*name.trim().to_ascii_lowercase() {
            "no-store" | "no-cache" => return SHORTEST,
            "max-age" => {
                let value = value.trim().trim_matches('"');
                if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
                    // All digits, so what does not fit is large.
                    life = Duration::from_secs(value.parse().unwrap_or(u64::MAX));
                }
            }
            _ => {}
        }
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok());
    life.saturating_sub(Duration::from_secs(age.unwrap_or_default())).clamp(SHORTEST, LONGEST)
}

const DEFAULT: Duration = Duration::from_secs(60 * 60);
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(value: &str, age: &str) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_str(value).unwrap());
        headers.insert(AGE, HeaderValue::from_str(age).unwrap());
        life(&headers).as_secs()
    }

    #[test]
    fn dsc_04_a_lifetime_is_kept_within_bounds() {
        for (value, age, seconds) in [
            ("", "", 3600),
            ("public", "", 3600),
            ("max-age=600", "", 600),
            ("Public, Max-Age=\"600\"", "", 600),
            ("max-age=600", "100", 500),
            ("max-age=600", "soon", 600),
            ("max-age=600", "900", 60),
            ("max-age=0", "", 60),
            ("max-age=600, no-store", "", 60),
            ("no-cache", "", 60),
            ("max-age=1000000000", "", 86400),
            ("max-age=99999999999999999999999", "", 86400),
            ("max-age=-1", "", 3600),
            ("max-age=", "", 3600),
        ] {
            assert_eq!(of(value, age), seconds, "{value} {age}");
        }
        assert_eq!(life(&HeaderMap::new()), DEFAULT);
        // A directive that is no text hides neither its line nor another one.
        let mut headers = HeaderMap::new();
        let line = HeaderValue::from_bytes(b"x=\xE9, max-age=600").unwrap();
        headers.insert(CACHE_CONTROL, line);
        assert_eq!(life(&headers).as_secs(), 600);
    }

    proptest! {
        #[test]
        fn dsc_04_no_header_makes_the_reader_panic(value: Vec<u8>, age: Vec<u8>) {
            let mut headers = HeaderMap::new();
            for (name, bytes) in [(CACHE_CONTROL, value), (AGE, age)] {
                if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                    headers.insert(name, value);
                }
            }
            prop_assert!((SHORTEST..=LONGEST).contains(&life(&headers)));
        }
    }
}
