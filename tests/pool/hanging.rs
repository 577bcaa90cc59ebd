//! Tenants whose servers never answer: the others must not notice.

use std::{sync::atomic::Ordering, time::Duration};

use allocation_counter::measure;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_oauth::TokenPool;

use crate::{
    common::script::Step,
    source::{HOUR, Scripts, secs, settle, value},
};

/// What a fetch takes that is in order.
const FETCH: Duration = Duration::from_millis(200);

fn quick(lifetime: Duration) -> Step {
    Step::Take(FETCH, Box::new(Step::Token(lifetime)))
}

/// Asks for these tenants' tokens, again and again, each from a task of its own.
fn demand(pool: &TokenPool<u32>, keys: impl Iterator<Item = u32>) -> JoinSet<()> {
    let mut demand = JoinSet::new();
    for key in keys {
        let pool = pool.clone();
        demand.spawn(async move {
            loop {
                let _ = pool.token(&key).await;
                sleep(secs(2)).await;
            }
        });
    }
    demand
}

#[tokio::test(start_paused = true)]
async fn f62_a_new_tenant_is_served_within_a_second_however_many_others_hang() {
    for hanging in [31, 64, 200, 1000, 5000] {
        let scripts = Scripts::<u32>::new(quick(HOUR));
        let pool = scripts.spawn();
        (1..=hanging).for_each(|key| scripts.of(&key).otherwise(Step::Hang));
        let _demand = demand(&pool, 1..=hanging);
        while pool.len() < hanging as usize {
            settle().await;
        }
        // At once, while none is known to hang, and again and again until all are.
        for round in 0..30 {
            let asked = Instant::now();
            let outcome = pool.token(&(1_000_000 + round)).await;
            assert!(outcome.is_ok(), "{hanging} hang, round {round}: {outcome:?}");
            let waited = asked.elapsed().saturating_sub(FETCH);
            assert!(waited <= secs(1), "{hanging} hang, round {round}: {waited:?}");
            sleep(Duration::from_millis(1700)).await;
        }
        let peak = scripts.gauge().peak.load(Ordering::Relaxed);
        assert!(peak <= 32 + 2048, "{peak} fetches at a time");
    }
}

/// A tenant that hung is asked again in its turn, and is served like any other from then on.
#[tokio::test(start_paused = true)]
async fn f62_a_tenant_that_hung_is_served_soon_after_its_server_answers() {
    let scripts = Scripts::<u32>::new(Step::Hang);
    let pool = scripts.spawn();
    let _demand = demand(&pool, 0..1000);
    sleep(secs(300)).await;
    scripts.of(&500).otherwise(quick(HOUR));
    let answers = Instant::now();
    while pool.current(&500).is_none() {
        sleep(Duration::from_millis(100)).await;
        assert!(answers.elapsed() < secs(120), "it waits for the others");
    }
    // Its next fetch is no suspect's.
    let epoch = pool.token(&500).await.unwrap().epoch();
    pool.reject(&500, epoch);
    let asked = Instant::now();
    value(&pool, &500).await;
    assert!(asked.elapsed() <= secs(1) + FETCH, "{:?}", asked.elapsed());
}

/// What 100 tenants see in some minutes: when each had its first token, whether a token was ever
/// missing, and how many token requests there were.
async fn a_hundred(hanging: bool, minutes: u32) -> (Duration, usize, usize) {
    let scripts = Scripts::<u32>::new(quick(secs(120)));
    let pool = scripts.spawn();
    let start = Instant::now();
    let (mut first, mut demands) = (JoinSet::new(), Vec::new());
    // Those that hang are between the others.
    for key in 0..1000 {
        if key % 10 > 0 && hanging {
            scripts.of(&key).otherwise(Step::Hang);
            demands.push(demand(&pool, key..=key));
        } else if key % 10 == 0 {
            let pool = pool.clone();
            first.spawn(async move {
                value(&pool, &key).await;
                start.elapsed()
            });
        }
    }
    let slowest = first.join_all().await.into_iter().max().unwrap();
    let mut missing = 0;
    while start.elapsed() < secs(u64::from(minutes) * 60) {
        sleep(secs(2)).await;
        missing += (0..1000).step_by(10).filter(|key| pool.current(key).is_none()).count();
    }
    (slowest, missing, (0..1000).step_by(10).map(|key| scripts.of(&key).count()).sum())
}

