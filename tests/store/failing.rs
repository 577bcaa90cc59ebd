//! Stores that fail.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, advance, sleep};
use tower_oauth::{
    Error, ErrorKind, FetchContext, TokenSource as _,
    observe::FetchReason,
    store::{Persisted, RecordState, WithoutStore},
};

use crate::harness::{LIFE, Process, TestStore, client_credentials, fetch, refresh, sent, strict};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn rfr_08_a_token_that_cannot_be_stored_is_served_and_stored_later() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    store.trouble(|trouble| trouble.commits_fail = true);
    let process = Process::start(refresh(&server, &*initial), &store);
    let token = process.token().await.unwrap();
    assert_eq!(process.events.count("NotSaved"), 1);
    assert_eq!(store.record().state(), RecordState::Intent);
    // It is tried again, but no other token is asked for while this one is good.
    sleep(SECOND * 30).await;
    assert_eq!(process.token().await.unwrap(), token);
    assert!(process.events.count("StoreFailed") > 1, "{}", process.events.all());
    assert_eq!(sent(&server).len(), 1);
    store.well();
    sleep(SECOND * 31).await;
    assert_eq!(process.events.count("Saved"), 1);
    assert_eq!(process.token().await.unwrap(), token);
    let record = store.record();
    assert_eq!((record.generation(), record.state()), (1, RecordState::Clean));
    assert!(record.to_json().expose().contains(&token));
}

#[tokio::test(start_paused = true)]
async fn rfr_08_a_write_that_fails_once_is_mended_within_seconds() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    store.trouble(|trouble| trouble.commits_fail = true);
    let process = Process::start(refresh(&server, &*initial), &store);
    process.token().await.unwrap();
    store.well();
    sleep(SECOND * 6).await;
    assert_eq!(process.events.count("Saved"), 1);
    // From there on all is as ever.
    for _ in 0..3 {
        sleep(LIFE).await;
        process.token().await.unwrap();
    }
    assert!(!server.reuse_detected());
}

/// While it is not stored, nobody else may send what it was got for.
#[tokio::test(start_paused = true)]
async fn f34_the_lock_is_kept_until_the_token_is_stored() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let first = Process::start(refresh(&server, &*initial), &store);
    let second = Process::start(refresh(&server, &*initial), &store);
    first.token().await.unwrap();
    second.token().await.unwrap();
    store.trouble(|trouble| trouble.commits_fail = true);
    let token = first.tokens.refresh().await.unwrap();
    let error = second.tokens.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    store.well();
    sleep(SECOND * 31).await;
    second.tokens.refresh().await.unwrap();
    assert!(!server.is_active("nothing") && !server.reuse_detected());
    assert!(sent(&server).contains(&token.refresh_token().unwrap().expose().to_owned()));
}

/// The disk is full for many lifetimes. One process goes on in memory, and loses nothing.
#[tokio::test(start_paused = true)]
async fn f34_a_process_goes_on_in_memory_for_many_lifetimes() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    process.token().await.unwrap();
    store.trouble(|trouble| trouble.commits_fail = true);
    for _ in 0..1000 {
        sleep(SECOND).await;
        assert!(server.is_active(&process.token().await.unwrap()));
    }
    assert!(process.events.count("NotSaved") >= 9);
    store.well();
    sleep(SECOND * 31).await;
    let newest = sent(&server).len() as u64;
    assert_eq!(store.record().generation(), newest);
    assert!(!server.reuse_detected());
}

#[tokio::test(start_paused = true)]
async fn f43_a_token_that_spends_nothing_needs_no_store() {
    for at_start in [true, false] {
        for black_hole in [true, false] {
            let (server, store) = (strict(), TestStore::new());
            let break_it = || {
                store.trouble(|trouble| {
                    trouble.never_answers = black_hole;
                    trouble.reads_fail = !black_hole;
                });
            };
            if at_start {
                break_it();
            }
            let process = Process::start(client_credentials(&server), &store);
            process.token().await.unwrap();
            break_it();
            for _ in 0..300 {
                sleep(SECOND).await;
                assert!(server.is_active(&process.token().await.unwrap()));
            }
            assert!(server.token_request_count() <= 6);
            assert!(process.events.count("StoreFailed") > 0);
            store.well();
            sleep(LIFE).await;
            process.token().await.unwrap();
            assert!(store.records() == 1);
        }
    }
}

/// What could not be stored gave way to the stored token that it had replaced: a process took back
/// what an API had refused.
#[tokio::test(start_paused = true)]
async fn f43_i2_a_refused_token_does_not_come_back_from_a_store_that_cannot_be_written() {
    let (server, store) = (strict(), TestStore::new());
    let process = Process::start(client_credentials(&server), &store);
    let refused = process.token().await.unwrap();
    store.trouble(|trouble| trouble.commits_fail = true);
    for _ in 0..3 {
        process.tokens.reject(process.tokens.current().unwrap().epoch());
        // Longer than renewals in a row are apart.
        sleep(SECOND * 9).await;
        assert_ne!(process.token().await.unwrap(), refused);
    }
    assert_eq!(server.token_request_count(), 4);
}

