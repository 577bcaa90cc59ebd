//! What requests see while tokens come and go, and that the refresher never stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep, timeout},
};
use tower_oauth::{
    Error, ErrorKind, Rejection, State, Status, TokenHandle, TokenSet,
    observe::{Event, FetchReason},
    source_fn,
};

use crate::{
    HOUR,
    common::script::{Script, Step, fail},
    secs, served, settle, value,
};

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
    let tokens = TokenHandle::builder(source.clone()).wait(secs(90)).spawn();
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
    for (lifetime, least, most) in [(1, 8_000, 14_401), (5, 1_900, 2_500)] {
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

/// "For ever" overflowed: a token of such a lifetime was taken for expired, and such a wait for one
/// panicked.
#[tokio::test(start_paused = true)]
async fn f50_durations_without_end_are_long_ones() {
    let source = Script::tokens(Duration::MAX);
    let tokens = TokenHandle::builder(source.clone())
        .default_lifetime(Duration::MAX)
        .max_margin(Duration::MAX)
        .unwrap()
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
