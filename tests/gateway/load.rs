//! Many requests, many lifetimes, many bytes.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, routing::post};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tokio_stream::StreamExt;
use tower_oauth::testing::{AuthorizationServer, ProtectedApi, Reply};

use crate::harness::Gateway;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_pass_through_fifty_lifetimes_and_none_fails() {
    const REQUESTS: usize = 10_000;
    const LIFETIMES: usize = 50;
    let issuer = AuthorizationServer::start().await.unwrap();
    issuer.client("gateway", "s3cr3t");
    // It says one second and means three: this test is about renewals, not about the speed of a
    // machine that runs others beside it.
    issuer.lifetime(Duration::from_secs(3)).always(Reply::honest().patch(json!({"expires_in": 1})));
    let api = ProtectedApi::start(&issuer).await.unwrap();
    let gateway = Gateway::start(&issuer, &[("orders", api.url())]).await;

    let http = reqwest::Client::new();
    let places = Arc::new(Semaphore::new(64));
    let mut requests = JoinSet::new();
    let start = Instant::now();
    let mut sent = 0;
    while sent < REQUESTS || issuer.issued() < LIFETIMES {
        assert!(start.elapsed() < Duration::from_secs(100), "{sent} {}", issuer.issued());
        let place = places.clone().acquire_owned().await.unwrap();
        let request = http.post(gateway.at("/orders/1")).body("one pizza");
        requests.spawn(async move {
            let status = request.send().await.map(|response| response.status().as_u16());
            drop(place);
            status
        });
        sent += 1;
        // Spread over the lifetimes.
        tokio::time::sleep(Duration::from_micros(if sent % 5 == 0 { 15_000 } else { 0 })).await;
    }
    let mut good = 0;
    while let Some(status) = requests.join_next().await {
        assert_eq!(status.unwrap().unwrap(), 200);
        good += 1;
    }
    assert_eq!(good, sent);
    assert!(good >= REQUESTS && issuer.issued() >= LIFETIMES);
    assert!(api.requests().iter().all(|request| request.bearer().is_some()));
    assert!(api.requests().iter().all(|request| &request.body[..] == b"one pizza"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_streams_through_in_both_directions_with_flat_memory() {
    const GIBIBYTE: usize = 1 << 30;
    const CHUNK: usize = 1 << 18;
    let issuer = AuthorizationServer::start().await.unwrap();
    issuer.client("gateway", "s3cr3t");
    let echo = post(async |body: Body| {
        Body::new(StreamBody::new(
            body.into_data_stream().map(|data| data.map(http_body::Frame::data)),
        ))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().fallback_service(echo)).into_future());

    let gateway = Gateway::start(&issuer, &[("echo", &api)]).await;
    let small = reqwest::Client::new().post(gateway.at("/echo")).body("a").send().await.unwrap();
    assert_eq!(small.text().await.unwrap(), "a");
    let before = gateway.peak_memory();

    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let chunks = (0..GIBIBYTE / CHUNK).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
    let body = reqwest::Body::wrap_stream(tokio_stream::iter(chunks));
    let response =
        reqwest::Client::new().post(gateway.at("/echo")).body(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut received = 0;
    let mut body = reqwest::Body::from(response);
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap_or_default();
        assert!(data.iter().all(|byte| *byte == b'x'));
        received += data.len();
    }
    assert_eq!(received, GIBIBYTE);
    let grown = gateway.peak_memory() - before;
    assert!(grown < 32 << 20, "it has grown by {} MiB", grown >> 20);
}