async fn as_if_alone(minutes: u32) {
    let (alone, missing_alone, requests_alone) = a_hundred(false, minutes).await;
    let (slowest, missing, requests) = a_hundred(true, minutes).await;
    assert_eq!((missing_alone, missing), (0, 0));
    assert!(slowest <= alone + secs(1), "{slowest:?} instead of {alone:?}");
    // A token of 120 s is renewed after 90 to 102 s.
    let most = 100 * (1 + minutes as usize * 60 / 90);
    for requests in [requests_alone, requests] {
        assert!(requests <= most, "{requests}, more than {most}");
    }
    assert!(requests.abs_diff(requests_alone) <= 50, "{requests}, not {requests_alone}");
}

#[tokio::test(start_paused = true)]
async fn f62_of_a_thousand_tenants_nine_hundred_hang_and_the_others_are_renewed_as_if_alone() {
    as_if_alone(4).await;
}

#[tokio::test(start_paused = true)]
async fn f62_tenants_whose_renewals_begin_to_hang_do_not_delay_the_renewals_of_others() {
    let scripts = Scripts::<u32>::new(quick(secs(100)));
    let pool = scripts.spawn();
    let _demand = demand(&pool, 0..1000);
    sleep(secs(20)).await;
    (0..1000).filter(|key| key % 10 > 0).for_each(|key| scripts.of(&key).otherwise(Step::Hang));
    let start = Instant::now();
    while start.elapsed() < secs(300) {
        sleep(secs(1)).await;
        let missing = (0..1000).step_by(10).find(|key| pool.current(key).is_none());
        assert_eq!(missing, None, "after {:?}", start.elapsed());
    }
}

/// Without a share of their own, those that hang would be more than may be slow at a time.
#[tokio::test(start_paused = true)]
async fn f62_tenants_that_hung_leave_permits_to_others() {
    let scripts = Scripts::<u32>::new(quick(secs(120)));
    let pool = scripts.builder().max_parallel(8).spawn();
    let _demand = demand(&pool, 0..1000);
    sleep(secs(30)).await;
    (0..1000).filter(|key| key % 40 > 0).for_each(|key| scripts.of(&key).otherwise(Step::Hang));
    // All renewals have begun, and no token is left but those of the others.
    sleep(secs(240)).await;
    for key in 10_000..10_030 {
        let missing = (0..1000).step_by(40).find(|key| pool.current(key).is_none());
        assert_eq!(missing, None);
        let asked = Instant::now();
        value(&pool, &key).await;
        assert!(asked.elapsed() <= secs(1) + FETCH, "{:?}", asked.elapsed());
        sleep(secs(2)).await;
    }
}

/// So many renewals hang, and new tenants that are healthy arrive.
async fn renewals_hang(hanging: u32) {
    let scripts = Scripts::<u32>::new(quick(secs(120)));
    let pool = scripts.spawn();
    let _demand = demand(&pool, 0..hanging);
    sleep(secs(80)).await;
    assert!((0..hanging).all(|key| pool.current(&key).is_some()));
    (0..hanging).for_each(|key| scripts.of(&key).otherwise(Step::Hang));
    let start = Instant::now();
    for key in 1_000_000.. {
        let asked = Instant::now();
        value(&pool, &key).await;
        let (at, waited) = (start.elapsed(), asked.elapsed().saturating_sub(FETCH));
        assert!(waited <= secs(1), "{hanging} hang, after {at:?}: {waited:?}");
        if at > secs(120) {
            break;
        }
        sleep(Duration::from_millis(1700)).await;
    }
    let peak = scripts.gauge().peak.load(Ordering::Relaxed);
    assert!(peak <= 32 + 2048, "{peak} fetches at a time");
}

/// They took all that may be slow, for as long as a fetch may take.
#[tokio::test(start_paused = true)]
async fn f62_renewals_that_hang_do_not_hold_up_new_tenants() {
    renewals_hang(2500).await;
}

#[tokio::test(start_paused = true)]
async fn f62_fifty_new_tenants_a_second_that_hang_do_not_hold_up_others() {
    let scripts = Scripts::<u32>::new(quick(HOUR));
    let pool = scripts.spawn();
    let (hanging, others) = (scripts.clone(), pool.clone());
    let mut arrivals = JoinSet::new();
    arrivals.spawn(async move {
        let mut callers = JoinSet::new();
        for key in 0.. {
            hanging.of(&key).otherwise(Step::Hang);
            let pool = others.clone();
            callers.spawn(async move { drop(pool.token(&key).await) });
            sleep(secs(1) / 50).await;
        }
    });
    for key in 1_000_000..1_000_100 {
        let asked = Instant::now();
        value(&pool, &key).await;
        let waited = asked.elapsed().saturating_sub(FETCH);
        assert!(waited <= secs(1), "{key}: {waited:?}");
        sleep(secs(1)).await;
    }
}

