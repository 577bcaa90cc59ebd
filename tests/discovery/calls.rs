//! Revocation and introspection, one call each.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tokio::time::Instant;
use tower::service_fn;
use tower_oauth::{
    ClientAuth, ConfigError, ErrorKind, Introspection, Revocation, TokenSet, Transport,
    testing::AuthorizationServer,
};

use crate::fake::{INTROSPECT, Internet, REVOKE, reply, with_header};

fn auth() -> ClientAuth {
    ClientAuth::basic("orders", "hunter2")
}

fn revocation(internet: &Internet) -> Revocation {
    Revocation::builder(REVOKE, auth()).transport(internet.transport()).build().unwrap()
}

fn introspection(internet: &Internet) -> Introspection {
    Introspection::builder(INTROSPECT, auth()).transport(internet.transport()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn rev_01_a_revocation_is_an_authenticated_post_of_the_token_and_a_hint() {
    let internet = Internet::with_issuer(&json!({}));
    let token = TokenSet::bearer("a 1").unwrap_err();
    assert_eq!(token.kind(), ErrorKind::UnusableToken);
    let token = TokenSet::bearer("a1").unwrap().with_refresh_token("r&1");
    revocation(&internet).revoke(&token).await.unwrap();
    let [refresh, access] = <[_; 2]>::try_from(internet.seen()).unwrap();
    assert_eq!(refresh.body, "token=r%261&token_type_hint=refresh_token");
    assert_eq!(access.body, "token=a1&token_type_hint=access_token");
    for seen in [refresh, access] {
        assert_eq!((seen.method.as_str(), &*seen.url), ("POST", REVOKE));
        assert_eq!(seen.headers["content-type"], "application/x-www-form-urlencoded");
        assert!(seen.headers["authorization"].to_str().unwrap().starts_with("Basic "));
    }
}

#[tokio::test(start_paused = true)]
async fn rev_01_success_is_success_whatever_the_body() {
    let internet = Internet::default();
    for body in ["", "<html>", "{", r#"{"error":"invalid_client"}"#, "null"] {
        internet.put(REVOKE, reply(200, body));
        revocation(&internet).revoke_access_token("a1").await.unwrap();
    }
    assert_eq!(internet.count(REVOKE), 5);
}

#[tokio::test(start_paused = true)]
async fn rev_01_a_busy_server_is_asked_once_more_when_it_says() {
    let internet = Internet::default();
    internet.put(REVOKE, with_header(reply(503, ""), "retry-after", "5"));
    let (started, revocation) = (Instant::now(), revocation(&internet));
    let call = tokio::spawn(async move { revocation.revoke_refresh_token("r1").await });
    tokio::time::sleep(Duration::from_millis(4990)).await;
    assert_eq!(internet.count(REVOKE), 1);
    internet.put(REVOKE, reply(200, ""));
    call.await.unwrap().unwrap();
    assert_eq!(internet.count(REVOKE), 2);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_millis(5100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn rev_01_there_is_time_to_come_back_within_half_a_minute() {
    let internet = Internet::default();
    internet.put(REVOKE, with_header(reply(503, ""), "retry-after", "30"));
    let error = revocation(&internet).revoke_access_token("a1").await.unwrap_err();
    assert_eq!((error.kind(), internet.count(REVOKE)), (ErrorKind::Server, 2));
}

/// Two attempts of 15 s, and the wait between them: a minute.
#[tokio::test(start_paused = true)]
async fn rev_01_a_server_that_wants_all_the_time_there_is_is_not_waited_for() {
    for (wait, requests) in [("59", 2), ("60", 1)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let busy = {
            let asked = asked.clone();
            // At once, so that the clocks stand still.
            Transport::new(service_fn(move |_: Request<Bytes>| {
                asked.fetch_add(1, Ordering::Relaxed);
                let busy = with_header(reply(503, ""), "retry-after", wait).unwrap();
                async move { Ok::<_, Infallible>(busy) }
            }))
        };
        let revocation = Revocation::builder(REVOKE, auth()).transport(busy).build().unwrap();
        let started = Instant::now();
        revocation.revoke_access_token("a1").await.unwrap_err();
        assert_eq!(asked.load(Ordering::Relaxed), requests);
        assert_eq!(started.elapsed().is_zero(), requests == 1, "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn rev_01_a_server_that_stays_busy_or_for_too_long_is_an_error() {
    for (wait, requests) in [("5", 2), ("3600", 1)] {
        let internet = Internet::default();
        internet.put(REVOKE, with_header(reply(503, ""), "retry-after", wait));
        let error = revocation(&internet).revoke_access_token("a1").await.unwrap_err();
        assert_eq!((error.kind(), internet.count(REVOKE)), (ErrorKind::Server, requests));
        assert!(error.is_retryable() && error.retry_at().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn rev_01_a_kind_that_cannot_be_revoked_is_typed_and_final() {
    let internet = Internet::default();
    let answer = reply(400, r#"{"error":"unsupported_token_type","error_description":"a1 r1"}"#);
    internet.put(REVOKE, answer);
    let token = TokenSet::bearer("a1").unwrap().with_refresh_token("r1");
    let error = revocation(&internet).revoke(&token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedTokenType);
    assert!(!error.is_retryable());
    // Each was sent once, and what the server repeats of it is not shown.
    assert_eq!(internet.count(REVOKE), 2);
    assert!(!format!("{error} {error:?}").contains("r1"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn rev_01_the_access_token_is_revoked_even_if_the_refresh_token_is_not() {
    let internet = Internet::default();
    internet.put(REVOKE, None);
    let token = TokenSet::bearer("a1").unwrap().with_refresh_token("r1");
    let error = revocation(&internet).revoke(&token).await.unwrap_err();
    assert_eq!((error.kind(), internet.count(REVOKE)), (ErrorKind::Transport, 2));
}

#[tokio::test(start_paused = true)]
async fn rev_01_what_is_no_answer_of_the_endpoint_is_no_success() {
    let internet = Internet::default();
    for (status, kind) in [
        (302, ErrorKind::MalformedResponse),
        (401, ErrorKind::InvalidClient),
        (404, ErrorKind::InvalidRequest),
        (500, ErrorKind::Server),
    ] {
        internet.put(REVOKE, reply(status, ""));
        let error = revocation(&internet).revoke_access_token("a1").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn rev_02_an_introspection_is_an_authenticated_post_of_the_token() {
    let internet = Internet::default();
    internet.put(INTROSPECT, reply(200, r#"{"active":true,"client_id":"orders","scope":"a b"}"#));
    let info = introspection(&internet).introspect("a&1").await.unwrap();
    assert_eq!((info.is_active(), info.client_id()), (true, Some("orders")));
    let seen = internet.only(INTROSPECT);
    assert_eq!((seen.method.as_str(), &*seen.body), ("POST", "token=a%261"));
    assert_eq!(seen.credentials(), ["header"]);
}

#[tokio::test(start_paused = true)]
async fn rev_02_an_unclear_answer_is_an_error_and_not_inactive() {
    let internet = Internet::default();
    for body in [r#"{"active":"true"}"#, r#"{"active":1}"#, "{}", "", "<html>", "active=true"] {
        internet.put(INTROSPECT, reply(200, body));
        let error = introspection(&internet).introspect("a1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedResponse, "{body}");
    }
    for (status, body, kind) in [
        (401, r#"{"error":"invalid_client"}"#, ErrorKind::InvalidClient),
        (403, r#"{"error":"access_denied"}"#, ErrorKind::Denied),
        (503, "", ErrorKind::Server),
        (302, "", ErrorKind::MalformedResponse),
    ] {
        internet.put(INTROSPECT, reply(status, body));
        let error = introspection(&internet).introspect("a1").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
    }
    internet.put(INTROSPECT, reply(200, r#"{"active":false,"scope":"a"}"#));
    let info = introspection(&internet).introspect("a1").await.unwrap();
    assert_eq!((info.is_active(), info.scopes()), (false, None));
}

#[test]
fn trq_04_the_urls_of_these_endpoints_are_checked_too() {
    let internet = Internet::default();
    for url in ["http://idp.example/revoke", "/revoke", "https://u:p@idp.example/revoke"] {
        let builder = Revocation::builder(url, auth()).transport(internet.transport());
        assert!(matches!(builder.build(), Err(ConfigError::Url { .. })), "{url}");
        let builder = Introspection::builder(url, auth()).transport(internet.transport());
        assert!(matches!(builder.build(), Err(ConfigError::Url { .. })), "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn rev_01_rev_02_a_token_is_active_until_it_is_revoked() {
    let server = AuthorizationServer::in_process();
    server.client("orders", "hunter2");
    let transport = || {
        Transport::new(tower::util::MapRequest::new(server.service(), |request: Request<Bytes>| {
            request.map(http_body_util::Full::new)
        }))
    };
    let url = |path| format!("{}/{path}", server.url());
    let introspection = Introspection::builder(url("introspect"), auth());
    let introspection = introspection.transport(transport()).build().unwrap();
    let revocation = Revocation::builder(url("revoke"), auth());
    let revocation = revocation.transport(transport()).build().unwrap();

    let token = server.issue_access_token("orders");
    let info = introspection.introspect(&*token).await.unwrap();
    assert_eq!((info.is_active(), info.client_id()), (true, Some("orders")));
    revocation.revoke_access_token(&*token).await.unwrap();
    assert!(!introspection.introspect(&*token).await.unwrap().is_active());
    assert!(!server.is_active(&token));
}
