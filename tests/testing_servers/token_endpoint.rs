//! What the authorization server answers, and what it does to tokens.

use std::time::Duration;

use serde_json::json;
use tokio::time::advance;
use tower_oauth::testing::{AuthorizationServer, Reply, Rotation};

use crate::{
    BASIC, CLIENT_CREDENTIALS, call, exchange, form, json as body_of, refresh, text, token_request,
};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn client_credentials_give_a_token_that_lives_as_long_as_said() {
    let server = AuthorizationServer::in_process();
    server.lifetime(Duration::from_millis(2500));
    let (status, answer) = exchange(&server, "grant_type=client_credentials&scope=a+b").await;
    let token = text(&answer, "access_token");
    assert!(status == 200 && token.starts_with("at-"));
    let rest = json!({
        "access_token": token, "token_type": "Bearer", "expires_in": 2, "scope": "a b",
    });
    assert_eq!(answer, rest);

    advance(Duration::from_millis(2499)).await;
    assert!(server.is_active(&token));
    advance(Duration::from_millis(1)).await;
    assert!(!server.is_active(&token));

    server.omit_expires_in(true).refresh_tokens(true);
    let (_, answer) = exchange(&server, CLIENT_CREDENTIALS).await;
    assert!(answer.get("expires_in").is_none() && answer.get("scope").is_none());
    assert!(text(&answer, "refresh_token").starts_with("rt-"));
    assert_ne!(text(&answer, "access_token"), token);
    assert_eq!((server.issued(), server.token_request_count()), (2, 2));
}