/// Twenty tenants are in use, and so many others arrive in a second, whose fetches take this long. Of
/// those, so many have to be served.
async fn crowd(minutes: u64, arrivals: u32, fetch: Duration, served: u64) {
    let scripts = Scripts::<u32>::new(Step::Take(fetch, Box::new(Step::Token(HOUR))));
    let pool = scripts.spawn();
    for key in 0..20 {
        scripts.of(&key).otherwise(quick(secs(120)));
        value(&pool, &key).await;
    }
    let mut new = JoinSet::new();
    let start = Instant::now();
    let mut next = 1000;
    while start.elapsed() < secs(minutes * 60) {
        for _ in 0..arrivals {
            let (pool, key) = (pool.clone(), next);
            new.spawn(async move { pool.token(&key).await.is_ok() });
            next += 1;
        }
        sleep(secs(1)).await;
        let lost = (0..20).find(|key| pool.current(key).is_none());
        assert_eq!(lost, None, "after {:?}", start.elapsed());
    }
    let outcomes = new.join_all().await;
    let count = outcomes.iter().filter(|served| **served).count() as u64;
    assert!(count >= served, "{count} of {} were served", outcomes.len());
}

#[tokio::test(start_paused = true)]
async fn f63_renewals_go_on_while_more_tenants_arrive_than_can_be_served() {
    // All of them, then what 32 fetches of 390 ms at a time allow for, and none.
    crowd(2, 40, secs(1), 2 * 60 * 40).await;
    crowd(2, 120, Duration::from_millis(390), 2 * 60 * 70).await;
    crowd(2, 40, secs(31), 0).await;
}

/// What takes longer.
mod long {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn f63_renewals_go_on_for_twenty_minutes_in_a_crowd() {
        crowd(20, 40, secs(1), 20 * 60 * 40).await;
        crowd(20, 40, secs(31), 0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn f62_five_thousand_renewals_that_hang_do_not_hold_up_new_tenants() {
        renewals_hang(5000).await;
    }

    #[tokio::test(start_paused = true)]
    async fn f62_of_a_thousand_tenants_nine_hundred_hang_and_the_others_are_as_if_alone() {
        as_if_alone(20).await;
    }
}

/// And the other way round: a pool that is busy with renewals serves new tenants.
#[tokio::test(start_paused = true)]
async fn f63_new_tenants_are_served_while_there_are_more_renewals_than_can_be_made() {
    let time = Duration::from_millis(390);
    let scripts = Scripts::<u32>::new(Step::Take(time, Box::new(Step::Token(secs(20)))));
    let pool = scripts.builder().max_parallel(4).max_slow(0).spawn();
    // 10 fetches a second are possible, and 200 tenants want 13 renewals.
    let _demand = demand(&pool, 0..200);
    sleep(secs(60)).await;
    for key in 1000..1100 {
        let asked = Instant::now();
        value(&pool, &key).await;
        assert!(asked.elapsed() < secs(2), "{:?}", asked.elapsed());
        sleep(secs(1)).await;
    }
}

/// The queue kept the number of each tenant that was removed while it waited for a permit.
#[test]
fn f62_tenants_that_come_and_go_while_all_hang_leave_nothing_behind() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap();
    let scripts = Scripts::<u32>::new(Step::Hang);
    let builder = scripts.builder().max_parallel(2).max_slow(0).fetch_timeout(HOUR).wait(HOUR);
    let pool = runtime.block_on(async {
        let pool = builder.spawn();
        for key in 0..2 {
            let pool = pool.clone();
            tokio::spawn(async move { drop(pool.token(&key).await) });
        }
        settle().await;
        pool
    });
    let round = async || {
        let keys: Vec<u32> = (1000..1100).collect();
        let mut callers: Vec<_> =
            keys.iter().map(|key| tokio_test::task::spawn(pool.token(key))).collect();
        assert!(callers.iter_mut().all(|caller| caller.poll().is_pending()));
        settle().await;
        assert_eq!(pool.len(), 102);
        // Half of the callers go before their tenants, the others after them.
        callers.truncate(50);
        for key in &keys {
            assert!(pool.remove(key));
        }
        drop(callers);
        settle().await;
    };
    for _ in 0..20 {
        runtime.block_on(round());
    }
    let grown = measure(|| (0..100).for_each(|_| runtime.block_on(round())));
    let grown = grown.bytes_current;
    // Of 10 000 tenants. The lock-free map frees what it has dropped in batches.
    println!("{grown} bytes");
    assert!(grown < 100_000, "{grown} bytes are left");
    assert_eq!((pool.len(), scripts.count()), (2, 2));
}
