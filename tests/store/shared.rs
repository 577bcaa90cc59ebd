//! Several processes on one store.

use std::{sync::Arc, time::Duration};

use tokio::time::{advance, sleep};
use tower_oauth::{
    ErrorKind,
    store::{
        Persisted,
        RecordState::{Clean, Intent},
        WithoutStore,
    },
    testing::{Reply, Rotation},
};

use crate::harness::{
    LIFE, Process, TestStore, client_credentials, fetch, refresh, sent, server, strict,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn rfr_04_a_hundred_renewals_of_two_processes_reuse_nothing() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let processes = [(); 2].map(|()| Process::start(refresh(&server, &*initial), &store));
    for _ in 0..100 {
        let (one, two) = tokio::join!(processes[0].token(), processes[1].token());
        for token in [one.unwrap(), two.unwrap()] {
            assert!(server.is_active(&token));
        }
        advance(LIFE).await;
        sleep(SECOND).await;
    }
    assert!(!server.reuse_detected());
    let sent = sent(&server);
    assert!(sent.len() >= 100 && sent.len() <= 110, "{} requests", sent.len());
    let mut different = sent.clone();
    different.dedup();
    assert_eq!(different, sent, "a refresh token was sent twice");
}

#[tokio::test(start_paused = true)]
async fn rfr_04_a_forced_renewal_waits_for_the_other_one_and_spends_what_that_left() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let processes = [(); 8].map(|()| Process::start(refresh(&server, &*initial), &store));
    processes[0].token().await.unwrap();
    server.always(Reply::honest().delay(SECOND));
    for process in &processes {
        process.token().await.unwrap();
    }
    let all = processes.iter().map(|process| process.tokens.refresh());
    for token in futures(all).await {
        token.unwrap();
    }
    assert_eq!(server.token_request_count(), 9);
    assert!(!server.reuse_detected());
}

#[tokio::test(start_paused = true)]
async fn what_one_process_renews_the_others_adopt() {
    for rotates in [true, false] {
        let (server, store) = (strict(), TestStore::new());
        let initial = server.issue_refresh_token("cli");
        let start = || Process::of_grant(rotates, &server, &initial, &store);
        let processes = [(); 5].map(|()| start());
        for process in &processes {
            process.token().await.unwrap();
        }
        // Ten lifetimes, with requests all the time.
        for _ in 0..1000 {
            sleep(SECOND).await;
            for process in &processes {
                assert!(server.is_active(&process.token().await.unwrap()));
            }
        }
        let requests = server.token_request_count();
        assert!((10..=14).contains(&requests), "{requests} for about 12 renewals");
        assert!(!server.reuse_detected());
    }
}

