//! Connections that stand still.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    parent::{Parent, Preparation},
    proxy::Proxy,
    server::{Behaviour, Server},
};

const TENANTS: &str = "tenants 200";

async fn start(server: &Server, port: u16, timeout: &str) -> Parent {
    let endpoint = format!("https://127.0.0.1:{port}/token");
    let child = Preparation::new(&endpoint, &server.root).set("TEST_TIMEOUT_MS", timeout);
    let mut parent = child.start().await;
    assert_eq!(parent.ask("handle").await, "ok");
    assert_eq!(parent.ask(TENANTS).await, "200");
    assert_eq!(server.connections(), 1, "they share a connection of HTTP/2");
    parent
}

/// Asks all tenants and the handle, at least every two seconds, until all have a token again and the
/// old ones have expired.
async fn all_are_served_within(parent: &mut Parent, bound: Duration) {
    let began = Instant::now();
    sleep(Duration::from_secs(LIFETIME)).await;
    assert!(parent.until(TENANTS, "200", bound).await <= bound);
    assert!(parent.until("handle", "ok", bound).await <= bound);
    eprintln!("all are served after {:?}", began.elapsed());
    // And stay so.
    for _ in 0..LIFETIME {
        sleep(Duration::from_secs(1)).await;
        assert_eq!((&*parent.ask(TENANTS).await, &*parent.ask("handle").await), ("200", "ok"));
    }
}

const LIFETIME: u64 = 10;
/// That many fetches of a pool are under way at once, and one of the handle. Only once it has a
/// connection the client knows that it speaks HTTP/2, and that one is enough.
const AT_ONCE: usize = 33;
const HTTP2: Behaviour = Behaviour { lifetime: LIFETIME, http2: true };

/// A firewall has forgotten the connection. The time limit of a request, of 60 s, is not what finds
/// that out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f101_pings_find_a_connection_on_which_nothing_passes() {
    let server = Server::start(HTTP2).await;
    let proxy = Proxy::start(server.port).await;
    let mut parent = start(&server, proxy.port, "60000").await;
    proxy.freeze();
    all_are_served_within(&mut parent, Duration::from_secs(20)).await;
    assert!(server.connections() <= 1 + AT_ONCE, "{}", server.connections());
}

/// Something on the way answers pings, and passes no request on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f101_after_a_timeout_the_next_attempt_has_a_new_connection() {
    let server = Server::start(HTTP2).await;
    let mut parent = start(&server, server.port, "3000").await;
    server.stall();
    all_are_served_within(&mut parent, Duration::from_secs(20)).await;
    assert!(server.connections() <= 1 + AT_ONCE, "{}", server.connections());
}
