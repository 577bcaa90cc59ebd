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
        script::{Script, Step, fail},
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

// The token's end was told by a wall clock that had been set back since, and was later than the end.
#[tokio::test(start_paused = true)]
async fn f49_f50_a_wall_clock_that_is_set_back_during_the_fetch_makes_no_life_longer() {
    let clock = TestClock::new();
    let source = Script::new(Step::Take(secs(10), Box::new(Step::Token(HOUR))));
    let tokens = TokenHandle::builder(source).clock(clock.clone()).spawn();
    let ready = tokio::spawn({
        let tokens = tokens.clone();
        async move { tokens.ready().await }
    });
    sleep(secs(5)).await;
    clock.set_wall(-7200);
    ready.await.unwrap().unwrap();
    sleep(secs(300)).await;
    clock.sleep_machine(secs(4000));
    assert!(!served(&tokens) && !tokens.status().is_ready());
}

// The early renewal was later than the one that was due, and than the end of the token.
#[tokio::test(start_paused = true)]
async fn f50_a_jump_of_the_wall_clock_makes_no_renewal_later() {
    for life in [8, 10, 15, 20, 30, 60] {
        for _ in 0..40 {
            let (tokens, clock) = spawn(&Script::tokens(secs(life)));
            tokens.ready().await.unwrap();
            sleep(secs(life) * 7 / 10).await;
            clock.set_wall(3600);
            let start = Instant::now();
            while start.elapsed() < secs(life) {
                assert!(served(&tokens), "{life} s, after {:?}", start.elapsed());
                sleep(secs(1) / 20).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f49_the_status_knows_what_a_sleep_of_the_machine_took_from_a_token() {
    let (tokens, clock) = spawn(&Script::tokens(HOUR));
    tokens.ready().await.unwrap();
    clock.sleep_machine(secs(1800));
    let left = tokens.status().expires_at().unwrap() - Instant::now();
    assert!((secs(1790)..=secs(1796)).contains(&left), "{left:?}");
}

// Two programs that set the clock to and fro caused a token request at each step.
#[tokio::test(start_paused = true)]
async fn f50_a_wall_clock_that_goes_to_and_fro_causes_an_early_renewal_now_and_then() {
    let source = Script::tokens(HOUR * 24);
    let (tokens, clock) = spawn(&source);
    tokens.ready().await.unwrap();
    for _ in 0..60 {
        clock.set_wall(60);
        sleep(secs(30)).await;
        clock.set_wall(-60);
        sleep(secs(30)).await;
        assert!(served(&tokens));
    }
    assert!((2..=8).contains(&source.count()), "{} token requests in an hour", source.count());
}
