use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, DATE, RETRY_AFTER},
};
use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    answer::{Reading, read},
    form::Redactor,
    response::Rules,
};
use crate::{
    error::{Error, ErrorKind},
    http::Answer,
    secret::Secret,
    token::{Scopes, TokenSet, TokenType},
};

const LENIENT: Rules =
    Rules { strict: false, assume_bearer: false, max_lifetime: Duration::from_secs(86400) };
const STRICT: Rules = Rules { strict: true, ..LENIENT };
const JSON: &str = "application/json";

/// When the answers below were asked for, in seconds since 1970.
const NOW: u64 = 1_566_161_738;

static SENT: LazyLock<Instant> = LazyLock::new(Instant::now);

fn answer(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let mut answer = http::Response::new(body.into().into());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    if !content_type.is_empty() {
        let value = HeaderValue::from_str(content_type).unwrap();
        answer.headers_mut().insert(CONTENT_TYPE, value);
    }
    answer
}

fn scopes(tokens: &[&str]) -> Scopes {
    let mut scopes = Scopes::default();
    tokens.iter().try_for_each(|token| scopes.insert(token)).unwrap();
    scopes
}

fn reading<'a>(rules: &'a Rules, requested: &'a Scopes) -> Reading<'a> {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let late = (*SENT + Duration::from_secs(2), wall + Duration::from_secs(2));
    Reading { rules, requested, method: "client_secret_basic", sent: (*SENT, wall), received: late }
}

fn read_with(rules: &Rules, answer: &Answer) -> Result<TokenSet, Error> {
    let secret = Secret::from("hunter2+");
    read(answer, &reading(rules, &scopes(&["a", "b"])), || Redactor::new([&secret]))
}

fn json(body: &str) -> Result<TokenSet, Error> {
    read_with(&LENIENT, &answer(200, JSON, body))
}

fn strict(body: &str) -> Result<TokenSet, Error> {
    read_with(&STRICT, &answer(200, JSON, body))
}

fn error(status: u16, content_type: &str, body: &str) -> Error {
    read_with(&LENIENT, &answer(status, content_type, body)).unwrap_err()
}

