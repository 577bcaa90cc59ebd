//! Several sources, of which one gives the token. Called by the refresher, as any source.

use std::{fmt, iter};

use tokio::time::timeout_at;

use super::{
    FetchContext, TokenSource,
    link::{Link, first_of, share},
};
use crate::{
    error::{Error, ErrorKind},
    token::TokenSet,
};

/// Several sources, asked in order until one gives a token.
///
/// Each source is shown only what it gave itself: a refresh token goes to nobody but the server
/// that issued it. So a store goes around each source, not around the chain.
///
/// Each source has an equal share of the time until the fetch's deadline, and of what the sources
/// before it have left: of two sources and 30 s, the first one has 15 s, and the second one at least
/// 15 s. A source that gives no token within its share has failed with [`ErrorKind::Timeout`], and the
/// chain asks the next one.
///
/// The chain does not drop the fetch of a slow source, because the answer may hold a rotated refresh
/// token. That fetch goes on until the chain's own deadline, which is also the source's
/// [`deadline`](FetchContext::deadline). The source is not
/// asked twice at a time: the chain's next fetch waits for the one under way, and takes its token.
///
/// When no source gives a token, the error is the first one that is
/// [retryable](Error::is_retryable), or else the last one: it decides how soon the refresher tries
/// again.
///
/// ```
/// use tower_oauth::{Chain, Error, TokenHandle, TokenSet, source_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let sidecar = source_fn(|_| async { Err(Error::other("no sidecar here")) });
/// let fallback = source_fn(|_| async { TokenSet::bearer("abc") });
/// let tokens = TokenHandle::spawn(Chain::new(sidecar).or(fallback));
/// assert_eq!(tokens.token().await?.access_token().expose(), "abc");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Chain {
    first: Link,
    others: Vec<Link>,
}

impl Chain {
    /// Starts with the source that is asked first.
    pub fn new(first: impl TokenSource) -> Self {
        Self { first: Link::new(first), others: Vec::new() }
    }

    /// Adds a source that is asked when those before it gave no token.
    #[must_use]
    pub fn or(mut self, next: impl TokenSource) -> Self {
        self.others.push(Link::new(next));
        self
    }
}

