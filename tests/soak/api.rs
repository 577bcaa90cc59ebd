//! An API that is quick enough for ten thousand requests a second beside their clients, and that
//! fails now and then.

use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tower_oauth::testing::AuthorizationServer;

use crate::{faults::Does, ledger::Ledger};

/// It listens until it is dropped.
pub(crate) struct Api {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Api {
    pub(crate) async fn start(issuer: &AuthorizationServer, ledger: &Arc<Ledger>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (issuer, ledger) = (issuer.clone(), ledger.clone());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        connections.spawn(serve(stream, issuer.clone(), ledger.clone()));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { url, task }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, issuer: AuthorizationServer, ledger: Arc<Ledger>) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::with_capacity(4096);
    while let Ok(Some((number, token))) = next(&mut stream, &mut buffer).await {
        let is_active = issuer.is_active(&token);
        let attempt = ledger.arrived(number, &token, is_active);
        let does = if is_active { Does::of(number, attempt) } else { Does::RefuseToken };
        ledger.answers(number, does);
        if does == Does::ServeSlowly {
            sleep(Duration::from_millis(20)).await;
        }
        let Some(answer) = answer(does) else { return reset(&stream) };
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// The number and the token of the next request.
async fn next(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<(usize, String)>> {
    buffer.clear();
    // One at a time and without a body, so that the end of the head is the end of what was read.
    while !buffer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let head = str::from_utf8(buffer).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let mut tokens = head.lines().filter_map(|line| line.strip_prefix("authorization: Bearer "));
    let token = tokens.next().expect("there is a token").to_owned();
    assert_eq!(tokens.next(), None, "there is one token");
    Ok(Some((path.trim_start_matches('/').parse().unwrap(), token)))
}

fn answer(does: Does) -> Option<&'static [u8]> {
    Some(match does {
        Does::Nothing | Does::Reset => return None,
        Does::Serve | Does::ServeSlowly => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        Does::RefuseToken => {
            b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer error=\"invalid_token\"\r\n\
              content-length: 2\r\n\r\nno"
        }
        Does::RefuseBare => b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
        Does::Forbid => b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
        Does::BeUnavailable => {
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\nno"
        }
    })
}

#[allow(deprecated, reason = "a linger of zero does not block, and its own method is newer")]
fn reset(stream: &TcpStream) {
    stream.set_linger(Some(Duration::ZERO)).unwrap();
}
