use std::{
    fmt,
    future::{Future as _, pending, poll_fn},
    iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use super::{DynTokenSource, FetchContext, TokenSource};
use crate::{error::Error, token::TokenSet};

/// Several sources, asked in order until one gives a token.
///
/// Each source is shown only what it gave itself: a refresh token goes to nobody but the server
/// that issued it. So a store goes around each source, not around the chain.
///
/// When none gives a token, the error is the first one that may pass by itself, or else the last one: it
/// decides how soon all are asked again.
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

/// A source and what it gave last. Clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    source: Arc<dyn DynTokenSource>,
    given: Arc<Mutex<Option<Arc<TokenSet>>>>,
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

impl Link {
    pub(crate) fn new(source: impl TokenSource) -> Self {
        Self { source: Arc::new(source), given: Arc::default() }
    }

    pub(crate) async fn fetch(&self, mut cx: FetchContext) -> Result<TokenSet, Error> {
        // Not what another source gave: its refresh token is another server's.
        cx.previous.clone_from(&self.given());
        let token = self.source.fetch(cx).await?;
        *self.given() = Some(Arc::new(token.clone()));
        Ok(token)
    }

    pub(crate) async fn revoke(&self, mut cx: FetchContext) -> Result<(), Error> {
        cx.previous = self.given().take();
        self.source.revoke(cx).await
    }

    /// Waits for a token in place of the one that this source gave last.
    pub(crate) async fn renewed(&self, mut cx: FetchContext) -> TokenSet {
        // Of what another source gave, this one knows nothing newer.
        let given = self.given().clone();
        let [ours, current] =
            [&given, &cx.previous].map(|token| token.as_ref().map(|token| token.access_token()));
        if ours != current {
            return pending().await;
        }
        cx.previous = given;
        let token = self.source.renewed(cx).await;
        *self.given() = Some(Arc::new(token.clone()));
        token
    }

    /// Goes on where another source is: with what it gave last.
    pub(super) fn inherit(&self, other: &Self) {
        let given = other.given().clone();
        *self.given() = given;
    }

    fn given(&self) -> MutexGuard<'_, Option<Arc<TokenSet>>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenSource for Chain {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let mut error = match self.first.fetch(cx.clone()).await {
            Ok(token) => return Ok(token),
            Err(error) => error,
        };
        for source in &self.others {
            match source.fetch(cx.clone()).await {
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

    /// Each source revokes what it gave.
    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        let mut outcome = self.first.revoke(cx.clone()).await;
        for source in &self.others {
            outcome = outcome.and(source.revoke(cx.clone()).await);
        }
        outcome
    }
}

/// Whichever hears of a token first.
pub(crate) async fn first_of<'a>(
    links: impl Iterator<Item = &'a Link>,
    cx: &FetchContext,
) -> TokenSet {
    let mut all: Vec<_> = links.map(|link| Box::pin(link.renewed(cx.clone()))).collect();
    poll_fn(|task| {
        let ready = all.iter_mut().find_map(|renewed| match renewed.as_mut().poll(task) {
            Poll::Ready(token) => Some(token),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("sources", &(1 + self.others.len())).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::source_fn;
    use super::*;
    use crate::error::ErrorKind;

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
            let fails = std::sync::atomic::AtomicBool::new(false);
            source_fn(move |cx: FetchContext| {
                let previous = cx.previous.as_ref().and_then(|token| token.refresh_token());
                assert!(previous.is_none_or(|token| token.expose() == name));
                let fail = fails.fetch_xor(true, std::sync::atomic::Ordering::Relaxed);
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
}
