//! Answers and processes that are lost in the middle of a renewal.

use std::time::Duration;

use tokio::time::{advance, sleep};
use tower_oauth::{
    ErrorKind,
    store::{Persisted, RecordState, WithoutStore},
    testing::{AuthorizationServer, Reply},
};

use crate::harness::{LIFE, Process, TestStore, fetch, refresh, sent, server, strict, transport};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn f31_rfr_08_a_lost_answer_is_asked_for_again_at_once() {
    let (server, store) = (server(Duration::from_secs(5)), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    server.script(Reply::honest().then_reset_before_answer());
    process.token().await.unwrap();
    assert_eq!(sent(&server), [&*initial, &*initial]);
    assert_eq!(process.events.count("Resending"), 1);
    assert_eq!(process.events.count("Failed"), 0);
    for _ in 0..3 {
        sleep(LIFE).await;
        process.token().await.unwrap();
    }
    assert!(!server.reuse_detected());
}

#[tokio::test(start_paused = true)]
async fn f31_a_server_that_gives_no_grace_ends_the_session_and_not_in_a_loop() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    server.script(Reply::honest().then_reset_before_answer());
    let process = Process::start(refresh(&server, &*initial), &store);
    let error = process.token().await.unwrap_err();
    assert!(error.needs_user(), "{error}");
    assert_eq!(sent(&server).len(), 2);
    assert_eq!(store.record().state(), RecordState::Dead);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(sent(&server).len(), 2, "what is known to be dead was sent");
    assert_eq!(process.token().await.unwrap_err().kind(), ErrorKind::InvalidGrant);
    // Whoever insists gets one try.
    process.tokens.refresh().await.unwrap_err();
    assert_eq!(sent(&server).len(), 3);
}

