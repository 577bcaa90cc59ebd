//! Which tenant makes room for another one, and when.

use std::pin::Pin;

use tokio::time::{Instant, sleep, timeout};
use tower_oauth::{Error, ErrorKind, TokenPool, TokenSet, pool::PoolKeeper, source_fn};

use crate::{
    common::script::{Step, fail},
    source::{HOUR, Scripts, secs, value},
};

/// Requests noted the time as the keeper had last seen it, up to half a minute ago.
#[tokio::test(start_paused = true)]
async fn f71_a_tenant_is_dropped_when_it_was_idle_for_as_long_as_is_set_to_a_second() {
    for used_at in [7, 29, 31] {
        let scripts = Scripts::<u32>::tokens(HOUR * 24);
        let pool = scripts.builder().idle_timeout(secs(60)).spawn();
        value(&pool, &1).await;
        sleep(secs(used_at)).await;
        assert!(pool.current(&1).is_some());
        sleep(secs(59)).await;
        assert!(pool.status(&1).is_some(), "dropped too soon, used at {used_at} s");
        sleep(secs(3)).await;
        assert!(pool.status(&1).is_none(), "dropped too late, used at {used_at} s");
    }
}

#[tokio::test(start_paused = true)]
async fn f71_a_tenant_makes_room_when_it_was_idle_for_a_minute_and_not_before() {
    for used_at in [7, 29, 31] {
        let scripts = Scripts::<u32>::tokens(HOUR * 24);
        let pool = scripts.builder().max_tenants(1).spawn();
        value(&pool, &1).await;
        sleep(secs(used_at)).await;
        assert!(pool.current(&1).is_some());
        sleep(secs(59)).await;
        assert_eq!(pool.token(&2).await.unwrap_err().kind(), ErrorKind::Overloaded);
        sleep(secs(3)).await;
        value(&pool, &2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f71_tenants_that_never_had_a_token_do_not_keep_others_out() {
    for step in [fail(ErrorKind::InvalidClient), fail(ErrorKind::Server), Step::Hang] {
        let scripts = Scripts::<u32>::tokens(HOUR);
        let pool = scripts.builder().max_tenants(10).fetch_timeout(secs(5)).wait(secs(10)).spawn();
        (0..10).for_each(|key| scripts.of(&key).otherwise(step.clone()));
        for key in 0..10 {
            let pool = pool.clone();
            tokio::spawn(async move {
                loop {
                    let _ = pool.token(&key).await;
                    sleep(secs(20)).await;
                }
            });
        }
        // They are asked for in the same moment, so that none is idle for long.
        sleep(secs(15)).await;
        assert_eq!(pool.len(), 10);
        value(&pool, &100).await;
        assert_eq!(pool.len(), 10);
        // It has a token now, and stays while it is used.
        for _ in 0..60 {
            sleep(secs(10)).await;
            assert!(pool.current(&100).is_some());
        }
    }
}

/// A back-off is lost with its tenant. So a crowd of failing tenants must not be able to push each
/// other out all the time.
#[tokio::test(start_paused = true)]
async fn f71_tenants_that_push_each_other_out_cause_one_token_request_a_second_at_most() {
    let scripts = Scripts::<u32>::new(fail(ErrorKind::InvalidClient));
    let pool = scripts.builder().max_tenants(10).spawn();
    let start = Instant::now();
    while start.elapsed() < secs(600) {
        for key in 0..50 {
            let _ = pool.token(&key).await;
        }
        sleep(secs(1)).await;
    }
    // Those that stay are tried again after a minute and more.
    let most = 10 + start.elapsed().as_secs() + 10 * 6;
    assert!(scripts.count() as u64 <= most, "{} token requests, not {most}", scripts.count());
}

#[tokio::test(start_paused = true)]
async fn f71_the_tenant_with_a_refresh_token_makes_room_last() {
    let pool = TokenPool::builder(|key: &u32| {
        let key = *key;
        source_fn(move |_| async move {
            let token = TokenSet::bearer(format!("token-{key}"))?.with_lifetime(HOUR * 24);
            Ok::<_, Error>(if key == 1 { token.with_refresh_token("refresh") } else { token })
        })
    })
    .max_tenants(3)
    .spawn();
    for key in 1..=3 {
        pool.token(&key).await.unwrap();
        sleep(secs(10)).await;
    }
    sleep(secs(120)).await;
    for (new, gone) in [(4, 2), (5, 3), (6, 1)] {
        pool.token(&new).await.unwrap();
        assert!(pool.status(&gone).is_none(), "{gone} made no room");
        assert_eq!(pool.len(), 3);
    }
}

/// All are long idle, and none is at rest: the caller that looked for room looked for ever.
#[tokio::test(start_paused = true)]
async fn f71_when_all_are_waited_for_there_is_no_room_and_the_caller_is_told_so() {
    let scripts = Scripts::<u32>::new(Step::Hang);
    let pool = scripts.builder().max_tenants(300).wait(HOUR).fetch_timeout(HOUR).spawn();
    for key in 0..300 {
        let pool = pool.clone();
        tokio::spawn(async move { drop(pool.token(&key).await) });
    }
    sleep(secs(600)).await;
    assert_eq!(pool.token(&1000).await.unwrap_err().kind(), ErrorKind::Overloaded);
}

/// Requests note the second that the keeper has not ended yet.
#[tokio::test(start_paused = true)]
async fn f71_a_tenant_in_use_is_not_dropped_because_the_keeper_had_no_turn() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let (pool, keeper) = scripts.builder().idle_timeout(secs(10)).pair();
    let mut keeper = Box::pin(keeper);
    let turns = async |keeper: &mut Pin<Box<PoolKeeper>>, time| {
        assert!(timeout(time, keeper).await.is_err(), "it has ended");
    };
    let caller = pool.clone();
    let first = tokio::spawn(async move { value(&caller, &1).await });
    turns(&mut keeper, secs(3)).await;
    first.await.unwrap();
    for _ in 0..2 {
        for _ in 0..20 {
            assert!(pool.current(&1).is_some());
            sleep(secs(1)).await;
        }
        turns(&mut keeper, secs(8)).await;
        assert_eq!(pool.len(), 1, "it was used a moment ago");
    }
    turns(&mut keeper, secs(4)).await;
    assert_eq!(pool.len(), 0, "it is idle");
}

/// They stay in the queue though nobody waits for them.
#[tokio::test(start_paused = true)]
async fn f71_tenants_that_a_request_asked_for_that_did_not_wait_make_room() {
    let scripts = Scripts::<u32>::new(Step::Hang);
    let builder = scripts.builder().max_tenants(10).max_parallel(1).max_slow(0);
    let pool = builder.wait(std::time::Duration::ZERO).spawn();
    for key in 0..10 {
        assert_eq!(pool.token(&key).await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    sleep(secs(12)).await;
    for key in 10..19 {
        assert_eq!(pool.token(&key).await.unwrap_err().kind(), ErrorKind::Timeout, "{key}");
    }
}