impl TokenSource for Chain {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let mut left = 1 + self.others.len();
        let first = self.first.fetch_within(share(cx.deadline, left), cx.clone()).await;
        let mut error = match first {
            Ok(token) => return Ok(token),
            Err(error) => error,
        };
        for source in &self.others {
            left -= 1;
            match source.fetch_within(share(cx.deadline, left), cx.clone()).await {
                Ok(token) => return Ok(token),
                Err(next) if !error.is_retryable() => error = next,
                Err(_) => {}
            }
        }
        Err(error)
    }

    /// Waits for what follows the current token, at the source that gave it; without one, at all of
    /// them.
    async fn renewed(&self, cx: FetchContext) -> TokenSet {
        first_of(iter::once(&self.first).chain(&self.others), &cx).await
    }

    /// Each source revokes what it gave, within its share of the time.
    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        let mut outcome = Ok(());
        let sources = iter::once(&self.first).chain(&self.others);
        for (before, source) in sources.enumerate() {
            let share = share(cx.deadline, 1 + self.others.len() - before);
            let cx = FetchContext { deadline: share, ..cx.clone() };
            let revoked = timeout_at(share, source.revoke(cx)).await;
            outcome = outcome.and(revoked.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Timeout, "a source did not revoke its tokens in time"))
            }));
        }
        outcome
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("sources", &(1 + self.others.len())).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use tokio::time::{Instant, sleep, timeout};

    use super::{
        super::{StepUp, source_fn},
        *,
    };
    use crate::secret::Secret;

    const TIME: Duration = Duration::from_secs(30);

    fn good(name: &'static str) -> impl TokenSource {
        source_fn(move |_| async move { TokenSet::bearer(name) })
    }

    /// As the refresher does: it drops the fetch at its deadline.
    async fn fetch(chain: &Chain) -> Result<String, Error> {
        let cx = FetchContext::first();
        let token = timeout(TIME, TokenSource::fetch(chain, cx)).await;
        Ok(token.expect("the chain keeps to the deadline")?.access_token().expose().to_owned())
    }

    fn failing(kind: ErrorKind) -> impl TokenSource {
        source_fn(move |_| async move { Err(Error::new(kind, "no")) })
    }

    #[tokio::test]
    async fn the_first_token_wins() {
        let chain = Chain::new(failing(ErrorKind::Transport))
            .or(source_fn(|_| async { TokenSet::bearer("second") }))
            .or(source_fn(|_| async { TokenSet::bearer("third") }));
        let token = TokenSource::fetch(&chain, FetchContext::first()).await.unwrap();
        assert_eq!(token.access_token().expose(), "second");
    }

    /// The chain passed on what any source had given: one server got another one's refresh token.
    #[tokio::test]
    async fn each_source_sees_only_the_refresh_token_it_gave() {
        // Fails every second time, and gives its name.
        let rotating = |name: &'static str| {
            let fails = AtomicBool::new(false);
            source_fn(move |cx: FetchContext| {
                let previous = cx.previous.as_ref().and_then(|token| token.refresh_token());
                assert!(previous.is_none_or(|token| token.expose() == name));
                let fail = fails.fetch_xor(true, Ordering::Relaxed);
                let seen = if previous.is_some() { "again" } else { "first" };
                async move {
                    if fail {
                        return Err(Error::new(ErrorKind::Transport, "not now"));
                    }
                    Ok(TokenSet::bearer(seen)?.with_refresh_token(name))
                }
            })
        };
        let chain = Chain::new(rotating("a")).or(rotating("b"));
        let mut cx = FetchContext::first();
        for expected in ["first", "first", "again"] {
            let token = TokenSource::fetch(&chain, cx.clone()).await.unwrap();
            assert_eq!(token.access_token().expose(), expected);
            cx.previous = Some(Arc::new(token));
        }
    }

    #[tokio::test]
    async fn an_error_that_may_pass_decides_over_one_that_does_not() {
        use ErrorKind::{InvalidClient, InvalidGrant, Transport};
        for (kinds, expected) in [
            ([InvalidClient, Transport, InvalidGrant], Transport),
            ([InvalidClient, InvalidClient, InvalidGrant], InvalidGrant),
        ] {
            let [first, second, third] = kinds.map(failing);
            let chain = Chain::new(first).or(second).or(third);
            let error = TokenSource::fetch(&chain, FetchContext::first()).await.unwrap_err();
            assert_eq!(error.kind(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f64_a_source_that_hangs_leaves_the_others_their_shares() {
        let start = Instant::now();
        let chain = Chain::new(source_fn(|_| pending())).or(good("second"));
        assert_eq!(fetch(&chain).await.unwrap(), "second");
        assert_eq!(start.elapsed(), TIME / 2);

        // What a source leaves is shared by those after it.
        let start = Instant::now();
        let chain = Chain::new(failing(ErrorKind::InvalidClient))
            .or(source_fn(|_| pending()))
            .or(source_fn(|_| pending()))
            .or(good("fourth"));
        assert_eq!(fetch(&chain).await.unwrap(), "fourth");
        assert_eq!(start.elapsed(), TIME / 3 * 2);

        let chain = Chain::new(failing(ErrorKind::InvalidClient)).or(source_fn(|_| pending()));
        let error = TokenSource::fetch(&chain, FetchContext::first()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, true));
    }

    #[tokio::test(start_paused = true)]
    async fn f64_each_source_is_told_the_deadline_of_the_chain() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let source = |after: u64| {
            let (told, start) = (told.clone(), Instant::now());
            source_fn(move |cx: FetchContext| {
                told.lock().unwrap().push((cx.deadline - start).as_secs());
                async move {
                    sleep(Duration::from_secs(after)).await;
                    Err(Error::new(ErrorKind::Transport, "no"))
                }
            })
        };
        let chain = Chain::new(source(4)).or(source(1)).or(source(0));
        assert!(fetch(&chain).await.is_err());
        // A source that was told the end of its share would drop its exchange there.
        assert_eq!(*told.lock().unwrap(), [30, 30, 30]);
    }

    /// The fetch of a source that was too slow was dropped, and the refresh token in its answer with
    /// it: the one before it was spent, and the grant over.
    #[tokio::test(start_paused = true)]
    async fn f64_a_refresh_token_that_comes_late_is_not_lost() {
        let fetches = Arc::new(AtomicUsize::new(0));
        let counted = fetches.clone();
        // Each answer rotates the refresh token, and takes 20 s but for the last.
        let rotating = source_fn(move |cx: FetchContext| {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let previous = cx.previous.as_ref().and_then(|token| token.refresh_token());
            let expected = number.checked_sub(1).map(|number| format!("r{number}"));
            assert_eq!(previous.map(Secret::expose), expected.as_deref());
            async move {
                sleep(Duration::from_secs(if number < 2 { 20 } else { 0 })).await;
                let token = TokenSet::bearer(format!("a{number}"))?;
                Ok(token.with_refresh_token(format!("r{number}")))
            }
        });
        let chain = Chain::new(rotating).or(good("fallback"));
        assert_eq!(fetch(&chain).await.unwrap(), "fallback");
        // It has come in the meantime, and the next fetch begins with it.
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(fetch(&chain).await.unwrap(), "fallback");
        assert_eq!(fetches.load(Ordering::Relaxed), 2);
        // The one that is under way is awaited, and no other begun.
        assert_eq!(fetch(&chain).await.unwrap(), "a1");
        assert_eq!(fetches.load(Ordering::Relaxed), 2);
        assert_eq!(fetch(&chain).await.unwrap(), "a2");
    }

    #[tokio::test(start_paused = true)]
    async fn f64_a_source_that_never_ends_is_asked_by_one_fetch_at_a_time_and_ends_with_its_deadline()
     {
        struct Alive(Arc<AtomicUsize>);
        impl Drop for Alive {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let alive = Arc::new(AtomicUsize::new(0));
        let counted = alive.clone();
        let hanging = source_fn(move |_| {
            assert_eq!(counted.fetch_add(1, Ordering::Relaxed), 0, "two at a time");
            let alive = Alive(counted.clone());
            async move {
                let _alive = alive;
                pending().await
            }
        });
        let chain = Chain::new(hanging).or(good("fallback"));
        for _ in 0..5 {
            assert_eq!(fetch(&chain).await.unwrap(), "fallback");
        }
        sleep(TIME).await;
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }

    /// What is under way was begun before an API asked for more.
    #[tokio::test(start_paused = true)]
    async fn f64_a_fetch_that_asks_for_more_does_not_take_the_token_of_one_under_way() {
        let source = source_fn(|cx: FetchContext| async move {
            sleep(Duration::from_secs(20)).await;
            TokenSet::bearer(if cx.step_up.is_empty() { "narrow" } else { "wide" })
        });
        let chain = Chain::new(source).or(good("fallback"));
        assert_eq!(fetch(&chain).await.unwrap(), "fallback");
        let mut cx = FetchContext::first();
        cx.deadline += TIME;
        cx.step_up = StepUp::claims("{}");
        let token = TokenSource::fetch(&chain, cx).await.unwrap();
        assert_eq!(token.access_token().expose(), "wide");
    }

    #[tokio::test(start_paused = true)]
    async fn f64_a_source_whose_fetch_under_way_fails_is_asked_again_at_once() {
        let fetches = AtomicUsize::new(0);
        let source = source_fn(move |_| {
            let first = fetches.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                sleep(Duration::from_secs(if first { 20 } else { 0 })).await;
                if first { Err(Error::other("too late")) } else { TokenSet::bearer("again") }
            }
        });
        let chain = Chain::new(source).or(good("fallback"));
        assert_eq!(fetch(&chain).await.unwrap(), "fallback");
        assert_eq!(fetch(&chain).await.unwrap(), "again");
    }

    /// A caller that goes away does not take the fetch with it.
    #[tokio::test(start_paused = true)]
    async fn f64_a_fetch_that_is_dropped_ends_by_itself() {
        let slow = source_fn(|_| async {
            sleep(Duration::from_secs(10)).await;
            TokenSet::bearer("slow")
        });
        let chain = Chain::new(slow);
        let fetched = TokenSource::fetch(&chain, FetchContext::first());
        timeout(Duration::from_secs(1), fetched).await.unwrap_err();
        let start = Instant::now();
        assert_eq!(fetch(&chain).await.unwrap(), "slow");
        assert_eq!(start.elapsed(), Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn f64_a_source_that_panics_leaves_it_to_the_next() {
        let panicking = source_fn(|_| async { panic!("a bug") });
        let chain = Chain::new(panicking).or(good("second"));
        for _ in 0..2 {
            assert_eq!(fetch(&chain).await.unwrap(), "second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f64_a_revocation_that_hangs_leaves_the_others_their_shares() {
        struct Hangs;
        impl TokenSource for Hangs {
            async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
                pending().await
            }
            async fn revoke(&self, _: FetchContext) -> Result<(), Error> {
                pending().await
            }
        }
        struct Revokes(Arc<AtomicUsize>);
        impl TokenSource for Revokes {
            async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
                TokenSet::bearer("a")
            }
            async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
                self.0.fetch_add(usize::from(cx.previous.is_some()), Ordering::Relaxed);
                Ok(())
            }
        }
        let revoked = Arc::new(AtomicUsize::new(0));
        let chain = Chain::new(Hangs).or(Revokes(revoked.clone()));
        fetch(&chain).await.unwrap();
        // Its own fetch has ended.
        sleep(TIME).await;
        let start = Instant::now();
        let outcome = TokenSource::revoke(&chain, FetchContext::first()).await;
        assert_eq!(start.elapsed(), TIME / 2);
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(revoked.load(Ordering::Relaxed), 1);
    }
}
