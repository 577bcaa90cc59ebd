//! Over real sockets, with the default client.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, lookup_host},
    time::timeout,
};
use tower_oauth::{ClientAuth, ClientCredentials, Discovery, ErrorKind};

use crate::fake::fetch;

/// A server of metadata on this machine, which names this token endpoint.
async fn issuer(token_endpoint: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let body = json!({ "issuer": issuer, "token_endpoint": token_endpoint }).to_string();
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    issuer
}

/// A name that leads to this machine and does not look like it, and somebody who listens there.
async fn disguised() -> Option<(String, TcpListener)> {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    for name in [own.trim(), "ip6-localhost", "ip6-loopback", "localhost.localdomain"] {
        if name.is_empty() || name == "localhost" {
            continue;
        }
        for address in lookup_host((name, 0)).await.into_iter().flatten() {
            if let Ok(listener) = TcpListener::bind(address).await {
                return Some((name.to_ascii_lowercase(), listener));
            }
        }
    }
    None
}

#[tokio::test]
async fn dsc_08_the_default_client_connects_to_no_private_address_that_a_name_stands_for() {
    let Some((name, victim)) = disguised().await else {
        return; // there is no such name here; the resolver has tests of its own
    };
    let endpoint = format!("https://{name}:{}/token", victim.local_addr().unwrap().port());
    let issuer = issuer(&endpoint).await;
    let source = |discovery: Discovery| {
        ClientCredentials::builder(discovery, ClientAuth::secret("orders", "s")).build().unwrap()
    };
    let screened = source(Discovery::issuer(&issuer));
    let error = timeout(Duration::from_secs(10), fetch(&screened)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Discovery, "{error:?}");
    assert!(timeout(Duration::from_millis(100), victim.accept()).await.is_err(), "it was called");
    // Somebody who names the host means it.
    let trusting = source(Discovery::issuer(&issuer).hosts([&*name]));
    let call = tokio::spawn(async move { fetch(&trusting).await.map(drop) });
    timeout(Duration::from_secs(10), victim.accept()).await.expect("it is called").unwrap();
    call.abort();
}