#[tokio::test]
async fn an_active_token_is_exchanged_for_one_of_the_clients_own() {
    let server = AuthorizationServer::in_process();
    let subject = server.issue_access_token("alice");
    let exchange_of = |subject: &str| {
        format!(
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={subject}\
             &subject_token_type=urn:ietf:params:oauth:token-type:access_token&scope=stock"
        )
    };
    let (status, answer) = exchange(&server, &exchange_of(&subject)).await;
    let token = text(&answer, "access_token");
    assert!(status == 200 && token != subject && server.is_active(&token));
    assert_eq!(text(&answer, "scope"), "stock");
    let access_token = "urn:ietf:params:oauth:token-type:access_token";
    assert_eq!(text(&answer, "issued_token_type"), access_token);

    server.revoke(&subject);
    let (status, answer) = exchange(&server, &exchange_of(&subject)).await;
    assert_eq!((status, text(&answer, "error").as_str()), (400, "invalid_request"));
    let (status, _) =
        exchange(&server, "grant_type=urn:ietf:params:oauth:grant-type:token-exchange").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_refresh_token_that_does_not_rotate_is_not_repeated() {
    let server = AuthorizationServer::in_process();
    let token = server.issue_refresh_token("orders");
    for _ in 0..2 {
        let (status, answer) = exchange(&server, &refresh(&token)).await;
        assert!(status == 200 && answer.get("refresh_token").is_none());
    }
    assert!(!server.reuse_detected());
}

#[tokio::test(start_paused = true)]
async fn reuse_after_the_grace_ends_the_whole_family() {
    let server = AuthorizationServer::in_process();
    server.rotation(Rotation::Always { grace: MINUTE });
    let first = server.issue_refresh_token("orders");
    let (_, answer) = exchange(&server, &refresh(&first)).await;
    let (access, second) = (text(&answer, "access_token"), text(&answer, "refresh_token"));
    assert_ne!(first, second);

    // An answer was lost: within its grace the first one still works.
    let (status, _) = exchange(&server, &refresh(&first)).await;
    assert!(status == 200 && !server.reuse_detected());

    advance(MINUTE).await;
    let (status, answer) = exchange(&server, &refresh(&first)).await;
    assert_eq!((status, text(&answer, "error").as_str()), (400, "invalid_grant"));
    assert!(server.reuse_detected() && !server.is_active(&access));
    assert_eq!(exchange(&server, &refresh(&second)).await.0, 400);
}

#[tokio::test]
async fn without_a_grace_any_reuse_is_detected() {
    let server = AuthorizationServer::in_process();
    server.rotation(Rotation::Always { grace: Duration::ZERO });
    let first = server.issue_refresh_token("orders");
    server.script(Reply::honest().then_reset_before_answer());
    assert!(call(server.service(), token_request(&server, &refresh(&first))).await.is_err());
    assert_eq!(server.issued(), 1);
    assert_eq!(exchange(&server, &refresh(&first)).await.0, 400);
    assert!(server.reuse_detected());
    server.reset_ledger();
    assert!(!server.reuse_detected() && server.token_request_count() == 0 && server.issued() == 0);
}

#[tokio::test]
async fn a_refresh_may_narrow_the_scope_but_not_widen_it() {
    let server = AuthorizationServer::in_process();
    server.refresh_tokens(true).rotation(Rotation::Always { grace: Duration::ZERO });
    let (_, answer) = exchange(&server, "grant_type=client_credentials&scope=a+b").await;
    let token = text(&answer, "refresh_token");
    let (status, answer) = exchange(&server, &(refresh(&token) + "&scope=c")).await;
    assert_eq!((status, text(&answer, "error").as_str()), (400, "invalid_scope"));
    let (_, answer) = exchange(&server, &(refresh(&token) + "&scope=b")).await;
    assert_eq!(text(&answer, "scope"), "b");
    // The rotated token still has it all.
    let (_, answer) = exchange(&server, &refresh(&text(&answer, "refresh_token"))).await;
    assert_eq!(text(&answer, "scope"), "a b");
}

#[tokio::test]
async fn registered_clients_are_checked_by_either_method() {
    let server = AuthorizationServer::in_process();
    server.client("or:ders €", "p%&+= w");
    // base64 of `or%3Aders+%E2%82%AC:p%25%26%2B%3D+w`
    let good = "Basic b3IlM0FkZXJzKyVFMiU4MiVBQzpwJTI1JTI2JTJCJTNEK3c=";
    let mut request = form(&server.token_endpoint(), CLIENT_CREDENTIALS);
    request.headers_mut().insert("authorization", good.parse().unwrap());
    assert_eq!(call(server.service(), request).await.unwrap().status(), 200);
    let recorded = &server.token_requests()[0];
    assert_eq!(recorded.basic(), Some(("or:ders €".into(), "p%&+= w".into())));

    let post = "&client_id=or%3Aders+%E2%82%AC&client_secret=p%25%26%2B%3D%20w";
    let request = form(&server.token_endpoint(), &format!("{CLIENT_CREDENTIALS}{post}"));
    assert_eq!(call(server.service(), request).await.unwrap().status(), 200);

    // Another client, with Basic: a challenge comes with the refusal.
    let response =
        call(server.service(), token_request(&server, CLIENT_CREDENTIALS)).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Basic realm=\"as\"");
    assert_eq!(body_of(response).await["error"], "invalid_client");

    let request = form(&server.token_endpoint(), &format!("{CLIENT_CREDENTIALS}&client_id=x"));
    let response = call(server.service(), request).await.unwrap();
    assert!(response.status() == 401 && !response.headers().contains_key("www-authenticate"));
}

