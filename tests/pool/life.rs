//! A tenant's life: created by its first request, renewed while it is used, dropped when it is not.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower_oauth::{
    Error, ErrorKind, Rejection, State, TokenPool, TokenSet,
    observe::{Event, FetchReason},
    source_fn,
};

use crate::{
    common::script::{Step, fail},
    source::{HOUR, Scripts, secs, settle, value},
};

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_of_ten_tenants_make_ten_fetches() {
    let scripts = Scripts::<u32>::new(Step::Take(secs(1), Box::new(Step::Token(HOUR))));
    let pool = scripts.spawn();
    let mut callers = JoinSet::new();
    for n in 0..1000 {
        let pool = pool.clone();
        callers.spawn(async move { (n % 10, value(&pool, &(n % 10)).await) });
    }
    for (key, token) in callers.join_all().await {
        assert_eq!(token, format!("{key}/token-1"));
    }
    assert_eq!(scripts.count(), 10);
    assert_eq!(scripts.gauge().made.load(Ordering::Relaxed), 10, "a source each");
    assert_eq!(pool.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn f18_a_token_that_is_given_again_keeps_its_number_and_its_age() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.spawn();
    let token = pool.token(&1).await.unwrap();
    let obtained = pool.status(&1).unwrap().obtained_at();
    scripts.of(&1).otherwise(Step::Again(HOUR));
    sleep(secs(3100)).await;
    assert_eq!(scripts.count(), 2);
    let status = pool.status(&1).unwrap();
    assert_eq!((status.epoch(), status.obtained_at()), (token.epoch(), obtained));
    assert_eq!(pool.reject(&1, token.epoch()), Rejection::Accepted);
    // Given once more after that, it is the next one for whoever waits.
    assert!(pool.token(&1).await.unwrap().epoch() > token.epoch());
}

#[tokio::test(start_paused = true)]
async fn a_tenant_in_use_is_renewed_before_its_token_expires_and_never_waits() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.spawn();
    value(&pool, &1).await;
    for _ in 0..10 * 60 {
        sleep(secs(60)).await;
        assert!(pool.current(&1).is_some());
    }
    // Ten hours, each token renewed after 75 to 85 % of its hour.
    let times = scripts.of(&1).times();
    assert!((12..=14).contains(&times.len()), "{}", times.len());
    for pair in times.windows(2) {
        let life = pair[1] - pair[0];
        assert!((secs(2700)..=secs(3061)).contains(&life), "{life:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f53_a_lifetime_counts_from_before_the_fetch_if_the_token_was_asked_for_then() {
    let start = Instant::now();
    sleep(secs(60)).await;
    let fetches = Arc::new(AtomicUsize::new(0));
    let count = fetches.clone();
    let pool = TokenPool::builder(move |_: &u32| {
        let count = count.clone();
        source_fn(move |_| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            // The first has expired before it is here.
            let lifetime = if number == 0 { secs(50) } else { secs(100) };
            async move {
                let token = TokenSet::bearer(format!("token-{number}"))?;
                Ok::<_, Error>(token.with_lifetime(lifetime).with_sent_at(start))
            }
        })
    });
    let pool = pool.spawn();
    assert_eq!(value(&pool, &1).await, "token-1");
    let left = pool.status(&1).unwrap().expires_at().unwrap() - Instant::now();
    assert!((secs(33)..=secs(36)).contains(&left), "{left:?}");
    assert_eq!(fetches.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_nobody_used_is_not_renewed() {
    let scripts = Scripts::<u32>::tokens(secs(1000));
    let pool = scripts.spawn();
    value(&pool, &1).await;
    sleep(secs(900)).await;
    assert_eq!(scripts.count(), 2, "the first was used");
    sleep(secs(2000)).await;
    assert_eq!(scripts.count(), 2, "the second was not");
    assert!(pool.current(&1).is_none(), "it ran out");
    assert_eq!(pool.status(&1).unwrap().state(), State::Expired);
    assert_eq!(value(&pool, &1).await, "1/token-3");
    assert_eq!(scripts.of(&1).last().reason, FetchReason::Expired);
    assert!(scripts.of(&1).last().previous.is_some(), "its refresh token was kept");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_used_after_its_refresh_point_is_renewed_behind_the_request() {
    let scripts = Scripts::<u32>::tokens(secs(1000));
    let pool = scripts.spawn();
    value(&pool, &1).await;
    // The second token is obtained at 750 to 850 s, and its refresh point is past by 1 700 s.
    sleep(secs(1720)).await;
    assert_eq!(scripts.count(), 2);
    assert_eq!(value(&pool, &1).await, "1/token-2", "no wait");
    settle().await;
    assert_eq!(scripts.count(), 3);
    assert_eq!(scripts.of(&1).last().reason, FetchReason::Due);
    assert_eq!(value(&pool, &1).await, "1/token-3");
}

#[tokio::test(start_paused = true)]
async fn an_idle_tenant_is_dropped_and_starts_anew() {
    let scripts = Scripts::<u32>::tokens(HOUR * 24);
    let pool = scripts.builder().idle_timeout(secs(600)).spawn();
    value(&pool, &1).await;
    value(&pool, &2).await;
    for _ in 0..20 {
        sleep(secs(60)).await;
        assert!(pool.current(&2).is_some());
    }
    assert!(pool.status(&1).is_none());
    assert_eq!(pool.len(), 1);
    assert_eq!(value(&pool, &1).await, "1/token-2");
    assert!(scripts.of(&1).last().previous.is_none());
    assert_eq!(scripts.gauge().made.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failing_tenant_is_tried_again_only_while_somebody_asks() {
    let scripts = Scripts::<u32>::tokens(secs(100));
    let pool = scripts.builder().idle_timeout(HOUR * 24).spawn();
    value(&pool, &1).await;
    scripts.of(&1).otherwise(fail(ErrorKind::Server));
    sleep(secs(200)).await;
    let error = pool.token(&1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let tried = scripts.count();
    sleep(HOUR).await;
    assert!(scripts.count() <= tried + 1, "nobody asked: {} after {tried}", scripts.count());
    // Callers during a pause wait, and count as interest.
    let tried = scripts.count();
    let start = Instant::now();
    while start.elapsed() < secs(600) {
        let asked = Instant::now();
        assert_eq!(pool.token(&1).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(asked.elapsed(), secs(30));
        sleep(Duration::from_millis(100)).await;
    }
    let attempts = scripts.count() - tried;
    assert!((20..=200).contains(&attempts), "{attempts} in ten minutes");
    // And it recovers within one pause.
    scripts.of(&1).otherwise(Step::Token(HOUR));
    value(&pool, &1).await;
}

#[tokio::test(start_paused = true)]
async fn f01_the_first_token_is_waited_for_through_failures_that_may_pass() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    scripts.of(&1).then([fail(ErrorKind::Transport), fail(ErrorKind::Server), Step::Panic]);
    let pool = scripts.spawn();
    assert_eq!(value(&pool, &1).await, "1/token-1");
    scripts.of(&2).otherwise(fail(ErrorKind::Transport));
    let start = Instant::now();
    let error = pool.token(&2).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed()), (ErrorKind::Timeout, secs(30)));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("scripted failure"));
}

#[tokio::test(start_paused = true)]
async fn a_tenants_status_names_its_token() {
    let pool = Scripts::<u32>::new(Step::Token(secs(100))).spawn();
    let mut last = 0;
    for _ in 0..3 {
        let epoch = pool.token(&1).await.unwrap().epoch();
        assert!(epoch > last);
        assert_eq!(pool.status(&1).unwrap().epoch(), epoch);
        last = epoch;
        sleep(secs(90)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f07_what_somebody_has_to_mend_fails_at_once_and_slowly() {
    let scripts = Scripts::<u32>::new(fail(ErrorKind::InvalidClient));
    let pool = scripts.spawn();
    let start = Instant::now();
    while start.elapsed() < HOUR {
        assert_eq!(pool.token(&1).await.unwrap_err().kind(), ErrorKind::InvalidClient);
        sleep(secs(1)).await;
    }
    assert!((6..=12).contains(&scripts.count()), "{}", scripts.count());
    let status = pool.status(&1).unwrap();
    assert_eq!(status.state(), State::Failed);
    assert!(status.failures() >= 6 && status.next_attempt().unwrap() > Instant::now());
    // Once it is mended, forgetting the tenant ends the pause.
    scripts.of(&1).otherwise(Step::Token(HOUR));
    assert!(pool.remove(&1));
    value(&pool, &1).await;
}

#[tokio::test(start_paused = true)]
async fn f06_rty_01_retry_after_is_kept_for_the_tenant_it_was_said_to() {
    let scripts = Scripts::<u32>::tokens(secs(1000));
    let pool = scripts.spawn();
    let throttled =
        Error::new(ErrorKind::Throttled, "slow down").with_retry_at(Instant::now() + secs(600));
    scripts.of(&1).then([Step::Fail(throttled)]);
    let other = value(&pool, &2).await;
    assert_eq!(other, "2/token-1");
    // A wait would be in vain: the caller is told so at once.
    let asked = Instant::now();
    assert_eq!(pool.token(&1).await.unwrap_err().kind(), ErrorKind::Throttled);
    assert!(asked.elapsed() < secs(1));
    sleep(secs(590)).await;
    assert_eq!(scripts.of(&1).count(), 1);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { value(&pool, &1).await }
    });
    assert_eq!(waiting.await.unwrap(), "1/token-1");
    assert_eq!(scripts.of(&1).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn f16_f17_rejections_are_exact_per_tenant_and_have_a_floor() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.spawn();
    let first = [pool.token(&1).await.unwrap(), pool.token(&2).await.unwrap()];
    assert_ne!(first[0].epoch(), first[1].epoch(), "epochs are of the whole pool");
    assert_eq!(pool.reject(&1, first[1].epoch()), Rejection::Superseded);
    assert_eq!(pool.reject(&3, first[0].epoch()), Rejection::Superseded);
    let rejections: Vec<_> = (0..1000).map(|_| pool.reject(&1, first[0].epoch())).collect();
    assert_eq!(rejections.iter().filter(|r| **r == Rejection::Accepted).count(), 1);
    assert!(pool.current(&1).is_none() && pool.current(&2).is_some());
    assert_eq!(value(&pool, &1).await, "1/token-2");
    assert_eq!(scripts.of(&1).last().reason, FetchReason::Rejected);
    assert_eq!((scripts.of(&1).count(), scripts.of(&2).count()), (2, 1));

    let start = Instant::now();
    while start.elapsed() < secs(600) {
        let epoch = pool.token(&1).await.unwrap().epoch();
        pool.reject(&1, epoch);
        // Another tenant's rejections have a floor of their own.
        let epoch = pool.token(&2).await.unwrap().epoch();
        pool.reject(&2, epoch);
        sleep(Duration::from_millis(10)).await;
    }
    // At 0, 2, 6, 14, 30, 62, 126, 254 and 510 s; the first tenant's had begun before.
    assert_eq!((scripts.of(&1).count(), scripts.of(&2).count()), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn f18_a_late_rejection_does_not_reach_a_tenant_that_came_later() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.spawn();
    let old = pool.token(&1).await.unwrap().epoch();
    assert!(pool.remove(&1));
    assert!(!pool.remove(&1));
    assert!(pool.current(&1).is_none());
    value(&pool, &1).await;
    assert_eq!(pool.reject(&1, old), Rejection::Superseded);
    assert!(pool.current(&1).is_some());
}

#[tokio::test(start_paused = true)]
async fn f22_a_caller_that_goes_away_loses_nothing_for_anybody() {
    let scripts = Scripts::<u32>::new(Step::Take(secs(5), Box::new(Step::Token(HOUR))));
    let pool = scripts.builder().max_waiting(3).spawn();
    let patient = tokio::spawn({
        let pool = pool.clone();
        async move { value(&pool, &1).await }
    });
    for polls in 0..10 {
        let mut caller = Box::pin(pool.token(&1));
        for _ in 0..polls {
            assert!(tokio_test::task::spawn(&mut caller).poll().is_pending());
            settle().await;
        }
    }
    assert_eq!(patient.await.unwrap(), "1/token-1");
    assert_eq!(scripts.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_tenant_that_is_removed_start_anew() {
    let scripts = Scripts::<u32>::new(Step::Take(secs(5), Box::new(Step::Token(HOUR))));
    let pool = scripts.spawn();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { value(&pool, &1).await }
    });
    sleep(secs(1)).await;
    assert!(pool.remove(&1));
    // The token of the fetch that was under way is dropped.
    assert_eq!(waiting.await.unwrap(), "1/token-2");
    assert_eq!((scripts.count(), pool.len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn f25_a_panic_while_a_source_is_made_is_a_failure_like_any_other() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let tries = Arc::new(Mutex::new(0));
    let pool = TokenPool::builder({
        let scripts = scripts.clone();
        move |key: &u32| {
            let mut tries = tries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *tries += 1;
            assert!(*tries > 2, "scripted panic");
            scripts.of(key)
        }
    })
    .observer(|_: &Event<'_>| panic!("scripted panic"))
    .tenant_observer(|_, _| panic!("scripted panic"))
    .spawn();
    assert_eq!(value(&pool, &1).await, "token-1");
}

#[tokio::test(start_paused = true)]
async fn events_say_which_tenant_only_to_the_one_who_asked() {
    let scripts = Scripts::<&'static str>::tokens(HOUR);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let pool = scripts
        .builder()
        .tenant_observer({
            let seen = seen.clone();
            move |key, event| seen.lock().unwrap().push((*key, format!("{event:?}")))
        })
        .spawn();
    let token = pool.token(&"alice@example.org").await.unwrap();
    pool.reject(&"alice@example.org", token.epoch());
    let seen = seen.lock().unwrap();
    let names = ["Waiting", "Fetching", "Obtained", "Waited", "Rejected"];
    for (seen, name) in seen.iter().zip(names) {
        assert!(seen.0 == "alice@example.org" && seen.1.starts_with(name), "{seen:?}");
    }
    assert_eq!(seen.len(), names.len());
    let printed =
        format!("{pool:?} {:?} {:?}", pool.status(&"alice@example.org"), scripts.builder());
    assert!(!printed.contains("alice"), "{printed}");
}

#[tokio::test(start_paused = true)]
async fn f27_the_keeper_ends_with_the_last_handle() {
    let (pool, keeper) = Scripts::<u32>::tokens(HOUR).builder().pair();
    let task = tokio::spawn(keeper);
    value(&pool, &1).await;
    let clone = pool.clone();
    drop(pool);
    settle().await;
    assert!(!task.is_finished());
    drop(clone);
    timeout(secs(1), task).await.expect("it ends").unwrap();
}

#[tokio::test(start_paused = true)]
async fn f27_a_keeper_that_is_dropped_unpolled_has_ended() {
    let (pool, keeper) = Scripts::<u32>::tokens(HOUR).builder().pair();
    drop(keeper);
    assert_eq!(pool.token(&1).await.unwrap_err().kind(), ErrorKind::Shutdown);
    pool.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_fetches_and_then_requests_fail() {
    let scripts = Scripts::<u32>::new(Step::Take(secs(5), Box::new(Step::Token(HOUR))));
    let pool = scripts.spawn();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.token(&1).await.map(|token| token.epoch()) }
    });
    settle().await;
    let start = Instant::now();
    pool.shutdown().await;
    assert!((secs(5)..secs(6)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(waiting.await.unwrap().is_ok_and(|epoch| epoch == 1));
    assert_eq!(pool.token(&1).await.unwrap_err().kind(), ErrorKind::Shutdown);
    assert!(pool.current(&1).is_none() && pool.is_empty());
    pool.shutdown().await;
}

#[test]
fn without_a_runtime_a_token_that_is_missing_is_an_error_and_not_a_panic() {
    let (pool, _keeper) = Scripts::<u32>::tokens(HOUR).builder().pair();
    let mut token = tokio_test::task::spawn(pool.token(&1));
    let std::task::Poll::Ready(outcome) = token.poll() else { panic!("it cannot wait") };
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn durations_without_end_are_long_ones() {
    let scripts = Scripts::<u32>::new(Step::TokenWithoutLifetime);
    let pool = scripts
        .builder()
        .wait(Duration::MAX)
        .fetch_timeout(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .default_lifetime(Duration::MAX)
        .max_margin(Duration::MAX)
        .unwrap()
        .rejection_interval(Duration::MAX)
        .spawn();
    value(&pool, &1).await;
    sleep(HOUR * 24 * 30).await;
    assert!(pool.status(&1).unwrap().is_ready());
    assert_eq!(scripts.count(), 1);
    pool.shutdown().await;
}

#[test]
fn f26_when_the_keepers_runtime_ends_callers_on_another_fail_typed() {
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (build(), build());
    let scripts = Scripts::<u32>::tokens(HOUR);
    scripts.of(&2).otherwise(Step::Hang);
    let pool = first.block_on(async {
        let pool = scripts.spawn();
        value(&pool, &1).await;
        pool
    });
    let waiting = second.spawn({
        let pool = pool.clone();
        async move { pool.token(&2).await.unwrap_err().kind() }
    });
    second.block_on(settle());
    first.block_on(settle());
    drop(first);
    second.block_on(async {
        assert_eq!(waiting.await.unwrap(), ErrorKind::Shutdown);
        assert_eq!(pool.token(&1).await.unwrap_err().kind(), ErrorKind::Shutdown);
        assert!(pool.current(&1).is_none());
    });
}
