//! Sources whose `Drop` panics, or that of what they return.

use std::{
    future::{Future, pending, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::sleep;
use tower_oauth::{
    Error, FetchContext, TokenHandle, TokenPool, TokenSet, TokenSource,
    observe::{Event, Observer},
    source::{Identity, source_fn},
    store::{MemoryStore, Persisted},
};

const LIFETIME: Duration = Duration::from_secs(60);

/// A source whose future panics when it is dropped: after it has given a token, or instead.
#[derive(Clone)]
struct Careless {
    hangs: bool,
    fetches: Arc<AtomicUsize>,
}

struct Bomb<F>(F);

impl<F> Drop for Bomb<F> {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

impl<F: Future + Unpin> Future for Bomb<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl TokenSource for Careless {
    fn fetch(&self, _: FetchContext) -> impl Future<Output = Result<TokenSet, Error>> + Send {
        let number = self.fetches.fetch_add(1, Ordering::Relaxed);
        let token = TokenSet::bearer(format!("token-{number}"));
        let outcome: Pin<Box<dyn Future<Output = _> + Send>> =
            if self.hangs && number == 0 { Box::pin(pending()) } else { Box::pin(ready(token)) };
        let mut fetch = Bomb(outcome);
        std::future::poll_fn(move |cx| Pin::new(&mut fetch).poll(cx))
    }
}

fn careless(hangs: bool) -> Careless {
    Careless { hangs, fetches: Arc::default() }
}

/// The token was thrown away with what came after it, and its refresh token too.
#[tokio::test(start_paused = true)]
async fn f100_a_future_that_panics_when_it_is_dropped_has_given_its_token() {
    for hangs in [false, true] {
        // Longer than the fetch that hangs.
        let wait = Duration::from_secs(90);
        let tokens = TokenHandle::builder(careless(hangs)).wait(wait).spawn();
        tokens.token().await.unwrap();
        assert_eq!(tokens.status().failures(), 0);

        // A tenant was fetching for ever.
        let source = careless(hangs);
        let fetches = source.fetches.clone();
        let pool = TokenPool::builder(move |_: &u32| source.clone())
            .default_lifetime(LIFETIME)
            .max_parallel(1)
            .wait(wait)
            .spawn();
        for tenant in 0..5 {
            pool.token(&tenant).await.unwrap();
        }
        let before = fetches.load(Ordering::Relaxed);
        for _ in 0..10 {
            sleep(LIFETIME / 2).await;
            pool.token(&0).await.unwrap();
        }
        assert!(fetches.load(Ordering::Relaxed) > before + 2, "nothing is renewed");
    }
}

#[tokio::test(start_paused = true)]
async fn f100_a_token_is_stored_although_its_future_panics_when_it_is_dropped() {
    let store = MemoryStore::new();
    let identity = Identity::new("https://as.example/token", "careless");
    let source = Persisted::identified(identity, careless(false), store.clone());
    let tokens = TokenHandle::spawn(source);
    let token = tokens.token().await.unwrap();
    tokens.shutdown().await;
    let identity = Identity::new("https://as.example/token", "careless");
    let another = Persisted::identified(identity, careless(true), store);
    let adopted = TokenHandle::spawn(another).token().await.unwrap();
    assert_eq!(adopted.access_token().expose(), token.access_token().expose());
}

/// A tenant that is forgotten takes its source with it, on the task that keeps all the others.
#[tokio::test(start_paused = true)]
async fn f100_a_source_that_panics_when_it_is_dropped_ends_no_pool() {
    let pool = TokenPool::builder(|_: &u32| Fixed(Bomb(())))
        .idle_timeout(Duration::from_secs(60))
        .default_lifetime(LIFETIME)
        .spawn();
    for tenant in 0..5 {
        pool.token(&tenant).await.unwrap();
    }
    assert!(pool.remove(&0));
    while !pool.is_empty() {
        sleep(LIFETIME).await;
    }
    pool.token(&7).await.unwrap();
    pool.shutdown().await;
}

struct Fixed(Bomb<()>);

impl TokenSource for Fixed {
    async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
        let Self(Bomb(())) = self;
        TokenSet::bearer("abc")
    }
}

/// It panicked where a handle or a refresher was dropped: in the caller's task, or its executor.
#[tokio::test(start_paused = true)]
async fn f100_an_observer_or_a_source_that_panics_when_it_is_dropped_is_contained() {
    struct Observes(Bomb<()>);

    impl Observer for Observes {
        fn event(&self, _: &Event<'_>) {
            let Self(Bomb(())) = self;
        }
    }

    let source = || source_fn(|_| async { TokenSet::bearer("abc") });
    let tokens = TokenHandle::builder(source()).observer(Observes(Bomb(()))).spawn();
    tokens.ready().await.unwrap();
    tokens.shutdown().await;
    sleep(LIFETIME).await;
    drop(tokens);
    let pool = TokenPool::builder(move |_: &u32| source()).observer(Observes(Bomb(()))).spawn();
    pool.token(&1).await.unwrap();
    pool.shutdown().await;
    sleep(LIFETIME).await;
    drop(pool);

    let (tokens, refresher) = TokenHandle::pair(Fixed(Bomb(())));
    drop(refresher);
    assert!(!tokens.status().is_running());
    let (tokens, refresher) = TokenHandle::pair(Fixed(Bomb(())));
    let refresher = tokio::spawn(refresher);
    tokens.ready().await.unwrap();
    tokens.shutdown().await;
    refresher.await.unwrap();
}
