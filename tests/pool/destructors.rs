//! Sources, errors and keys that panic when they are dropped, wherever a pool drops them.

use std::{
    error::Error as StdError,
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tower_oauth::{
    Error, ErrorKind, FetchContext, TokenHandle, TokenPool, TokenSet, TokenSource, source_fn,
};

use crate::source::{HOUR, secs, settle};

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

struct Careless {
    _bomb: Bomb,
    time: Duration,
}

impl TokenSource for Careless {
    async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
        sleep(self.time).await;
        Ok(TokenSet::bearer("token")?.with_lifetime(HOUR))
    }
}

fn careless(seconds: u64) -> Careless {
    Careless { _bomb: Bomb, time: secs(seconds) }
}

#[tokio::test(start_paused = true)]
async fn f100_sources_that_panic_when_they_are_dropped_end_neither_a_pool_nor_a_request() {
    let builder = TokenPool::builder(|_: &u32| careless(1)).max_tenants(2).idle_timeout(secs(100));
    let (pool, keeper) = builder.pair();
    let keeper = tokio::spawn(keeper);
    // One is removed, and one while it is fetched for.
    pool.token(&0).await.unwrap();
    assert!(pool.remove(&0));
    let fetched = pool.clone();
    let caller = tokio::spawn(async move { fetched.token(&1).await.map(|_| ()) });
    settle().await;
    assert!(pool.remove(&1));
    caller.await.unwrap().unwrap();
    // One makes room in the request of another tenant.
    for tenant in 2..5 {
        sleep(secs(70)).await;
        pool.token(&tenant).await.unwrap();
    }
    // All are idle, and new ones are fetched for.
    sleep(secs(110)).await;
    assert!(pool.is_empty());
    for tenant in 5..7 {
        pool.token(&tenant).await.unwrap();
    }
    timeout(secs(5), pool.shutdown()).await.unwrap();
    settle().await;
    assert!(keeper.is_finished());
    keeper.await.unwrap();
}

/// An error of a user's that panics when it is dropped.
#[derive(Debug)]
struct BombError;

impl Drop for BombError {
    fn drop(&mut self) {
        panic!("an error was dropped");
    }
}

impl fmt::Display for BombError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bomb")
    }
}

impl StdError for BombError {}

fn fails_twice() -> impl TokenSource {
    let count = AtomicUsize::new(0);
    source_fn(move |_| {
        let count = count.fetch_add(1, Ordering::Relaxed);
        async move {
            match count {
                0 | 1 => Err(Error::other(BombError)),
                _ => TokenSet::bearer("token"),
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn f100_an_error_that_panics_when_it_is_dropped_is_a_failure_like_any_other() {
    let pool = TokenPool::builder(|_: &u32| fails_twice()).wait(HOUR).spawn();
    let tokens = TokenHandle::builder(fails_twice()).wait(HOUR).spawn();
    let error = tokens.token().await.map(|_| ());
    assert!(error.is_ok(), "{error:?}");
    for tenant in 0..3 {
        pool.token(&tenant).await.unwrap();
    }
    let error = Error::new(ErrorKind::Timeout, "late").with_source(BombError);
    let same = error.clone().with_retry_at(Instant::now());
    assert!(same.source().is_some_and(<dyn StdError>::is::<BombError>), "it is found");
    drop((error, same));
}

/// A key whose clones panic when they are dropped.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key(u32, Original);

#[derive(Debug)]
struct Original(bool);

impl PartialEq for Original {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Original {}

impl Hash for Original {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Self(self.0, Original(false))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        assert!(self.1.0, "a clone was dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn f100_keys_that_panic_when_they_are_dropped_end_no_pool() {
    let source = |_: &Key| source_fn(|_| std::future::ready(TokenSet::bearer("token")));
    let pool = TokenPool::builder(source).idle_timeout(secs(60)).max_tenants(100).spawn();
    // The map drops what it has removed in batches.
    for id in 0..1000 {
        let key = Key(id, Original(true));
        pool.token(&key).await.unwrap();
        assert!(id % 3 > 0 || pool.remove(&key));
        sleep(secs(2)).await;
    }
    pool.shutdown().await;
}

/// What a destructor asks a pool, on a thread of its own. `None` as long as there is no pool.
#[derive(Clone, Default)]
struct Asks(Arc<OnceLock<TokenPool<CuriousKey>>>);

impl Asks {
    /// Fails if the pool does not answer: it was dropped while a lock of the pool was held.
    fn ask(&self) {
        let Some(pool) = self.0.get().cloned() else { return };
        let (sender, receiver) = mpsc::channel();
        let asking = thread::spawn(move || {
            let _ = sender.send(pool.len());
        });
        if receiver.recv_timeout(secs(20)).is_err() {
            // A panic would be contained.
            eprintln!("dropped while the pool was locked");
            std::process::abort();
        }
        asking.join().unwrap();
    }
}

impl fmt::Debug for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asks")
    }
}

/// A key, a source and an error that ask the pool when they are dropped.
#[derive(Clone)]
struct CuriousKey(u32, Asks);

impl PartialEq for CuriousKey {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for CuriousKey {}

impl Hash for CuriousKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Drop for CuriousKey {
    fn drop(&mut self) {
        self.1.ask();
    }
}

struct CuriousSource(Asks, AtomicUsize);

impl TokenSource for CuriousSource {
    async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
        if self.1.fetch_add(1, Ordering::Relaxed) < 2 {
            return Err(Error::other(CuriousError(self.0.clone())));
        }
        TokenSet::bearer("token")
    }
}

impl Drop for CuriousSource {
    fn drop(&mut self) {
        self.0.ask();
    }
}

#[derive(Debug)]
struct CuriousError(Asks);

impl fmt::Display for CuriousError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("curious")
    }
}

impl StdError for CuriousError {}

impl Drop for CuriousError {
    fn drop(&mut self) {
        self.0.ask();
    }
}

#[tokio::test(start_paused = true)]
async fn f100_no_destructor_runs_while_a_pool_is_locked() {
    let asks = Asks::default();
    let source = |key: &CuriousKey| CuriousSource(key.1.clone(), AtomicUsize::new(0));
    let pool = TokenPool::builder(source).idle_timeout(secs(60)).max_tenants(50).spawn();
    assert!(asks.0.set(pool.clone()).is_ok());
    for id in 0..300 {
        let key = CuriousKey(id, asks.clone());
        pool.token(&key).await.unwrap();
        assert!(id % 3 > 0 || pool.remove(&key));
        sleep(secs(2)).await;
    }
    pool.shutdown().await;
}
