use super::*;
#[cfg(feature = "dpop")]
use crate::dpop::{DpopAlgorithm, DpopKey};

#[test]
fn trs_01_a_success_needs_a_token_that_is_a_string() {
    for member in ["", r#""access_token":"","#, r#""access_token":null,"#, r#""access_token":1,"#] {
        let error = json(&format!(r#"{{{member}"token_type":"Bearer"}}"#)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedResponse, "{member}");
    }
    let error = json(r#"{"access_token":{"t":1},"token_type":"Bearer"}"#).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
}

#[test]
fn trs_02_f14_the_token_type_is_compared_without_case_and_an_unknown_one_is_not_used() {
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
    #[cfg(feature = "dpop")]
    for name in ["dPoP", "DPoP", "dpop"] {
        let key = DpopKey::generate(DpopAlgorithm::EdDsa).unwrap();
        let body = format!(r#"{{"access_token":"t","token_type":"{name}"}}"#);
        for accepted in [Accepted::Dpop(key.clone()), Accepted::Either(key.clone())] {
            let token =
                read_with(&Rules { accepted, ..LENIENT }, &answer(200, JSON, &*body)).unwrap();
            assert_eq!(token.token_type(), TokenType::Dpop);
            assert_eq!(token.dpop_key().unwrap().thumbprint(), key.thumbprint());
        }
    }
    let forged = json(r#"{"access_token":"t","token_type":"x\n\u001b[1m"}"#).unwrap_err();
    assert!(forged.to_string().contains(r"x\u{a}\u{1b}[1m"), "{forged}");
    assert!(json(r#"{"access_token":"t","token_type":1}"#).is_err());
}

#[test]
fn trs_03_a_missing_type_is_an_error_unless_bearer_is_assumed() {
    let assuming = Rules { assume_bearer: true, ..LENIENT };
    #[cfg(feature = "dpop")]
    {
        let accepted = Accepted::Dpop(DpopKey::generate(DpopAlgorithm::EdDsa).unwrap());
        let bound = Rules { accepted, ..assuming.clone() };
        assert!(read_with(&bound, &answer(200, JSON, r#"{"access_token":"t"}"#)).is_err());
    }
    for body in [r#"{"access_token":"t"}"#, r#"{"access_token":"t","token_type":null}"#] {
        let error = json(body).unwrap_err();
        assert!(error.to_string().contains("assume_bearer()"), "{error}");
        assert!(read_with(&assuming, &answer(200, JSON, body)).is_ok());
    }
    let other = r#"{"access_token":"t","token_type":"mac"}"#;
    assert!(read_with(&assuming, &answer(200, JSON, other)).is_err());
}

#[test]
fn trs_04_f11_a_missing_lifetime_is_unknown_and_not_zero() {
    assert_eq!(json(&bearer("")).unwrap().lifetime(), None);
}

#[test]
fn trs_05_f11_lifetimes_come_in_many_forms() {
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
fn trs_06_f11_f69_a_lifetime_of_nothing_or_less_is_not_said() {
    for value in ["0", "-1", "-1e300", "\"-5\"", "0.5"] {
        let token = json(&bearer(&format!(r#","expires_in":{value}"#))).unwrap();
        assert_eq!(token.lifetime(), None, "{value}");
    }
}

#[test]
fn trs_07_f11_absurd_lifetimes_are_clamped() {
    for value in ["1e18", "9223372036854775808", "18446744073709551615", "9999999999", "1e308"] {
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
        (r#","expires_on":1500000000"#, None),
        (r#","expires_on":0"#, None),
        (r#","expires_on":-1"#, None),
        (r#","expires_on":1566161738"#, None),
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
        assert_eq!((token.refresh_in(), token.usable_in()), (refresh_in, usable_in), "{members}");
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
fn trs_10_f14_an_absent_scope_is_the_requested_one_and_a_present_one_replaces_it() {
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
    for (token, is_strict) in
        [("123|abc", false), ("=", false), ("a=b", false), ("\\\"", false), ("aZ09-._~+/==", true)]
    {
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

#[test]
fn trs_05_a_refresh_token_that_is_no_text_is_none_unless_read_strictly() {
    for value in ["7", "{}", "[\"r\"]", "true"] {
        let body = bearer(&format!(r#","refresh_token":{value}"#));
        assert!(json(&body).unwrap().refresh_token().is_none(), "{value}");
        assert_eq!(strict(&body).unwrap_err().kind(), ErrorKind::MalformedResponse, "{value}");
    }
}

#[test]
fn trs_05_the_first_second_of_2001_is_an_instant_and_one_before_it_a_lifetime() {
    let rules = Rules { max_lifetime: Duration::MAX, ..LENIENT };
    let lifetime = |expires_on: u64| {
        let body = bearer(&format!(r#","expires_on":{expires_on}"#));
        read_with(&rules, &answer(200, JSON, body)).unwrap().lifetime()
    };
    assert_eq!(lifetime(978_307_199), seconds(978_307_199));
    assert_eq!(lifetime(978_307_200), None, "it is long past");
}
