//! Where a handle is used, and how it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower_oauth::{
    Error, ErrorKind, Rejection, State, TokenHandle, TokenSet, source::StepUp, source_fn,
};

use crate::{
    HOUR,
    common::script::{Script, Step},
    secs, served, settle, value,
};

#[test]
fn f26_when_the_refreshers_runtime_ends_callers_on_another_fail_typed() {
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (build(), build());
    let source = Script::tokens(HOUR);
    let tokens = first.block_on(async {
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        tokens
    });
    source.otherwise(Step::Hang);
    assert_eq!(tokens.reject(1), Rejection::Accepted);
    // One caller waits since before the end, one comes after it.
    let waiting = second.spawn({
        let tokens = tokens.clone();
        async move { tokens.token().await.unwrap_err().kind() }
    });
    first.block_on(settle());
    second.block_on(settle());
    assert!(!waiting.is_finished());
    drop(first);
    second.block_on(async {
        assert_eq!(waiting.await.unwrap(), ErrorKind::Shutdown);
        assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Shutdown);
        assert!(!served(&tokens));
        assert_eq!(tokens.refresh().await.unwrap_err().kind(), ErrorKind::Shutdown);
        tokens.shutdown().await;
    });
}

/// Once a waiting request panicked there: it had no timer.
#[test]
fn f26_outside_of_a_runtime_a_token_at_hand_is_served_and_a_missing_one_is_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tokens = runtime.block_on(async {
        let tokens = TokenHandle::spawn(Script::tokens(HOUR));
        tokens.ready().await.unwrap();
        tokens
    });
    let now = |tokens: &TokenHandle| {
        let tokens = tokens.clone();
        tokio_test::task::spawn(async move { tokens.token().await.map(drop) }).poll()
    };
    assert!(matches!(now(&tokens), Poll::Ready(Ok(()))));
    tokens.reject(1);
    let Poll::Ready(Err(error)) = now(&tokens) else { panic!("it does not wait") };
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn f27_the_refresher_ends_with_the_last_handle() {
    let (tokens, refresher) = TokenHandle::pair(Script::tokens(HOUR));
    let task = tokio::spawn(refresher);
    tokens.ready().await.unwrap();
    let clone = tokens.clone();
    drop(tokens);
    settle().await;
    assert!(!task.is_finished());
    drop(clone);
    timeout(secs(1), task).await.expect("it ends").unwrap();

    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    for _ in 0..10_000 {
        let tokens = TokenHandle::spawn(Script::tokens(HOUR));
        tokens.ready().await.unwrap();
    }
    settle().await;
    assert!(alive() <= before + 1, "{} tasks are left", alive() - before);
}

/// The server may have rotated the refresh token by then.
#[tokio::test(start_paused = true)]
async fn f22_a_fetch_goes_on_to_its_end_when_its_refresher_is_dropped() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    let (tokens, refresher) = TokenHandle::pair(source_fn(move |_| {
        let count = count.clone();
        async move {
            sleep(secs(1)).await;
            count.fetch_add(1, Ordering::Relaxed);
            TokenSet::bearer("t")
        }
    }));
    let task = tokio::spawn(refresher);
    settle().await;
    task.abort();
    sleep(secs(2)).await;
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn f27_a_refresher_that_is_dropped_unpolled_has_ended() {
    let (tokens, refresher) = TokenHandle::pair(Script::tokens(HOUR));
    drop(refresher);
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_fetch_and_then_requests_fail() {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(secs(5), Box::new(Step::Token(HOUR)))]);
    let tokens = TokenHandle::spawn(source.clone());
    settle().await;
    let start = Instant::now();
    tokens.shutdown().await;
    assert!((secs(5)..secs(6)).contains(&start.elapsed()));
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!(tokens.status().state(), State::Stopped);
    tokens.shutdown().await;
}

/// Every wait of a handle, as it ends without being woken.
fn waits(tokens: &TokenHandle) -> [ErrorKind; 4] {
    fn now<T>(wait: impl Future<Output = Result<T, Error>>) -> ErrorKind {
        let Poll::Ready(Err(error)) = tokio_test::task::spawn(wait).poll() else {
            panic!("it waits, or succeeds")
        };
        error.kind()
    }
    [
        now(tokens.token()),
        now(tokens.refresh()),
        now(tokens.step_up(1, StepUp::claims("{}"))),
        now(tokens.shutdown().revoke()),
    ]
}

#[test]
fn f72_outside_of_a_runtime_every_wait_ends_at_once_and_none_panics() {
    let (tokens, _refresher) = TokenHandle::pair(Script::tokens(HOUR));
    assert_eq!(waits(&tokens), [ErrorKind::Timeout; 4]);
    assert!(tokio_test::task::spawn(tokens.shutdown()).poll().is_ready());
    assert_eq!(tokens.status().state(), State::Stopped);
}

