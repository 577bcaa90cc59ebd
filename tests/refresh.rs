//! The refresher: when it fetches, what requests see meanwhile, and that it never stops.
//!
//! All of it in paused time: an hour of a token's life takes no time at all.
#![cfg(test)]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

mod common;

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::script::{Script, Step, fail};
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep, timeout},
};
use tower_oauth::{
    Error, ErrorKind, Rejection, State, Status, TokenHandle, TokenSet,
    observe::{Event, FetchReason},
    source_fn,
};

const HOUR: Duration = Duration::from_secs(3600);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Lets every task run that can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn value(tokens: &TokenHandle) -> String {
    tokens.token().await.unwrap().access_token().expose().to_owned()
}

/// Whether there is a token that a request would get without waiting.
fn served(tokens: &TokenHandle) -> bool {
    tokens.current().is_some()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_expires_and_nobody_waits() {
    let source = Script::tokens(HOUR);
    let waits = Arc::new(AtomicUsize::new(0));
    let counter = waits.clone();
    let tokens = TokenHandle::builder(source.clone())
        .observer(move |event: &Event<'_>| {
            if let Event::Waited { .. } = event {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        })
        .spawn();
    tokens.ready().await.unwrap();
    assert_eq!(waits.swap(0, Ordering::Relaxed), 1);
    for _ in 0..10 * 60 {
        sleep(secs(60)).await;
        value(&tokens).await;
    }
    assert_eq!(waits.load(Ordering::Relaxed), 0);
    // Ten hours, each token renewed after 75 to 85 % of its hour.
    assert!((12..=14).contains(&source.count()), "{}", source.count());
    let times = source.times();
    for pair in times.windows(2) {
        let life = pair[1] - pair[0];
        assert!((secs(2700)..=secs(3061)).contains(&life), "{life:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfr_03_a_thousand_callers_at_start_make_one_fetch() {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(secs(1), Box::new(Step::Token(HOUR)))]);
    let tokens = TokenHandle::spawn(source.clone());
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let tokens = tokens.clone();
        callers.spawn(async move { value(&tokens).await });
    }
    assert!(callers.join_all().await.iter().all(|token| token == "token-1"));
    assert_eq!(source.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn rfr_03_a_thousand_callers_share_one_failure() {
    let source = Script::tokens(secs(100));
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    source.otherwise(Step::Take(secs(1), Box::new(fail(ErrorKind::Server))));
    // Expired while an attempt is under way: the callers wait for its end.
    let mut status = tokens.subscribe();
    status.wait_for(|s| s.state() == State::Expired && s.is_fetching()).await.unwrap();
    let before = source.count();
    source.otherwise(Step::Fail(Error::new(ErrorKind::InvalidClient, "who is this")));
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let tokens = tokens.clone();
        callers.spawn(async move { tokens.token().await.unwrap_err().kind() });
    }
    // The failure that may pass is waited out; the one that needs an operator ends all waits.
    assert!(callers.join_all().await.iter().all(|kind| *kind == ErrorKind::InvalidClient));
    assert_eq!(source.count(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn f01_a_server_that_starts_late_is_waited_for() {
    let source = Script::tokens(HOUR);
    source.otherwise(fail(ErrorKind::Transport));
    let tokens = TokenHandle::spawn(source.clone());
    // A caller gives up at its own deadline, with the cause.
    let error = tokens.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let cause = std::error::Error::source(&error).expect("the timeout names its cause");
    assert!(cause.to_string().contains("scripted failure"));

    source.otherwise(Step::Token(HOUR));
    tokens.ready().await.unwrap();
    assert_eq!(tokens.status().failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn f02_rfr_09_an_outage_within_the_refresh_window_is_not_noticed() {
    for _ in 0..50 {
        let source = Script::tokens(secs(1000));
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        let obtained = Instant::now();
        sleep(secs(700)).await;
        source.otherwise(fail(ErrorKind::Server));
        while obtained.elapsed() < secs(990) {
            assert!(served(&tokens));
            sleep(Duration::from_millis(500)).await;
        }
        let during = source.count();
        assert!(during > 3, "it is tried again during the outage: {during}");
        source.otherwise(Step::Token(secs(1000)));
        while obtained.elapsed() < secs(1100) {
            assert!(served(&tokens), "at {:?}", obtained.elapsed());
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(source.count(), during + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn f03_past_expiry_failures_are_shared_and_the_first_success_resumes_all() {
    let source = Script::tokens(secs(100));
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    source.otherwise(fail(ErrorKind::Server));
    sleep(secs(96)).await;
    assert!(!served(&tokens), "an expired token is not served");
    let fetches = source.count();
    let asked = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let tokens = tokens.clone();
        callers.spawn(async move { tokens.token().await.unwrap_err() });
    }
    for error in callers.join_all().await {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(std::error::Error::source(&error).is_some(), "it says what failed");
    }
    assert_eq!(asked.elapsed(), secs(30), "they wait for an attempt that succeeds");
    assert!(source.count() <= fetches + 20, "callers start no requests of their own");
    source.otherwise(Step::Token(secs(100)));
    let mut status = tokens.subscribe();
    timeout(secs(31), status.wait_for(Status::is_ready)).await.expect("within one cap").unwrap();
    value(&tokens).await;
}

#[tokio::test(start_paused = true)]
async fn f03_while_an_attempt_is_under_way_callers_wait_for_it_whatever_failed_before() {
    let source = Script::tokens(secs(100));
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    source.otherwise(fail(ErrorKind::Server));
    sleep(secs(96)).await;
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Timeout);
    source.then([Step::Take(secs(2), Box::new(Step::Token(secs(100))))]);
    let mut status = tokens.subscribe();
    status.wait_for(Status::is_fetching).await.unwrap();
    assert_eq!(value(&tokens).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn f05_a_source_that_never_answers_is_given_up_and_asked_again() {
    let source = Script::tokens(HOUR);
    source.then([Step::Hang]);
    let tokens = TokenHandle::builder(source.clone()).wait(secs(60)).spawn();
    tokens.ready().await.unwrap();
    assert_eq!(source.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn f06_rty_01_retry_after_blocks_every_attempt_but_not_the_current_token() {
    let source = Script::tokens(secs(1000));
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    sleep(secs(700)).await;
    let throttled = |wait| {
        let error = Error::new(ErrorKind::Throttled, "slow down");
        Step::Fail(error.with_retry_at(Instant::now() + wait))
    };
    source.otherwise(throttled(secs(600)));
    // At the latest here the refresh point has passed.
    sleep(secs(160)).await;
    assert_eq!(source.count(), 2);
    assert!(served(&tokens));
    // Not even a call of `refresh()` gets through; it is told until when.
    let asked = Instant::now();
    let error = tokens.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.retry_at().unwrap() > Instant::now());
    assert!(asked.elapsed() < secs(1));
    // Nor the expiry of the token.
    sleep(secs(200)).await;
    assert!(!served(&tokens));
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Throttled);
    assert_eq!(source.count(), 2);
    source.otherwise(Step::Token(secs(1000)));
    sleep(secs(300)).await;
    assert_eq!(source.count(), 3);
    assert!(served(&tokens));
}

#[tokio::test(start_paused = true)]
async fn f06_rty_01_a_refresh_at_the_very_moment_that_the_server_named_is_made() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    sleep(secs(10)).await;
    let at = Instant::now() + secs(10);
    let error = Error::new(ErrorKind::Throttled, "slow down").with_retry_at(at);
    source.then([Step::Fail(error), Step::Take(secs(1), Box::new(Step::Token(HOUR)))]);
    assert_eq!(tokens.refresh().await.unwrap_err().retry_at(), Some(at));
    advance(at - Instant::now()).await;
    assert_eq!(Instant::now(), at);
    tokens.refresh().await.unwrap();
    assert_eq!(value(&tokens).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn f06_an_endless_retry_after_is_capped_at_an_hour() {
    let source = Script::tokens(HOUR);
    let error = Error::new(ErrorKind::Throttled, "come back in ten years");
    source.then([Step::Fail(error.with_retry_at(Instant::now() + HOUR * 24 * 3650))]);
    let tokens = TokenHandle::spawn(source.clone());
    sleep(secs(3500)).await;
    assert_eq!(source.count(), 1);
    sleep(secs(200)).await;
    assert_eq!(source.count(), 2);
    assert!(served(&tokens));
}

#[tokio::test(start_paused = true)]
async fn rty_02_the_pauses_grow_up_to_the_cap_and_start_over_after_a_success() {
    let source = Script::tokens(HOUR);
    source.otherwise(fail(ErrorKind::Server));
    let tokens = TokenHandle::spawn(source.clone());
    sleep(secs(600)).await;
    let times = source.times();
    for (n, pair) in times.windows(2).enumerate() {
        let pause = pair[1] - pair[0];
        let bound = secs(1 << n.min(5)).min(secs(30)) + Duration::from_millis(10);
        assert!(pause >= Duration::from_millis(499) && pause <= bound, "{n}: {pause:?}");
    }
    assert!(tokens.status().failures() > 10);
    source.then([Step::Token(HOUR)]);
    tokens.ready().await.unwrap();
    assert_eq!(tokens.status().failures(), 0);
    let before = source.count();
    tokens.reject(1);
    sleep(secs(2)).await;
    assert!(source.count() >= before + 2, "the first pause is short again");
}

#[tokio::test(start_paused = true)]
async fn f07_err_05_a_refusal_is_shared_cached_and_retried_slowly() {
    let source = Script::tokens(HOUR);
    source.otherwise(fail(ErrorKind::InvalidClient));
    let tokens = TokenHandle::spawn(source.clone());
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let tokens = tokens.clone();
        callers.spawn(async move { tokens.token().await.unwrap_err().kind() });
    }
    assert!(callers.join_all().await.iter().all(|kind| *kind == ErrorKind::InvalidClient));
    assert_eq!(source.count(), 1);
    assert_eq!(tokens.status().state(), State::Failed);
    assert!(tokens.status().error().unwrap().needs_user());
    sleep(secs(50)).await;
    assert_eq!(source.count(), 1);
    sleep(secs(11)).await;
    assert_eq!(source.count(), 2);
    // After that every 2, 4, 8 and then 10 minutes: an hour sees few.
    sleep(HOUR).await;
    assert!((6..=10).contains(&source.count()), "{}", source.count());
    // Once the secret is right, `refresh()` does not wait for the next attempt.
    source.otherwise(Step::Token(HOUR));
    tokens.refresh().await.unwrap();
    assert_eq!(tokens.status().state(), State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_was_mended_renewals_come_in_time_again() {
    let source = Script::new(fail(ErrorKind::InvalidClient));
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap_err();
    source.otherwise(Step::Token(secs(20)));
    tokens.refresh().await.unwrap();
    // The pause after the refusal was a minute; the token lives for a third of it.
    for _ in 0..50 {
        sleep(secs(1)).await;
        assert!(served(&tokens));
    }
    // The next refusal is the first again: it is not retried as slowly as a second one.
    source.otherwise(fail(ErrorKind::InvalidClient));
    sleep(secs(20)).await;
    let before = source.count();
    sleep(secs(62)).await;
    assert_eq!(source.count(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn rfr_06_an_ended_grant_is_reported_and_nothing_starts_by_itself() {
    let source = Script::tokens(secs(100));
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    source.otherwise(fail(ErrorKind::InvalidGrant));
    sleep(secs(99)).await;
    let error = tokens.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    assert!(error.needs_user());
    // The token set is kept: a source can still tell what it had.
    source.otherwise(Step::Token(secs(100)));
    tokens.refresh().await.unwrap();
    assert!(source.last().previous.is_some());
}

/// Every issued token is dead on arrival, or nearly, for two hours.
#[tokio::test(start_paused = true)]
async fn f11_f12_trs_06_tokens_without_a_life_are_fetched_at_a_steady_pace() {
    for (lifetime, least, most) in [(0, 14_100, 14_401), (5, 1_600, 2_100)] {
        let source = Script::tokens(secs(lifetime));
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        sleep(HOUR * 2).await;
        let count = source.count();
        assert!((least..=most).contains(&count), "{lifetime} s: {count}");
    }
}

#[tokio::test(start_paused = true)]
async fn trs_06_a_token_of_no_lifetime_serves_the_request_that_waited_for_it() {
    let source = Script::tokens(Duration::ZERO);
    let tokens = TokenHandle::spawn(source.clone());
    for _ in 0..100 {
        let before = source.count();
        value(&tokens).await;
        assert!(source.count() <= before + 1);
        sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn trs_04_a_token_of_unknown_lifetime_lasts_until_it_is_refused() {
    let source = Script::new(Step::TokenWithoutLifetime);
    let tokens = TokenHandle::builder(source.clone()).default_lifetime(HOUR * 24).spawn();
    tokens.ready().await.unwrap();
    sleep(HOUR * 8).await;
    assert_eq!(source.count(), 1);
    assert_eq!(tokens.reject(1), Rejection::Accepted);
    assert_eq!(value(&tokens).await, "token-2");
    assert_eq!(source.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn trs_09_f53_a_lifetime_counts_from_when_the_request_was_sent() {
    let source = Script::tokens(secs(100));
    source.then([Step::Take(secs(25), Box::new(Step::Token(secs(100))))]);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let left = tokens.status().expires_at().unwrap() - Instant::now();
    assert!((secs(69)..secs(71)).contains(&left), "{left:?}");
}

/// A source that had its token for a while gave it a new life with each fetch.
#[tokio::test(start_paused = true)]
async fn f53_a_lifetime_counts_from_before_the_fetch_if_the_token_was_asked_for_then() {
    let (long_ago, next) = (Instant::now(), AtomicUsize::new(0));
    advance(HOUR * 2).await;
    let earlier = Instant::now();
    advance(secs(60)).await;
    let tokens = TokenHandle::spawn(source_fn(move |_| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let sent_at = if number == 0 { long_ago } else { earlier };
        async move {
            let token = TokenSet::bearer(format!("token-{number}"))?;
            let token = if number == 0 { token } else { token.with_lifetime(secs(100)) };
            Ok::<_, Error>(token.with_sent_at(sent_at))
        }
    }));
    // The first had expired by the default lifetime, before it was here.
    assert_eq!(value(&tokens).await, "token-1");
    let left = tokens.status().expires_at().unwrap() - Instant::now();
    assert!((secs(34)..secs(36)).contains(&left), "{left:?}");
    let renewed_in = tokens.status().next_attempt().unwrap() - Instant::now();
    assert!((secs(10)..=secs(25)).contains(&renewed_in), "{renewed_in:?}");
}

#[tokio::test(start_paused = true)]
async fn f16_many_rejections_of_one_token_cause_one_fetch() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let rejections: Vec<_> = (0..1000).map(|_| tokens.reject(1)).collect();
    assert_eq!(rejections.iter().filter(|r| **r == Rejection::Accepted).count(), 1);
    assert!(!served(&tokens), "no request that starts after the rejection carries the token");
    assert_eq!(value(&tokens).await, "token-2");
    assert_eq!(source.count(), 2);
    assert_eq!(source.last().reason, FetchReason::Rejected);
}

#[tokio::test(start_paused = true)]
async fn f17_f75_endless_rejections_cause_ever_fewer_fetches() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let start = Instant::now();
    while start.elapsed() < secs(600) {
        let epoch = tokens.token().await.unwrap().epoch();
        tokens.reject(epoch);
        sleep(Duration::from_millis(1)).await;
    }
    // At 0, 2, 6, 14, 30, 62, 126, 254 and 510 s.
    assert_eq!(source.count(), 1 + 9);
}

#[tokio::test(start_paused = true)]
async fn f18_a_late_rejection_of_an_older_token_changes_nothing() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    tokens.refresh().await.unwrap();
    assert_eq!(tokens.reject(1), Rejection::Superseded);
    assert_eq!(tokens.reject(99), Rejection::Superseded);
    settle().await;
    assert_eq!(value(&tokens).await, "token-2");
    assert_eq!(source.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_during_a_renewal_does_not_cause_a_second_fetch() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    source.then([Step::Take(secs(2), Box::new(Step::Token(HOUR)))]);
    let mut status = tokens.subscribe();
    status.wait_for(Status::is_fetching).await.unwrap();
    tokens.reject(1);
    assert_eq!(value(&tokens).await, "token-2");
    assert_eq!(source.count(), 2);
}

/// Once the refresher took a rejection that met the end of a fetch for one of the new token, and
/// fetched again.
#[tokio::test(start_paused = true)]
async fn f18_a_rejection_that_meets_the_end_of_a_fetch_does_not_cause_another() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    source.then([Step::Take(secs(2), Box::new(Step::Token(HOUR)))]);
    let refresh = tokio::spawn({
        let tokens = tokens.clone();
        async move { tokens.refresh().await.map(drop) }
    });
    let mut status = tokens.subscribe();
    status.wait_for(Status::is_fetching).await.unwrap();
    settle().await;
    sleep(secs(2)).await;
    assert_eq!(tokens.reject(1), Rejection::Accepted);
    refresh.await.unwrap().unwrap();
    sleep(secs(5)).await;
    assert_eq!(source.count(), 2);
    assert_eq!(value(&tokens).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn f22_rfr_07_a_caller_that_goes_away_loses_nothing_for_anybody() {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(secs(5), Box::new(Step::Token(HOUR)))]);
    let tokens = TokenHandle::spawn(source.clone());
    let patient = tokio::spawn({
        let tokens = tokens.clone();
        async move { value(&tokens).await }
    });
    for polls in 0..5 {
        let mut caller = Box::pin(tokens.token());
        let mut refresh = Box::pin(tokens.refresh());
        for _ in 0..polls {
            assert!(tokio_test::task::spawn(&mut caller).poll().is_pending());
            assert!(tokio_test::task::spawn(&mut refresh).poll().is_pending());
            settle().await;
        }
    }
    assert_eq!(patient.await.unwrap(), "token-1");
    // What the dropped callers of `refresh()` asked for is one fetch, and it happens.
    sleep(secs(10)).await;
    assert_eq!(source.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn f24_beyond_the_bound_callers_fail_fast_and_the_others_share_one_error() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::builder(source.clone()).max_waiting(10_000).spawn();
    tokens.ready().await.unwrap();
    source.otherwise(Step::Take(secs(1), Box::new(fail(ErrorKind::Server))));
    tokens.reject(1);
    settle().await;
    let mut callers = JoinSet::new();
    for _ in 0..100_000 {
        let tokens = tokens.clone();
        callers.spawn(async move { tokens.token().await.unwrap_err().kind() });
    }
    let kinds = callers.join_all().await;
    let of = |kind| kinds.iter().filter(|k| **k == kind).count();
    assert_eq!(of(ErrorKind::Timeout), 10_000);
    assert_eq!(of(ErrorKind::Overloaded), 90_000);
    assert!(source.count() < 20, "{}: those of the back-off", source.count());
    // Every place was given back.
    source.otherwise(Step::Token(HOUR));
    timeout(secs(60), async {
        while tokens.token().await.is_err() {
            sleep(secs(1)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn f25_a_panic_in_a_source_or_an_observer_is_a_failure_like_any_other() {
    let source = Script::tokens(HOUR);
    source.then([Step::Panic, Step::Panic]);
    let tokens = TokenHandle::builder(source.clone())
        .observer(|_: &Event<'_>| panic!("scripted panic"))
        .spawn();
    let mut status = tokens.subscribe();
    let failed = status.wait_for(|s| s.failures() == 1).await.unwrap().clone();
    assert_eq!(failed.error().unwrap().kind(), ErrorKind::Panic);
    tokens.ready().await.unwrap();
    assert_eq!(source.count(), 3);
}

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
    // One caller is there before, and one after the end.
    let waiting = second.spawn({
        let tokens = tokens.clone();
        async move {
            let mut status = tokens.subscribe();
            status.wait_for(|s| s.state() == State::Stopped).await.unwrap();
            tokens.token().await.unwrap_err().kind()
        }
    });
    drop(first);
    second.block_on(async {
        assert_eq!(waiting.await.unwrap(), ErrorKind::Shutdown);
        assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Shutdown);
        assert!(!served(&tokens), "nobody would take an expired token out any more");
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
    assert!(matches!(now(&tokens), std::task::Poll::Ready(Ok(()))));
    tokens.reject(1);
    let std::task::Poll::Ready(Err(error)) = now(&tokens) else { panic!("it does not wait") };
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
async fn f12_however_often_a_refresh_is_asked_for_fetches_keep_their_pace() {
    for (lifetime, pace) in [(HOUR, 500), (secs(4), 200), (secs(1), 100)] {
        let source = Script::tokens(lifetime);
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        let (start, most) = (Instant::now(), 20_000 / pace + 2);
        // Without a pace no time passes.
        while start.elapsed() < secs(20) && source.count() <= most {
            tokens.refresh().await.unwrap();
        }
        assert!(source.count() <= most, "{lifetime:?}: {} fetches", source.count());
        assert!(source.count() > most / 2, "{lifetime:?}: {} fetches", source.count());
    }
}

/// The status said "expired" until the next attempt, minutes later.
#[tokio::test(start_paused = true)]
async fn f07_f08_what_somebody_has_to_mend_is_said_as_soon_as_the_token_is_gone() {
    for reject in [false, true] {
        let source = Script::tokens(secs(100));
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        source.otherwise(fail(ErrorKind::InvalidGrant));
        sleep(secs(90)).await;
        assert_eq!(tokens.status().state(), State::Due);
        if reject {
            assert_eq!(tokens.reject(1), Rejection::Accepted);
        } else {
            sleep(secs(6)).await;
        }
        assert_eq!(tokens.status().state(), State::Failed);
    }
}

#[tokio::test(start_paused = true)]
async fn f28_after_a_week_of_failures_it_recovers_within_one_cap() {
    let source = Script::tokens(HOUR);
    source.otherwise(fail(ErrorKind::Transport));
    let tokens = TokenHandle::spawn(source.clone());
    sleep(HOUR * 24 * 7).await;
    let tried = source.count();
    assert!(tried > 20_000, "{tried}");
    source.otherwise(Step::Token(HOUR));
    sleep(secs(31)).await;
    assert!(served(&tokens));
    assert_eq!(source.count(), tried + 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_leaves_the_current_token_in_use() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    source.then([fail(ErrorKind::MalformedResponse)]);
    assert_eq!(tokens.refresh().await.unwrap_err().kind(), ErrorKind::MalformedResponse);
    assert_eq!(value(&tokens).await, "token-1");
    assert!(tokens.status().is_ready());
    assert_eq!(tokens.status().failures(), 1);
    assert_eq!(tokens.refresh().await.unwrap().epoch(), 2);
    assert_eq!(source.last().reason, FetchReason::Requested);
}

/// The answer to a requested refresh was lost. The next attempt came only when the current token was
/// due, and the server no longer took the refresh token that the lost answer had replaced.
#[tokio::test(start_paused = true)]
async fn rfr_08_a_requested_refresh_that_fails_is_tried_again_soon_and_a_refused_one_is_not() {
    for (kind, fetches) in [(ErrorKind::Transport, 3), (ErrorKind::InvalidGrant, 2)] {
        let source = Script::tokens(HOUR);
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        source.then([fail(kind)]);
        tokens.refresh().await.unwrap_err();
        assert_eq!(value(&tokens).await, "token-1");
        sleep(secs(2)).await;
        assert_eq!(source.count(), fetches, "{kind:?}");
        // And then at ease again.
        sleep(secs(1800)).await;
        assert_eq!(source.count(), fetches, "{kind:?}");
    }
}

/// "For ever" overflowed: a token of such a lifetime was taken for expired, and such a wait for one
/// panicked.
#[tokio::test(start_paused = true)]
async fn f50_durations_without_end_are_long_ones() {
    let source = Script::tokens(Duration::MAX);
    let tokens = TokenHandle::builder(source.clone())
        .default_lifetime(Duration::MAX)
        .max_margin(Duration::MAX)
        .fetch_timeout(Duration::MAX)
        .wait(Duration::MAX)
        .rejection_interval(Duration::MAX)
        .spawn();
    assert_eq!(tokens.token().await.unwrap().epoch(), 1);
    sleep(secs(86400 * 30)).await;
    assert!(served(&tokens) && tokens.status().expires_at().is_some());
    source.then([Step::TokenWithoutLifetime]);
    assert_eq!(tokens.refresh().await.unwrap().epoch(), 2);
    assert!(served(&tokens));
    assert_eq!(source.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_during_a_fetch_is_a_fetch_of_its_own() {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(secs(1), Box::new(Step::Token(HOUR)))]);
    let tokens = TokenHandle::spawn(source.clone());
    settle().await;
    assert_eq!(tokens.refresh().await.unwrap().epoch(), 2);
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

#[tokio::test(start_paused = true)]
async fn trs_08_a_token_is_not_used_before_it_may_be() {
    let source = source_fn(|_| async {
        let token = TokenSet::bearer("early")?;
        Ok(token.with_lifetime(HOUR).with_usable_in(secs(7)))
    });
    let tokens = TokenHandle::spawn(source);
    let start = Instant::now();
    tokens.ready().await.unwrap();
    assert!((secs(7)..secs(8)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

mod time {
    use super::*;
    use crate::common::clock::TestClock;

    fn spawn(source: &Script) -> (TokenHandle, TestClock) {
        let clock = TestClock::new();
        let tokens = TokenHandle::builder(source.clone()).clock(clock.clone()).spawn();
        (tokens, clock)
    }

    #[tokio::test(start_paused = true)]
    async fn f49_after_a_sleep_the_next_request_gets_a_new_token() {
        let source = Script::tokens(HOUR);
        let (tokens, clock) = spawn(&source);
        tokens.ready().await.unwrap();
        clock.sleep_machine(HOUR * 2);
        assert!(!served(&tokens));
        assert_eq!(value(&tokens).await, "token-2");
        assert_eq!(source.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn f49_f51_the_refresher_acts_within_half_a_minute_of_waking() {
        let source = Script::tokens(HOUR);
        let (tokens, clock) = spawn(&source);
        tokens.ready().await.unwrap();
        clock.sleep_machine(HOUR * 2);
        sleep(secs(31)).await;
        assert_eq!(source.count(), 2, "once, and not once for each tick missed");
        assert!(served(&tokens));
    }

    #[tokio::test(start_paused = true)]
    async fn f50_a_step_of_the_wall_clock_causes_at_most_one_early_refresh() {
        for step in [-1, 1, -3600, 3600, -315_360_000, 315_360_000] {
            let source = Script::tokens(HOUR * 10);
            let (tokens, clock) = spawn(&source);
            tokens.ready().await.unwrap();
            clock.set_wall(step);
            let start = Instant::now();
            while start.elapsed() < HOUR {
                tokens.token().await.unwrap();
                sleep(secs(10)).await;
            }
            let expected = if step.abs() > 30 { 2 } else { 1 };
            assert_eq!(source.count(), expected, "a step of {step} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f50_a_wall_clock_set_back_does_not_keep_a_token_alive() {
        let source = Script::tokens(HOUR);
        let (tokens, clock) = spawn(&source);
        tokens.ready().await.unwrap();
        source.otherwise(fail(ErrorKind::Server));
        clock.set_wall(-86_400);
        sleep(secs(3596)).await;
        assert!(!served(&tokens));
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_the_life_of_a_token() {
    let source = Script::tokens(secs(100));
    let tokens = TokenHandle::spawn(source.clone());
    assert_eq!(tokens.status().state(), State::Empty);
    tokens.ready().await.unwrap();
    settle().await;
    let status = tokens.status();
    assert_eq!((status.state(), status.epoch()), (State::Fresh, 1));
    let next = status.next_attempt().unwrap() - status.obtained_at().unwrap();
    assert!((secs(75)..=secs(85)).contains(&next), "{next:?}");
    source.otherwise(fail(ErrorKind::Server));
    advance(secs(86)).await;
    settle().await;
    let status = tokens.status();
    assert_eq!(status.state(), State::Due);
    assert!(status.is_ready() && status.failures() > 0 && status.error().is_some());
    sleep(secs(20)).await;
    assert_eq!(tokens.status().state(), State::Expired);
    assert!(!format!("{tokens:?}").contains("token-1"));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_is_told_of_what_changes_and_of_nothing_else() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    let mut status = tokens.subscribe();
    tokens.ready().await.unwrap();
    settle().await;
    status.borrow_and_update();
    // The clocks are compared every half minute; that is no news.
    sleep(secs(1800)).await;
    assert!(!status.has_changed().unwrap());

    source.then([fail(ErrorKind::Server), Step::Take(secs(1), Box::new(fail(ErrorKind::Server)))]);
    let started = Instant::now();
    let failed = status.wait_for(|s| s.failures() == 1 && s.next_attempt().is_some());
    let next = failed.await.unwrap().next_attempt().unwrap();
    let told = Instant::now();
    assert!(told - started < secs(1300) && next > told && next - told <= secs(30));
    settle().await;
    let during = tokens.status().next_attempt().unwrap();
    assert!(during + Duration::from_millis(50) > next, "the pause is forgotten");
    // Not only when something else is told as well, and not too late.
    let second = status.wait_for(Status::is_fetching).await.unwrap().clone();
    assert_eq!((second.next_attempt(), second.failures()), (None, 1));
    assert!(next.saturating_duration_since(Instant::now()) < Duration::from_millis(50));
    status.wait_for(|s| s.failures() == 0 && s.next_attempt().is_some()).await.unwrap();
    assert_eq!(tokens.status().epoch(), 2);
}

/// Whoever looks on another thread may see it at any time.
#[tokio::test(start_paused = true)]
async fn when_a_token_is_told_the_status_says_already_when_it_is_due() {
    let source = Script::tokens(HOUR);
    // It was asked for when the fetch began, ten seconds before it is here.
    source.then([Step::Take(secs(10), Box::new(Step::Token(HOUR)))]);
    let handle = Arc::new(OnceLock::<TokenHandle>::new());
    let due_in = Arc::new(Mutex::new(None));
    let observer = {
        let (handle, due_in) = (handle.clone(), due_in.clone());
        move |event: &Event<'_>| {
            if let Event::Obtained { .. } = event {
                let next = handle.get().unwrap().status().next_attempt().unwrap();
                *due_in.lock().unwrap() = next.checked_duration_since(Instant::now());
            }
        }
    };
    let tokens = TokenHandle::builder(source).observer(observer).spawn();
    handle.set(tokens.clone()).unwrap();
    tokens.ready().await.unwrap();
    let due_in = due_in.lock().unwrap().expect("it is due later");
    assert!((secs(2690)..=secs(3050)).contains(&due_in), "{due_in:?}");
}

#[tokio::test(start_paused = true)]
async fn while_a_token_is_fetched_nobody_is_told_again_of_what_is_the_same() {
    let source = Script::tokens(HOUR);
    source.then([Step::Take(secs(20), Box::new(Step::Token(HOUR)))]);
    let tokens = TokenHandle::spawn(source);
    settle().await;
    let mut status = tokens.subscribe();
    assert!(status.borrow_and_update().is_fetching());
    // Each of them makes the refresher look again, and none needs to be woken for it.
    let waiting: JoinSet<_> = (0..10)
        .map(|_| {
            let tokens = tokens.clone();
            async move { value(&tokens).await }
        })
        .collect();
    settle().await;
    sleep(secs(1)).await;
    assert!(!status.has_changed().unwrap());
    waiting.join_all().await;
}