/// A bearer token with these members as well.
fn bearer(members: &str) -> String {
    format!(r#"{{"access_token":"t","token_type":"Bearer"{members}}}"#)
}

#[expect(clippy::unnecessary_wraps, reason = "the getters return options")]
fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

mod success {
    use super::*;

    #[test]
    fn trs_01_a_success_needs_a_token_that_is_a_string() {
        for member in
            ["", r#""access_token":"","#, r#""access_token":null,"#, r#""access_token":1,"#]
        {
            let error = json(&format!(r#"{{{member}"token_type":"Bearer"}}"#)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MalformedResponse, "{member}");
        }
        let error = json(r#"{"access_token":{"t":1},"token_type":"Bearer"}"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedResponse);
    }

    #[test]
    fn trs_02_the_token_type_is_compared_without_case_and_an_unknown_one_is_not_used() {
        for name in ["bearer", "Bearer", "BEARER"] {
            let body = format!(r#"{{"access_token":"t","token_type":"{name}"}}"#);
            assert_eq!(json(&body).unwrap().token_type(), TokenType::Bearer);
        }
        for name in ["mac", "N_A", "pop", "", "Bearer ", "dPoP", "example"] {
            let body = format!(r#"{{"access_token":"hidden","token_type":"{name}"}}"#);
            let error = json(&body).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnusableToken, "{name}");
            let text = error.to_string();
            assert!(text.contains(&format!("\"{name}\"")) && !text.contains("hidden"), "{text}");
        }
        let forged = json(r#"{"access_token":"t","token_type":"x\n\u001b[1m"}"#).unwrap_err();
        assert!(forged.to_string().contains(r"x\u{a}\u{1b}[1m"), "{forged}");
        assert!(json(r#"{"access_token":"t","token_type":1}"#).is_err());
    }

    #[test]
    fn trs_03_a_missing_type_is_an_error_unless_bearer_is_assumed() {
        let assuming = Rules { assume_bearer: true, ..LENIENT };
        for body in [r#"{"access_token":"t"}"#, r#"{"access_token":"t","token_type":null}"#] {
            let error = json(body).unwrap_err();
            assert!(error.to_string().contains("assume_bearer()"), "{error}");
            assert!(read_with(&assuming, &answer(200, JSON, body)).is_ok());
        }
        let other = r#"{"access_token":"t","token_type":"mac"}"#;
        assert!(read_with(&assuming, &answer(200, JSON, other)).is_err());
    }

    #[test]
    fn trs_04_a_missing_lifetime_is_unknown_and_not_zero() {
        assert_eq!(json(&bearer("")).unwrap().lifetime(), None);
    }

    #[test]
    fn trs_05_lifetimes_come_in_many_forms() {
        for (value, lifetime) in [
            (r#""3599""#, seconds(3599)),
            ("3599.9", seconds(3599)),
            ("3.6e3", seconds(3600)),
            ("3600", seconds(3600)),
            ("null", None),
        ] {
            let body = bearer(&format!(r#","expires_in":{value}"#));
            assert_eq!(json(&body).unwrap().lifetime(), lifetime, "{value}");
            assert_eq!(strict(&body).unwrap().lifetime(), lifetime, "{value}");
        }
        for value in [r#""""#, r#""abc""#, "{}", "true", "[1]"] {
            let body = bearer(&format!(r#","expires_in":{value}"#));
            assert_eq!(json(&body).unwrap().lifetime(), None, "{value}");
            assert_eq!(strict(&body).unwrap_err().kind(), ErrorKind::MalformedResponse, "{value}");
        }
    }

    #[test]
    fn trs_06_a_lifetime_of_nothing_or_less_is_nothing() {
        for value in ["0", "-1", "-1e300", "\"-5\"", "0.5"] {
            let token = json(&bearer(&format!(r#","expires_in":{value}"#))).unwrap();
            assert_eq!(token.lifetime(), Some(Duration::ZERO), "{value}");
        }
    }

    #[test]
    fn trs_07_absurd_lifetimes_are_clamped() {
        for value in ["1e18", "9223372036854775808", "18446744073709551615", "9999999999", "1e308"]
        {
            let token = json(&bearer(&format!(r#","expires_in":{value}"#))).unwrap();
            assert_eq!(token.lifetime(), Some(LENIENT.max_lifetime), "{value}");
        }
        let error = json(&bearer(r#","expires_in":1e400"#)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedResponse);
    }

    #[test]
    fn f11_absurd_lifetimes_do_not_overflow_where_any_is_believed() {
        let rules = Rules { max_lifetime: Duration::MAX, ..LENIENT };
        for value in ["1e308", "-1e308", "18446744073709551615"] {
            for name in ["expires_in", "expires_on", "refresh_in", "not_before"] {
                let body = bearer(&format!(r#","{name}":{value}"#));
                assert!(read_with(&rules, &answer(200, JSON, body)).is_ok(), "{name} {value}");
            }
        }
    }

    #[test]
    fn trs_08_expires_on_counts_only_without_expires_in() {
        for (members, lifetime) in [
            (r#","expires_on":"1566165638""#, seconds(3900)),
            (r#","expires_on":1566165638"#, seconds(3900)),
            (r#","expires_on":"2019-08-18T22:00:38.0000000+00:00""#, seconds(3900)),
            (r#","expires_on":3600"#, seconds(3600)),
            (r#","expires_on":"3600""#, seconds(3600)),
            (r#","expires_on":1500000000"#, seconds(0)),
            (r#","expires_on":"soon""#, None),
            (r#","expires_in":"3599","expires_on":"1566165638""#, seconds(3599)),
            (r#","expires_in":null,"expires_on":"1566165638""#, seconds(3900)),
            (r#","ext_expires_in":"7200""#, None),
            (r#","expires_in":60,"ext_expires_in":"7200""#, seconds(60)),
        ] {
            let token = json(&bearer(members)).unwrap();
            assert_eq!(token.lifetime(), lifetime, "{members}");
        }
        assert!(strict(&bearer(r#","expires_on":"soon""#)).is_err());
    }

    #[test]
    fn trs_08_refresh_in_is_a_hint_and_not_before_delays_use() {
        for (members, refresh_in, usable_in) in [
            (r#","expires_in":3600,"refresh_in":"2400""#, seconds(2400), None),
            (r#","expires_in":3600,"refresh_in":7200"#, None, None),
            (r#","refresh_in":0"#, None, None),
            (r#","refresh_in":-5"#, None, None),
            (r#","refresh_in":"x""#, None, None),
            (r#","not_before":1566161748"#, None, seconds(10)),
            (r#","not_before":"1566161738""#, None, None),
            (r#","not_before":1500000000"#, None, None),
            (r#","not_before":1e18"#, None, Some(LENIENT.max_lifetime)),
        ] {
            let token = json(&bearer(members)).unwrap();
            assert_eq!(
                (token.refresh_in(), token.usable_in()),
                (refresh_in, usable_in),
                "{members}"
            );
        }
    }

    #[test]
    fn trs_08_absolute_times_are_judged_by_the_servers_own_date() {
        let members = r#","expires_on":1566165638,"not_before":1566161748"#;
        let mut answer = answer(200, JSON, bearer(members));
        let an_hour_ahead = HeaderValue::from_static("Sun, 18 Aug 2019 21:55:38 GMT");
        answer.headers_mut().insert(DATE, an_hour_ahead);
        let token = read_with(&LENIENT, &answer).unwrap();
        assert_eq!((token.lifetime(), token.usable_in()), (seconds(300), None));
    }

    #[test]
    fn trs_10_an_absent_scope_is_the_requested_one_and_a_present_one_replaces_it() {
        assert_eq!(json(&bearer("")).unwrap().scopes(), Some(&scopes(&["a", "b"])));
        let narrower = json(&bearer(r#","scope":"a""#)).unwrap();
        assert_eq!(narrower.scopes(), Some(&scopes(&["a"])));
        let answer = answer(200, JSON, bearer(""));
        let none = Scopes::default();
        let token = read(&answer, &reading(&LENIENT, &none), || Redactor::new([])).unwrap();
        assert_eq!(token.scopes(), None);
    }

    #[test]
    fn trs_11_every_form_of_a_scope_is_understood_and_strictly_only_one() {
        for value in [r#""a,c""#, r#"["a","c"]"#, r#""c  a""#] {
            let body = bearer(&format!(r#","scope":{value}"#));
            assert_eq!(json(&body).unwrap().scopes(), Some(&scopes(&["a", "c"])), "{value}");
            assert!(strict(&body).is_err(), "{value}");
        }
        for value in [r#""""#, "null"] {
            let body = bearer(&format!(r#","scope":{value}"#));
            assert_eq!(json(&body).unwrap().scopes(), Some(&scopes(&["a", "b"])), "{value}");
            assert!(strict(&body).is_err(), "{value}");
        }
        assert!(strict(&bearer(r#","scope":"a c""#)).is_ok());
    }

    #[test]
    fn trs_12_unknown_members_are_kept_aside_and_repeated_ones_refused() {
        let body = bearer(r#","instance_url":"https://x","authed_user":{"access_token":"n"}"#);
        let token = json(&body).unwrap();
        assert_eq!(token.access_token().expose(), "t");
        assert_eq!(token.member("instance_url"), Some(&"https://x".into()));
        assert_eq!(token.member("access_token"), None);
        assert!(json(&bearer(r#","state":1,"state":2"#)).is_ok());
        for twice in [r#","access_token":"u""#, r#","token_type":"bearer""#] {
            let error = json(&bearer(twice)).unwrap_err();
            assert!(error.to_string().contains("two members"), "{error}");
        }
        let nested = json(r#"{"ok":true,"authed_user":{"access_token":"n","token_type":"user"}}"#);
        assert!(nested.is_err());
    }

    #[test]
    fn trs_13_a_token_that_could_leave_its_header_is_refused_unseen() {
        for token in ["a\\r\\nX: y", "a\\u0000", "a b", "é", "a\\n", "a\\t", "a\\u007f"] {
            let body = format!(r#"{{"access_token":"hidden{token}","token_type":"Bearer"}}"#);
            let error = json(&body).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnusableToken, "{token}");
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
        }
        let large = "x".repeat(64 * 1024);
        let body = format!(r#"{{"access_token":"{large}","token_type":"Bearer"}}"#);
        assert_eq!(json(&body).unwrap().access_token().expose(), large);
    }

    #[test]
    fn trs_13_strictly_only_a_b64token_is_taken() {
        for (token, is_strict) in [
            ("123|abc", false),
            ("=", false),
            ("a=b", false),
            ("\\\"", false),
            ("aZ09-._~+/==", true),
        ] {
            let body = format!(r#"{{"access_token":"{token}","token_type":"Bearer"}}"#);
            assert!(json(&body).is_ok(), "{token}");
            assert_eq!(strict(&body).is_ok(), is_strict, "{token}");
        }
    }

    #[test]
    fn trs_14_the_label_decides_only_where_the_body_does_not() {
        let form = "access_token=t&scope=repo%2Cgist&token_type=bearer";
        for content_type in ["application/x-www-form-urlencoded; charset=utf-8", "text/plain"] {
            let token = read_with(&LENIENT, &answer(200, content_type, form)).unwrap();
            assert_eq!(token.access_token().expose(), "t");
            assert_eq!(token.scopes(), Some(&scopes(&["repo", "gist"])));
            assert!(read_with(&STRICT, &answer(200, content_type, form)).is_err());
        }
        for content_type in [JSON, "text/html", ""] {
            assert_eq!(error(200, content_type, form).kind(), ErrorKind::MalformedResponse);
        }
        for content_type in ["text/html", "text/javascript", ""] {
            let labelled = answer(200, content_type, bearer(""));
            assert!(read_with(&LENIENT, &labelled).is_ok(), "{content_type}");
            assert!(read_with(&STRICT, &labelled).is_err(), "{content_type}");
        }
        let page = "<a href='?access_token=t&token_type=bearer&access_token=t'>";
        for content_type in ["text/html", "text/plain"] {
            let error = error(200, content_type, page);
            assert!(!error.to_string().contains("access_token=t"), "{error}");
        }
    }

    #[test]
    fn trs_15_any_2xx_with_a_token_is_a_success_and_nothing_else_is() {
        for status in [200, 201, 203, 299] {
            assert!(read_with(&LENIENT, &answer(status, JSON, bearer(""))).is_ok(), "{status}");
        }
        for status in [200, 204] {
            for body in ["", " \r\n"] {
                let error = error(status, JSON, body);
                assert_eq!(error.kind(), ErrorKind::MalformedResponse);
                assert!(error.to_string().contains("empty"), "{error}");
            }
        }
        let deep = format!(r#"{{"a":{}"#, "[".repeat(100_000));
        for body in ["[]", "\"t\"", "1", "{\"access_token\":\"hidden", &deep] {
            let error = error(200, JSON, body);
            assert_eq!(error.kind(), ErrorKind::MalformedResponse);
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
        }
        for status in [101, 300, 304, 600] {
            let error = error(status, JSON, &bearer(""));
            assert_eq!(error.kind(), ErrorKind::MalformedResponse, "{status}");
        }
    }

    #[test]
    fn trs_17_null_and_empty_refresh_tokens_are_none_and_an_id_token_is_no_access_token() {
        for members in ["", r#","refresh_token":null"#, r#","refresh_token":"""#] {
            assert!(json(&bearer(members)).unwrap().refresh_token().is_none(), "{members}");
        }
        let token = json(&bearer(r#","refresh_token":"r""#)).unwrap();
        assert_eq!(token.refresh_token().map(Secret::expose), Some("r"));
        assert!(json(r#"{"id_token":"t","token_type":"Bearer"}"#).is_err());
        assert!(strict(&bearer(r#","refresh_token":1"#)).is_err());
    }

    #[test]
    fn c_9_an_entra_answer_is_read() {
        let token = json(
            r#"{"token_type":"Bearer","expires_in":"3599","ext_expires_in":"3599",
                "expires_on":"1566165638","not_before":"1566161738","refresh_in":"2400",
                "resource":"https://r","access_token":"t"}"#,
        )
        .unwrap();
        assert_eq!((token.lifetime(), token.refresh_in()), (seconds(3599), seconds(2400)));
        assert_eq!((token.usable_in(), token.sent_at()), (None, Some(*SENT)));
    }
}

mod failures {
    use super::*;

    #[test]
    fn trs_16_an_error_member_is_a_failure_whatever_the_status() {
        let body = r#"{"error":"bad_verification_code","access_token":"x","token_type":"Bearer"}"#;
        let error = error(200, JSON, body);
        assert_eq!(error.kind(), ErrorKind::Denied);
        let code = error.oauth().and_then(|oauth| oauth.code.as_deref());
        assert_eq!(code, Some("bad_verification_code"));
        for members in [r#","ok":false"#, r#","error":{}"#, r#","error":"""#, r#","error":false"#] {
            assert!(json(&bearer(members)).is_err(), "{members}");
        }
        assert!(json(&bearer(r#","ok":true,"error":null"#)).is_ok());
        let form = "error=bad_verification_code&access_token=x&token_type=bearer";
        let error = super::error(200, "application/x-www-form-urlencoded", form);
        assert_eq!(error.kind(), ErrorKind::Denied);
    }

    #[test]
    fn err_01_codes_are_kept_whatever_the_status() {
        use ErrorKind::{Denied, InvalidClient, InvalidGrant, InvalidRequest, Server, Throttled};
        for (code, kind) in [
            ("invalid_request", InvalidRequest),
            ("invalid_client", InvalidClient),
            ("invalid_grant", InvalidGrant),
            ("unauthorized_client", InvalidClient),
            ("unsupported_grant_type", InvalidRequest),
            ("invalid_scope", InvalidRequest),
            ("invalid_target", InvalidRequest),
            ("server_error", Server),
            ("temporarily_unavailable", Server),
            ("slow_down", Throttled),
            ("access_denied", Denied),
            ("use_dpop_nonce", Denied),
            ("scope_invalid", Denied),
            ("x_custom", Denied),
        ] {
            for status in [400, 401, 403] {
                let body = format!(
                    r#"{{"error":"{code}","error_description":"d","error_uri":"https://e"}}"#
                );
                let error = error(status, JSON, &body);
                assert_eq!(error.kind(), kind, "{status} {code}");
                let oauth = error.oauth().unwrap();
                assert_eq!(oauth.status.as_u16(), status);
                assert_eq!(oauth.code.as_deref(), Some(code));
                assert_eq!(oauth.description.as_deref(), Some("d"));
                assert_eq!(oauth.uri.as_deref(), Some("https://e"));
            }
        }
    }

    #[test]
    fn err_02_server_text_is_one_short_line_of_ascii() {
        let long = "x".repeat(1 << 20);
        let evil = format!("a\\nb\\u001b[31m\\u202e\\\"{long}");
        let body =
            format!(r#"{{"error":"{evil}","error_description":"{evil}","error_uri":"{evil}"}}"#);
        for status in [400, 401, 404, 500] {
            let text = error(status, JSON, &body).to_string();
            assert!(text.len() <= 1024, "{}", text.len());
            assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b)), "{text}");
        }
        let labelled = error(502, &format!("text/{}", "x".repeat(2000)), "").to_string();
        assert!(labelled.len() <= 1024, "{}", labelled.len());
    }

    #[test]
    fn err_03_other_forms_of_errors_are_understood() {
        let google = r#"{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}"#;
        let problem = r#"{"type":"about:blank","title":"No","detail":"not today","status":400}"#;
        for (body, code, description) in [
            (google, Some("INVALID_ARGUMENT"), Some("m")),
            (problem, None, Some("No: not today")),
            (r#"{"title":"No"}"#, None, Some("No")),
            (r#"{"message":"m"}"#, None, Some("m")),
            (r#"{"error":{"message":{"a":1}}}"#, None, None),
            (r#"{"error":["x"]}"#, None, None),
            ("{}", None, None),
            ("[]", None, None),
            ("", None, None),
        ] {
            let error = error(400, "application/problem+json", body);
            let oauth = error.oauth().unwrap();
            assert_eq!(oauth.status, StatusCode::BAD_REQUEST);
            assert_eq!(oauth.code.as_deref(), code, "{body}");
            assert_eq!(oauth.description.as_deref(), description, "{body}");
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{body}");
        }
    }

    #[test]
    fn err_03_an_answer_without_a_code_is_described_by_type_and_size() {
        let text = error(502, "text/html; charset=utf-8", "<html>secret page</html>").to_string();
        assert!(text.contains("status 502") && text.contains("text/html, 24 bytes"), "{text}");
        let text = error(403, "", "").to_string();
        assert!(text.contains("no content type, 0 bytes"), "{text}");
    }

    #[test]
    fn err_04_answers_without_a_code_are_classified_by_their_status() {
        use ErrorKind::{Denied, InvalidClient, InvalidRequest, Server, Throttled, Timeout};
        let page = "<!DOCTYPE html>";
        for (status, body, kind) in [
            (400, "", InvalidRequest),
            (401, "", InvalidClient),
            (403, "", Denied),
            (403, page, Server),
            (404, page, InvalidRequest),
            (405, "", InvalidRequest),
            (408, "", Timeout),
            (415, "", InvalidRequest),
            (418, "", Denied),
            (429, "", Throttled),
            (429, r#"{"error":"invalid_client"}"#, Throttled),
            (500, "", Server),
            (500, r#"{"error":"x_custom"}"#, Server),
            (500, r#"{"error":"invalid_grant"}"#, ErrorKind::InvalidGrant),
            (503, page, Server),
        ] {
            let error = error(status, "", body);
            assert_eq!(error.kind(), kind, "{status} {body}");
            let transient = matches!(kind, Server | Throttled | Timeout);
            assert_eq!(error.is_retryable(), transient, "{status} {body}");
        }
        // Its label is wrong, but it is no page.
        assert_eq!(error(403, "text/html", r#"{"message":"m"}"#).kind(), Denied);
    }

    #[test]
    fn f09_a_proxys_page_is_transient_and_not_copied() {
        for status in [403, 500, 502, 503] {
            for content_type in ["text/html", "", JSON] {
                let page = "  <html>error=invalid_client {\"error\":\"invalid_grant\"}</html>";
                let error = error(status, content_type, page);
                assert_eq!(error.kind(), ErrorKind::Server, "{status}");
                assert!(!format!("{error:?}").contains("invalid"), "{error:?}");
            }
        }
    }

    #[test]
    fn f07_a_refused_client_is_told_what_to_check() {
        let text = error(401, JSON, r#"{"error":"invalid_client"}"#).to_string();
        for word in ["client id", "secret", "client_secret_basic", "post", "status 401"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn f57_a_secret_that_comes_back_is_cut_out() {
        let body = r#"{"error":"hunter2+","error_description":"no client_secret=hunter2%2B",
                       "error_uri":"https://e/?hunter2+"}"#;
        let error = error(400, "text/hunter2+", body);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        assert!(error.to_string().contains("[redacted]"), "{error}");
    }

    #[test]
    fn rty_01_an_error_carries_the_instant_of_its_retry_after() {
        for status in [429, 503, 400] {
            let mut answer = answer(status, JSON, "{}");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("120"));
            let error = read_with(&LENIENT, &answer).unwrap_err();
            assert_eq!(error.retry_at(), Some(*SENT + Duration::from_secs(122)), "{status}");
        }
        assert_eq!(error(429, JSON, "{}").retry_at(), None);
    }

    #[test]
    fn rty_01_a_retry_date_is_judged_by_the_servers_own_date() {
        let mut answer = answer(503, JSON, "{}");
        let headers = answer.headers_mut();
        headers.insert(DATE, HeaderValue::from_static("Fri, 31 Dec 1999 23:58:59 GMT"));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Fri, 31 Dec 1999 23:59:59 GMT"));
        let error = read_with(&LENIENT, &answer).unwrap_err();
        assert_eq!(error.retry_at(), Some(*SENT + Duration::from_secs(62)));
    }

    #[test]
    fn tls_02_a_redirect_is_named_and_its_target_is_not_repeated() {
        for status in [301, 302, 303, 307, 308] {
            let error = error(status, JSON, &bearer(""));
            assert_eq!(error.kind(), ErrorKind::MalformedResponse);
            let text = error.to_string();
            assert!(text.contains(&status.to_string()) && text.contains("not followed"), "{text}");
        }
    }
}

proptest! {
    #[test]
    fn f10_no_answer_makes_the_reader_panic(
        status in 100u16..1000,
        content_type in "(application/json|text/(plain|html)|application/x-www-form-urlencoded)?",
        body: Vec<u8>,
        strict: bool,
    ) {
        let rules = if strict { STRICT } else { LENIENT };
        let _ = read_with(&rules, &answer(status, &content_type, body));
    }

    #[test]
    fn f10_no_json_makes_the_reader_panic(
        status in prop_oneof![Just(200u16), Just(400), Just(503)],
        name in "(expires_in|expires_on|refresh_in|not_before|scope|error|ok|refresh_token)",
        value in prop_oneof![
            any::<f64>().prop_map(|number| serde_json::json!(number)),
            any::<i64>().prop_map(|number| serde_json::json!(number)),
            any::<String>().prop_map(|text| serde_json::json!(text)),
            proptest::collection::vec(any::<String>(), 0..4).prop_map(|texts| serde_json::json!(texts)),
        ],
        strict: bool,
    ) {
        let rules = Rules { max_lifetime: Duration::MAX, ..if strict { STRICT } else { LENIENT } };
        let body = bearer(&format!(",\"{name}\":{value}"));
        match read_with(&rules, &answer(status, JSON, body)) {
            Ok(token) => prop_assert_eq!(token.access_token().expose(), "t"),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.len() <= 1024 && text.bytes().all(|b| (0x20..0x7f).contains(&b)));
            }
        }
    }
}
