//! Each grant and method of client authentication, from TOML to the request.

use tower_oauth::{
    config::OAuthClient,
    testing::{AuthorizationServer, Recorded, Reply},
};

/// A client of a server in process, with settings besides the endpoint.
fn client(server: &AuthorizationServer, text: &str) -> OAuthClient {
    let place = if text.contains("issuer =") {
        String::new()
    } else {
        format!("token_endpoint = {:?}", server.token_endpoint())
    };
    let text = text.replace("ISSUER", server.url());
    let config = super::toml(&format!("{place}\norigins = \"https://api.example\"\n{text}"));
    let transport = crate::transport(server);
    config.unwrap().builder().transport(transport).build().unwrap()
}

/// The token request that a configuration leads to.
async fn request(text: &str) -> Recorded {
    let server = AuthorizationServer::in_process();
    server.client("orders", "s3cr3t");
    server.always(Reply::json(
        200,
        serde_json::json!({
            "access_token": "abc", "token_type": "Bearer", "expires_in": 3600,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }),
    ));
    client(&server, text).tokens().ready().await.unwrap();
    server.token_requests().remove(0)
}

fn form(request: &Recorded) -> Vec<(String, String)> {
    request.form()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test(start_paused = true)]
async fn every_parameter_reaches_the_request() {
    let request = request(
        r#"
        scope = "a b"
        resource = ["https://one.example", "https://two.example"]
        audience = "three"
        authorization_details = [{ type = "account", actions = ["read"] }]
        parameters = { tenant = "blue" }
        client = { id = "orders", secret = { danger_literal = "s3cr3t" } }
        "#,
    )
    .await;
    assert_eq!(request.basic(), Some(("orders".to_owned(), "s3cr3t".to_owned())));
    let form = form(&request);
    for expected in [
        pair("grant_type", "client_credentials"),
        pair("scope", "a b"),
        pair("resource", "https://one.example"),
        pair("resource", "https://two.example"),
        pair("audience", "three"),
        pair("tenant", "blue"),
    ] {
        assert!(form.contains(&expected), "{expected:?} {form:?}");
    }
    let details = request.param("authorization_details").unwrap();
    let details: serde_json::Value = serde_json::from_str(&details).unwrap();
    assert_eq!(details, serde_json::json!([{ "type": "account", "actions": ["read"] }]));
}

