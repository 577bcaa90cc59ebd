//! Clocks that are shifted while the process runs.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_oauth::testing::Reply;

use crate::parent::{Parent, SECOND, Shifts};

const HOUR: i64 = 3600;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;
/// To each of these the wall clock is set.
const STEPS: [i64; 6] = [-1, 1, -HOUR, HOUR, -TEN_YEARS, TEN_YEARS];

fn hours(hours: u64) -> Duration {
    Duration::from_secs(3600 * hours)
}

/// The coarse clock was read past libc: under `faketime` it disagreed with the others, and each
/// request waited for a token that was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f104_all_clocks_are_read_through_libc() {
    let mut parent = Parent::start(hours(1)).await;
    let before = parent.clocks().await;
    parent.shift(Shifts { boot: 1_000 * SECOND, wall: -2_000 * SECOND, backwards: 0 });
    let after = parent.clocks().await;
    for (clock, moved) in [1_000_000, -2_000_000, -2_000_000, 0].into_iter().enumerate() {
        let by = after[clock] - before[clock] - moved;
        assert!((-10..2_000).contains(&by), "clock {clock}: {before:?}, then {after:?}");
    }
    parent.shift(Shifts { backwards: 5_000 * SECOND, ..Shifts::default() });
    let mut backwards = 0;
    for _ in 0..10 {
        let [_, wall, coarse, _] = parent.clocks().await;
        backwards += u32::from(wall.abs_diff(coarse) > 4_000_000);
    }
    assert!(backwards > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f49_after_a_sleep_of_the_machine_the_next_request_has_a_new_token() {
    let mut parent = Parent::start(hours(1)).await;
    parent.get().await;
    parent.shift(Shifts::slept(2 * HOUR));
    // Two hours on, this server would refuse it.
    parent.issuer.revoke_access_tokens();
    parent.get().await;
    assert_eq!((parent.api.request_count(), parent.api.refused()), (2, 0));
    assert_eq!(parent.token_requests(), 2);
    parent.get().await;
    assert_eq!((parent.api.refused(), parent.token_requests()), (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f49_without_a_request_the_refresher_acts_within_half_a_minute_of_waking() {
    let parent = Parent::start(hours(1)).await;
    parent.shift(Shifts::slept(2 * HOUR));
    let woken = Instant::now();
    while parent.token_requests() < 2 {
        assert!(woken.elapsed() < Duration::from_secs(32), "it did not act");
        sleep(Duration::from_millis(50)).await;
    }
    // And once only.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(parent.token_requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f50_whatever_the_wall_clock_does_no_token_is_sent_after_its_life() {
    const LIFE: Duration = Duration::from_secs(3);
    let mut clients = JoinSet::new();
    let backwards = [SECOND, HOUR * SECOND].map(|by| Shifts { backwards: by, ..Shifts::default() });
    for shifts in STEPS.map(Shifts::set_wall).into_iter().chain(backwards) {
        clients.spawn(async move {
            let mut parent = Parent::start(LIFE).await;
            sleep(LIFE / 3).await;
            parent.shift(shifts);
            let started = Instant::now();
            while started.elapsed() < LIFE * 2 {
                parent.get().await;
                sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(parent.api.refused(), 0, "{shifts:?}: a token lived too long");
            let requests = parent.token_requests();
            // Seven seconds, each token renewed after 75 to 85 % of its three, and one early. Where
            // the clock goes to and fro without end, so does the token: no more than the pace
            // allows.
            let most = if shifts.backwards > SECOND { 70 } else { 5 };
            assert!((3..=most).contains(&requests), "{shifts:?}: {requests} token requests");
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f50_a_step_of_the_wall_clock_causes_at_most_one_early_refresh() {
    let mut clients = JoinSet::new();
    for step in STEPS {
        clients.spawn(async move {
            let mut parent = Parent::start(hours(100_000)).await;
            parent.shift(Shifts::set_wall(step));
            let started = Instant::now();
            // It is seen at the next look, at half a minute at most, and spread over five seconds.
            while started.elapsed() < Duration::from_secs(38) {
                parent.get().await;
                sleep(Duration::from_millis(500)).await;
            }
            let expected = if step.abs() > 30 { 2 } else { 1 };
            assert_eq!(parent.token_requests(), expected, "a step of {step} s");
            assert_eq!(parent.api.refused(), 0);
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f49_f53_a_machine_that_sleeps_while_an_answer_is_on_its_way_does_not_make_it_younger() {
    let mut parent = Parent::start(hours(1)).await;
    parent.issuer.revoke_access_tokens();
    parent.issuer.script(Reply::honest().delay(Duration::from_millis(500)));
    parent.tell("get").await;
    while parent.token_requests() < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    parent.shift(Shifts::slept(2 * HOUR));
    // What the server gave it before its sleep is over as well.
    parent.issuer.revoke_access_tokens();
    assert_eq!(parent.answer().await, "200 OK");
    assert_eq!(parent.token_requests(), 3);
    assert_eq!(parent.api.refused(), 1, "the first token, and not the second");
}
