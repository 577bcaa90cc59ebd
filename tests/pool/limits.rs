//! What there may be of tenants, fetches and callers that wait.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower_oauth::ErrorKind;

use crate::{
    common::script::{Step, fail},
    source::{HOUR, Scripts, secs, settle, value},
};

#[tokio::test(start_paused = true)]
async fn no_more_tokens_are_fetched_at_once_than_allowed() {
    let time = Duration::from_millis(300);
    let scripts = Scripts::<u32>::new(Step::Take(time, Box::new(Step::Token(HOUR))));
    let pool = scripts.builder().max_parallel(4).spawn();
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for key in 0..100 {
        let pool = pool.clone();
        callers.spawn(async move { value(&pool, &key).await });
    }
    callers.join_all().await;
    assert_eq!(scripts.gauge().peak.load(Ordering::Relaxed), 4);
    assert!((time * 25..secs(8)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn f63_who_is_waited_for_and_who_is_renewed_come_in_turn() {
    let scripts = Scripts::<u32>::tokens(secs(1000));
    let pool = scripts.builder().max_parallel(1).max_slow(0).wait(secs(60)).spawn();
    for key in 0..50 {
        value(&pool, &key).await;
        scripts.of(&key).otherwise(Step::Take(secs(10), Box::new(Step::Token(secs(1000)))));
    }
    // All fifty are due, and take longer than there is time.
    sleep(secs(855)).await;
    let start = Instant::now();
    value(&pool, &1000).await;
    assert!(start.elapsed() <= secs(31), "{:?}", start.elapsed());
    // One that expired in the queue gets ahead as well, as soon as a caller asks.
    sleep(secs(140)).await;
    let expired = (0..50).find(|key| pool.current(key).is_none()).expect("some have run out");
    let start = Instant::now();
    value(&pool, &expired).await;
    assert!(start.elapsed() <= secs(31), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn renewals_of_many_that_started_together_are_spread() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.builder().max_parallel(1000).spawn();
    for key in 0..3600 {
        value(&pool, &key).await;
    }
    let mut before = scripts.count();
    let (mut peak, mut seconds) = (0, 0);
    for _ in 0..3600 {
        sleep(secs(1)).await;
        let now = scripts.count();
        peak = peak.max(now - before);
        seconds += u32::from(now > before);
        before = now;
    }
    assert_eq!(before, 7200);
    // A tenth of an hour: 360 seconds with ten in each.
    assert!((330..=370).contains(&seconds), "{seconds}");
    assert!(peak <= 30, "{peak}");
}

#[tokio::test(start_paused = true)]
async fn when_full_the_one_that_was_used_least_recently_makes_room() {
    let scripts = Scripts::<u32>::tokens(HOUR * 24);
    let pool = scripts.builder().max_tenants(3).spawn();
    for key in [1, 2, 3] {
        value(&pool, &key).await;
        sleep(secs(60)).await;
    }
    assert!(pool.current(&1).is_some(), "1 is used again, so 2 is the oldest");
    sleep(secs(61)).await;
    value(&pool, &4).await;
    assert_eq!(pool.len(), 3);
    assert!(pool.status(&2).is_none());
    assert!([1, 3, 4].iter().all(|key| pool.status(key).is_some()));
    value(&pool, &5).await;
    assert!(pool.status(&3).is_none());
}

#[tokio::test(start_paused = true)]
async fn when_all_are_in_use_one_more_is_refused() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.builder().max_tenants(3).spawn();
    for key in [1, 2, 3] {
        value(&pool, &key).await;
    }
    assert_eq!(pool.token(&4).await.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!((pool.len(), scripts.count()), (3, 3));
    for _ in 0..10 {
        sleep(secs(30)).await;
        for key in [1, 2, 3] {
            assert!(pool.current(&key).is_some());
        }
    }
    assert_eq!(pool.token(&4).await.unwrap_err().kind(), ErrorKind::Overloaded);
    // One that is waited for is in use however long it takes.
    assert!(pool.remove(&1));
    scripts.of(&1).otherwise(Step::Hang);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.token(&1).await.map(|_| ()) }
    });
    sleep(secs(29)).await;
    assert_eq!(pool.token(&4).await.unwrap_err().kind(), ErrorKind::Overloaded);
    waiting.abort();
    sleep(secs(150)).await;
    value(&pool, &4).await;
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_keys_never_exceeds_the_bound() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.builder().max_tenants(100).spawn();
    let mut callers = JoinSet::new();
    for key in 0..10_000 {
        let pool = pool.clone();
        callers.spawn(async move { pool.token(&key).await.map_err(|error| error.kind()) });
    }
    let outcomes = callers.join_all().await;
    let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!((served, pool.len()), (100, 100));
    assert!(outcomes.iter().filter_map(|o| o.as_ref().err()).all(|k| *k == ErrorKind::Overloaded));
}

#[tokio::test(start_paused = true)]
async fn f24_callers_of_one_tenant_leave_places_for_others() {
    let scripts = Scripts::<u32>::new(Step::Take(secs(10), Box::new(Step::Token(HOUR))));
    let pool = scripts.builder().max_waiting(150).max_waiting_per_tenant(100).spawn();
    let mut callers = JoinSet::new();
    let mut ask = |key, number| {
        for _ in 0..number {
            let pool = pool.clone();
            callers.spawn(async move {
                (key, pool.token(&key).await.map(|_| ()).map_err(|error| error.kind()))
            });
        }
    };
    ask(1, 1000);
    ask(2, 1000);
    let outcomes = callers.join_all().await;
    let served = |of| outcomes.iter().filter(|(key, o)| *key == of && o.is_ok()).count();
    assert_eq!((served(1), served(2)), (100, 50));
    assert_eq!(scripts.count(), 2);
    // Every place was given back.
    timeout(secs(60), value(&pool, &3)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_tenants_failures_do_not_disturb_others() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    scripts.of(&1).otherwise(Step::Take(secs(1), Box::new(fail(ErrorKind::Server))));
    scripts.of(&2).otherwise(Step::Hang);
    scripts.of(&3).otherwise(Step::Panic);
    scripts.of(&4).otherwise(fail(ErrorKind::InvalidGrant));
    let pool = scripts.builder().max_parallel(4).spawn();
    let mut storm = JoinSet::new();
    for n in 0..4000 {
        let pool = pool.clone();
        storm.spawn(async move { drop(pool.token(&(1 + n % 4)).await) });
    }
    for key in 5..500 {
        let asked = Instant::now();
        assert_eq!(value(&pool, &key).await, format!("{key}/token-1"));
        assert!(asked.elapsed() < secs(2), "{:?}", asked.elapsed());
        assert!(pool.status(&key).unwrap().error().is_none());
        sleep(Duration::from_millis(50)).await;
    }
    storm.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn f27_i11_tasks_and_tenants_stay_flat_as_tenants_come_and_go() {
    let scripts = Scripts::<u32>::tokens(secs(300));
    let pool = scripts.builder().idle_timeout(secs(120)).spawn();
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    for round in 0..100 {
        for key in 0..100 {
            value(&pool, &(round * 100 + key)).await;
        }
        sleep(secs(30)).await;
        assert!(pool.len() <= 600, "{}", pool.len());
    }
    sleep(secs(300)).await;
    settle().await;
    assert_eq!(pool.len(), 0);
    assert!(alive() <= before + 1, "{} tasks are left", alive() - before);
}

/// A tenant whose token ran out was never fetched for again.
#[tokio::test(start_paused = true)]
async fn f61_a_token_is_fetched_though_no_more_callers_may_wait_for_it() {
    for per_tenant in [false, true] {
        let scripts = Scripts::<u32>::tokens(secs(60));
        let builder = scripts.builder();
        let builder =
            if per_tenant { builder.max_waiting_per_tenant(0) } else { builder.max_waiting(0) };
        let pool = builder.spawn();
        for round in 1..4 {
            assert_eq!(pool.token(&1).await.unwrap_err().kind(), ErrorKind::Overloaded);
            settle().await;
            assert_eq!(scripts.count(), 2 * round - 1);
            assert!(pool.token(&1).await.is_ok());
            // It is renewed once more, and that token is not used.
            sleep(secs(55)).await;
            assert!(pool.remove(&1));
        }
    }
    let scripts = Scripts::<u32>::tokens(secs(10));
    let pool = scripts.builder().max_waiting(5).wait(HOUR).spawn();
    value(&pool, &2).await;
    sleep(secs(60)).await;
    assert!(pool.current(&2).is_none(), "nobody used it, so it has run out");
    scripts.of(&1).otherwise(Step::Hang);
    let mut callers = JoinSet::new();
    for _ in 0..5 {
        let pool = pool.clone();
        callers.spawn(async move { pool.token(&1).await.map(|_| ()) });
    }
    settle().await;
    let before = scripts.of(&2).count();
    assert_eq!(pool.token(&2).await.unwrap_err().kind(), ErrorKind::Overloaded);
    settle().await;
    value(&pool, &2).await;
    assert_eq!(scripts.of(&2).count(), before + 1);
}

/// The second request took its tenant out of the queue, and nobody fetched for it.
#[tokio::test(start_paused = true)]
async fn f61_a_request_that_does_not_wait_causes_one_fetch() {
    for wait in [Duration::ZERO, Duration::from_millis(50)] {
        let time = Duration::from_millis(300);
        let scripts = Scripts::<u32>::new(Step::Take(time, Box::new(Step::Token(HOUR))));
        let pool = scripts.builder().max_parallel(1).max_slow(0).wait(wait).spawn();
        for key in [1, 2, 2, 3, 2] {
            assert_eq!(pool.token(&key).await.unwrap_err().kind(), ErrorKind::Timeout);
            sleep(Duration::from_millis(10)).await;
        }
        sleep(secs(60)).await;
        assert_eq!([1, 2, 3].map(|key| scripts.of(&key).count()), [1, 1, 1], "{wait:?}");
        value(&pool, &2).await;
    }
}

/// Who has waited and gone is not fetched for at the cost of others.
#[tokio::test(start_paused = true)]
async fn f63_a_new_tenant_that_nobody_waits_for_any_more_leaves_the_queue() {
    let scripts = Scripts::<u32>::new(Step::Hang);
    let pool = scripts.builder().max_parallel(1).max_slow(0).wait(secs(5)).spawn();
    for key in 1..4 {
        assert_eq!(pool.token(&key).await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    sleep(secs(300)).await;
    assert_eq!([1, 2, 3].map(|key| scripts.of(&key).count()), [1, 0, 0]);
}

/// Those that hung came first whenever the only permit was free.
#[tokio::test(start_paused = true)]
async fn f62_with_one_permit_in_all_tenants_that_hung_leave_every_other_one_to_others() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.builder().max_parallel(1).max_slow(0).wait(secs(70)).spawn();
    (1..4).for_each(|key| scripts.of(&key).otherwise(Step::Hang));
    let mut demand = JoinSet::new();
    for key in 1..4 {
        let pool = pool.clone();
        demand.spawn(async move {
            loop {
                let _ = pool.token(&key).await;
                sleep(secs(1)).await;
            }
        });
    }
    // All three have hung once.
    sleep(secs(120)).await;
    for key in 10..30 {
        let asked = Instant::now();
        value(&pool, &key).await;
        assert!(asked.elapsed() <= secs(31), "{:?}", asked.elapsed());
        sleep(secs(7)).await;
    }
}
