//! A clock of the user's that panics for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;
use tower_oauth::{
    TokenHandle, TokenPool, TokenSet, TokenSource, source_fn,
    time::{Clock, Moment, SystemClock},
};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Faulty {
    clock: SystemClock,
    broken: Arc<AtomicBool>,
}

impl Clock for Faulty {
    fn now(&self) -> Moment {
        assert!(!self.broken.load(Ordering::Relaxed), "the clock is broken");
        self.clock.now()
    }
}

fn source(takes: Duration) -> impl TokenSource {
    source_fn(move |_| async move {
        sleep(takes).await;
        Ok(TokenSet::bearer("abc")?.with_lifetime(MINUTE))
    })
}

/// A handle ended, and a pool with a request that waited aborted the process.
#[tokio::test(start_paused = true)]
async fn f100_tokens_go_on_while_a_clock_panics() {
    let clock = Faulty { clock: SystemClock::new(), broken: Arc::default() };
    let tokens = TokenHandle::builder(source(Duration::ZERO)).clock(clock.clone()).spawn();
    tokens.ready().await.unwrap();
    let pool = TokenPool::builder(|_: &u32| source(Duration::from_secs(5)));
    let pool = pool.clock(clock.clone()).spawn();
    pool.token(&1).await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.token(&2).await.is_ok() }
    });
    sleep(Duration::from_secs(1)).await;
    clock.broken.store(true, Ordering::Relaxed);
    for _ in 0..30 {
        sleep(MINUTE / 6).await;
        tokens.token().await.unwrap();
        pool.token(&1).await.unwrap();
    }
    assert!(waiting.await.unwrap());
    clock.broken.store(false, Ordering::Relaxed);
    for _ in 0..30 {
        sleep(MINUTE / 6).await;
        tokens.token().await.unwrap();
        pool.token(&1).await.unwrap();
    }
    assert!(tokens.status().is_running() && tokens.status().is_ready());
}