/// What was read before the lock was had is old by then.
#[tokio::test(start_paused = true)]
async fn f35_whoever_waited_for_the_lock_reads_the_record_again() {
    for rotates in [true, false] {
        let (server, store) = (strict(), TestStore::new());
        let initial = server.issue_refresh_token("cli");
        server.always(Reply::honest().delay(SECOND));
        let processes = [(); 5].map(|()| Process::of_grant(rotates, &server, &initial, &store));
        let first = processes[0].token().await.unwrap();
        for process in &processes {
            assert_eq!(process.token().await.unwrap(), first);
        }
        assert_eq!(server.token_request_count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn rfr_02_a_token_is_stored_before_it_is_served() {
    let (server, store) = (strict(), TestStore::new());
    store.trouble(|trouble| trouble.write_takes = SECOND);
    let process = Process::start(refresh(&server, server.issue_refresh_token("cli")), &store);
    // One second for the intent, the exchange, and then one for the tokens.
    sleep(Duration::from_millis(1900)).await;
    assert_eq!(server.issued(), 1);
    assert!(process.tokens.current().is_none());
    assert_eq!(store.saves(), [(0, Intent)]);
    let token = process.tokens.token().await.unwrap();
    assert_eq!(store.saves(), [(0, Intent), (1, Clean)]);
    let stored = store.record().to_json();
    assert!(stored.expose().contains(token.access_token().expose()));
    assert!(stored.expose().contains(token.refresh_token().unwrap().expose()));
}

/// The lock is lost, and another process has renewed the token when the answer comes.
#[tokio::test(start_paused = true)]
async fn rfr_05_a_refused_refresh_token_is_looked_up_in_the_store() {
    let (server, store) = (server(Duration::ZERO), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let first = Process::start(refresh(&server, &*initial), &store);
    let second = Process::start(refresh(&server, &*initial), &store);
    first.token().await.unwrap();
    second.token().await.unwrap();
    // From here on, the lock keeps nobody out.
    store.trouble(|trouble| trouble.lease = Some(LIFE));
    server.reset_ledger();
    server.script(Reply::oauth_error(400, "invalid_grant").delay(SECOND * 2));
    let (mine, theirs) = tokio::join!(first.tokens.refresh(), async {
        sleep(SECOND).await;
        second.tokens.refresh().await
    });
    let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
    assert!(server.is_active(mine.access_token().expose()));
    // To renew was asked for, so what was found is used to do so.
    assert_ne!(mine.access_token(), theirs.access_token());
    assert_eq!(sent(&server).len(), 3);
    assert!(!server.reuse_detected());
}

/// The lease ends while the answer is on its way, and another process takes over.
#[tokio::test(start_paused = true)]
async fn f42_two_answers_to_one_refresh_token_leave_both_processes_with_a_token() {
    let (server, store) = (server(Duration::from_secs(30)), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let first = Process::start(refresh(&server, &*initial), &store);
    let second = Process::start(refresh(&server, &*initial), &store);
    first.token().await.unwrap();
    second.token().await.unwrap();
    store.trouble(|trouble| trouble.lease = Some(LIFE));
    server.script_many([Reply::honest().delay(SECOND * 3), Reply::honest()]);
    let (one, two) = tokio::join!(first.tokens.refresh(), async {
        sleep(SECOND).await;
        second.tokens.refresh().await
    });
    // The later one lost, and uses what the earlier one stored.
    assert_eq!(one.unwrap().access_token(), two.unwrap().access_token());
    store.well();
    for _ in 0..3 {
        advance(LIFE).await;
        for process in [&first, &second] {
            assert!(server.is_active(&process.token().await.unwrap()));
        }
    }
    assert!(!server.reuse_detected());
}

#[tokio::test(start_paused = true)]
async fn f41_a_lease_that_is_too_short_for_an_answer_spends_nothing() {
    let (server, store) = (strict(), TestStore::new());
    store.trouble(|trouble| trouble.lease = Some(Duration::from_millis(1500)));
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, initial), &store);
    sleep(SECOND * 20).await;
    assert_eq!(server.token_request_count(), 0);
    assert!(process.tokens.status().error().is_some());
    store.trouble(|trouble| trouble.lease = Some(SECOND * 20));
    process.token().await.unwrap();
}

/// A second for the exchange, and one by which clocks may differ.
#[tokio::test(start_paused = true)]
async fn f41_a_lease_of_two_seconds_is_the_shortest_in_which_anything_is_sent() {
    for (milliseconds, requests) in [(1999, 0), (2000, 1)] {
        let (server, store) = (strict(), TestStore::new());
        store.trouble(|trouble| trouble.lease = Some(Duration::from_millis(milliseconds)));
        let initial = server.issue_refresh_token("cli");
        let source = Persisted::new(refresh(&server, initial), store.clone());
        let outcome = fetch(&source, &store).await;
        assert_eq!(outcome.is_ok(), requests > 0, "{milliseconds}: {outcome:?}");
        assert_eq!(server.token_request_count(), requests, "{milliseconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn f41_a_store_in_an_arc_says_how_long_its_leases_hold() {
    for (lease, requests) in [(None, 1), (Some(SECOND), 0)] {
        let (server, store) = (strict(), TestStore::new());
        store.trouble(|trouble| trouble.lease = lease);
        let initial = server.issue_refresh_token("cli");
        let source = Persisted::new(refresh(&server, initial), Arc::new(store.clone()));
        let outcome = fetch(&source, &store).await;
        assert_eq!(outcome.is_ok(), requests > 0, "{lease:?}: {outcome:?}");
        assert_eq!(server.token_request_count(), requests, "{lease:?}");
    }
}

/// The holder of the lock is stopped, as by SIGSTOP.
#[tokio::test(start_paused = true)]
async fn f36_a_lock_that_is_never_given_back_is_waited_for_and_not_broken() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let stopped = Process::start(refresh(&server, &*initial), &store);
    let process = Process::start(refresh(&server, &*initial), &store);
    let token = stopped.token().await.unwrap();
    assert_eq!(process.token().await.unwrap(), token);
    server.script(Reply::hang());
    tokio::time::timeout(SECOND, stopped.tokens.refresh()).await.unwrap_err();
    let before = tokio::time::Instant::now();
    let error = process.tokens.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(before.elapsed() <= SECOND * 11, "{:?}", before.elapsed());
    // The current token serves on, and it was told.
    assert_eq!(process.token().await.unwrap(), token);
    assert!(process.events.count("StoreFailed") > 0);
    assert_eq!(server.token_request_count(), 2);
}

/// A store whose lock is not to be had works: its holder may be about to store what it got.
#[tokio::test(start_paused = true)]
async fn f36_a_lock_that_is_held_is_not_a_store_that_fails() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let start = || {
        let source = refresh(&server, &*initial);
        Process::with(source, &store, |persisted| persisted.without_store(WithoutStore::Spend))
    };
    let (stopped, process) = (start(), start());
    stopped.token().await.unwrap();
    process.token().await.unwrap();
    server.script(Reply::hang());
    tokio::time::timeout(SECOND, stopped.tokens.refresh()).await.unwrap_err();
    let error = process.tokens.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(server.token_request_count(), 2);
}

/// The lock is for who has to renew a token, not for who can use the one there is.
#[tokio::test(start_paused = true)]
async fn a_good_token_is_adopted_while_another_process_has_the_lock() {
    let (server, store) = (strict(), TestStore::new());
    let renews = Process::start(client_credentials(&server), &store);
    let token = renews.token().await.unwrap();
    server.script(Reply::hang());
    tokio::time::timeout(SECOND, renews.tokens.refresh()).await.unwrap_err();
    let starts = Process::start(client_credentials(&server), &store);
    let adopted = tokio::time::timeout(SECOND, starts.token()).await.unwrap();
    assert_eq!(adopted.unwrap(), token);
    assert_eq!(server.token_request_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn f36_a_token_that_spends_nothing_is_renewed_without_the_lock() {
    let (server, store) = (strict(), TestStore::new());
    let stopped = Process::start(client_credentials(&server), &store);
    let process = Process::start(client_credentials(&server), &store);
    stopped.token().await.unwrap();
    let token = process.token().await.unwrap();
    server.script(Reply::hang());
    tokio::time::timeout(SECOND, stopped.tokens.refresh()).await.unwrap_err();
    let next = process.tokens.refresh().await.unwrap();
    assert_ne!(next.access_token().expose(), token);
}

#[tokio::test(start_paused = true)]
async fn f38_f44_an_older_record_is_not_adopted_but_replaced() {
    let (server, store) = (strict(), TestStore::new());
    let initial = server.issue_refresh_token("cli");
    let process = Process::start(refresh(&server, &*initial), &store);
    process.token().await.unwrap();
    let old = store.record();
    process.tokens.refresh().await.unwrap();
    let newest = store.record();
    for restored in [Some(&old), None] {
        store.restore(restored);
        sleep(LIFE).await;
        assert!(server.is_active(&process.token().await.unwrap()));
        assert!(store.record().generation() > newest.generation());
    }
    assert!(!server.reuse_detected());
    process.tokens.shutdown().await;

    // At the start nobody knows better: it ends, and not in a loop.
    store.restore(Some(&old));
    sleep(LIFE).await;
    server.reset_ledger();
    let late = Process::start(refresh(&server, &*initial), &store);
    let error = late.token().await.unwrap_err();
    assert!(error.needs_user(), "{error}");
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(server.token_request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_rotate_is_kept_as_well() {
    let (server, store) = (strict(), TestStore::new());
    server.rotation(Rotation::Never);
    let initial = server.issue_refresh_token("cli");
    let first = Process::start(refresh(&server, &*initial), &store);
    let second = Process::start(refresh(&server, &*initial), &store);
    for _ in 0..5 {
        first.token().await.unwrap();
        second.token().await.unwrap();
        sleep(LIFE).await;
    }
    assert!(sent(&server).iter().all(|sent| *sent == initial));
}

/// All at once, on this task.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut all {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(ready) => *output = Some(ready),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    all.into_iter().filter_map(|(_, output)| output).collect()
}
