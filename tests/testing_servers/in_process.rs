//! Time and faults without sockets.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::{Instant, timeout};
use tower_oauth::testing::{AuthorizationServer, Reply};

use crate::{Broken, CLIENT_CREDENTIALS, FORM, call, exchange, token_request};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn delays_and_chunks_take_virtual_time() {
    let server = AuthorizationServer::in_process();
    let drip = [(Duration::ZERO, "a"), (HOUR, "b"), (SECOND, ""), (SECOND, "c")];
    server.script(Reply::status(200).delay(HOUR).chunks(drip));
    let start = Instant::now();
    let response = call(server.service(), token_request(&server, "")).await.unwrap();
    assert_eq!(start.elapsed(), HOUR);
    assert!(!response.headers().contains_key("content-length"));

    let mut body = response.into_body();
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        seen.push((start.elapsed(), frame.unwrap().into_data().unwrap()));
    }
    let expected = [(HOUR, "a"), (2 * HOUR, "b"), (2 * HOUR + 2 * SECOND, "c")];
    assert_eq!(seen, expected.map(|(at, data)| (at, data.into())));
}

#[tokio::test(start_paused = true)]
async fn the_work_is_done_before_the_delay() {
    let server = AuthorizationServer::in_process();
    server.script(Reply::honest().delay(HOUR));
    let request = token_request(&server, CLIENT_CREDENTIALS);
    assert!(timeout(SECOND, call(server.service(), request)).await.is_err());
    assert_eq!((server.issued(), server.token_request_count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn faults_are_errors_of_the_call_or_of_the_body() {
    let server = AuthorizationServer::in_process();
    let request = || token_request(&server, CLIENT_CREDENTIALS);
    server.script_many([Reply::reset(), Reply::raw("HTTP/1.1 200 OK\r\n\r\n"), Reply::hang()]);
    for expected in ["reset", "loopback"] {
        let error = call(server.service(), request()).await.unwrap_err();
        assert!(error.to_string().contains(expected) && !error.is_refused(), "{error}");
    }
    assert!(timeout(HOUR, call(server.service(), request())).await.is_err());

    server.script_many([
        Reply::honest().reset_after(10),
        Reply::status(200).body("abc").content_length_lie(5),
        Reply::status(200).body("abc").content_length_lie(2),
    ]);
    for (expected, error) in [(10, Some("reset")), (3, Some("complete")), (2, None)] {
        let mut body = call(server.service(), request()).await.unwrap().into_body();
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data.len(), expected);
        let end = body.frame().await.map(|frame| frame.unwrap_err().to_string());
        assert_eq!(end.is_some(), error.is_some());
        assert!(end.unwrap_or_default().contains(error.unwrap_or_default()));
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_server_refuses_and_breaks_what_is_under_way() {
    let server = AuthorizationServer::in_process();
    server.script_many([
        Reply::hang(),
        Reply::status(200).chunks([(Duration::ZERO, "a"), (HOUR, "b")]),
    ]);
    let hanging = tokio::spawn(call(server.service(), token_request(&server, "")));
    tokio::time::sleep(SECOND).await;
    let mut body = call(server.service(), token_request(&server, "")).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let dripping = tokio::spawn(async move { body.frame().await });
    tokio::time::sleep(SECOND).await;

    let start = Instant::now();
    server.stop().await;
    assert!(!hanging.await.unwrap().unwrap_err().is_refused());
    assert!(dripping.await.unwrap().unwrap().is_err());
    for _ in 0..3 {
        let error = call(server.service(), token_request(&server, "")).await.unwrap_err();
        assert!(error.is_refused());
    }
    assert_eq!((server.attempts(), server.token_request_count()), (3, 2));
    server.stop().await;
    server.resume().unwrap();
    server.resume().unwrap();
    assert_eq!(exchange(&server, CLIENT_CREDENTIALS).await.0, 200);
    assert_eq!(start.elapsed(), Duration::ZERO);
    server.reset_ledger();
    assert_eq!(server.attempts(), 0);
}

#[tokio::test]
async fn a_request_whose_body_breaks_is_never_seen() {
    let server = AuthorizationServer::in_process();
    let request = http::Request::post("/token").header("content-type", FORM).body(Broken).unwrap();
    let error = call(server.service(), request).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("broken"));
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn what_came_is_recorded() {
    let server = AuthorizationServer::in_process();
    let mut request = token_request(&server, "grant_type=client_credentials&scope=a+b");
    *request.uri_mut() = "https://as.test/token?tenant=a%2Fb".parse().unwrap();
    call(server.service(), request).await.unwrap();
    let recorded = &server.token_requests()[0];
    assert_eq!((recorded.method.as_str(), recorded.path()), ("POST", "/token"));
    assert_eq!(recorded.target, "/token?tenant=a%2Fb");
    assert_eq!(recorded.param("scope").as_deref(), Some("a b"));
    assert_eq!(recorded.header("content-type"), Some(FORM));
    assert!(recorded.raw.is_none() && recorded.bearer().is_none());
}
