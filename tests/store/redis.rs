//! Tokens in a real Redis server, shared by real processes.
//!
//! `TOWER_OAUTH_ROUNDS=100` lets a fleet of fifty live for a hundred lifetimes, in four minutes.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_oauth::{
    Error, ErrorKind, FetchContext, TokenHandle, TokenSet, TokenSource,
    observe::FetchReason,
    source::Identified,
    store::{KeyRing, Persisted, RedisStore, WithoutStore},
    testing::ProtectedApi,
};

use crate::{
    harness::{Events, client_credentials, refresh, sent, strict},
    processes::{self, Job, rounds, said, token, until},
    redis_server::RedisServer,
    temporary::{Temporary, ring},
};

mod conformance {
    use std::time::Duration;

    use crate::{redis_server::RedisServer, temporary::ring};

    /// A store, and the server it is in, for as long as the test runs.
    fn store() -> tower_oauth::store::RedisStore {
        // One for each test process, which ends it: `redis-server` does not outlive its terminal.
        let server = RedisServer::start();
        let store = tower_oauth::store::RedisStore::builder(server.url(), ring());
        KEPT.with(|kept| kept.borrow_mut().push(server));
        store.lease(Duration::from_secs(3)).build().unwrap()
    }

    thread_local! {
        static KEPT: std::cell::RefCell<Vec<RedisServer>> = const { std::cell::RefCell::new(Vec::new()) };
    }

    tower_oauth::store_conformance!(store());
}

fn store(server: &RedisServer) -> RedisStore {
    RedisStore::builder(server.url(), ring()).lease(Duration::from_secs(5)).build().unwrap()
}

fn start<P: Identified>(source: P, server: &RedisServer) -> Persisted<P, RedisStore> {
    Persisted::new(source, store(server))
}

async fn fetch(source: &impl TokenSource, previous: Option<&TokenSet>) -> Result<TokenSet, Error> {
    let mut cx = FetchContext::first();
    if let Some(previous) = previous {
        cx.previous = Some(Arc::new(previous.clone()));
        cx.reason = FetchReason::Requested;
    }
    source.fetch(cx).await
}

/// The name of the only record.
fn record(redis: &RedisServer) -> String {
    let keys = redis.cli(&["KEYS", "tower-oauth:*}"]);
    assert_eq!(keys.lines().count(), 1, "{keys}");
    keys
}

