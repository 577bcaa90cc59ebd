use std::time::{Duration, SystemTime};

use http::{
    HeaderMap,
    header::{DATE, RETRY_AFTER},
};

/// How long the server asks to wait ([RFC 9110 §10.2.3]): `Retry-After = HTTP-date / delay-seconds`.
///
/// `now` is the server's own time if it told, see [`server_time`]. What cannot be read is ignored;
/// what can is kept within bounds.
///
/// [RFC 9110 §10.2.3]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // All digits, so what does not fit is large.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        at.duration_since(now).unwrap_or_default()
    };
    Some(wait.clamp(SHORTEST, LONGEST))
}

/// What time it is for the server that answered: by its `Date` field if it has one, so that a clock
/// that is wrong here or there does no harm.
pub(crate) fn server_time(headers: &HeaderMap, ours: SystemTime) -> SystemTime {
    date(headers).unwrap_or(ours)
}

/// What time it was for the server when it answered, if it says and that can be read.
pub(crate) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let date = headers.get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(date.trim()).ok()
}

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn wait(value: &[u8], now: SystemTime) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_bytes(value).unwrap());
        retry_after(&headers, now)
    }

    #[test]
    fn rty_01_seconds_and_the_three_forms_of_dates_are_read() {
        let now = at(784_111_777 - 90);
        for (value, seconds) in [
            ("120", 120),
            (" 7 ", 7),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 90),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 90),
            ("Sun Nov  6 08:49:37 1994", 90),
        ] {
            assert_eq!(wait(value.as_bytes(), now), Some(Duration::from_secs(seconds)), "{value}");
        }
        let new_year = wait(b"Fri, 31 Dec 1999 23:59:59 GMT", at(946_684_799 - 60));
        assert_eq!(new_year, Some(Duration::from_secs(60)));
    }

    #[test]
    fn f06_a_wait_is_kept_within_bounds() {
        let now = at(784_111_777);
        for huge in [
            "315360000",
            "99999999999999999999999999",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "1000000000",
        ] {
            assert_eq!(wait(huge.as_bytes(), now), Some(LONGEST), "{huge}");
        }
        for short in ["0", "Sun, 06 Nov 1994 08:49:37 GMT", "Sat, 06 Nov 1993 08:49:37 GMT"] {
            assert_eq!(wait(short.as_bytes(), now), Some(SHORTEST), "{short}");
        }
    }

    #[test]
    fn f06_what_cannot_be_read_is_ignored() {
        let now = at(0);
        for bad in [&b"-5"[..], b"soon", b"", b"+5", b"1e9", b"1.5", b"5 s", b"\xff"] {
            assert_eq!(wait(bad, now), None, "{bad:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn rty_01_the_servers_own_date_is_believed() {
        let mut headers = HeaderMap::new();
        let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        headers.insert(DATE, date);
        let skewed = at(784_111_777 + 3600);
        assert_eq!(server_time(&headers, skewed), at(784_111_777));
        headers.insert(DATE, HeaderValue::from_static("yesterday"));
        assert_eq!(server_time(&headers, skewed), skewed);
        assert_eq!(server_time(&HeaderMap::new(), skewed), skewed);
    }

    proptest! {
        #[test]
        fn f06_no_bytes_make_the_reader_panic(bytes: Vec<u8>, seconds in 0..4_000_000_000u64) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.insert(RETRY_AFTER, value.clone());
                headers.insert(DATE, value);
            }
            let now = server_time(&headers, at(seconds));
            if let Some(wait) = retry_after(&headers, now) {
                prop_assert!((SHORTEST..=LONGEST).contains(&wait));
            }
        }

        #[test]
        fn f06_no_text_makes_the_reader_panic(text in "[A-Z][a-z]{2},? ?[0-9]{1,2}[ -][A-Z][a-z]{2}[ -][0-9]{2,9} [0-9:]{0,9}( GMT)?") {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(&text).unwrap());
            let _ = retry_after(&headers, at(0));
        }
    }
}
