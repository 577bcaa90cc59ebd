//! Pools where there is no runtime, one without timers, or one that nobody drives; and sources that
//! panic where no source should.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, sleep},
};
use tower_oauth::{Error, ErrorKind, State, TokenPool, TokenSet, source_fn};

use crate::source::{HOUR, Scripts, secs, value};

fn with_timers() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn without_timers() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Polls once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match tokio_test::task::spawn(future).poll() {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}

fn says(error: &Error, kind: ErrorKind, text: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn f72_a_pool_that_is_made_outside_of_a_runtime_has_ended_and_says_why() {
    let pool = Scripts::<u32>::tokens(HOUR).spawn();
    says(&now(pool.token(&1)).unwrap_err(), ErrorKind::Shutdown, "outside of a tokio runtime");
    let status = pool.status(&1).unwrap();
    assert_eq!(status.state(), State::Stopped);
    says(status.error().unwrap(), ErrorKind::Shutdown, "outside of a tokio runtime");
    assert!(!pool.remove(&1) && pool.current(&1).is_none());
    now(pool.shutdown());
}

#[test]
fn f72_a_pool_on_a_runtime_without_timers_has_ended_and_says_why() {
    without_timers().block_on(async {
        let pool = Scripts::<u32>::tokens(HOUR).spawn();
        let error = pool.token(&1).await.unwrap_err();
        says(&error, ErrorKind::Shutdown, "enable_time()");
        assert_eq!(pool.status(&1).unwrap().state(), State::Stopped);
        assert!(!pool.remove(&1));
        pool.shutdown().await;

        // A keeper that is run there by hand ends too.
        let (pool, keeper) = Scripts::<u32>::tokens(HOUR).builder().pair();
        keeper.await;
        says(&pool.token(&1).await.unwrap_err(), ErrorKind::Shutdown, "enable_time()");
    });
    let (pool, keeper) = Scripts::<u32>::tokens(HOUR).builder().pair();
    now(keeper);
    says(&now(pool.token(&1)).unwrap_err(), ErrorKind::Shutdown, "outside of a tokio runtime");
}

/// The keeper runs where there are timers, and the callers are elsewhere.
#[test]
fn f72_callers_without_timers_get_the_token_that_is_there_and_cannot_wait_for_another() {
    let home = with_timers();
    let pool = home.block_on(async {
        let pool = Scripts::<u32>::tokens(HOUR).spawn();
        value(&pool, &1).await;
        pool
    });
    assert!(now(pool.token(&1)).is_ok());
    assert_eq!(now(pool.token(&2)).unwrap_err().kind(), ErrorKind::Timeout);
    without_timers().block_on(async {
        assert!(pool.token(&1).await.is_ok());
        assert_eq!(pool.token(&3).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(pool.remove(&1) && !pool.remove(&1));
        pool.shutdown().await;
        assert_eq!(pool.token(&1).await.unwrap_err().kind(), ErrorKind::Shutdown);
    });
    now(pool.shutdown());
}

#[tokio::test(start_paused = true)]
async fn f72_a_keeper_that_is_never_polled_is_named_by_the_error_and_the_status() {
    let (pool, _keeper) = Scripts::<u32>::tokens(HOUR).builder().wait(secs(10)).pair();
    let asked = Instant::now();
    let error = pool.token(&1).await.unwrap_err();
    assert_eq!((error.kind(), asked.elapsed()), (ErrorKind::Timeout, secs(10)));
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains("keeper of the token pool is not running"), "{cause}");
    let status = pool.status(&1).unwrap();
    assert!(!status.is_ready());
    says(status.error().unwrap(), ErrorKind::Timeout, "is not running");
    assert!(pool.remove(&1));
    let asked = Instant::now();
    pool.shutdown().await;
    assert_eq!(asked.elapsed(), secs(30), "bounded by the time of a fetch");
}

/// A runtime that is alive, and that nobody drives any more.
#[test]
fn f72_a_status_says_that_the_keeper_has_no_turns() {
    let home = with_timers();
    let pool = home.block_on(async {
        let pool = Scripts::<u32>::tokens(Duration::from_millis(1500)).spawn();
        value(&pool, &1).await;
        assert!(pool.status(&1).unwrap().error().is_none());
        pool
    });
    std::thread::sleep(secs(7));
    let status = pool.status(&1).unwrap();
    assert_eq!(status.state(), State::Expired);
    says(status.error().unwrap(), ErrorKind::Timeout, "is not running");
    assert!(pool.current(&1).is_none());
}

/// Gives a token, or nothing, and panics when it is dropped.
struct Explosive(Option<Result<TokenSet, Error>>);

impl Future for Explosive {
    type Output = Result<TokenSet, Error>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("scripted panic");
    }
}

/// The tenant counted as being fetched for, for ever, and so did its permit.
#[tokio::test(start_paused = true)]
async fn f25_a_source_whose_future_panics_when_it_is_dropped_is_asked_again() {
    let fetches = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = fetches.clone();
    let pool = TokenPool::builder(move |_: &u32| {
        let counted = counted.clone();
        source_fn(move |_| {
            let number = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                match number {
                    0 => Explosive(Some(Err(Error::new(ErrorKind::Transport, "no")))).await,
                    1 => Explosive(None).await,
                    _ => TokenSet::bearer("token"),
                }
            }
        })
    })
    .max_parallel(1)
    .max_slow(0)
    .fetch_timeout(secs(5))
    .spawn();
    assert_eq!(value(&pool, &1).await, "token");
    sleep(secs(1)).await;
    value(&pool, &2).await;
}
