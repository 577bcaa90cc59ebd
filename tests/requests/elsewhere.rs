//! Answers of another origin than the one that was asked.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Service, ServiceBuilder, ServiceExt as _};
use tower_oauth::{CloneRequest, OAuthLayer, Origins, Rejection, TokenHandle};

use super::HOUR;
use crate::common::script::Script;

/// A server that answers every request the same way. Returns its origin, and how many it has had.
async fn server(answer: impl Fn() -> String + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = connection.read_u8().await else { break };
                head.push(byte);
            }
            counted.fetch_add(1, Ordering::Relaxed);
            connection.write_all(answer().as_bytes()).await.unwrap();
        }
    });
    (origin, count)
}

const REFUSAL: &str = "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\
     www-authenticate: Bearer error=\"invalid_token\"\r\n\r\n";

fn redirect(to: &str) -> String {
    format!(
        "HTTP/1.1 307 Temporary Redirect\r\nconnection: close\r\ncontent-length: 0\r\n\
         location: {to}/\r\n\r\n"
    )
}

/// The client follows a redirect from one allowed origin to another, and leaves the token behind: what the
/// other one says is not about it. The token was discarded, and the request went out twice.
#[tokio::test]
async fn f108_a_refusal_by_another_allowed_origin_says_nothing_about_the_token() {
    let (second, seconds) = server(|| REFUSAL.to_owned()).await;
    let to = second.clone();
    let (first, firsts) = server(move || redirect(&to)).await;
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let origins = Origins::new([&first, &second]).unwrap();
    let client =
        reqwest::Client::builder().redirect(origins.redirect_policy()).no_proxy().build().unwrap();
    let mut api = ServiceBuilder::new()
        .layer(OAuthLayer::new(tokens.clone(), origins).replay(CloneRequest))
        .service(client);
    let request = reqwest::Request::new(http::Method::POST, first.parse().unwrap());
    let response = api.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(response.status(), 401);
    let counts = (firsts.load(Ordering::Relaxed), seconds.load(Ordering::Relaxed));
    assert_eq!(counts, (1, 1), "it is sent once");
    assert_eq!(source.count(), 1);
    assert!(tokens.current().is_some());

    // The same refusal by the origin that was asked is about the token.
    let request = reqwest::Request::new(http::Method::POST, second.parse().unwrap());
    let response = api.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(seconds.load(Ordering::Relaxed), 3);
    assert_eq!(source.count(), 2);
    assert_ne!(tokens.reject(1), Rejection::Accepted);
}
