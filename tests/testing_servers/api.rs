//! The protected API.

use std::time::Duration;

use http_body_util::Empty;
use serde_json::{Value, json};
use tokio::time::{Instant, advance};
use tower_oauth::testing::{AuthorizationServer, ProtectedApi, Reply};

use crate::{Broken, Response, call, form, json as body_of};

fn get(authorization: &[&str]) -> http::Request<Empty<bytes::Bytes>> {
    let request = http::Request::get("https://api.test/a/b?c");
    authorization
        .iter()
        .fold(request, |request, value| request.header("authorization", *value))
        .body(Empty::new())
        .unwrap()
}

fn challenge(response: &Response) -> Value {
    let value = response.headers().get("www-authenticate");
    json!([response.status().as_u16(), value.map(|value| value.to_str().unwrap())])
}

#[tokio::test(start_paused = true)]
async fn active_tokens_are_served_and_others_are_challenged() {
    let server = AuthorizationServer::in_process();
    let api = ProtectedApi::in_process(&server);
    let token = format!("Bearer {}", server.issue_access_token("orders"));
    let response = call(api.service(), get(&[&token])).await.unwrap();
    let expected = json!({ "ok": true, "method": "GET", "path": "/a/b", "body_len": 0 });
    assert_eq!(body_of(response).await, expected);

    let refusal = async |authorization: &[&str]| {
        challenge(&call(api.service(), get(authorization)).await.unwrap())
    };
    let bare = json!([401, "Bearer realm=\"api\""]);
    assert_eq!(refusal(&[]).await, bare);
    assert_eq!(refusal(&["Basic eA=="]).await, bare);
    assert_eq!(refusal(&[&token, &token]).await[0], 400);
    assert!(refusal(&["Bearer x"]).await.to_string().contains("invalid_token"));
    advance(Duration::from_secs(3600)).await;
    assert!(refusal(&[&token]).await.to_string().contains("expired"));
    server.revoke_all();
    assert!(refusal(&[&token]).await.to_string().contains("revoked"));

    assert_eq!((api.request_count(), api.refused()), (7, 5));
    assert_eq!(api.requests()[0].bearer(), token.strip_prefix("Bearer "));
    api.reset_ledger();
    assert_eq!((api.request_count(), api.refused()), (0, 0));
}

#[tokio::test]
async fn refusals_can_look_otherwise() {
    let server = AuthorizationServer::in_process();
    let api = ProtectedApi::in_process(&server);
    let call = async || call(api.service(), get(&["Bearer x"])).await.unwrap();
    api.challenge(Some("Custom a=b".into()));
    assert_eq!(challenge(&call().await), json!([401, "Custom a=b"]));
    api.challenge(None);
    assert_eq!(challenge(&call().await), json!([401, null]));
    api.grpc(true);
    let response = call().await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"16".parse().unwrap())
    );
    assert_eq!(api.refused(), 3);
}

#[tokio::test(start_paused = true)]
async fn delays_add_up_and_scripts_apply() {
    let server = AuthorizationServer::in_process();
    let api = ProtectedApi::in_process(&server);
    let second = Duration::from_secs(1);
    api.delay(second).always(Reply::status(503)).script(Reply::status(401).delay(second));
    let start = Instant::now();
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(call(api.service(), get(&[])).await.unwrap().status().as_u16());
    }
    assert_eq!((statuses, start.elapsed()), (vec![401, 503], 3 * second));
    assert_eq!(api.refused(), 1);
    api.honest();
    assert_eq!(call(api.service(), get(&[])).await.unwrap().status(), 401);
}

#[tokio::test]
async fn an_early_refusal_leaves_the_body_unread() {
    let server = AuthorizationServer::in_process();
    let api = ProtectedApi::in_process(&server);
    let request = || http::Request::post("https://api.test/").body(Broken).unwrap();
    assert!(call(api.service(), request()).await.is_err());
    assert_eq!(api.request_count(), 0);
    api.refuse_early(true);
    assert_eq!(call(api.service(), request()).await.unwrap().status(), 401);
    assert_eq!((api.request_count(), api.refused()), (1, 1));
    // A request that is not refused is read as ever.
    let mut request = form("https://api.test/", "12345");
    let token = server.issue_access_token("orders");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    assert_eq!(body_of(call(api.service(), request).await.unwrap()).await["body_len"], 5);
}
