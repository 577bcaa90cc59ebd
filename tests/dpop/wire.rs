//! Proofs over real connections.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tower_oauth::{ClientAuth, ClientCredentials, FetchContext, TokenSource, TokenType};

use super::server::{key, verified};

/// reqwest removes dot segments and escapes what a URL does not have: the proof was for another URL
/// than the one that was sent, and the server refused it.
#[tokio::test]
async fn dpo_03_the_proof_of_a_token_request_is_for_the_url_that_is_sent() {
    for path in ["/a/../token", "/./token?x=1", "/a/%2e%2e/token", "/to|ken", "/tok%65n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            while !request.contains("grant_type") {
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).await.unwrap();
                request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            }
            let body = r#"{"access_token":"t","token_type":"DPoP","expires_in":60}"#;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            request
        });
        let auth = ClientAuth::basic("orders", "secret");
        let source = ClientCredentials::builder(format!("{origin}{path}"), auth).dpop(key());
        let token = source.build().unwrap().fetch(FetchContext::first()).await.unwrap();
        assert_eq!(token.token_type(), TokenType::Dpop);
        let request = serving.join_next().await.unwrap().unwrap();
        let target = request.split(' ').nth(1).unwrap();
        let sent = format!("{origin}{}", target.split('?').next().unwrap());
        let proof = request.lines().find_map(|line| line.strip_prefix("dpop: ")).unwrap();
        let (_, claims) = verified(proof);
        assert_eq!(claims["htu"], Value::from(sent), "{path}");
    }
}
