//! Thousands of tenants, each with a grant of its own.

use std::time::{Duration, Instant};

use crate::{
    parent::Preparation,
    server::{Behaviour, Server},
};

/// With a client for each, the process was out of descriptors at a thousand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f103_descriptors_and_memory_do_not_grow_with_tenants() {
    for http2 in [true, false] {
        let server = Server::start(Behaviour { lifetime: 3600, http2 }).await;
        let endpoint = format!("https://127.0.0.1:{}/token", server.port);
        // Of a slow machine nothing is asked.
        let child = Preparation::new(&endpoint, &server.root).set("TEST_WAIT_MS", "90000");
        let mut parent = child.start().await;
        parent.limit("nofile", "1024");
        let began = Instant::now();
        assert_eq!(parent.ask("tenants 200").await, "200");
        let (descriptors, memory) =
            (parent.count("descriptors").await, parent.count("kilobytes").await);
        assert_eq!(parent.ask("tenants 2000").await, "2000");
        let more = parent.count("descriptors").await.saturating_sub(descriptors);
        let each = parent.count("kilobytes").await.saturating_sub(memory) / 1800;
        println!(
            "2,000 tenants, HTTP/2: {http2}: {:?}, {more} descriptors, {each} KB",
            began.elapsed()
        );
        assert!(more < 50, "{more} more descriptors");
        assert!(each < 30, "{each} KB for each tenant");
        // No more than fetches run at once, and for one that was closed another.
        assert!(server.connections() < 100, "{} connections", server.connections());
    }
}

/// It said that there are no certificates, when a source was built and for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f103_a_process_without_descriptors_says_so_and_recovers() {
    let server = Server::start(Behaviour { lifetime: 3600, http2: true }).await;
    let endpoint = format!("https://127.0.0.1:{}/token", server.port);
    let child = Preparation::new(&endpoint, &server.root).set("TEST_WAIT_MS", "2000");
    let mut parent = child.hold().await;
    parent.limit("nofile", "3");
    assert_eq!(parent.ask("begin").await, "ok");
    let said = parent.ask("handle").await;
    assert!(said.contains("no file descriptors left"), "{said}");
    parent.limit("nofile", "1024");
    parent.until("handle", "ok", Duration::from_secs(20)).await;
}
