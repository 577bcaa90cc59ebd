//! A machine on which no thread can be started.

use std::{fs, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    parent::{Parent, Preparation},
    server::{Behaviour, Server},
};

/// How long it lasts: several attempts, more than file operations run at once.
const WITHOUT: Duration = Duration::from_secs(15);

/// File operations failed, and what they held lay in a queue that nothing emptied again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f102_tokens_are_stored_once_threads_can_be_started() {
    let server = Server::start(Behaviour { lifetime: 5, http2: true }).await;
    let endpoint = format!("https://127.0.0.1:{}/token", server.port);
    let child = Preparation::new(&endpoint, &server.root).set("TEST_WAIT_MS", "2000");
    let mut parent = child.unprivileged().with_store().hold().await;
    parent.limit("nproc", "0");
    assert_eq!(parent.ask("begin").await, "ok");
    let began = Instant::now();
    while began.elapsed() < WITHOUT {
        // A token is served that could not be stored.
        parent.until("stored", "ok", Duration::from_secs(12)).await;
        assert_eq!(parent.ask("handle").await, "ok");
        assert!(!is_stored(&parent), "there are threads");
        sleep(Duration::from_millis(500)).await;
    }
    parent.limit("nproc", "4096");
    let began = Instant::now();
    while !is_stored(&parent) {
        assert!(began.elapsed() < Duration::from_secs(20), "no token was stored");
        assert_eq!(parent.ask("handle").await, "ok");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(parent.ask("stored").await, "ok");
}

fn is_stored(parent: &Parent) -> bool {
    let mut files = fs::read_dir(parent.folder().join("store")).unwrap();
    files.any(|file| file.unwrap().path().extension() == Some("token".as_ref()))
}
