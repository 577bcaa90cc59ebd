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

/// Whether an answer has a document: `None` if there is nothing at this URL.
///
/// Nothing else leads on to the next URL: a server that fails, or somebody on the way who answers in
/// its place, must not decide which document is read.
pub(super) fn has_document(
    answer: &Answer,
    received: (Instant, SystemTime),
) -> Result<Option<()>, Error> {
    let status = answer.status();
    let number = status.as_u16();
    let (kind, problem) = match status {
        StatusCode::OK => return Ok(Some(())),
        StatusCode::NOT_FOUND => return Ok(None),
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Throttled, "asks for fewer requests"),
        _ if status.is_server_error() => (ErrorKind::Server, "failed"),
        _ if status.is_redirection() => {
            (ErrorKind::Discovery, "redirects, which is not followed: configure where it leads to")
        }
        _ if status.is_client_error() => (ErrorKind::Discovery, "refuses to give its metadata"),
        _ => (ErrorKind::MalformedResponse, "does not answer with metadata"),
    };
    let error = Error::new(kind, format!("the server {problem} (status {number})"));
    let (now, wall) = received;
    let wait = retry_after(answer.headers(), server_time(answer.headers(), wall));
    let at = wait.filter(|_| error.is_retryable()).and_then(|wait| now.checked_add(wait));
    Err(match at {
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