#[tokio::test]
async fn a_token_is_shared_sealed_and_over_tls() {
    for redis in [RedisServer::start(), RedisServer::with_tls()] {
        let server = strict();
        let initial = server.issue_refresh_token("cli");
        let store = || {
            let builder = RedisStore::builder(redis.url(), ring());
            if redis.url().starts_with("rediss") {
                builder.root_certificate(redis.certificate()).build().unwrap()
            } else {
                builder.build().unwrap()
            }
        };
        let first = Persisted::new(refresh(&server, &*initial), store());
        let token = fetch(&first, None).await.unwrap();
        let second = Persisted::new(refresh(&server, &*initial), store());
        assert_eq!(fetch(&second, None).await.unwrap().access_token(), token.access_token());
        assert_eq!(server.token_request_count(), 1);
        let stored = redis.cli(&["HGETALL", &record(&redis)]);
        for secret in [token.access_token(), token.refresh_token().unwrap()] {
            assert!(!stored.contains(secret.expose()), "{stored}");
        }
        // A session stays; and nobody holds the lease.
        assert_eq!(redis.cli(&["PTTL", &record(&redis)]), "-1");
        assert_eq!(redis.cli(&["KEYS", "*lease"]), "");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_refused() {
    let redis = RedisServer::with_tls();
    let store = RedisStore::builder(redis.url(), ring()).build().unwrap();
    let source = Persisted::new(refresh(&strict(), "r"), store);
    assert_eq!(fetch(&source, None).await.unwrap_err().kind(), ErrorKind::Store);
}

#[tokio::test]
async fn a_token_that_can_be_had_at_any_time_is_kept_as_long_as_it_lives() {
    let (redis, server) = (RedisServer::start(), strict());
    fetch(&start(client_credentials(&server), &redis), None).await.unwrap();
    let left: u64 = redis.cli(&["PTTL", &record(&redis)]).parse().unwrap();
    assert!((3_600_000..=3_700_000).contains(&left), "{left}");
}

#[tokio::test]
async fn f47_a_value_that_was_changed_or_moved_does_not_open() {
    let (redis, server) = (RedisServer::start(), strict());
    let initial = server.issue_refresh_token("cli");
    let source = start(refresh(&server, &*initial), &redis);
    fetch(&source, None).await.unwrap();
    let name = record(&redis);
    redis.cli(&["HSET", &name, "r", "toS?"]);
    server.reset_ledger();
    let error = fetch(&start(refresh(&server, &*initial), &redis), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(!error.to_string().contains(&initial));
    // One that belongs to somebody else does not open either.
    let other = server.issue_refresh_token("cli");
    fetch(&start(refresh(&server, &*other), &redis), None).await.unwrap();
    let keys = redis.cli(&["KEYS", "tower-oauth:*}"]);
    let theirs = keys.lines().find(|key| *key != name).unwrap();
    redis.cli(&["COPY", theirs, &name, "REPLACE"]);
    let error = fetch(&start(refresh(&server, &*initial), &redis), None).await.unwrap_err();
    assert!(error.to_string().contains("does not open"), "{error}");
    assert_eq!(sent(&server), [other]);
}

#[tokio::test]
async fn what_is_forgotten_is_not_in_redis_also_if_it_does_not_open() {
    let (redis, server) = (RedisServer::start(), strict());
    let initial = server.issue_refresh_token("cli");
    let source = start(refresh(&server, &*initial), &redis);
    fetch(&source, None).await.unwrap();
    redis.cli(&["HSET", &record(&redis), "r", "toS?"]);
    assert_eq!(fetch(&source, None).await.unwrap_err().kind(), ErrorKind::Store);
    source.forget().await.unwrap();
    assert_eq!(redis.cli(&["KEYS", "*"]), "");
}

#[tokio::test]
async fn f48_the_key_is_rotated_in_a_running_fleet() {
    let (redis, server) = (RedisServer::start(), strict());
    let initial = server.issue_refresh_token("cli");
    let new = || KeyRing::new("k2", "02".repeat(32)).unwrap();
    let rings = [
        ring(),
        ring().or("k2", "02".repeat(32)).unwrap(),
        new().or("k1", "01".repeat(32)).unwrap(),
        new(),
    ];
    let process = |ring: &KeyRing| {
        let store = RedisStore::builder(redis.url(), ring.clone()).build().unwrap();
        Persisted::new(refresh(&server, &*initial), store)
    };
    // Each step is rolled out while the one before it still runs.
    for step in rings.windows(2) {
        let (old, next) = (process(&step[0]), process(&step[1]));
        for source in [&old, &next, &old, &next] {
            let token = fetch(source, None).await.unwrap();
            fetch(source, Some(&token)).await.unwrap();
        }
    }
    assert!(!server.reuse_detected());
    // Whoever has only the oldest key is told so.
    let error = fetch(&process(&rings[0]), None).await.unwrap_err();
    assert!(error.to_string().contains("\"k2\""), "{error}");
}

#[tokio::test]
async fn f44_what_was_flushed_is_written_back_by_whoever_has_it() {
    let (mut redis, server) = (RedisServer::start(), strict());
    let initial = server.issue_refresh_token("cli");
    let source = start(refresh(&server, &*initial), &redis);
    let mut token = fetch(&source, None).await.unwrap();
    for lost in ["flushed", "restarted empty", "put back"] {
        let name = record(&redis);
        match lost {
            "flushed" => drop(redis.cli(&["FLUSHALL"])),
            "restarted empty" => {
                redis.stop();
                redis.resume();
            }
            _ => {
                redis.cli(&["COPY", &name, "old"]);
                token = fetch(&source, Some(&token)).await.unwrap();
                redis.cli(&["COPY", "old", &name, "REPLACE"]);
            }
        }
        token = fetch(&source, Some(&token)).await.unwrap();
        let other = start(refresh(&server, &*initial), &redis);
        let adopted = fetch(&other, None).await.unwrap();
        assert_eq!(adopted.access_token(), token.access_token(), "{lost}");
    }
    assert!(!server.reuse_detected());
}

/// Redis is away for three lifetimes, and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_tokens_go_on_while_redis_is_away() {
    let (mut redis, server) = (RedisServer::start(), processes::server(Duration::ZERO).await);
    server.lifetime(Duration::from_secs(2));
    let initial = server.issue_refresh_token("cli");
    let events = Events::default();
    let session = tower_oauth::RefreshToken::builder(
        server.token_endpoint(),
        tower_oauth::ClientAuth::none("cli"),
        &*initial,
    )
    .build()
    .unwrap();
    let own = tower_oauth::ClientCredentials::builder(
        server.token_endpoint(),
        tower_oauth::ClientAuth::basic("orders", "secret"),
    )
    .build()
    .unwrap();
    let spends = start(session, &redis).without_store(WithoutStore::Spend);
    let handles = [
        TokenHandle::spawn(spends.observer(events.observer())),
        TokenHandle::spawn(start(own, &redis)),
    ];
    for tokens in &handles {
        tokens.ready().await.unwrap();
    }
    let watch = async |time: u64| {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(time) {
            for tokens in &handles {
                let token = tokens.token().await.unwrap();
                assert!(server.is_active(token.access_token().expose()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    watch(3).await;
    redis.stop();
    watch(6).await;
    redis.resume();
    watch(4).await;
    assert!(events.count("StoreFailed") > 0 && events.count("Saved") > 0, "{}", events.all());
    assert!(!server.reuse_detected());
    assert_eq!(redis.cli(&["KEYS", "tower-oauth:*}"]).lines().count(), 2, "not written back");
}

/// The holder of the lease is killed after it took it, and before it has sent anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_the_lease_of_a_killed_process_ends_and_the_next_goes_on() {
    for place in ["sending", "answered"] {
        let (redis, server) =
            (RedisServer::start(), processes::server(Duration::from_secs(60)).await);
        let initial = server.issue_refresh_token("cli");
        let folder = Temporary::new();
        let marker = folder.path().join("marker");
        let lease = Duration::from_secs(3);
        let job = || Job { lease, forced: true, ..Job::at(&server, &redis.url(), &initial) };
        let fail_point = Some(format!("{place}:1:{}", marker.display()));
        let holder = Job { fail_point, ..job() }.start();
        until(place, || marker.exists()).await;
        holder.kill();
        let next = said(job().start()).await;
        assert!(server.is_active(token(&next).unwrap()), "{next:?}");
        assert!(!server.reuse_detected());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfr_04_processes_that_renew_at_once_reuse_nothing() {
    let (redis, server) = (RedisServer::start(), processes::server(Duration::ZERO).await);
    let initial = server.issue_refresh_token("cli");
    let each = rounds(40).div_ceil(8);
    let job = Job { count: each, forced: true, ..Job::at(&server, &redis.url(), &initial) };
    let all: Vec<_> = (0..8).map(|_| job.start()).collect();
    for process in all {
        let said = said(process).await;
        assert!(said.iter().all(|line| line.starts_with("got ")), "{said:?}");
    }
    assert_eq!(server.token_request_count(), each * 8);
    assert!(!server.reuse_detected());
}

/// Processes that live together make no more token requests than one of them alone would, and none
/// of their requests fails.
///
/// One alone renews its token after three quarters of its life at the earliest, counted from when it
/// asked for it. So within the time that this takes, it makes one token request somewhere at the
/// start, and then one for each such span. The bound has nothing to spare for a fleet: one token that is asked
/// for twice in each lifetime would break it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f39_a_fleet_makes_no_more_token_requests_than_one_process_alone() {
    let (redis, server) = (RedisServer::start(), processes::server(Duration::ZERO).await);
    let api = ProtectedApi::start(&server).await.unwrap();
    let lifetime = Duration::from_secs(2);
    server.lifetime(lifetime);
    let initial = server.issue_refresh_token("cli");
    let lifetimes = rounds(10);
    let size = if lifetimes > 10 { 50 } else { 8 };
    let time = lifetime * u32::try_from(lifetimes).unwrap();
    let meeting = Temporary::new();
    let serve = Some((time, &api, &meeting));
    let job = Job { serve, ..Job::at(&server, &redis.url(), &initial) };
    let all: Vec<_> = (0..size).map(|_| job.start()).collect();
    let ready = || std::fs::read_dir(meeting.path()).unwrap().count();
    until("to be ready", || ready() == size).await;
    // All together had one token to begin with, and as many renewals as they needed to begin.
    let (started, before) = (Instant::now(), server.token_request_count());
    std::fs::write(meeting.path().join("go"), "").unwrap();
    let mut told = Vec::new();
    for process in all {
        told.extend(said(process).await);
    }
    let well = told.iter().filter(|line| *line == "missed 0").count();
    assert_eq!((well, told.len()), (size, size), "{told:?}");
    // Of two seconds, 1.5 are served; renewed a quarter of a second before, or a tenth earlier than
    // that. Less one: a stored expiry is in whole milliseconds.
    let earliest = Duration::from_millis(1124);
    let alone = 1 + usize::try_from(started.elapsed().as_millis() / earliest.as_millis()).unwrap();
    let requests = server.token_request_count() - before;
    let figures = format!(
        "{size} processes, {lifetimes} lifetimes, {:.1} s, {} API requests: {requests} token \
         requests, at most {alone} alone",
        started.elapsed().as_secs_f64(),
        api.request_count()
    );
    assert!((lifetimes..=alone).contains(&requests), "{figures}");
    assert!(!server.reuse_detected(), "{figures}");
    assert_eq!(api.refused(), 0, "{figures}");
    figures_are(&figures);
}

/// For whoever runs it with `--no-capture`.
#[expect(clippy::print_stderr, reason = "that is how they are seen")]
fn figures_are(figures: &str) {
    eprintln!("{figures}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_in_time() {
    let mut redis = RedisServer::start();
    redis.stop();
    let started = Instant::now();
    let error = fetch(&start(refresh(&strict(), "r"), &redis), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // One that spends nothing does without.
    let server = strict();
    fetch(&start(client_credentials(&server), &redis), None).await.unwrap();
}
