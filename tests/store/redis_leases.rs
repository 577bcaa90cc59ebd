//! Processes that are stopped for longer than their lease.

use std::time::Duration;

use tower_oauth::testing::AuthorizationServer;

use crate::{
    processes::{self, Job, Process, said, sent, token, until},
    redis_server::RedisServer,
    temporary::Temporary,
};

const LEASE: Duration = Duration::from_secs(3);

/// A process that has all the time it needs.
fn job<'a>(server: &'a AuthorizationServer, redis: &RedisServer, initial: &'a str) -> Job<'a> {
    Job { lease: 10 * LEASE, forced: true, ..Job::at(server, &redis.url(), initial) }
}

/// A process that was stopped (`SIGSTOP`) at this point, and whose lease has ended since. It goes
/// on when it is told to (`SIGCONT`).
async fn stopped_past_its_lease(point: &str, job: Job<'_>, redis: &RedisServer) -> Process {
    let folder = Temporary::new();
    let marker = folder.path().join("marker");
    let fail_point = Some(format!("{point}:1:{}", marker.display()));
    let process = Job { lease: LEASE, fail_point, ..job }.start();
    until(point, || marker.exists()).await;
    process.stop().await;
    std::fs::remove_file(&marker).unwrap();
    assert_ne!(redis.cli(&["KEYS", "*lease"]), "", "it does not hold the lease");
    until("the end of the lease", || redis.cli(&["KEYS", "*lease"]).is_empty()).await;
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f41_a_holder_stopped_past_its_lease_before_sending_sends_nothing() {
    for renewed_meanwhile in [true, false] {
        let (redis, server) = (RedisServer::start(), processes::server(Duration::ZERO).await);
        let initial = server.issue_refresh_token("cli");
        let job = || job(&server, &redis, &initial);
        let holder = stopped_past_its_lease("intent-written", job(), &redis).await;
        let sent_by_others = usize::from(renewed_meanwhile);
        if renewed_meanwhile {
            assert!(server.is_active(token(&said(job().start()).await).unwrap()));
        }
        holder.go_on();
        let said_late = said(holder).await;
        assert!(said_late[0].starts_with("failed "), "{said_late:?}");
        assert!(said_late[0].contains("too little time"), "{said_late:?}");
        assert_eq!(server.token_request_count(), sent_by_others, "it has sent");
        // Nothing is lost by that.
        assert!(server.is_active(token(&said(job().start()).await).unwrap()));
        assert!(!server.reuse_detected());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f42_an_answer_later_than_the_lease_is_stored_if_nobody_was_faster() {
    let (redis, server) = (RedisServer::start(), processes::server(Duration::ZERO).await);
    let initial = server.issue_refresh_token("cli");
    let job = || job(&server, &redis, &initial);
    let holder = stopped_past_its_lease("answered", job(), &redis).await;
    holder.go_on();
    let late = said(holder).await;
    let next = said(Job { forced: false, ..job() }.start()).await;
    assert_eq!(token(&next), token(&late), "it was not stored");
    assert_eq!(server.token_request_count(), 1);
    // The refresh token that came late is the one that goes on.
    assert!(server.is_active(token(&said(job().start()).await).unwrap()));
    assert!(!server.reuse_detected());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f42_a_late_answer_that_loses_the_comparison_takes_what_is_stored() {
    let grace = Duration::from_secs(60);
    let (redis, server) = (RedisServer::start(), processes::server(grace).await);
    let initial = server.issue_refresh_token("cli");
    let job = || job(&server, &redis, &initial);
    let holder = stopped_past_its_lease("answered", job(), &redis).await;
    let faster = said(job().start()).await;
    assert_eq!(sent(&server), [&*initial, &*initial], "the intent was not gone on with");
    holder.go_on();
    let late = said(holder).await;
    assert_eq!(token(&late), token(&faster), "what is stored was not taken");
    let next = said(Job { forced: false, ..job() }.start()).await;
    assert_eq!(token(&next), token(&faster), "what was stored was overwritten");
    assert_eq!(server.token_request_count(), 2);
    assert!(server.is_active(token(&said(job().start()).await).unwrap()));
    assert!(!server.reuse_detected());
}
