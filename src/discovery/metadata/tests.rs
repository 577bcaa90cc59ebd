use proptest::prelude::*;

use super::*;

const ISSUER: &str = "https://idp.example/realm";

fn trust() -> Trust {
    let issuer = Endpoint::parse("issuer", ISSUER, false).unwrap();
    Trust::new([&issuer], None, false).unwrap()
}

fn parse(body: &str) -> Result<Metadata, Error> {
    Metadata::parse(body.as_bytes(), ISSUER, trust())?.map_err(malformed)
}

fn with(members: &str) -> Metadata {
    parse(&format!(r#"{{"issuer":"{ISSUER}",{members}}}"#)).unwrap()
}

#[test]
fn dsc_02_an_issuer_is_the_same_to_the_last_code_point_or_nothing_is_used() {
    for found in [
        r#""https://idp.example/realm/""#,
        r#""https://idp.example/Realm""#,
        r#""https://IDP.example/realm""#,
        r#""HTTPS://idp.example/realm""#,
        r#""https://idp.example:443/realm""#,
        r#""https://idp.example/%72ealm""#,
        r#""https://idp.example/./realm""#,
        r#""https://other.example/realm""#,
        r#"" https://idp.example/realm""#,
        r#""https://idp.example/{tenantid}""#,
        r#""""#,
        "null",
        "[\"https://idp.example/realm\"]",
    ] {
        let body = format!(r#"{{"issuer":{found},"token_endpoint":"https://idp.example/token"}}"#);
        assert!(parse(&body).is_err(), "{found}");
    }
    let missing = parse(r#"{"token_endpoint":"https://idp.example/token"}"#).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::MalformedResponse);
    // An escape is the same code point.
    assert!(parse(r#"{"issuer":"https:\/\/idp.example\/\u0072ealm"}"#).is_ok());
    let twice = format!(r#"{{"issuer":"{ISSUER}","issuer":"https://other.example"}}"#);
    assert!(parse(&twice).is_err());
}

#[test]
fn dsc_02_a_foreign_issuer_is_shown_on_one_line() {
    let error = parse(r#"{"issuer":"https://x.example/\n\u001b[1m"}"#).unwrap_err();
    assert!(error.to_string().contains(r"https://x.example/\u{a}\u{1b}[1m"), "{error}");
    let long = format!(r#"{{"issuer":"{}"}}"#, "x".repeat(100_000));
    assert!(parse(&long).unwrap_err().to_string().len() < 1024);
}

#[test]
fn dsc_03_only_an_object_is_metadata() {
    for body in ["", "[]", "\"a\"", "null", "<html>", "{", "{}x", r#"{"issuer":}"#] {
        assert_eq!(parse(body).unwrap_err().kind(), ErrorKind::MalformedResponse, "{body}");
    }
    let deep = format!(r#"{{"issuer":"{ISSUER}","a":{}"#, "[".repeat(100_000));
    assert!(parse(&deep).is_err());
}

#[test]
fn dsc_03_a_malformed_member_fails_only_who_needs_it() {
    for bad in [
        r#""http://idp.example/token""#,
        r#""/token""#,
        r#""token""#,
        r#""https://u:hunter2@idp.example/token""#,
        r#""https://idp.example/token#a""#,
        r#""ftp://idp.example/token""#,
        r#""javascript:alert(1)""#,
        r#""""#,
        r#"["https://idp.example/token"]"#,
        r#"{"url":"https://idp.example/token"}"#,
        "1",
    ] {
        let members =
            format!(r#""token_endpoint":{bad},"revocation_endpoint":"https://idp.example/revoke""#);
        let metadata = with(&members);
        let error = metadata.endpoint(EndpointKind::Token).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let revocation = metadata.endpoint(EndpointKind::Revocation).unwrap();
        assert_eq!(revocation, "https://idp.example/revoke");
    }
    let absent = with(r#""token_endpoint":null"#).endpoint(EndpointKind::Token).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::Discovery);
    assert!(absent.to_string().contains("token_endpoint"), "{absent}");
    let twice =
        r#""token_endpoint":"https://idp.example/a","token_endpoint":"https://idp.example/b""#;
    assert!(with(twice).endpoint(EndpointKind::Token).is_err());
}

#[test]
fn dsc_03_signed_metadata_has_no_effect() {
    // A JWT whose claims name another token endpoint.
    let signed = "eyJhbGciOiJub25lIn0.eyJ0b2tlbl9lbmRwb2ludCI6Imh0dHBzOi8vZXZpbC5leGFtcGxlIn0.";
    let metadata = with(&format!(
        r#""signed_metadata":"{signed}","token_endpoint":"https://idp.example/token""#
    ));
    assert_eq!(metadata.endpoint(EndpointKind::Token).unwrap(), "https://idp.example/token");
    let only = with(&format!(r#""signed_metadata":"{signed}""#));
    assert!(only.endpoint(EndpointKind::Token).is_err());
}

#[test]
fn dsc_08_an_endpoint_in_a_private_network_is_refused_by_its_address() {
    for host in ["10.0.0.1", "127.0.0.1", "[::1]", "169.254.169.254", "2130706433", "localhost"] {
        let metadata = with(&format!(r#""token_endpoint":"https://{host}/token""#));
        let error = metadata.endpoint(EndpointKind::Token).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Discovery, "{host}");
    }
}

#[test]
fn mtl_02_an_alias_is_taken_where_there_is_one_and_only_with_mutual_tls() {
    let metadata = with(
        r#""token_endpoint":"https://idp.example/token",
        "revocation_endpoint":"https://idp.example/revo",
        "introspection_endpoint":"https://idp.example/introspect",
        "authorization_endpoint":"https://idp.example/authorize",
        "mtls_endpoint_aliases":{
            "token_endpoint":"https://mtls.example.com/token",
            "revocation_endpoint":null,
            "introspection_endpoint":"http://mtls.example.com/introspect",
            "authorization_endpoint":"https://mtls.example.com/authorize",
            "pushed_authorization_request_endpoint":1
        }"#,
    );
    let plain = |kind| metadata.endpoint(kind).map(|url| url.to_string());
    let mtls = |kind| metadata.mtls_endpoint(kind).map(|url| url.to_string());
    assert_eq!(mtls(EndpointKind::Token).unwrap(), "https://mtls.example.com/token");
    assert_eq!(plain(EndpointKind::Token).unwrap(), "https://idp.example/token");
    assert_eq!(mtls(EndpointKind::Revocation).unwrap(), "https://idp.example/revo");
    // An alias is https too, and there is no way around one that is wrong.
    assert!(mtls(EndpointKind::Introspection).is_err());
    assert!(plain(EndpointKind::Introspection).is_ok());
    assert!(mtls(EndpointKind::PushedAuthorizationRequest).is_err());
    // A user's browser has no certificate of ours.
    assert_eq!(mtls(EndpointKind::Authorization).unwrap(), "https://idp.example/authorize");
    let broken = with(r#""token_endpoint":"https://idp.example/token","mtls_endpoint_aliases":[]"#);
    assert!(broken.mtls_endpoint(EndpointKind::Token).is_err());
    assert!(broken.endpoint(EndpointKind::Token).is_ok());
}

#[test]
fn mtl_02_the_aliases_of_rfc_8705_are_found() {
    let metadata = with(
        r#""mtls_endpoint_aliases":{"token_endpoint":"https://mtls.example.com/token","revocation_endpoint":"https://mtls.example.com/revo","introspection_endpoint":"https://mtls.example.com/introspect"}"#,
    );
    for (kind, path) in [
        (EndpointKind::Token, "token"),
        (EndpointKind::Revocation, "revo"),
        (EndpointKind::Introspection, "introspect"),
    ] {
        let url = metadata.mtls_endpoint(kind).unwrap();
        assert_eq!(url, format!("https://mtls.example.com/{path}").as_str());
    }
}

#[test]
fn trq_07_an_endpoint_without_a_list_of_its_own_has_the_token_endpoints() {
    let metadata = with(
        r#""token_endpoint_auth_methods_supported":["private_key_jwt"],
        "revocation_endpoint_auth_methods_supported":["client_secret_post"],
        "token_endpoint_auth_signing_alg_values_supported":"ES256""#,
    );
    let methods = |kind| metadata.auth_methods(kind).unwrap();
    assert_eq!(methods(EndpointKind::Token), Some(vec!["private_key_jwt"]));
    assert_eq!(methods(EndpointKind::Revocation), Some(vec!["client_secret_post"]));
    assert_eq!(methods(EndpointKind::Introspection), Some(vec!["private_key_jwt"]));
    assert!(metadata.auth_algorithms(EndpointKind::Token).is_err());
    assert_eq!(with(r#""a":1"#).auth_methods(EndpointKind::Token).unwrap(), None);
}

proptest! {
    #[test]
    fn dsc_03_no_bytes_make_the_reader_panic(body: Vec<u8>) {
        let _ = Metadata::parse(&body, ISSUER, trust());
    }

    #[test]
    fn dsc_03_no_url_leads_to_a_private_address(
        url in "(https?|HTTPS|ftp):/{1,3}([a-z.]{0,5}@)?(localhost|127[.]1|10[.]0[.]0[.]1|0x7f[.]1|\\[::1\\]|[a-z.]{0,8})(:[0-9]{0,6})?[/?#]?\\PC{0,6}",
    ) {
        let body = serde_json::json!({ "issuer": ISSUER, "token_endpoint": url }).to_string();
        if let Ok(url) = parse(&body).unwrap().endpoint(EndpointKind::Token) {
            let host = url.host().unwrap();
            prop_assert_eq!(url.scheme_str(), Some("https"));
            prop_assert!(host.parse::<std::net::Ipv4Addr>().is_err() && host != "localhost");
        }
    }
}