#[test]
fn f72_on_a_runtime_without_timers_every_wait_ends_at_once_and_none_panics() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (tokens, _refresher) = TokenHandle::pair(Script::tokens(HOUR));
        assert_eq!(waits(&tokens), [ErrorKind::Timeout; 4]);
        tokens.shutdown().await;
        // Its refresher cannot run there, and says why.
        let tokens = TokenHandle::spawn(Script::tokens(HOUR));
        settle().await;
        let error = tokens.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let status = tokens.status();
        assert_eq!(status.state(), State::Stopped);
        let cause = status.error().unwrap().to_string();
        assert!(cause.contains("enable_time()"), "{cause}");
    });
}

#[tokio::test(start_paused = true)]
async fn f72_with_a_refresher_that_is_never_polled_every_wait_ends_at_its_own_deadline() {
    let (tokens, _refresher) = TokenHandle::pair(Script::tokens(HOUR));
    let start = Instant::now();
    assert_eq!(tokens.refresh().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 90);
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 120);
    let step_up = tokens.step_up(0, StepUp::claims("{}"));
    assert_eq!(step_up.await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 150);
    tokens.shutdown().await;
    assert_eq!(start.elapsed().as_secs(), 180);
}

// Tokens were served until the fetch ended, half a minute later.
#[tokio::test(start_paused = true)]
async fn f73_after_shutdown_no_token_is_served_while_a_fetch_hangs() {
    for rotates in [false, true] {
        let source = Script::tokens(HOUR);
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        source.otherwise(Step::Take(secs(20), Box::new(Step::Token(HOUR))));
        let refresh = tokio::spawn({
            let tokens = tokens.clone();
            async move { tokens.refresh().await.map(drop) }
        });
        sleep(secs(1)).await;
        let start = Instant::now();
        let (end, clone) = (Arc::new(AtomicUsize::new(0)), tokens.clone());
        let (count, revoke) = (end.clone(), rotates);
        let ending = tokio::spawn(async move {
            if revoke {
                clone.shutdown().revoke().await.unwrap_err();
            } else {
                clone.shutdown().await;
            }
            count.fetch_add(1, Ordering::Relaxed);
        });
        settle().await;
        assert!(!served(&tokens));
        assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Shutdown);
        assert_eq!(tokens.status().state(), State::Stopped);
        assert_eq!(refresh.await.unwrap().unwrap_err().kind(), ErrorKind::Shutdown);
        assert_eq!((start.elapsed().as_secs(), end.load(Ordering::Relaxed)), (0, 0));
        // It waits for the fetch, whose token nobody gets.
        ending.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 19);
        assert!(!served(&tokens));
    }
}

// A thousand callers of `refresh()` waited where one was allowed.
#[tokio::test(start_paused = true)]
async fn f24_who_refreshes_or_steps_up_counts_among_those_that_wait() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::builder(source.clone()).max_waiting(1).spawn();
    tokens.ready().await.unwrap();
    source.otherwise(Step::Take(secs(5), Box::new(Step::Token(HOUR))));
    for step_up in [false, true] {
        let callers: JoinSet<_> = (0..1000)
            .map(|_| {
                let tokens = tokens.clone();
                async move {
                    let outcome = if step_up {
                        tokens.step_up(tokens.status().epoch(), StepUp::claims("{}")).await
                    } else {
                        tokens.refresh().await
                    };
                    outcome.map_err(|error| error.kind()).map(drop)
                }
            })
            .collect();
        let outcomes = callers.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        let overloaded = Err(ErrorKind::Overloaded);
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == overloaded).count(), 999);
    }
}

/// The draw of each token is its own: replicas that start together do not renew together.
#[tokio::test(start_paused = true)]
async fn f30_handles_that_start_together_renew_apart() {
    for refresh_in in [None, Some(secs(1800))] {
        let at: Vec<_> = (0..100)
            .map(|_| {
                TokenHandle::spawn(source_fn(move |_| async move {
                    let token = TokenSet::bearer("t")?.with_lifetime(HOUR);
                    Ok(refresh_in.into_iter().fold(token, TokenSet::with_refresh_in))
                }))
            })
            .collect();
        let mut seconds = std::collections::BTreeSet::new();
        for tokens in &at {
            value(tokens).await;
            let status = tokens.status();
            let next = status.next_attempt().unwrap() - status.obtained_at().unwrap();
            seconds.insert(next.as_secs());
        }
        // A hundred draws of 360 seconds, or of 180.
        assert!(seconds.len() > 40, "{refresh_in:?}: {}", seconds.len());
        assert!(seconds.last().unwrap() - seconds.first().unwrap() > 90);
    }
}
