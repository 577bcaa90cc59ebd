//! I10: whatever happens in whatever order, no tenant's token reaches another tenant.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::sleep;
use tower_oauth::{ErrorKind, TokenPool, TokenSet, source_fn};

use crate::{
    common::script::{Step, fail},
    source::{HOUR, Scripts, secs},
};

#[derive(Debug, Clone)]
enum Op {
    Ask(u32),
    AskAndWait(u32),
    Current(u32),
    Reject(u32),
    Remove(u32),
    Sleep(u64),
    Script(u32, u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..6u32;
    let op = prop_oneof![
        key.clone().prop_map(Op::Ask),
        key.clone().prop_map(Op::AskAndWait),
        key.clone().prop_map(Op::Current),
        key.clone().prop_map(Op::Reject),
        key.clone().prop_map(Op::Remove),
        prop_oneof![0..50u64, 0..5000u64, 0..200_000u64].prop_map(Op::Sleep),
        (key, 0..5u8).prop_map(|(key, step)| Op::Script(key, step)),
    ];
    proptest::collection::vec(op, 1..120)
}

fn step(n: u8) -> Step {
    match n {
        0 => Step::Token(secs(60)),
        1 => Step::Take(Duration::from_millis(300), Box::new(Step::Token(secs(20)))),
        2 => fail(ErrorKind::Server),
        3 => fail(ErrorKind::InvalidGrant),
        _ => Step::TokenWithoutLifetime,
    }
}

async fn run(ops: Vec<Op>) {
    let scripts = Scripts::<u32>::tokens(secs(60));
    // Too small for all of them, so that they make room for each other as well.
    let pool = scripts
        .builder()
        .max_tenants(4)
        .max_parallel(2)
        .idle_timeout(secs(30))
        .wait(secs(5))
        .spawn();
    let mut callers = tokio::task::JoinSet::new();
    for op in ops {
        match op {
            Op::Ask(key) => {
                let pool = pool.clone();
                callers.spawn(async move { check(&pool, key).await });
            }
            Op::AskAndWait(key) => check(&pool, key).await,
            Op::Current(key) => {
                if let Some(token) = pool.current(&key) {
                    belongs(key, token.access_token().expose());
                }
            }
            Op::Reject(key) => {
                if let Some(token) = pool.current(&key) {
                    // To every tenant: only one of them has a token of this epoch.
                    for other in (0..6).filter(|other| *other != key) {
                        let before = pool.current(&other).map(|token| token.epoch());
                        pool.reject(&other, token.epoch());
                        assert_eq!(pool.current(&other).map(|token| token.epoch()), before);
                    }
                    pool.reject(&key, token.epoch());
                }
            }
            Op::Remove(key) => {
                pool.remove(&key);
            }
            Op::Sleep(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
            Op::Script(key, n) => scripts.of(&key).otherwise(step(n)),
        }
        assert!(pool.len() <= 4);
        assert!(scripts.gauge().peak.load(Ordering::Relaxed) <= 2);
    }
    callers.join_all().await;
}

async fn check(pool: &TokenPool<u32>, key: u32) {
    if let Ok(token) = pool.token(&key).await {
        belongs(key, token.access_token().expose());
        let header = token.header_value();
        belongs(key, header.to_str().unwrap().strip_prefix("Bearer ").unwrap());
    }
}

fn belongs(key: u32, token: &str) {
    assert_eq!(token.split_once('/').map(|(owner, _)| owner), Some(&*key.to_string()), "{token}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn i10_no_token_crosses_over_in_any_interleaving(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(ops));
    }
}

#[tokio::test(start_paused = true)]
async fn tex_03_two_subjects_interleaved_ten_thousand_times_never_cross_over() {
    let scripts = Scripts::<u32>::tokens(secs(2));
    let pool = scripts.spawn();
    for n in 0..10_000 {
        let subject = n % 2;
        let token = pool.token(&subject).await.unwrap();
        belongs(subject, token.access_token().expose());
        if n % 7 == 0 {
            pool.reject(&subject, token.epoch());
        }
        if n % 101 == 0 {
            pool.remove(&subject);
        }
        sleep(Duration::from_millis(n.into()) / 100).await;
    }
    assert!(scripts.count() > 500, "tokens were exchanged all the time: {}", scripts.count());
}

/// Each field of a key is a dimension; sets have no order.
#[tokio::test(start_paused = true)]
async fn rfr_12_every_part_of_a_key_counts_and_the_order_of_a_set_does_not() {
    type Key = (&'static str, BTreeSet<&'static str>, Option<&'static str>);
    let pool = TokenPool::builder(|key: &Key| {
        let token = format!("{key:?}").replace([' ', '"'], "");
        source_fn(move |_| std::future::ready(TokenSet::bearer(&*token)))
    })
    .spawn();
    let mut seen = BTreeSet::new();
    for client in ["a", "b"] {
        for scopes in [["read", "write"], ["write", "read"], ["read", "read"]] {
            for audience in [None, Some("x"), Some("y")] {
                let key = (client, scopes.into(), audience);
                let token = pool.token(&key).await.unwrap();
                seen.insert(token.access_token().expose().to_owned());
            }
        }
    }
    assert_eq!((seen.len(), pool.len()), (12, 12));
}

/// Threads read while tenants come, go and are renewed: a bounded time, on the real clock.
#[test]
fn i10_threads_see_only_their_tenants_tokens_while_tenants_come_and_go() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool =
        runtime.block_on(async { scripts.builder().rejection_interval(Duration::ZERO).spawn() });
    let done = Arc::new(AtomicBool::new(false));
    let newest: Arc<[AtomicU64]> = (0..8).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for reader in 0..2 {
            let (pool, done, newest) = (&pool, &done, &newest);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(reader);
                while !done.load(Ordering::Relaxed) {
                    let key = random.u32(0..8);
                    let oldest = newest[key as usize].load(Ordering::Acquire);
                    if let Some(token) = pool.current(&key) {
                        belongs(key, token.access_token().expose());
                        assert!(token.epoch() >= oldest, "I2: {} after {oldest}", token.epoch());
                    }
                }
            });
        }
        runtime.block_on(async {
            for n in 0..4000 {
                let key = n % 8;
                let token = pool.token(&key).await.unwrap();
                belongs(key, token.access_token().expose());
                newest[key as usize].store(token.epoch(), Ordering::Release);
                if n % 400 == 0 {
                    // The next fetch keeps its pace: half a second.
                    pool.reject(&key, token.epoch());
                } else if n % 3 == 0 {
                    pool.remove(&key);
                }
            }
        });
        done.store(true, Ordering::Relaxed);
    });
}
