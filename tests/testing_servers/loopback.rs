//! Real sockets and real clients.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tower_oauth::testing::{AuthorizationServer, ProtectedApi, Reply, Rotation};

use crate::{BASIC, CLIENT_CREDENTIALS, FORM, refresh};

const BRIEFLY: Duration = Duration::from_millis(50);

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn post(
    client: &reqwest::Client,
    server: &AuthorizationServer,
    body: &str,
) -> reqwest::Result<reqwest::Response> {
    let request = client.post(server.token_endpoint()).header("authorization", BASIC);
    request.header("content-type", FORM).body(body.to_owned()).send().await
}

async fn status_and_json(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

fn is_reset(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref().map(io::Error::kind);
        if kind == Some(io::ErrorKind::ConnectionReset) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Sends bytes and reads until the server closes.
async fn raw_exchange(url: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_token_is_fetched_used_and_refused_once_revoked() {
    let server = AuthorizationServer::start().await.unwrap();
    let api = ProtectedApi::start(&server).await.unwrap();
    server.client("orders", "s3cr3t").rotation(Rotation::Always { grace: Duration::ZERO });
    let client = client();
    let (status, answer) =
        status_and_json(post(&client, &server, CLIENT_CREDENTIALS).await.unwrap()).await;
    let token = answer["access_token"].as_str().unwrap();
    assert!(status == 200 && server.is_active(token));

    let call = || client.put(format!("{}/a?b", api.url())).bearer_auth(token).body("12345").send();
    let expected = json!({ "ok": true, "method": "PUT", "path": "/a", "body_len": 5 });
    assert_eq!(status_and_json(call().await.unwrap()).await, (200, expected));
    server.revoke(token);
    let response = call().await.unwrap();
    let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert!(response.status() == 401 && challenge.contains("invalid_token"));

    let first = server.issue_refresh_token("orders");
    for expected in [200, 400] {
        let response = post(&client, &server, &refresh(&first)).await.unwrap();
        assert_eq!(response.status(), expected);
    }
    assert!(server.reuse_detected());
}

#[tokio::test]
async fn the_exact_bytes_of_requests_are_recorded() {
    let server = AuthorizationServer::start().await.unwrap();
    let first =
        b"POST /token?x=%2f HTTP/1.1\r\nHost: a\r\nX-Odd:  b \r\nContent-Length: 3\r\n\r\na=b";
    let second = b"POST /token HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
        1;ext\r\na\r\n2\r\n=b\r\n0\r\n\r\n";
    let both = [&first[..], &second[..]].concat();
    let answer = String::from_utf8(raw_exchange(server.url(), &both).await.unwrap()).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 400 Bad Request\r\n").count(), 2, "{answer}");
    assert_eq!(answer.matches("connection: close\r\n").count(), 1, "{answer}");
    let recorded = server.token_requests();
    for (recorded, sent) in recorded.iter().zip([&first[..], &second[..]]) {
        assert_eq!(recorded.raw.as_deref(), Some(sent));
        assert_eq!((&recorded.body[..], recorded.path()), (&b"a=b"[..], "/token"));
    }
    assert_eq!(recorded[0].header("x-odd"), Some("b"));
    assert_eq!(recorded[0].target, "/token?x=%2f");
}

#[tokio::test]
async fn a_streamed_body_is_read() {
    let server = AuthorizationServer::start().await.unwrap();
    let client = client();
    let body = reqwest::Body::wrap(Chunks(vec!["credentials", "client_", "grant_type="]));
    let request = client.post(server.token_endpoint()).header("authorization", BASIC);
    let response = request.header("content-type", FORM).body(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let recorded = &server.token_requests()[0];
    assert_eq!(recorded.header("transfer-encoding"), Some("chunked"));
    assert_eq!(recorded.body, CLIENT_CREDENTIALS);
    assert!(recorded.raw.as_ref().unwrap().ends_with(b"\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn bodies_are_dripped_in_real_time() {
    let server = AuthorizationServer::start().await.unwrap();
    server.script(
        Reply::json(200, json!(null)).delay(BRIEFLY).chunks([(BRIEFLY, "a"), (BRIEFLY, "b")]),
    );
    let start = Instant::now();
    let mut response = post(&client(), &server, "").await.unwrap();
    assert!(start.elapsed() >= BRIEFLY);
    assert_eq!(response.headers()["transfer-encoding"], "chunked");
    let mut seen = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        seen.push((chunk, start.elapsed()));
    }
    assert_eq!((&seen[0].0[..], &seen[1].0[..], seen.len()), (&b"a"[..], &b"b"[..], 2));
    assert!(seen[0].1 >= 2 * BRIEFLY && seen[1].1 >= 3 * BRIEFLY);
}

#[tokio::test]
async fn faults_are_transport_errors() {
    let server = AuthorizationServer::start().await.unwrap();
    let client = client();
    server.script_many([Reply::reset(), Reply::honest().then_reset_before_answer()]);
    for issued in 0..2 {
        let error = post(&client, &server, CLIENT_CREDENTIALS).await.unwrap_err();
        assert!(is_reset(&error), "{error:?}");
        assert_eq!(server.issued(), issued);
    }
    server.script_many([
        Reply::honest().reset_after(10),
        Reply::status(200).chunks([(Duration::ZERO, "abc")]).reset_after(2),
        Reply::status(200).body("abc").content_length_lie(9),
    ]);
    for reset in [true, true, false] {
        let response = post(&client, &server, CLIENT_CREDENTIALS).await.unwrap();
        assert_eq!(response.status(), 200);
        let error = response.bytes().await.unwrap_err();
        assert_eq!(is_reset(&error), reset, "{error:?}");
    }
    server.script_many([
        Reply::raw("HTTP/1.1 2").reset_after(9),
        Reply::raw("HTTP/1.1 2"),
        Reply::raw("\0\r\n"),
    ]);
    for _ in 0..3 {
        assert!(post(&client, &server, "").await.is_err());
    }
    server.script(Reply::hang());
    assert!(timeout(BRIEFLY, post(&client, &server, "")).await.is_err());
    server.script(Reply::raw("HTTP/1.0 202 Fine\r\nX: y\r\n\r\nrest"));
    let response = post(&client, &server, "").await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x"]),
        (202, &"y".parse().unwrap())
    );
    assert_eq!(response.text().await.unwrap(), "rest");
    assert_eq!(server.token_request_count(), 10);
}

#[tokio::test]
async fn a_shorter_declared_length_leaves_bytes_over() {
    let server = AuthorizationServer::start().await.unwrap();
    server.script(Reply::status(200).body("abcdef").content_length_lie(2));
    let client = client();
    assert_eq!(post(&client, &server, "").await.unwrap().text().await.unwrap(), "ab");
    assert_eq!(post(&client, &server, CLIENT_CREDENTIALS).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_stopped_server_refuses_connections_and_comes_back_on_the_same_port() {
    let server = AuthorizationServer::start().await.unwrap();
    let client = client();
    for _ in 0..3 {
        let response = post(&client, &server, CLIENT_CREDENTIALS).await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap();
        server.script(Reply::hang());
        let hanging = tokio::spawn({
            let (client, server) = (client.clone(), server.clone());
            async move { post(&client, &server, "").await }
        });
        while server.token_request_count() < 2 {
            tokio::task::yield_now().await;
        }
        server.stop().await;
        assert!(is_reset(&hanging.await.unwrap().unwrap_err()));
        for _ in 0..2 {
            assert!(post(&client, &server, "").await.unwrap_err().is_connect());
        }
        assert_eq!(server.token_request_count(), 2);
        server.reset_ledger();
        server.resume().unwrap();
    }
    assert_eq!(post(&client, &server, CLIENT_CREDENTIALS).await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_last_handle_takes_listener_connections_and_tasks_with_it() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let server = AuthorizationServer::start().await.unwrap();
    let api = ProtectedApi::start(&server).await.unwrap();
    let urls = [server.url().to_owned(), api.url().to_owned()];
    server.script(Reply::hang());
    let mut streams = Vec::new();
    for url in &urls {
        let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        stream.write_all(b"POST /token HTTP/1.1\r\n\r\n").await.unwrap();
        streams.push(stream);
    }
    while server.token_request_count() + api.request_count() < 2 {
        tokio::task::yield_now().await;
    }
    let clone = server.clone();
    drop(server);
    assert!(TcpStream::connect(urls[0].strip_prefix("http://").unwrap()).await.is_ok());
    drop((clone, api));
    let ended = async {
        for mut stream in streams {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), ended).await.unwrap();
    for url in urls {
        assert!(TcpStream::connect(url.strip_prefix("http://").unwrap()).await.is_err());
    }
}

#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let server = AuthorizationServer::start().await.unwrap();
    let api = ProtectedApi::start(&server).await.unwrap();
    api.refuse_early(true);
    let mut stream = TcpStream::connect(api.url().strip_prefix("http://").unwrap()).await.unwrap();
    let head = b"POST / HTTP/1.1\r\ncontent-length: 9000000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    // What is still on its way does not cost the client its answer.
    for _ in 0..5 {
        stream.write_all(&[0; 10_000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(br#"{"ok":false}"#));
    assert_eq!((api.request_count(), api.requests()[0].raw.as_deref()), (1, Some(&head[..])));

    api.refuse_early(false);
    let request = b"POST / HTTP/1.1\r\ncontent-length: 1\r\nexpect: 100-continue\r\nconnection: close\r\n\r\nx";
    let answer = raw_exchange(api.url(), request).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401"));
}

#[tokio::test]
async fn broken_requests_are_answered_or_dropped_and_not_recorded() {
    let server = AuthorizationServer::start().await.unwrap();
    for (request, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("POST /token HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n", "413"),
    ] {
        let answer = raw_exchange(server.url(), request.as_bytes()).await.unwrap();
        assert!(answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{request}");
    }
    let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(2 << 20));
    let answer = raw_exchange(server.url(), long.as_bytes()).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 431 "));
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn both_fronts_lead_to_one_server() {
    let server = AuthorizationServer::start().await.unwrap();
    let request = crate::token_request(&server, CLIENT_CREDENTIALS);
    assert_eq!(crate::call(server.service(), request).await.unwrap().status(), 200);
    assert_eq!(post(&client(), &server, CLIENT_CREDENTIALS).await.unwrap().status(), 200);
    assert_eq!(server.issued(), 2);
    let head = raw_exchange(server.url(), b"HEAD /token HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(head.starts_with(b"HTTP/1.1 405") && head.ends_with(b"\r\n\r\n"));
}

/// A body of unknown length: these chunks, the last one first.
struct Chunks(Vec<&'static str>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop().map(|chunk| Ok(Frame::data(chunk.into()))))
    }
}
