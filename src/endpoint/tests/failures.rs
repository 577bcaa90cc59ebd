use super::*;

#[test]
fn trs_16_an_error_member_is_a_failure_whatever_the_status() {
    let body = r#"{"error":"bad_verification_code","access_token":"x","token_type":"Bearer"}"#;
    let error = error(200, JSON, body);
    assert_eq!(error.kind(), ErrorKind::Denied);
    let code = error.oauth().and_then(|oauth| oauth.code.as_deref());
    assert_eq!(code, Some("bad_verification_code"));
    for members in [r#","ok":false"#, r#","error":{}"#, r#","error":"x""#] {
        assert!(json(&bearer(members)).is_err(), "{members}");
    }
    // An error that says nothing, beside a token.
    for error in ["null", "\"\"", "false", "0", "[]"] {
        assert!(json(&bearer(&format!(r#","ok":true,"error":{error}"#))).is_ok(), "{error}");
    }
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
            let body =
                format!(r#"{{"error":"{code}","error_description":"d","error_uri":"https://e"}}"#);
            let error = error(status, JSON, &body);
            // Auth0's answer to a wrong secret.
            let kind = if (status, code) == (401, "access_denied") { InvalidClient } else { kind };
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
    let body = format!(r#"{{"error":"{evil}","error_description":"{evil}","error_uri":"{evil}"}}"#);
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
        (404, "", InvalidRequest),
        // A proxy's word, not the authorization server's.
        (401, page, Server),
        (404, page, Server),
        (401, "Unauthorized", Server),
        (404, "default backend - 404", Server),
        (404, r#"{"message":"no Route matched with those values"}"#, Server),
        (401, r#"{"error":{"code":401}}"#, InvalidClient),
        (401, r#"{"errorCode":"E0000004"}"#, InvalidClient),
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
fn f89_other_names_for_a_dead_refresh_token_or_a_refused_client_are_known() {
    use ErrorKind::{InvalidClient, InvalidGrant};
    for (status, body, kind) in [
        // GitHub
        (200, r#"{"error":"bad_refresh_token","error_description":"d"}"#, InvalidGrant),
        (200, r#"{"error":"incorrect_client_credentials"}"#, InvalidClient),
        // Slack
        (200, r#"{"ok":false,"error":"invalid_refresh_token"}"#, InvalidGrant),
        (200, r#"{"ok":false,"error":"bad_client_secret"}"#, InvalidClient),
        // HubSpot
        (400, r#"{"status":"BAD_REFRESH_TOKEN","message":"m","correlationId":"c"}"#, InvalidGrant),
        // Entra
        (400, r#"{"error":"interaction_required","suberror":"basic_action"}"#, InvalidGrant),
        // Okta
        (400, r#"{"errorCode":"invalid_client","errorSummary":"s"}"#, InvalidClient),
    ] {
        let error = error(status, JSON, body);
        assert_eq!(error.kind(), kind, "{body}");
        assert!(error.oauth().unwrap().code.is_some(), "{body}");
    }
    let (none, rules) = (Scopes::default(), LENIENT);
    let mut codes = ErrorCodes::default();
    codes.insert("no_such_session".to_owned(), InvalidGrant);
    let reading = Reading { codes: &codes, ..reading(&rules, &none) };
    let refused = answer(200, JSON, r#"{"error":"No_Such_Session"}"#);
    let error = read(&refused, &reading, || Redactor::new([])).unwrap_err().error;
    assert_eq!(error.kind(), InvalidGrant);
}

#[test]
fn f87_what_is_wrong_with_the_rest_does_not_lose_the_refresh_token() {
    let none = Scopes::default();
    let keeps = |rules: &Rules, content_type, body: &str| {
        let secret = Secret::from("hunter2+");
        let answer = answer(200, content_type, body);
        let unusable = read(&answer, &reading(rules, &none), || Redactor::new([&secret]));
        let UnusableAnswer { error, refresh_token } = unusable.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("R2"), "{error:?}");
        refresh_token.is_some_and(|token| token.expose() == "R2")
    };
    for members in [
        r#""access_token":"t""#,
        r#""access_token":"t","token_type":"mac""#,
        r#""access_token":"t","token_type":"R2""#,
        r#""access_token":"t","token_type":7"#,
        r#""access_token":"a\nb","token_type":"Bearer""#,
        r#""access_token":"","token_type":"Bearer""#,
        r#""token_type":"Bearer""#,
        r#""access_token":"t","access_token":"u","token_type":"Bearer""#,
    ] {
        let body = format!(r#"{{{members},"refresh_token":"R2"}}"#);
        assert!(keeps(&LENIENT, JSON, &body), "{members}");
    }
    let strict =
        r#"{"access_token":"t","token_type":"Bearer","expires_in":"x","refresh_token":"R2"}"#;
    assert!(keeps(&STRICT, JSON, strict));
    assert!(keeps(&STRICT, "text/html", &strict.replace("\"x\"", "1")));
    // An error is no rotation, whatever else is in it.
    for body in [
        r#"{"error":"x","refresh_token":"R2"}"#,
        r#"{"access_token":"","refresh_token":""}"#,
        r#"{"access_token":"","refresh_token":7}"#,
    ] {
        assert!(!keeps(&LENIENT, JSON, body), "{body}");
    }
}

/// The refresh token that an answer leaves, and what kind of error it is.
fn left(rules: &Rules, status: u16, body: impl Into<Vec<u8>>) -> (Option<String>, ErrorKind) {
    let (none, answer) = (Scopes::default(), answer(status, JSON, body));
    let unusable = read(&answer, &reading(rules, &none), || Redactor::new([])).unwrap_err();
    let UnusableAnswer { error, refresh_token } = unusable;
    assert!(!format!("{error} {error:?}").contains("R2"), "{error:?}");
    (refresh_token.map(|token| token.expose().to_owned()), error.kind())
}

/// Faults in a member that means nothing.
fn faults() -> [Vec<u8>; 8] {
    let deep = format!("\"x\":{}{}", "[".repeat(140), "]".repeat(140));
    let wide = format!("\"x\":[{}0]", "0,".repeat(10_000));
    [
        br#""x":"\ud83d""#.into(),
        br#""x":1e400"#.into(),
        br#""x":NaN"#.into(),
        b"\"x\":\"a\nb\"".into(),
        b"\"x\":\"\xE9\"".into(),
        b"\"x\":1,".into(),
        deep.into(),
        wide.into(),
    ]
}

#[test]
fn f87_a_fault_in_a_member_that_means_nothing_does_not_cost_the_refresh_token() {
    let at =
        |pointer: Option<&str>| Rules { token_at: pointer.and_then(Pointer::parse), ..LENIENT };
    for fault in faults() {
        let tokens = r#"{"access_token":"t","token_type":"Bearer","refresh_token":"R2","#;
        let body = [tokens.as_bytes(), &fault, b"}"].concat();
        let expected = (Some("R2".to_owned()), ErrorKind::MalformedResponse);
        assert_eq!(left(&LENIENT, 200, body.clone()), expected, "{fault:?}");
        let within = [b"{\"a\":[", &*body, b"]}"].concat();
        assert_eq!(left(&at(Some("/a/0")), 200, within), expected, "{fault:?}");
    }
    // Without a fault, where no object can be told.
    let twice = r#"{"a":{"access_token":"t","refresh_token":"R2"},"a":1}"#;
    assert_eq!(left(&at(Some("/a")), 200, twice).0.as_deref(), Some("R2"));
}

#[test]
fn f87_an_error_beside_tokens_does_not_cost_the_refresh_token() {
    let tokens = r#""access_token":"t","token_type":"Bearer","refresh_token":"R2"}"#;
    for (status, error) in [
        (302, ""),
        (400, ""),
        (500, ""),
        (200, r#""error":"server_error","#),
        (200, r#""ok":false,"#),
        (400, r#""error":"invalid_request","#),
    ] {
        let (kept, _) = left(&LENIENT, status, format!("{{{error}{tokens}"));
        assert_eq!(kept.as_deref(), Some("R2"), "{status} {error}");
    }
    // One that repeats what was sent to it has granted nothing.
    for status in [302, 400, 500] {
        let repeated = r#"{"grant_type":"refresh_token","refresh_token":"R2"}"#;
        assert_eq!(left(&LENIENT, status, repeated).0, None, "{status}");
    }
}

#[test]
fn f89_an_error_code_counts_whatever_is_wrong_with_the_rest() {
    for fault in faults() {
        for status in [200, 400, 401] {
            let body = [&br#"{"error":"invalid_grant","#[..], &fault, b"}"].concat();
            assert_eq!(left(&LENIENT, status, body).1, ErrorKind::InvalidGrant, "{fault:?}");
        }
    }
    let shown = r#"{"error":"R2","access_token":"t","refresh_token":"R2","x":1e400}"#;
    assert_eq!(left(&LENIENT, 400, shown).1, ErrorKind::Denied);
}

#[test]
fn f89_the_codes_of_spring_uaa_and_ory_are_known() {
    for (status, code, kind) in [
        (401, "unauthorized", ErrorKind::InvalidClient),
        (401, "invalid_token", ErrorKind::InvalidGrant),
        (400, "unauthorized", ErrorKind::Denied),
        (401, "token_inactive", ErrorKind::InvalidGrant),
        (400, "expired_token", ErrorKind::InvalidGrant),
        (401, "invalid_client_credentials", ErrorKind::InvalidClient),
    ] {
        let error = error(status, JSON, &format!(r#"{{"error":"{code}"}}"#));
        assert_eq!(error.kind(), kind, "{status} {code}");
    }
}

#[test]
fn f88_two_error_codes_decide_nothing() {
    for (status, kind) in [
        (200, ErrorKind::MalformedResponse),
        (400, ErrorKind::MalformedResponse),
        (401, ErrorKind::MalformedResponse),
        (429, ErrorKind::Throttled),
        (503, ErrorKind::Server),
    ] {
        for codes in [
            r#""error":"invalid_grant","error":"server_error""#,
            r#""scope":"a","scope":"b","error":"invalid_client","error":"invalid_client""#,
        ] {
            let error = error(status, JSON, &format!("{{{codes}}}"));
            assert_eq!(error.kind(), kind, "{status} {codes}");
        }
    }
}

#[test]
fn trs_12_an_error_is_found_where_the_token_would_stand_whatever_the_status() {
    for (pointer, body) in [
        ("/0", r#"[{"error":"invalid_grant"}]"#),
        ("/data", r#"{"data":{"error":"invalid_grant"}}"#),
        ("/data", r#"{"error":"invalid_grant"}"#),
        ("/data", r#"{"error":"invalid_grant","data":{}}"#),
        ("/data", r#"{"data":{"error":"invalid_grant","x":1e400}}"#),
    ] {
        let rules = Rules { token_at: Pointer::parse(pointer), ..LENIENT };
        for status in [200, 400, 401] {
            assert_eq!(left(&rules, status, body).1, ErrorKind::InvalidGrant, "{status} {body}");
        }
        assert_eq!(left(&rules, 500, "").1, ErrorKind::Server);
        assert_eq!(left(&rules, 400, "").1, ErrorKind::InvalidRequest);
    }
}

#[test]
fn trs_05_an_expires_in_that_is_an_instant_is_read_as_one() {
    let lifetime =
        |value: u64| json(&bearer(&format!(r#","expires_in":{value}"#))).unwrap().lifetime();
    assert_eq!(lifetime(NOW + 300), seconds(300));
    assert_eq!(lifetime(3600), seconds(3600));
    // One that has passed is none.
    assert_eq!(lifetime(NOW), None);
    assert_eq!(lifetime(NOW - 3600), None);
}

#[test]
fn trs_07_f69_a_very_long_lifetime_is_not_taken_for_an_instant() {
    for value in [999_999_999, 1_500_000_000, NOW - 200_000, NOW + 400_000_000] {
        let token = json(&bearer(&format!(r#","expires_in":{value}"#))).unwrap();
        assert_eq!(token.lifetime(), Some(LENIENT.max_lifetime), "{value}");
    }
}

#[test]
fn f09_a_proxys_page_is_transient_and_not_copied() {
    for status in [401, 403, 404, 500, 502, 503] {
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

#[test]
fn what_is_wrong_is_said_in_words_that_help() {
    for (code, words) in [
        ("invalid_grant", "the grant has ended"),
        ("invalid_scope", "as it is configured"),
        ("unsupported_token_type", "they end by themselves"),
        ("slow_down", "fewer requests"),
        ("server_error", "or a proxy before it, failed"),
        ("x_custom", "refuses the request"),
    ] {
        let text = error(400, JSON, &format!(r#"{{"error":"{code}"}}"#)).to_string();
        assert!(text.contains(words) && !text.contains("no error code"), "{text}");
    }
    let text = error(400, JSON, r#"{"message":"no"}"#).to_string();
    assert!(!text.contains("no error code"), "{text}");
    let text = error(408, JSON, "{}").to_string();
    assert!(text.contains("gave up waiting"), "{text}");
}

#[test]
fn f07_a_client_without_a_secret_is_not_told_to_check_one() {
    let (rules, none) = (LENIENT, Scopes::default());
    let refused = answer(401, JSON, r#"{"error":"invalid_client"}"#);
    let message = |method| {
        let reading = Reading { method, ..reading(&rules, &none) };
        read(&refused, &reading, || Redactor::new([])).unwrap_err().error.to_string()
    };
    let public = message("none");
    assert!(public.contains("registered as a public client"), "{public}");
    assert!(!public.contains("secret"), "{public}");
    assert!(message("client_secret_basic").contains("the secret"));
}