#[tokio::test]
async fn malformed_requests_are_told_so() {
    let server = AuthorizationServer::in_process();
    for (body, error) in [
        ("grant_type=client_credentials&client_secret=x", "invalid_request"),
        ("grant_type=client_credentials&client_id=another", "invalid_request"),
        ("grant_type=client_credentials&scope=a&scope=a", "invalid_request"),
        ("grant_type=refresh_token", "invalid_request"),
        ("scope=a", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=refresh_token&refresh_token=rt-9-x", "invalid_grant"),
    ] {
        let (status, answer) = exchange(&server, body).await;
        assert_eq!((status, text(&answer, "error").as_str()), (400, error), "{body}");
    }
    // A refresh token of another client.
    let token = server.issue_refresh_token("another");
    assert_eq!(exchange(&server, &refresh(&token)).await.1["error"], "invalid_grant");
    // No authentication at all.
    let request = form(&server.token_endpoint(), CLIENT_CREDENTIALS);
    assert_eq!(call(server.service(), request).await.unwrap().status(), 401);
    // Not a form; not a POST; not an endpoint.
    let mut request = token_request(&server, CLIENT_CREDENTIALS);
    request.headers_mut().remove("content-type");
    assert_eq!(call(server.service(), request).await.unwrap().status(), 400);
    let mut request = token_request(&server, CLIENT_CREDENTIALS);
    *request.method_mut() = http::Method::GET;
    assert_eq!(call(server.service(), request).await.unwrap().status(), 405);
    let request = form("https://as.test/", "");
    assert_eq!(call(server.service(), request).await.unwrap().status(), 404);
    assert_eq!(server.issued(), 0);
}

#[tokio::test]
async fn tokens_are_revoked_and_introspected() {
    let server = AuthorizationServer::in_process();
    let with_basic = |path: &str, token: &str| {
        let mut request = form(&format!("https://as.test{path}"), &format!("token={token}"));
        request.headers_mut().insert("authorization", BASIC.parse().unwrap());
        call(server.service(), request)
    };
    let token = server.issue_access_token("orders");
    let answer = body_of(with_basic("/introspect", &token).await.unwrap()).await;
    assert_eq!((&answer["active"], &answer["client_id"]), (&json!(true), &json!("orders")));
    assert_eq!(with_basic("/revoke", &token).await.unwrap().status(), 200);
    let answer = body_of(with_basic("/introspect", &token).await.unwrap()).await;
    assert_eq!(answer, json!({ "active": false }));
    // RFC 7009 §2.2: an unknown token is no error; another client's is.
    assert_eq!(with_basic("/revoke", "x").await.unwrap().status(), 200);
    let foreign = server.issue_access_token("another");
    assert_eq!(with_basic("/revoke", &foreign).await.unwrap().status(), 400);
    assert!(server.is_active(&foreign));
    assert_eq!((server.requests().len(), server.token_request_count()), (5, 0));

    let refresh_token = server.issue_refresh_token("orders");
    server.revoke_access_tokens();
    assert!(!server.is_active(&foreign));
    let (status, answer) = exchange(&server, &refresh(&refresh_token)).await;
    assert!(status == 200 && server.is_active(&text(&answer, "access_token")));
    server.revoke_all();
    assert!(!server.is_active(&text(&answer, "access_token")));
    assert_eq!(exchange(&server, &refresh(&refresh_token)).await.0, 400);
    assert!(!server.revoke("unknown"));
}

#[tokio::test]
async fn a_script_is_played_in_order_then_always_then_honestly() {
    let server = AuthorizationServer::in_process();
    server
        .always(Reply::status(500))
        .script(Reply::oauth_error(400, "invalid_grant"))
        .script_many([Reply::honest().patch(json!({ "expires_in": "60", "token_type": null }))]);
    let (status, answer) = exchange(&server, CLIENT_CREDENTIALS).await;
    assert_eq!((status, answer), (400, json!({ "error": "invalid_grant" })));
    let (_, answer) = exchange(&server, CLIENT_CREDENTIALS).await;
    assert!(answer["expires_in"] == "60" && answer.get("token_type").is_none());
    assert!(server.is_active(&text(&answer, "access_token")));
    for _ in 0..2 {
        let request = token_request(&server, CLIENT_CREDENTIALS);
        assert_eq!(call(server.service(), request).await.unwrap().status(), 500);
    }
    server.honest();
    assert_eq!(exchange(&server, CLIENT_CREDENTIALS).await.0, 200);
}

#[tokio::test]
async fn the_metadata_names_the_server_and_its_endpoints() {
    for server in [AuthorizationServer::in_process(), AuthorizationServer::start().await.unwrap()] {
        let place = format!("{}/.well-known/oauth-authorization-server", server.url());
        let request = http::Request::get(&place).body(http_body_util::Empty::new()).unwrap();
        let response = call(server.service(), request).await.unwrap();
        assert_eq!(response.status(), 200);
        let metadata = body_of(response).await;
        assert_eq!(text(&metadata, "issuer"), server.url());
        assert_eq!(text(&metadata, "token_endpoint"), server.token_endpoint());
        assert_eq!(text(&metadata, "revocation_endpoint"), format!("{}/revoke", server.url()));
        let response = call(server.service(), form(&place, "")).await.unwrap();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "GET");
        // It is recorded, and is no token request.
        assert_eq!((server.requests().len(), server.token_request_count()), (2, 0));
    }
}
