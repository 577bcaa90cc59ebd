//! A machine that sleeps, and wall clocks that jump.

use tokio::time::{Instant, sleep};
use tower_oauth::TokenPool;

use crate::{
    common::{
        clock::TestClock,
        script::{Step, fail},
    },
    source::{HOUR, Scripts, secs, settle, value},
};

fn spawn(scripts: &Scripts<u32>) -> (TokenPool<u32>, TestClock) {
    let clock = TestClock::new();
    (scripts.builder().idle_timeout(HOUR * 24).clock(clock.clone()).spawn(), clock)
}

#[tokio::test(start_paused = true)]
async fn f49_after_a_sleep_the_next_request_gets_a_new_token_and_nobody_else_fetches() {
    let scripts = Scripts::tokens(HOUR);
    let (pool, clock) = spawn(&scripts);
    for key in 0..1000 {
        value(&pool, &key).await;
    }
    clock.sleep_machine(HOUR * 2);
    assert!(pool.current(&1).is_none());
    assert_eq!(value(&pool, &1).await, "1/token-2");
    sleep(secs(120)).await;
    assert!((0..1000).all(|key| key == 1 || pool.current(&key).is_none()));
    assert_eq!(scripts.count(), 1001, "no storm");
}

#[tokio::test(start_paused = true)]
async fn f50_a_step_of_the_wall_clock_causes_one_early_renewal_each() {
    for step in [-1, 1, -3600, 3600, -315_360_000, 315_360_000] {
        let scripts = Scripts::tokens(HOUR * 10);
        let (pool, clock) = spawn(&scripts);
        for key in 0..600 {
            value(&pool, &key).await;
        }
        settle().await;
        clock.set_wall(step);
        let start = Instant::now();
        while start.elapsed() < HOUR {
            for key in 0..600 {
                pool.token(&key).await.unwrap();
            }
            sleep(secs(10)).await;
        }
        let expected = if step.abs() > 30 { 1200 } else { 600 };
        assert_eq!(scripts.count(), expected, "a step of {step} s");
    }
}

#[tokio::test(start_paused = true)]
async fn f50_a_wall_clock_set_back_does_not_keep_a_token_alive() {
    let scripts = Scripts::tokens(HOUR);
    let (pool, clock) = spawn(&scripts);
    value(&pool, &1).await;
    scripts.of(&1).otherwise(fail(tower_oauth::ErrorKind::Server));
    clock.set_wall(-86_400);
    sleep(secs(3596)).await;
    assert!(pool.current(&1).is_none());
}

/// Nobody uses the token, so it is not renewed for the jump either.
#[tokio::test(start_paused = true)]
async fn f50_a_token_does_not_outlive_a_sleep_after_the_wall_clock_was_set_back() {
    for during_the_fetch in [false, true] {
        let scripts = Scripts::new(Step::Take(secs(10), Box::new(Step::Token(HOUR))));
        let (pool, clock) = spawn(&scripts);
        let waiting = pool.clone();
        let first = tokio::spawn(async move { value(&waiting, &1).await });
        sleep(secs(5)).await;
        if during_the_fetch {
            clock.set_wall(-7200);
        }
        first.await.unwrap();
        if !during_the_fetch {
            while scripts.of(&1).count() < 2 {
                sleep(secs(10)).await;
            }
            sleep(secs(20)).await;
            clock.set_wall(-7200);
            sleep(secs(120)).await;
        }
        clock.sleep_machine(secs(4000));
        assert!(pool.current(&1).is_none(), "{during_the_fetch}: it lives for an hour");
    }
}
