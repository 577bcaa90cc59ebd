//! How long the refresher waits after a failure.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_oauth::{
    Error, ErrorKind, Rejection, State, TokenHandle, TokenSet, source::StepUp, source_fn,
};

use crate::{
    HOUR,
    common::script::{Script, Step, fail},
    secs, served, value,
};

#[tokio::test(start_paused = true)]
async fn f06_f67_rty_01_retry_after_blocks_attempts_while_no_token_is_held() {
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
    // A call of `refresh()` gets through; it is told what the server said.
    let error = tokens.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.retry_at().unwrap() > Instant::now());
    assert_eq!(source.count(), 3);
    sleep(secs(200)).await;
    assert!(!served(&tokens));
    // It was tried before the token expired, and then no more.
    let count = source.count();
    assert!((4..14).contains(&count), "{count}");
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Throttled);
    sleep(secs(200)).await;
    assert_eq!(source.count(), count);
    source.otherwise(Step::Token(secs(1000)));
    sleep(secs(100)).await;
    assert_eq!(source.count(), count + 1);
    assert!(served(&tokens));
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
async fn f12_however_often_a_refresh_is_asked_for_fetches_keep_their_pace() {
    for lifetime in [HOUR, secs(4), secs(1)] {
        let source = Script::tokens(lifetime);
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        let (start, most) = (Instant::now(), 22);
        // Once a second. Without a pace no time passes.
        while start.elapsed() < secs(20) && source.count() <= 2 * most {
            tokens.refresh().await.unwrap();
        }
        let count = source.count();
        assert!((most / 2..=most).contains(&count), "{lifetime:?}: {count} fetches");
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

// One refusal, of an ingress, cost an outage of 47 s for a token of a minute: the pause was longer
// than what was left of the token.
#[tokio::test(start_paused = true)]
async fn f67_one_failure_at_the_first_renewal_takes_the_token_from_nobody() {
    for life in [60, 120, 300, 3600] {
        for kind in [ErrorKind::InvalidClient, ErrorKind::Denied, ErrorKind::Throttled] {
            let source = Script::tokens(secs(life));
            let error = Error::new(kind, "an ingress");
            let error = match kind {
                ErrorKind::Throttled => error.with_retry_at(Instant::now() + HOUR * 2),
                _ => error,
            };
            source.then([Step::Token(secs(life)), Step::Fail(error)]);
            let tokens = TokenHandle::spawn(source.clone());
            tokens.ready().await.unwrap();
            let start = Instant::now();
            while start.elapsed() < secs(2 * life) {
                assert!(served(&tokens), "{life} s, {kind}: {:?}", start.elapsed());
                sleep(secs(1)).await;
            }
            assert!((3..=5).contains(&source.count()), "{life} s, {kind}: {}", source.count());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f67_an_attempt_is_made_before_the_token_expires_whatever_was_said() {
    for kind in [ErrorKind::InvalidClient, ErrorKind::Throttled] {
        let source = Script::tokens(HOUR);
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        let expires = tokens.status().expires_at().unwrap();
        let later = Instant::now() + HOUR * 24;
        source.otherwise(Step::Fail(Error::new(kind, "no").with_retry_at(later)));
        sleep(secs(3600)).await;
        let times: Vec<_> = source.times().into_iter().filter(|at| *at < expires).collect();
        let last = *times.last().unwrap();
        assert!(expires - last <= secs(2), "{kind}: {:?}", expires - last);
        assert!(times.len() <= 14, "{kind}: {}", times.len());
        for pair in times.windows(2).skip(1) {
            let (pause, tick) = (pair[1] - pair[0], Duration::from_millis(5));
            assert!(pause <= ((expires - pair[0]) / 2).max(secs(1)) + tick, "{kind}: {pause:?}");
            assert!(pause + tick >= secs(1), "{kind}: {pause:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f67_a_refresh_that_is_asked_for_ends_a_pause_once() {
    let source = Script::tokens(HOUR);
    let later = Instant::now() + HOUR;
    source.then([Step::Fail(Error::new(ErrorKind::Throttled, "later").with_retry_at(later))]);
    let tokens = TokenHandle::spawn(source.clone());
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Throttled);
    source.otherwise(fail(ErrorKind::InvalidClient));
    let start = Instant::now();
    for call in 0..10 {
        assert_eq!(tokens.refresh().await.unwrap_err().kind(), ErrorKind::InvalidClient);
        assert!(start.elapsed() >= secs(1) * call, "calls are kept a second apart");
    }
    assert!(start.elapsed() < secs(11));
    assert_eq!(source.count(), 11);
    // Many at once share one.
    let callers: JoinSet<_> = (0..100)
        .map(|_| {
            let tokens = tokens.clone();
            async move { tokens.refresh().await.map(drop) }
        })
        .collect();
    assert!(callers.join_all().await.iter().all(Result::is_err));
    assert!(source.count() <= 13, "{}", source.count());
    source.otherwise(Step::Token(HOUR));
    tokens.refresh().await.unwrap();
}

// 60 fetches in 30 s, each a success, and callers timed out without a cause.
#[tokio::test(start_paused = true)]
async fn f68_a_token_that_has_expired_when_it_arrives_is_a_failure_with_a_cause() {
    let fetches = Arc::new(AtomicUsize::new(0));
    let count = fetches.clone();
    let tokens = TokenHandle::spawn(source_fn(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            let sent = Instant::now() - secs(120);
            Ok(TokenSet::bearer("t")?.with_lifetime(secs(60)).with_sent_at(sent))
        }
    }));
    sleep(secs(200)).await;
    let error = tokens.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let cause = Error::find(std::error::Error::source(&error).unwrap()).unwrap();
    assert_eq!(cause.kind(), ErrorKind::UnusableToken);
    assert!(cause.to_string().contains("had expired when it arrived"), "{cause}");
    let status = tokens.status();
    assert!(status.failures() > 3 && !status.is_ready());
    let count = fetches.load(Ordering::Relaxed);
    assert!((5..40).contains(&count), "{count} fetches in 230 s");
}

#[tokio::test(start_paused = true)]
async fn f69_a_lifetime_of_nothing_is_not_said_and_an_idle_hour_makes_one_request() {
    let source = Script::tokens(Duration::ZERO);
    let tokens = TokenHandle::builder(source.clone()).default_lifetime(HOUR * 2).spawn();
    tokens.ready().await.unwrap();
    sleep(HOUR).await;
    assert_eq!(source.count(), 1);
    assert_eq!(tokens.reject(1), Rejection::Accepted);
    assert_eq!(value(&tokens).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn f50_huge_times_of_a_source_end_nothing() {
    for refresh_in in [Duration::MAX, Duration::from_secs(u64::MAX - 1)] {
        let tokens = TokenHandle::builder(source_fn(move |_| async move {
            let token = TokenSet::bearer("t")?.with_lifetime(Duration::MAX);
            Ok(token.with_refresh_in(refresh_in))
        }))
        .max_margin(Duration::from_secs((1 << 62) - 1))
        .unwrap()
        .spawn();
        value(&tokens).await;
        sleep(HOUR * 24).await;
        assert!(served(&tokens));
    }
}

#[tokio::test(start_paused = true)]
async fn f67_a_short_lived_token_is_tried_again_before_it_expires() {
    for life in [8, 10, 15] {
        for _ in 0..20 {
            let source = Script::tokens(secs(life));
            source.then([Step::Token(secs(life)), fail(ErrorKind::InvalidClient)]);
            let tokens = TokenHandle::spawn(source.clone());
            tokens.ready().await.unwrap();
            let start = Instant::now();
            while start.elapsed() < secs(life) * 2 {
                assert!(served(&tokens), "{life} s, after {:?}", start.elapsed());
                sleep(secs(1) / 20).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f70_a_step_up_that_is_not_fetched_in_time_says_why() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let error = Error::new(ErrorKind::Throttled, "later").with_retry_at(Instant::now() + HOUR);
    source.then([Step::Take(secs(2), Box::new(Step::Fail(error)))]);
    let refreshing = tokens.clone();
    tokio::spawn(async move { refreshing.refresh().await.map(drop) });
    sleep(secs(1)).await;
    let error = tokens.step_up(1, StepUp::claims("{}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let cause = Error::find(std::error::Error::source(&error).unwrap()).unwrap();
    assert_eq!(cause.kind(), ErrorKind::Throttled);
    assert!(error.retry_at().is_some());
}
