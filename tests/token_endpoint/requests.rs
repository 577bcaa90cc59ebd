//! What a grant sends.

use tower_oauth::{
    ClientAuth, ClientCredentials, ConfigError, ErrorKind, RefreshToken, TokenSource,
};

use crate::fake::{Fake, Seen, URL, fetch, granted, json, refused};

/// What each grant sends with this authentication.
async fn of_every_grant(auth: ClientAuth) -> Vec<Seen> {
    let fake = Fake::new([granted()]);
    let refresh = RefreshToken::builder(URL, auth.clone(), "r1");
    fetch(&refresh.transport(fake.transport()).build().unwrap()).await.unwrap();
    if auth.method() != "none" {
        let credentials = ClientCredentials::builder(URL, auth);
        fetch(&credentials.transport(fake.transport()).build().unwrap()).await.unwrap();
    }
    fake.seen()
}

/// Builds client credentials with one more setting.
fn config_error<T>(result: Result<T, ConfigError>) -> ConfigError {
    result.err().expect("a configuration error")
}

#[tokio::test]
async fn trq_01_a_request_is_a_post_of_a_form_that_asks_for_json() {
    for seen in of_every_grant(ClientAuth::post("orders", "hunter2")).await {
        assert_eq!(seen.method, "POST");
        assert_eq!(seen.target, URL);
        assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(seen.header("accept"), Some("application/json"));
        assert_eq!(seen.param("client_secret").as_deref(), Some("hunter2"));
    }
}

#[tokio::test]
async fn trq_02_values_are_utf_8_and_form_encoded() {
    let fake = Fake::new([granted()]);
    let source = ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
        .param("x", " %&+£€")
        .transport(fake.transport())
        .build()
        .unwrap();
    fetch(&source).await.unwrap();
    let seen = fake.only();
    assert!(seen.body.ends_with("&x=+%25%26%2B%C2%A3%E2%82%AC"), "{}", seen.body);
    assert_eq!(seen.param("x").as_deref(), Some(" %&+£€"));
}

#[tokio::test]
async fn trq_02_a_space_is_percent_encoded_on_request_only() {
    let fake = Fake::new([granted()]);
    let source = ClientCredentials::builder(URL, ClientAuth::post("orders", "a b"))
        .scopes(["x", "y"])
        .param("p", " %&+£€")
        .percent_encode_spaces()
        .transport(fake.transport())
        .build()
        .unwrap();
    fetch(&source).await.unwrap();
    let seen = fake.only();
    assert_eq!(
        seen.body,
        "grant_type=client_credentials&scope=x%20y&p=%20%25%26%2B%C2%A3%E2%82%AC\
         &client_id=orders&client_secret=a%20b"
    );
    assert_eq!(seen.param("p").as_deref(), Some(" %&+£€"));
}

#[tokio::test]
async fn trq_03_nothing_is_sent_twice_or_empty() {
    let fake = Fake::new([granted()]);
    let source = ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
        .resource("https://one.example")
        .resource("https://two.example")
        .audience("a")
        .param("tenant", "b")
        .transport(fake.transport())
        .build()
        .unwrap();
    fetch(&source).await.unwrap();
    assert_eq!(
        fake.only().body,
        "grant_type=client_credentials&resource=https%3A%2F%2Fone.example\
         &resource=https%3A%2F%2Ftwo.example&audience=a&tenant=b"
    );
}

#[test]
fn trq_03_a_colliding_parameter_is_refused_when_it_is_built() {
    let builder = || {
        ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
            .transport(Fake::new([]).transport())
    };
    assert!(builder().param("tenant", "a").build().is_ok());
    for (name, value) in
        [("grant_type", "x"), ("client_id", "x"), ("scope", "x"), ("a", ""), ("", "x")]
    {
        let error = config_error(builder().param(name, value).build());
        assert!(matches!(error, ConfigError::Parameter { .. }), "{error}");
    }
    let twice = config_error(builder().param("a", "1").param("a", "2").build());
    assert!(matches!(twice, ConfigError::Parameter { .. }), "{twice}");
    assert!(builder().audience("").build().is_err());
    assert!(builder().resource("https://a.example#b").build().is_err());
    assert!(builder().resource("relative").build().is_err());
    assert!(builder().scope("").build().is_err());
}

#[tokio::test]
async fn trq_04_the_query_of_the_endpoint_is_kept_byte_for_byte() {
    for url in ["https://as.example/token?tenant=a%2Fb", "https://as.example//api/token/"] {
        let fake = Fake::new([granted()]);
        let source = ClientCredentials::builder(url, ClientAuth::basic("orders", "s"))
            .transport(fake.transport())
            .build()
            .unwrap();
        fetch(&source).await.unwrap();
        assert_eq!(fake.only().target, url);
    }
    for bad in ["https://as.example/token#x", "https://u:p@as.example/token", "/token", "http://as"]
    {
        let builder = ClientCredentials::builder(bad, ClientAuth::basic("orders", "s"));
        let error = config_error(builder.transport(Fake::new([]).transport()).build());
        assert!(matches!(error, ConfigError::Url { .. }), "{error}");
    }
}

