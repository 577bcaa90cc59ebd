use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::cost::TOKEN_BYTES;

/// A token endpoint on loopback. It answers whatever is posted to it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub url: String,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    requests: AtomicUsize,
    lifetime: AtomicU64,
    slow: AtomicBool,
    down: AtomicBool,
}

impl Endpoint {
    /// Gives tokens that live this many seconds.
    pub async fn start(lifetime: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("an address"));
        let state = Arc::new(State {
            requests: AtomicUsize::new(0),
            lifetime: AtomicU64::new(lifetime),
            slow: AtomicBool::new(false),
            down: AtomicBool::new(false),
        });
        let serving = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = serving.clone();
                tokio::spawn(async move { serve(stream, &state).await });
            }
        });
        Self { url, state }
    }

    /// How many requests have come since the last call.
    pub fn take_count(&self) -> usize {
        self.state.requests.swap(0, Ordering::SeqCst)
    }

    /// From now on an answer takes 200 ms, and is an hour's token, or a 503.
    pub fn become_slow(&self, down: bool) {
        self.state.lifetime.store(3600, Ordering::SeqCst);
        self.state.slow.store(true, Ordering::SeqCst);
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// What one request gets, for credentials that do not talk HTTP: a token and its lifetime.
    pub async fn fetch(&self) -> Result<(String, u64), String> {
        self.state.answer().await
    }
}

impl State {
    async fn answer(&self) -> Result<(String, u64), String> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        if self.slow.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if self.down.load(Ordering::SeqCst) {
            return Err("the endpoint is down".to_owned());
        }
        Ok(("t".repeat(TOKEN_BYTES), self.lifetime.load(Ordering::SeqCst)))
    }
}

async fn serve(mut stream: TcpStream, state: &State) {
    let mut request = Vec::new();
    while read_request(&mut stream, &mut request).await.is_some() {
        let (status, body) = match state.answer().await {
            Ok((token, lifetime)) => {
                // `refresh_in` is read by some and ignored by the others.
                let refresh_in = if lifetime < 3600 { 1 } else { lifetime / 2 };
                let body = format!(
                    r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{lifetime},"refresh_in":{refresh_in}}}"#
                );
                ("200 OK", body)
            }
            Err(_) => ("503 Service Unavailable", r#"{"error":"server_error"}"#.to_owned()),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads one request to its end.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    loop {
        let text = String::from_utf8_lossy(buffer).to_ascii_lowercase();
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text
                .split("content-length:")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next()?.trim().parse::<usize>().ok());
            let end = head + 4 + length.unwrap_or(0);
            if buffer.len() >= end {
                buffer.drain(..end);
                return Some(());
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
