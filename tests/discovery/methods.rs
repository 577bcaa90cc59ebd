//! How the client authenticates, and where the server decides on it.

use serde_json::json;
use tower_oauth::{
    ClientAuth, ClientCredentials, ConfigError, Error, ErrorKind, Introspection, RefreshToken,
    Revocation, TokenSet,
};

use crate::fake::{INTROSPECT, Internet, METADATA, REVOKE, Seen, TOKEN, fetch, reply};

/// The requests that this client makes at each of the endpoints.
async fn of_every_endpoint(internet: &Internet, auth: &ClientAuth) -> Result<Vec<Seen>, Error> {
    let discovery = internet.discovery();
    let refresh = RefreshToken::builder(&discovery, auth.clone(), "r1").build().unwrap();
    fetch(&refresh).await?;
    let token = TokenSet::bearer("a1")?.with_refresh_token("r1");
    let revocation = Revocation::builder(&discovery, auth.clone()).build().unwrap();
    revocation.revoke(&token).await?;
    let introspection = Introspection::builder(&discovery, auth.clone()).build().unwrap();
    assert!(introspection.introspect("a1").await?.is_active());
    let mut seen = internet.seen();
    assert_eq!(seen.remove(0).url, METADATA);
    let urls: Vec<_> = seen.iter().map(|seen| &*seen.url).collect();
    assert_eq!(urls, [TOKEN, REVOKE, REVOKE, INTROSPECT]);
    Ok(seen)
}

#[tokio::test(start_paused = true)]
async fn trq_06_each_request_at_each_endpoint_carries_one_authentication() {
    for (auth, credentials, client_id) in [
        (ClientAuth::basic("orders", "s"), &["header"][..], None),
        (ClientAuth::basic_unencoded("orders", "s"), &["header"], None),
        (ClientAuth::post("orders", "s"), &["secret"], Some("orders")),
        (ClientAuth::none("orders"), &[], Some("orders")),
        (ClientAuth::anonymous(), &[], None),
        (ClientAuth::secret("orders", "s"), &["header"], None),
    ] {
        let internet = Internet::with_issuer(&json!({}));
        for seen in of_every_endpoint(&internet, &auth).await.unwrap() {
            assert_eq!(seen.credentials(), credentials, "{auth:?} {}", seen.url);
            assert_eq!(seen.param("client_id").as_deref(), client_id, "{auth:?} {}", seen.url);
            assert_eq!(seen.method, "POST");
            assert!(!seen.url.contains('?'));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trq_07_a_secret_goes_into_the_form_where_the_server_wants_it() {
    let methods = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] });
    let internet = Internet::with_issuer(&methods);
    let auth = ClientAuth::secret("orders", "s");
    for seen in of_every_endpoint(&internet, &auth).await.unwrap() {
        assert_eq!(seen.credentials(), ["secret"], "{}", seen.url);
    }
}

#[tokio::test(start_paused = true)]
async fn trq_07_an_endpoint_may_have_methods_of_its_own() {
    let internet = Internet::with_issuer(&json!({
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic"],
    }));
    let seen = of_every_endpoint(&internet, &ClientAuth::secret("orders", "s")).await.unwrap();
    let found: Vec<_> = seen.iter().map(Seen::credentials).collect();
    assert_eq!(found, [["secret"], ["header"], ["header"], ["secret"]]);
}

#[tokio::test(start_paused = true)]
async fn trq_07_an_explicit_method_wins_over_what_the_server_says() {
    for listed in [json!(["private_key_jwt"]), json!([]), json!("malformed"), json!(null)] {
        let internet =
            Internet::with_issuer(&json!({ "token_endpoint_auth_methods_supported": listed }));
        let seen = of_every_endpoint(&internet, &ClientAuth::post("orders", "s")).await.unwrap();
        assert!(seen.iter().all(|seen| seen.credentials() == ["secret"]));
    }
}

#[tokio::test(start_paused = true)]
async fn trq_07_no_common_method_costs_no_request_at_all() {
    let methods = json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt", "x\ny"] });
    let internet = Internet::with_issuer(&methods);
    let auth = ClientAuth::secret("orders", "s");
    let source = ClientCredentials::builder(internet.discovery(), auth).build().unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(!error.is_retryable());
    let text = error.to_string();
    for part in ["private_key_jwt", "client_secret_basic", r"x\u{a}y"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(internet.urls(), [METADATA]);
}

#[tokio::test(start_paused = true)]
async fn trq_07_a_refused_client_is_not_tried_in_another_way() {
    let methods = ["client_secret_basic", "client_secret_post"];
    let internet =
        Internet::with_issuer(&json!({ "token_endpoint_auth_methods_supported": methods }));
    internet.put(TOKEN, reply(401, r#"{"error":"invalid_client"}"#));
    let auth =
        ClientAuth::any_of([ClientAuth::secret("orders", "s"), ClientAuth::post("orders", "s")]);
    let source = ClientCredentials::builder(internet.discovery(), auth).build().unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
    assert_eq!(internet.only(TOKEN).credentials(), ["header"]);
}

#[test]
fn trq_07_a_choice_that_cannot_be_made_is_refused_when_it_is_built() {
    let internet = Internet::default();
    let build = |auth: ClientAuth| {
        let builder = ClientCredentials::builder(TOKEN, auth).transport(internet.transport());
        builder.build().map(drop)
    };
    // Without metadata the method is client_secret_basic.
    assert!(build(ClientAuth::secret("orders", "s")).is_ok());
    assert!(build(ClientAuth::any_of([ClientAuth::basic("orders", "s")])).is_ok());
    for bad in [
        ClientAuth::any_of([]),
        ClientAuth::any_of([ClientAuth::post("orders", "s")]),
        ClientAuth::any_of([ClientAuth::basic("orders", "s"), ClientAuth::post("stock", "s")]),
        // It might end up without authentication.
        ClientAuth::any_of([ClientAuth::basic("orders", "s"), ClientAuth::none("orders")]),
    ] {
        let error = build(bad).unwrap_err();
        assert!(matches!(error, ConfigError::ClientAuth { .. }), "{error}");
    }
}