#[test]
fn tls_01_plain_http_needs_loopback_or_a_dangerous_setting() {
    let builder = |url| {
        ClientCredentials::builder(url, ClientAuth::basic("orders", "s"))
            .transport(Fake::new([]).transport())
    };
    assert!(builder("http://127.0.0.1:1/token").build().is_ok());
    assert!(builder("http://as.example/token").build().is_err());
    assert!(builder("http://as.example/token").danger_allow_http().build().is_ok());
}

#[tokio::test]
async fn trq_05_a_server_that_decodes_gets_back_what_was_configured() {
    for (id, secret) in
        [("client:1", "p@ss w+rd%/="), ("üser", "пароль"), ("https://c/a?x=1", "£€ %&+")]
    {
        for seen in of_every_grant(ClientAuth::basic(id, secret)).await {
            let (user, password) = seen.basic().unwrap();
            let pair = format!("{user}={password}");
            let decoded: Vec<_> = form_urlencoded::parse(pair.as_bytes()).into_owned().collect();
            assert_eq!(decoded, [(id.to_owned(), secret.to_owned())]);
        }
    }
    for seen in of_every_grant(ClientAuth::basic_unencoded("Aladdin", "open sesame")).await {
        assert_eq!(seen.header("authorization"), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    }
}

#[tokio::test]
async fn trq_06_a_request_carries_exactly_one_authentication() {
    for (auth, credentials) in [
        (ClientAuth::basic("orders", "s"), 1),
        (ClientAuth::basic_unencoded("orders", "s"), 1),
        (ClientAuth::post("orders", "s"), 1),
        (ClientAuth::none("orders"), 0),
    ] {
        for seen in of_every_grant(auth.clone()).await {
            let in_header = seen.headers.get_all("authorization").iter().count();
            let secrets = ["client_secret", "client_assertion"];
            let in_body = seen.params().iter().filter(|(n, _)| secrets.contains(&&**n)).count();
            assert_eq!(in_header + in_body, credentials, "{auth:?}");
            let has_id = seen.param("client_id").is_some();
            assert_eq!(has_id, in_header == 0, "{auth:?}");
        }
    }
}

#[tokio::test]
async fn trq_07_another_method_is_never_tried() {
    for auth in [
        ClientAuth::basic("orders", "s"),
        ClientAuth::basic_unencoded("orders", "s"),
        ClientAuth::post("orders", "s"),
    ] {
        let fake = Fake::new([refused(401, "invalid_client")]);
        let builder = ClientCredentials::builder(URL, auth).transport(fake.transport());
        let error = fetch(&builder.build().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidClient);
        fake.only();
    }
}

#[tokio::test]
async fn trq_08_public_clients_name_themselves_and_confidential_ones_authenticate() {
    for seen in of_every_grant(ClientAuth::none("cli")).await {
        assert_eq!(seen.param("client_id").as_deref(), Some("cli"));
        assert_eq!(seen.header("authorization"), None);
    }
    for seen in of_every_grant(ClientAuth::basic("orders", "s")).await {
        assert_eq!(seen.basic(), Some(("orders".to_owned(), "s".to_owned())));
    }
}

#[tokio::test]
async fn trq_09_scopes_are_a_set_and_bad_ones_are_refused_before_any_request() {
    let mut bodies = Vec::new();
    for scopes in [vec!["a", "b"], vec!["b", "a", "b"]] {
        let fake = Fake::new([granted()]);
        let source = ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
            .scopes(scopes)
            .transport(fake.transport())
            .build()
            .unwrap();
        fetch(&source).await.unwrap();
        bodies.push(fake.only().body);
    }
    assert_eq!(bodies, ["grant_type=client_credentials&scope=a+b"; 2]);
    for bad in ["a b", "a\"b", "a\\b", "é", ""] {
        let builder = ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"));
        let error = config_error(builder.scope(bad).transport(Fake::new([]).transport()).build());
        assert_eq!(error, ConfigError::Scope(bad.to_owned()));
    }
}

#[tokio::test]
async fn trq_10_client_credentials_are_asked_for_again_and_never_refreshed() {
    let public = ClientCredentials::builder(URL, ClientAuth::none("cli"));
    let error = config_error(public.transport(Fake::new([]).transport()).build());
    assert!(matches!(error, ConfigError::ClientAuth { .. }), "{error}");

    let body = r#"{"access_token":"t","token_type":"Bearer","refresh_token":"r"}"#;
    let fake = Fake::new([json(200, body)]);
    let source = ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
        .transport(fake.transport())
        .build()
        .unwrap();
    let first = fetch(&source).await.unwrap();
    assert!(first.refresh_token().is_none());
    let mut cx = tower_oauth::FetchContext::first();
    cx.previous = Some(first.with_refresh_token("from elsewhere").into());
    source.fetch(cx).await.unwrap();
    for seen in fake.seen() {
        assert_eq!(seen.body, "grant_type=client_credentials");
    }
}

#[tokio::test]
async fn tls_04_no_cache_may_keep_a_token() {
    for seen in of_every_grant(ClientAuth::basic("orders", "s")).await {
        assert_eq!(seen.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn f57_what_is_sent_in_secret_is_marked_and_not_shown() {
    let auth = ClientAuth::basic("orders", "hunter2");
    for seen in of_every_grant(auth.clone()).await {
        assert!(seen.headers["authorization"].is_sensitive());
    }
    let transport = || Fake::new([]).transport();
    let refresh = RefreshToken::builder(URL, auth.clone(), "r-canary");
    let shown = format!("{refresh:?}");
    let shown = format!("{shown} {:?}", refresh.transport(transport()).build());
    assert!(shown.contains("orders") && shown.contains("as.example"), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("canary"), "{shown}");
    let credentials = ClientCredentials::builder(URL, auth).param("key", "canary");
    let shown = format!("{credentials:?}");
    let shown = format!("{shown} {:?}", credentials.transport(transport()).build());
    assert!(!shown.contains("hunter2") && !shown.contains("canary"), "{shown}");
}

#[test]
fn a_bound_of_nothing_is_refused() {
    use std::time::Duration;
    let builder = || {
        ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
            .transport(Fake::new([]).transport())
    };
    for bad in [
        builder().timeout(Duration::ZERO),
        builder().body_limit(0),
        builder().max_lifetime(Duration::ZERO),
    ] {
        let error = config_error(bad.build());
        assert!(matches!(error, ConfigError::Setting { .. }), "{error}");
    }
    let no_id = ClientCredentials::builder(URL, ClientAuth::basic("", "s"));
    assert!(no_id.transport(Fake::new([]).transport()).build().is_err());
}

#[cfg(not(feature = "reqwest"))]
#[test]
fn without_a_client_the_error_says_so() {
    let builder = ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"));
    let error = config_error(builder.build());
    assert!(error.to_string().contains("transport()"), "{error}");
}

#[tokio::test]
async fn res_01_resources_are_absolute_uris_and_repeat() {
    let fake = Fake::new([refused(400, "invalid_target")]);
    let builder =
        || ClientCredentials::builder(URL, ClientAuth::post("id", "s")).transport(fake.transport());
    for bad in ["api", "/x", "https://a#f", "", "https://a b"] {
        let error = builder().resource(bad).build().unwrap_err();
        assert!(matches!(error, ConfigError::Url { .. }), "{bad}: {error}");
    }
    let source = builder().resource("https://a.example/x").resource("urn:b").build().unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert_eq!(error.oauth().unwrap().code.as_deref(), Some("invalid_target"));
    let sent = fake.only().params();
    let resources: Vec<_> =
        sent.iter().filter(|(name, _)| name == "resource").map(|(_, value)| &**value).collect();
    assert_eq!(resources, ["https://a.example/x", "urn:b"]);
}

#[tokio::test]
async fn par_03_authorization_details_are_one_json_parameter_and_what_is_granted_is_told() {
    let details = serde_json::json!([
        {"type": "payment", "amount": "1+1 €", "note": "a \"quote\" & more"},
    ]);
    let granted = r#"{"access_token":"t","token_type":"Bearer",
        "authorization_details":[{"type":"payment","amount":"1"}]}"#;
    let fake = Fake::new([json(200, granted), refused(400, "invalid_authorization_details")]);
    let builder =
        || ClientCredentials::builder(URL, ClientAuth::post("id", "s")).transport(fake.transport());
    let source = builder().authorization_details(details.clone()).build().unwrap();
    let token = fetch(&source).await.unwrap();
    let sent = fake.seen()[0].param("authorization_details").unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&sent).unwrap(), details);
    assert_eq!(token.member("authorization_details").unwrap()[0]["amount"], "1");
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    for bad in [serde_json::json!({}), serde_json::json!([]), serde_json::json!([{"a": 1}])] {
        let error = builder().authorization_details(bad).build().unwrap_err();
        assert!(error.to_string().contains("authorization_details"), "{error}");
    }
}
