//! How long a pool waits after a tenant's failure.

use std::error::Error as _;

use tokio::time::{Instant, sleep, sleep_until};
use tower_oauth::{Error, ErrorKind, TokenSet, pool::TokenPool, source_fn};

use crate::{
    common::{
        clock::TestClock,
        script::{Step, fail},
    },
    source::{HOUR, Scripts, secs, settle, value},
};

#[tokio::test(start_paused = true)]
async fn f67_one_failure_at_the_first_renewal_takes_the_token_from_no_tenant() {
    for life in [60, 120, 300, 3600] {
        for kind in [ErrorKind::InvalidClient, ErrorKind::Denied, ErrorKind::Throttled] {
            let scripts = Scripts::<u32>::tokens(secs(life));
            let pool = scripts.spawn();
            let error = Error::new(kind, "an ingress");
            let error = match kind {
                ErrorKind::Throttled => error.with_retry_at(Instant::now() + HOUR * 2),
                _ => error,
            };
            scripts.of(&1).then([Step::Token(secs(life)), Step::Fail(error)]);
            value(&pool, &1).await;
            let start = Instant::now();
            while start.elapsed() < secs(2 * life) {
                // As a request does, which marks the token as used.
                let asked = Instant::now();
                value(&pool, &1).await;
                assert_eq!(Instant::now(), asked, "{life} s, {kind}: {:?}", start.elapsed());
                sleep(secs(1)).await;
            }
            let count = scripts.of(&1).count();
            assert!((3..=5).contains(&count), "{life} s, {kind}: {count}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f68_a_tenants_token_that_has_expired_when_it_arrives_is_a_failure_with_a_cause() {
    let pool = TokenPool::builder(|_: &u32| {
        source_fn(|_| async {
            let sent = Instant::now() - secs(120);
            Ok(TokenSet::bearer("t")?.with_lifetime(secs(60)).with_sent_at(sent))
        })
    })
    .spawn();
    let error = pool.token(&1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let cause = Error::find(error.source().unwrap()).unwrap();
    assert_eq!(cause.kind(), ErrorKind::UnusableToken);
    let status = pool.status(&1).unwrap();
    assert!((3..20).contains(&status.failures()), "{}", status.failures());
    assert!(!status.is_ready());
}

#[tokio::test(start_paused = true)]
async fn f70_an_error_that_ends_a_tenants_wait_tells_when_the_next_attempt_is_made() {
    let scripts = Scripts::<u32>::new(fail(ErrorKind::InvalidClient));
    let pool = scripts.spawn();
    let error = pool.token(&1).await.unwrap_err();
    let (told, next) =
        (error.retry_at().unwrap(), pool.status(&1).unwrap().next_attempt().unwrap());
    assert!(told.max(next) - told.min(next) < secs(1));
    assert!(told > Instant::now() + secs(50));
    sleep_until(told.checked_sub(secs(2)).unwrap()).await;
    assert_eq!(pool.token(&1).await.unwrap_err().kind(), ErrorKind::InvalidClient);
    assert_eq!(scripts.of(&1).count(), 1);
    sleep(secs(4)).await;
    assert_eq!(pool.token(&1).await.unwrap_err().kind(), ErrorKind::InvalidClient);
    assert_eq!(scripts.of(&1).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn f50_a_wall_clock_set_forward_takes_no_tenants_token_out_of_service() {
    let (scripts, clock) = (Scripts::<u32>::tokens(HOUR), TestClock::new());
    let pool = scripts.builder().clock(clock.clone()).spawn();
    for key in 0..10 {
        value(&pool, &key).await;
        scripts.of(&key).otherwise(fail(ErrorKind::Server));
    }
    clock.set_wall(7200);
    for _ in 0..50 {
        sleep(secs(60)).await;
        for key in 0..10 {
            assert!(pool.current(&key).is_some());
            assert_eq!(value(&pool, &key).await, format!("{key}/token-1"));
        }
    }
    assert!(scripts.count() > 20, "they are renewed for the jump: {}", scripts.count());
}

#[tokio::test(start_paused = true)]
async fn f70_a_tenants_status_tells_of_no_attempt_that_is_not_planned() {
    let next = |pool: &TokenPool<u32>, key| pool.status(&key).unwrap().next_attempt();
    let scripts = Scripts::<u32>::tokens(secs(600));
    let pool = scripts.spawn();
    value(&pool, &1).await;
    let planned = next(&pool, 1).unwrap();
    sleep(planned - Instant::now() + secs(1)).await;
    assert_eq!(scripts.count(), 2, "renewed as planned");
    // Nobody uses the second token.
    assert_eq!(next(&pool, 1), None);
    sleep(secs(530)).await;
    assert_eq!((next(&pool, 1), scripts.count()), (None, 2));
    assert!(pool.current(&1).is_some());
    sleep(secs(1)).await;
    assert_eq!(scripts.count(), 3, "it was used");

    // In the queue behind a fetch that hangs, nobody knows when.
    let scripts = Scripts::<u32>::new(Step::Hang);
    let pool = scripts.builder().max_parallel(1).max_slow(0).wait(secs(5)).spawn();
    let hangs = pool.clone();
    let first = tokio::spawn(async move { hangs.token(&1).await.map(|_| ()) });
    settle().await;
    let (waits, asked) = (pool.clone(), Instant::now());
    let second = tokio::spawn(async move { waits.token(&2).await.map(|_| ()) });
    sleep(secs(1)).await;
    assert_eq!((next(&pool, 1), next(&pool, 2)), (None, None));
    let error = second.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.retry_at()), (ErrorKind::Timeout, None));
    assert_eq!(asked.elapsed(), secs(5));
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
}
