//! Clocks that stop, jump and run on while the machine sleeps.

use tokio::time::{Instant, advance, sleep};
use tower_oauth::{
    ErrorKind, TokenHandle,
    time::{Clock, Moment},
};

use crate::{
    HOUR,
    common::{
        clock::TestClock,
        script::{Script, fail},
    },
    secs, served, value,
};

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
// It was taken out of service at once, also while the authorization server was down.
#[tokio::test(start_paused = true)]
async fn f50_a_wall_clock_set_forward_takes_no_token_out_of_service() {
    let source = Script::tokens(HOUR);
    let (tokens, clock) = spawn(&source);
    tokens.ready().await.unwrap();
    source.otherwise(fail(ErrorKind::Server));
    clock.set_wall(7200);
    assert!(served(&tokens));
    for _ in 0..59 {
        sleep(secs(60)).await;
        assert!(served(&tokens) && tokens.status().is_ready());
    }
    assert!(source.count() > 2, "it is renewed for the jump");
    sleep(secs(60)).await;
    assert!(!served(&tokens), "boot time ends it");
}

/// A clock whose boot time stands still while the machine sleeps.
#[derive(Debug)]
struct Forgetful(TestClock);

impl Clock for Forgetful {
    fn now(&self) -> Moment {
        self.0.now()
    }

    fn boot_counts_sleep(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn f49_where_boot_time_knows_no_sleep_the_wall_clock_is_believed() {
    let clock = TestClock::new();
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::builder(source.clone()).clock(Forgetful(clock.clone())).spawn();
    tokens.ready().await.unwrap();
    clock.set_wall(7200);
    assert!(!served(&tokens));
    assert_eq!(value(&tokens).await, "token-2");
}

// The hot path read the machine's wall clock, which a test does not advance.
#[tokio::test(start_paused = true)]
async fn f50_a_test_that_advances_time_expires_tokens() {
    let tokens = TokenHandle::spawn(Script::tokens(HOUR));
    tokens.ready().await.unwrap();
    let before = tokens.current().unwrap().epoch();
    advance(HOUR * 2).await;
    assert!(tokens.current().is_none_or(|token| token.epoch() > before));
}
