//! Where tokens come from.
//!
//! A [`TokenSource`] obtains a token: a grant, a file, a sidecar, another process' store. The
//! refresher is its one caller, so it needs no lock and no cache of its own.
//!
//! ```
//! use tower_oauth::{Error, FetchContext, TokenSet, TokenSource};
//!
//! struct Sidecar;
//!
//! impl TokenSource for Sidecar {
//!     async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
//!         let token = tokio::fs::read_to_string("/run/sidecar/token").await;
//!         TokenSet::bearer(token.map_err(Error::other)?)
//!     }
//! }
//! ```

mod chain;
mod context;
mod fixed;
mod function;
#[cfg(feature = "store")]
mod identity;
#[cfg(feature = "store")]
mod kept;
mod link;
mod replaceable;
mod service;
mod step_up;

use std::{
    future::{Future, pending, ready},
    pin::Pin,
    sync::Arc,
};

pub use chain::Chain;
pub use context::FetchContext;
pub use fixed::FixedToken;
pub use function::{SourceFn, source_fn};
#[cfg(feature = "store")]
#[cfg_attr(docsrs, doc(cfg(feature = "store")))]
pub use identity::{Identified, Identity};
#[cfg(feature = "store")]
pub(crate) use kept::KeptRefreshToken;
pub(crate) use link::{Link, first_of};
pub use replaceable::{Offer, Replaceable};
pub use service::FromService;
pub use step_up::StepUp;

use crate::{
    error::{Error, ErrorKind},
    task::{Contained, contain},
    token::TokenSet,
};

/// Obtains tokens.
pub trait TokenSource: Send + Sync + 'static {
    /// Obtains a token. `cx` carries the last token set (and so the refresh token), why a token is
    /// needed, and until when.
    ///
    /// A fetch runs to its end on a task of its own: a caller that goes away does not cancel it.
    ///
    /// # Errors
    ///
    /// Whatever kept the token from being had; [`Error::other`] wraps any error. The refresher
    /// tries again: soon if the error is [retryable](Error::is_retryable), slowly if it is not.
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<TokenSet, Error>> + Send;

    /// Revokes the last token set, `cx.previous`, at whoever issued it, and forgets what the source
    /// itself keeps of it, whatever becomes of the call. Nothing is fetched afterwards.
    ///
    /// Default: it cannot be done.
    ///
    /// # Errors
    ///
    /// Whatever kept the tokens from being revoked: they live on until they expire.
    fn revoke(&self, cx: FetchContext) -> impl Future<Output = Result<(), Error>> + Send {
        let nothing = cx.previous.is_none();
        async move { if nothing { Ok(()) } else { Err(cannot_revoke()) } }
    }

    /// Waits for a token that somebody else has obtained, such as another process with the same
    /// store. What comes of it is served at once, in place of `cx.previous`, without a token
    /// request.
    ///
    /// It is only ever a shortcut: whoever never hears of such a token fetches when the current one
    /// is due. So there is no error to return, and no deadline. It runs on a task of its own while
    /// nothing is fetched, is dropped when a fetch begins, and called anew after that one; also
    /// after it has returned, but not at once. `cx.reason` is [`Due`](crate::observe::FetchReason)
    /// while there is a token, and otherwise what became of it. A [`TokenPool`] does not call it.
    ///
    /// Default: it waits for ever.
    ///
    /// # Cancellation
    ///
    /// It may be dropped wherever it waits.
    ///
    /// [`TokenPool`]: https://docs.rs/tower-oauth/latest/tower_oauth/struct.TokenPool.html
    fn renewed(&self, cx: FetchContext) -> impl Future<Output = TokenSet> + Send {
        drop(cx);
        pending()
    }
}

fn cannot_revoke() -> Error {
    Error::new(ErrorKind::Configuration, "this source of tokens cannot revoke them")
}

impl<T: TokenSource> TokenSource for Arc<T> {
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<TokenSet, Error>> + Send {
        T::fetch(self, cx)
    }

    fn revoke(&self, cx: FetchContext) -> impl Future<Output = Result<(), Error>> + Send {
        T::revoke(self, cx)
    }

    fn renewed(&self, cx: FetchContext) -> impl Future<Output = TokenSet> + Send {
        T::renewed(self, cx)
    }
}

/// The error of a source that panicked. The panic's own message may hold anything.
pub(crate) fn panicked() -> Error {
    Error::new(ErrorKind::Panic, "the token source panicked")
}

/// Begins a call of a source, and contains it. The future is taken as it is: within an `async` block
/// it would be dropped before its output is out.
fn contained<'a, T: Send + 'a, F: Future<Output = Result<T, Error>> + Send + 'a>(
    call: impl FnOnce() -> F,
) -> Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>> {
    let Some(call) = contain(|| Contained::new(call())) else {
        return Box::pin(ready(Err(panicked())));
    };
    Box::pin(async move { call.await.unwrap_or_else(|| Err(panicked())) })
}

/// A source whose type is forgotten, so that the refresher and [`Chain`] need no type parameter.
///
/// A panic of the source is an error, and one while its future is dropped is discarded: the token
/// that it gave before may be the only one that carries a rotated refresh token.
pub(crate) trait DynTokenSource: Send + Sync + 'static {
    fn fetch(
        &self,
        cx: FetchContext,
    ) -> Pin<Box<dyn Future<Output = Result<TokenSet, Error>> + Send + '_>>;

    fn revoke(
        &self,
        cx: FetchContext,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>>;

    fn renewed(&self, cx: FetchContext) -> Pin<Box<dyn Future<Output = TokenSet> + Send + '_>>;
}

impl<T: TokenSource> DynTokenSource for T {
    fn fetch(
        &self,
        cx: FetchContext,
    ) -> Pin<Box<dyn Future<Output = Result<TokenSet, Error>> + Send + '_>> {
        contained(|| TokenSource::fetch(self, cx))
    }

    fn revoke(
        &self,
        cx: FetchContext,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        contained(|| TokenSource::revoke(self, cx))
    }

    fn renewed(&self, cx: FetchContext) -> Pin<Box<dyn Future<Output = TokenSet> + Send + '_>> {
        Box::pin(TokenSource::renewed(self, cx))
    }
}