/// An hour without the server: every attempt sends the same refresh token, once.
#[tokio::test(start_paused = true)]
async fn f31_an_outage_is_waited_out_with_the_same_refresh_token() {
    let (server, store) = (server(Duration::from_secs(1)), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    process.token().await.unwrap();
    server.stop().await;
    sleep(Duration::from_secs(3600)).await;
    let attempts = server.attempts();
    assert!(attempts > 50, "{attempts}");
    server.resume().unwrap();
    sleep(Duration::from_secs(31)).await;
    assert!(server.is_active(&process.token().await.unwrap()));
    assert!(!server.reuse_detected());
}

/// The process is killed after the server has rotated, before anything is stored.
#[tokio::test(start_paused = true)]
async fn f32_f40_the_next_process_goes_on_with_a_renewal_that_broke_off() {
    for grace in [5, 0] {
        let (server, store) = (server(Duration::from_secs(grace)), TestStore::new());
        let initial = server.issue_refresh_token("cli");
        let first = Process::start(refresh(&server, &*initial), &store);
        first.token().await.unwrap();
        first.tokens.shutdown().await;
        sleep(SECOND * 85).await;

        // The access token is still good, and yet the renewal comes first.
        server.script(Reply::honest().delay(Duration::from_secs(60)));
        let dying = Persisted::new(refresh(&server, &*initial), store.clone());
        let broken = fetch(&dying, &store);
        // Not enough life is left for another process to want it.
        advance(SECOND * 20).await;
        tokio::time::timeout(SECOND, broken).await.unwrap_err();
        drop(dying);
        assert_eq!(store.record().state(), RecordState::Intent);
        assert_eq!(server.issued(), 2);

        let next = Process::start(refresh(&server, &*initial), &store);
        let outcome = next.token().await;
        assert_eq!(sent(&server)[1], sent(&server)[2]);
        assert_eq!(next.events.count("Resending"), 1);
        if grace > 0 {
            assert!(server.is_active(&outcome.unwrap()));
            assert!(!server.reuse_detected());
        } else {
            // It cannot be helped. It is said clearly, and marked.
            assert!(outcome.unwrap_err().needs_user());
            assert_eq!(store.record().state(), RecordState::Dead);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f40_an_intent_comes_before_an_access_token_that_is_still_good() {
    let (server, store) = (server(Duration::from_secs(5)), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let first = Process::start(refresh(&server, &*initial), &store);
    let token = first.token().await.unwrap();
    // The commit fails, and the process is gone.
    store.trouble(|trouble| trouble.commits_fail = true);
    first.tokens.refresh().await.unwrap();
    first.tokens.shutdown().await;
    drop(first);
    sleep(SECOND).await;
    store.well();
    assert_eq!(store.record().state(), RecordState::Intent);
    let second = Process::start(refresh(&server, &*initial), &store);
    let next = second.token().await.unwrap();
    assert_ne!(next, token);
    assert_eq!(sent(&server)[1], sent(&server)[2]);
    assert!(server.is_active(&next) && !server.reuse_detected());
}

#[tokio::test(start_paused = true)]
async fn rfr_07_a_caller_that_goes_away_does_not_lose_the_rotated_token() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    server.script(Reply::honest().delay(SECOND * 5));
    let process = Process::start(refresh(&server, &*initial), &store);
    tokio::time::timeout(SECOND, process.token()).await.unwrap_err();
    // Not even when everything that could use it is gone.
    let Process { tokens, events } = process;
    drop(tokens);
    sleep(SECOND * 10).await;
    assert_eq!(events.count("Saved"), 1, "{}", events.all());
    let record = store.record();
    assert_eq!((record.generation(), record.state()), (1, RecordState::Clean));
    let next = Process::start(refresh(&server, &*initial), &store);
    next.tokens.refresh().await.unwrap();
    assert_eq!(sent(&server).len(), 2);
    assert!(!server.reuse_detected());
}

/// A fetch that is dropped, at any moment, leaves what it got for the next one.
#[tokio::test(start_paused = true)]
async fn f32_a_fetch_that_is_dropped_anywhere_loses_nothing_within_the_grace() {
    for dropped_after in (0..4000).step_by(100) {
        let (server, store) = (server(Duration::from_secs(5)), TestStore::new());
        store.trouble(|trouble| trouble.write_takes = SECOND);
        server.script(Reply::honest().delay(SECOND));
        let initial = server.issue_refresh_token("cli");
        let persisted = Persisted::new(refresh(&server, &*initial), store.clone());
        let dropped = fetch(&persisted, &store);
        let _ = tokio::time::timeout(Duration::from_millis(dropped_after), dropped).await;
        let token = fetch(&persisted, &store).await.unwrap();
        assert!(server.is_active(token.access_token().expose()), "{dropped_after}");
        assert_eq!(store.record().state(), RecordState::Clean, "{dropped_after}");
        assert!(!server.reuse_detected(), "{dropped_after}");
    }
}

/// As the one before, where the server takes nothing twice: only an exchange must not be dropped.
#[tokio::test(start_paused = true)]
async fn f32_a_fetch_that_is_dropped_while_it_stores_its_token_loses_nothing() {
    for dropped_after in (2000..3500).step_by(100) {
        let (server, store) = (strict(), TestStore::new());
        store.trouble(|trouble| trouble.write_takes = SECOND);
        server.script(Reply::honest().delay(Duration::from_millis(950)));
        let initial = server.issue_refresh_token("cli");
        let persisted = Persisted::new(refresh(&server, &*initial), store.clone());
        let dropped = fetch(&persisted, &store);
        let _ = tokio::time::timeout(Duration::from_millis(dropped_after), dropped).await;
        let token = fetch(&persisted, &store).await.unwrap();
        assert!(server.is_active(token.access_token().expose()), "{dropped_after}");
        assert_eq!(sent(&server), [&*initial], "{dropped_after}");
        assert_eq!(store.record().generation(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_spent_nothing_leaves_the_record_clean() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    process.token().await.unwrap();
    server.script(Reply::status(429).header("retry-after", "60"));
    assert_eq!(process.tokens.refresh().await.unwrap_err().kind(), ErrorKind::Throttled);
    assert_eq!(store.record().state(), RecordState::Clean);
    server.always(Reply::status(500));
    sleep(SECOND * 61).await;
    assert_eq!(store.record().state(), RecordState::Intent, "a 500 tells nothing");
}

/// Both sent the same refresh token, one of them without the store. Which of the two answers lives,
/// only the server knows.
#[tokio::test(start_paused = true)]
async fn f43_what_was_obtained_without_the_store_is_kept_aside_if_another_process_stored_first() {
    let (server, store) = (server(LIFE), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let other = Process::start(refresh(&server, &*initial), &store);
    other.token().await.unwrap();
    let first = store.record();
    let theirs = other.tokens.refresh().await.unwrap();
    other.tokens.shutdown().await;
    let stored = store.record();
    store.restore(Some(&first));
    let process = Process::with(refresh(&server, &*initial), &store, |persisted| {
        persisted.without_store(WithoutStore::Spend)
    });
    process.token().await.unwrap();
    store.trouble(|trouble| trouble.reads_fail = true);
    let ours = process.tokens.refresh().await.unwrap();
    assert_eq!(process.events.count("NotSaved"), 1);
    store.well();
    store.restore(Some(&stored));
    sleep(SECOND * 10).await;
    assert_eq!(&process.token().await.unwrap(), theirs.access_token().expose());
    // Theirs does not live, after all.
    server.script(Reply::oauth_error(400, "invalid_grant"));
    process.tokens.refresh().await.unwrap();
    let refresh_token = ours.refresh_token().unwrap().expose().to_owned();
    assert_eq!(sent(&server).last(), Some(&refresh_token));
}

/// An answer that comes at the last moment could not be stored any more: it is not waited for.
#[tokio::test(start_paused = true)]
async fn rfr_02_an_answer_is_waited_for_only_while_there_is_time_to_store_it() {
    let (server, store) = (server(Duration::from_secs(60)), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    server.script(Reply::honest().delay(SECOND * 28));
    let persisted = Persisted::new(refresh_patiently(&server, &initial), store.clone());
    let started = tokio::time::Instant::now();
    let error = fetch(&persisted, &store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let took = started.elapsed();
    assert!(took > SECOND * 20 && took < SECOND * 26, "{took:?} of 30 s");
    assert_eq!(store.record().state(), RecordState::Intent);
    fetch(&persisted, &store).await.unwrap();
    assert!(!server.reuse_detected());
}

fn refresh_patiently(server: &AuthorizationServer, initial: &str) -> tower_oauth::RefreshToken {
    tower_oauth::RefreshToken::builder(
        server.token_endpoint(),
        tower_oauth::ClientAuth::none("cli"),
        initial,
    )
    .timeout(SECOND * 60)
    .transport(transport(server))
    .build()
    .unwrap()
}