#[tokio::test(start_paused = true)]
async fn each_grant_sends_what_it_trades() {
    let client = "client = { id = \"orders\" }";
    for (text, expected) in [
        (
            "grant = { refresh_token = { token = { danger_literal = \"r1\" } } }",
            vec![pair("grant_type", "refresh_token"), pair("refresh_token", "r1")],
        ),
        (
            "grant = { jwt_bearer = { assertion = { danger_literal = \"j1\" } } }",
            vec![
                pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                pair("assertion", "j1"),
            ],
        ),
        (
            "grant = { saml2_bearer = { assertion = { danger_literal = \"<xml/>\" } } }",
            vec![
                pair("grant_type", "urn:ietf:params:oauth:grant-type:saml2-bearer"),
                pair("assertion", "PHhtbC8-"),
            ],
        ),
        (
            "[grant.token_exchange]
             subject_token = { danger_literal = \"s1\" }
             subject_token_type = \"jwt\"
             actor_token = { danger_literal = \"a1\" }
             actor_token_type = \"urn:example:actor\"
             requested_token_type = \"access_token\"",
            vec![
                pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                pair("subject_token", "s1"),
                pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
                pair("actor_token", "a1"),
                pair("actor_token_type", "urn:example:actor"),
                pair("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ],
        ),
    ] {
        let request = request(&format!("{client}\n{text}")).await;
        let form = form(&request);
        for expected in expected.into_iter().chain([pair("client_id", "orders")]) {
            assert!(form.contains(&expected), "{expected:?} {form:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_client_only_the_assertion_is_sent() {
    let request =
        request("grant = { jwt_bearer = { assertion = { danger_literal = \"j1\" } } }").await;
    assert_eq!((request.param("client_id"), request.basic()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn each_method_puts_the_secret_in_its_place() {
    let secret = "secret = { danger_literal = \"s3+\" }";
    for (method, in_header, in_form) in [
        ("", Some("s3+"), None),
        (", method = \"client_secret_basic\"", Some("s3+"), None),
        (", method = \"client_secret_post\"", None, Some("s3+")),
        // Nothing is known of the server, so it is Basic.
        (", method = [\"client_secret\", \"none\"]", Some("s3+"), None),
    ] {
        let grant = "grant = { jwt_bearer = { assertion = { danger_literal = \"j1\" } } }";
        let request =
            request(&format!("client = {{ id = \"o\", {secret}{method} }}\n{grant}")).await;
        let basic = request.basic().map(|(_, secret)| secret);
        assert_eq!(basic.as_deref(), in_header, "{method}");
        assert_eq!(request.param("client_secret").as_deref(), in_form, "{method}");
    }
    let client =
        format!("client = {{ id = \"o\", {secret}, method = \"client_secret_basic_unencoded\" }}");
    let request = request(&client).await;
    assert_eq!(request.header("authorization"), Some("Basic bzpzMys="));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_takes_the_place_of_the_endpoint() {
    let server = AuthorizationServer::in_process();
    server.client("orders", "s3cr3t");
    let client = client(
        &server,
        "issuer = \"ISSUER\"\nclient = { id = \"orders\", secret = { danger_literal = \"s3cr3t\" } }",
    );
    client.tokens().ready().await.unwrap();
    assert_eq!(server.issued(), 1);
}

#[tokio::test]
async fn a_token_in_a_file_needs_no_server() {
    let file = super::SecretFile::new("token", "from-the-file\n");
    let text =
        format!("origins = \"https://api.example\"\n[grant.file_token]\npath = {:?}", file.0);
    let (tokens, _) = super::toml(&text).unwrap().build().unwrap();
    assert_eq!(tokens.token().await.unwrap().access_token().expose(), "from-the-file");
}

#[cfg(feature = "private-key-jwt")]
#[tokio::test(start_paused = true)]
async fn a_client_that_has_a_key_signs_an_assertion() {
    let pair_of_keys = rcgen::KeyPair::generate().unwrap();
    let pem = super::SecretFile::new("key", &pair_of_keys.serialize_pem());
    let request = request(&format!(
        "client = {{ id = \"orders\", key = {{ pem = {}, algorithm = \"ES256\", key_id = \"k1\" }}, \
         assertion = {{ audience = \"https://idp.example\", lifetime = \"30s\", typ = \"JWT\" }} }}",
        pem.toml()
    ))
    .await;
    let assertion = request.param("client_assertion").unwrap();
    let part = |at: usize| {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        let part = BASE64_URL_SAFE_NO_PAD.decode(assertion.split('.').nth(at).unwrap()).unwrap();
        serde_json::from_slice::<serde_json::Value>(&part).unwrap()
    };
    let (header, claims) = (part(0), part(1));
    assert_eq!((&header["kid"], &header["typ"]), (&"k1".into(), &"JWT".into()));
    assert_eq!(claims["aud"], "https://idp.example");
    let lived = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lived, 30);

    let secret = "0123456789abcdef0123456789abcdef";
    let request = self::request(&format!(
        "client = {{ id = \"orders\", secret = {{ danger_literal = \"{secret}\" }}, \
         method = \"client_secret_jwt\", assertion.audience = \"https://idp.example\" }}"
    ))
    .await;
    assert!(request.param("client_assertion").is_some() && request.basic().is_none());
    assert!(request.param("client_secret").is_none());
}

#[cfg(feature = "dpop")]
#[tokio::test(start_paused = true)]
async fn a_token_is_bound_to_a_key_that_is_generated_or_read() {
    for algorithm in ["ES256", "EdDSA"] {
        let server = AuthorizationServer::in_process();
        server.client("orders", "s3cr3t");
        let text = format!(
            "dpop.algorithm = \"{algorithm}\"\ndpop.danger_or_bearer = true\n\
             client = {{ id = \"orders\", secret = {{ danger_literal = \"s3cr3t\" }} }}"
        );
        let client = client(&server, &text);
        client.tokens().ready().await.unwrap();
        assert!(server.token_requests()[0].header("dpop").is_some());
    }
}
