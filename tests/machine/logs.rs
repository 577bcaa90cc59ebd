//! Logs that cannot be written, and a metrics recorder that panics.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower_oauth::{FixedToken, TokenHandle, TokenSet};
use tracing::{Metadata, Subscriber, span};

use crate::{
    parent::{Parent, Preparation},
    server::{Behaviour, Server},
};

const LIFETIME: u64 = 2;
const BOUND: Duration = Duration::from_secs(20);
const SHORT_LIVES: Behaviour = Behaviour { lifetime: LIFETIME, http2: true };

async fn serves_for_some_lives(mut parent: Parent, server: &Server) {
    let began = Instant::now();
    let before = server.requests();
    while began.elapsed() < Duration::from_secs(3 * LIFETIME) {
        assert_eq!(parent.ask("handle").await, "ok");
        assert_eq!(parent.ask("tenants 5").await, "5");
        sleep(Duration::from_millis(100)).await;
    }
    assert!(server.requests() - before >= 2 * 6, "nothing was renewed");
    assert!(["Fresh", "Due"].contains(&&*parent.ask("state").await));
}

async fn start(server: &Server, level: &str) -> Parent {
    let endpoint = format!("https://127.0.0.1:{}/token", server.port);
    let child = Preparation::new(&endpoint, &server.root).set("TEST_LOG", level);
    let mut parent = child.start().await;
    parent.until("handle", "ok", BOUND).await;
    assert_eq!(parent.ask("disk full").await, "ok");
    parent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f100_tokens_go_on_while_the_log_cannot_be_written() {
    for level in ["info", "spans"] {
        let server = Server::start(SHORT_LIVES).await;
        let parent = start(&server, level).await;
        serves_for_some_lives(parent, &server).await;
    }
}

/// At DEBUG the HTTP client logs as well, in part while it holds its own locks: each of its lines
/// costs an attempt. None costs more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f100_tokens_are_back_after_the_http_clients_own_log_lines_have_panicked() {
    for http2 in [true, false] {
        let server = Server::start(Behaviour { http2, ..SHORT_LIVES }).await;
        let mut parent = start(&server, "debug").await;
        sleep(Duration::from_secs(3 * LIFETIME)).await;
        assert_ne!(parent.ask("state").await, "Stopped");
        assert_eq!(parent.ask("disk ok").await, "ok");
        parent.until("handle", "ok", BOUND).await;
        parent.until("tenants 5", "5", BOUND).await;
        serves_for_some_lives(parent, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f100_tokens_go_on_while_the_metrics_recorder_panics() {
    let server = Server::start(SHORT_LIVES).await;
    let endpoint = format!("https://127.0.0.1:{}/token", server.port);
    let child = Preparation::new(&endpoint, &server.root).set("TEST_RECORDER", "panics");
    serves_for_some_lives(child.start().await, &server).await;
}

struct Panics;

impl Subscriber for Panics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {
        panic!("recorded");
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        panic!("logged");
    }

    fn enter(&self, _: &span::Id) {
        panic!("entered");
    }

    fn exit(&self, _: &span::Id) {
        panic!("left");
    }

    fn try_close(&self, _: span::Id) -> bool {
        panic!("closed");
    }
}

/// It emits its end. A panic there, while another one unwinds, would abort the process.
#[tokio::test]
async fn f100_a_refresher_that_is_dropped_while_its_task_unwinds_aborts_nothing() {
    let (tokens, refresher) = TokenHandle::pair(FixedToken::new(TokenSet::bearer("abc").unwrap()));
    let unwound = tracing::subscriber::with_default(Panics, || {
        catch_unwind(AssertUnwindSafe(|| {
            let _refresher = refresher;
            panic!("the task that runs the refresher");
        }))
    });
    assert!(unwound.is_err());
    assert!(tokens.token().await.is_err());
}