#[tokio::test(start_paused = true)]
async fn f43_a_refresh_token_waits_for_the_store_unless_it_may_be_spent() {
    let (server, store) = (strict(), TestStore::new());
    let start = |without_store| {
        let initial = server.issue_refresh_token("cli");
        let source = refresh(&server, initial);
        Process::with(source, &store, |persisted| persisted.without_store(without_store))
    };
    let (waits, spends) = (start(WithoutStore::Wait), start(WithoutStore::Spend));
    let token = waits.token().await.unwrap();
    spends.token().await.unwrap();
    let started = Instant::now();
    store.trouble(|trouble| trouble.reads_fail = true);
    server.reset_ledger();
    let mut first_spent = None;
    while started.elapsed() < LIFE * 3 {
        sleep(SECOND).await;
        assert!(server.is_active(&spends.token().await.unwrap()));
        if first_spent.is_none() && server.token_request_count() > 0 {
            first_spent = Some(started.elapsed());
        }
        if started.elapsed() < SECOND * 94 {
            assert_eq!(waits.token().await.unwrap(), token);
        }
    }
    let first_spent = first_spent.unwrap();
    assert!(first_spent >= SECOND * 89, "spent at {first_spent:?}, long before the end");
    let error = waits.tokens.token().await.unwrap_err();
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Error>());
    assert_eq!(cause.map(Error::kind), Some(ErrorKind::Store));
    store.well();
    sleep(SECOND * 31).await;
    assert_ne!(waits.token().await.unwrap(), token);
    assert!(server.is_active(&spends.token().await.unwrap()));
    assert!(!server.reuse_detected());
}

/// Whether the last tenth of its life has begun once counted from before the store was asked. A
/// store that took its time to fail then left a token to expire.
#[tokio::test(start_paused = true)]
async fn f43_what_is_left_of_a_token_is_judged_after_the_store_has_answered() {
    for (begins, answers, is_spent) in [(86, 3, false), (87, 3, true), (88, 3, true), (90, 0, true)]
    {
        let (server, store) = (strict(), TestStore::new());
        let source = refresh(&server, server.issue_refresh_token("cli"));
        let source = Persisted::new(source, store.clone()).without_store(WithoutStore::Spend);
        let token = fetch(&source, &store).await.unwrap();
        sleep(SECOND * begins).await;
        store.trouble(|trouble| {
            trouble.reads_fail = true;
            trouble.read_takes = SECOND * answers;
        });
        let mut cx = FetchContext::first();
        cx.clock = Arc::new(store.clock.clone());
        (cx.reason, cx.previous) = (FetchReason::Due, Some(Arc::new(token)));
        let started = Instant::now();
        let outcome = source.fetch(cx).await;
        assert_eq!(started.elapsed(), SECOND * answers, "{begins}");
        assert_eq!(outcome.is_ok(), is_spent, "{begins}: {outcome:?}");
        assert_eq!(sent(&server).len(), 1 + usize::from(is_spent), "{begins}");
    }
}

#[tokio::test(start_paused = true)]
async fn f43_a_store_that_was_never_read_is_not_gone_around() {
    let (server, store) = (strict(), TestStore::new());
    store.trouble(|trouble| trouble.reads_fail = true);
    let initial = server.issue_refresh_token("cli");
    let process = Process::with(refresh(&server, initial), &store, |persisted| {
        persisted.without_store(WithoutStore::Spend)
    });
    advance(LIFE).await;
    process.token().await.unwrap_err();
    assert_eq!(process.tokens.status().error().unwrap().kind(), ErrorKind::Store);
    assert_eq!(server.token_request_count(), 0);
}

/// An intent that is not stored spends nothing.
#[tokio::test(start_paused = true)]
async fn f34_where_nothing_can_be_written_nothing_is_sent() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    let token = process.token().await.unwrap();
    store.trouble(|trouble| trouble.writes_fail = true);
    let error = process.tokens.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert_eq!(sent(&server).len(), 1);
    assert_eq!(process.token().await.unwrap(), token);
}

/// An intent that is written after the lease has ended would hold up the process that has it now.
#[tokio::test(start_paused = true)]
async fn f41_a_lease_that_has_ended_writes_no_intent() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    store.trouble(|trouble| trouble.lease = Some(Duration::ZERO));
    let process = Process::start(refresh(&server, &*initial), &store);
    let error = process.tokens.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert_eq!(store.saves(), []);
    assert_eq!(sent(&server), Vec::<String>::new());
}
