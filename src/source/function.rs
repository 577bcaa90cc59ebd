use std::{fmt, future::Future};

use super::{FetchContext, TokenSource};
use crate::{error::Error, token::TokenSet};

/// Makes a [`TokenSource`] of a function.
///
/// ```
/// use tower_oauth::{TokenHandle, TokenSet, source_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth::Error> {
/// let tokens = TokenHandle::spawn(source_fn(|_| async { TokenSet::bearer("abc") }));
/// assert_eq!(tokens.token().await?.access_token().expose(), "abc");
/// # Ok(())
/// # }
/// ```
pub fn source_fn<F, Fut>(function: F) -> SourceFn<F>
where
    F: Fn(FetchContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<TokenSet, Error>> + Send,
{
    SourceFn(function)
}

/// A [`TokenSource`] made by [`source_fn`].
#[derive(Clone)]
pub struct SourceFn<F>(F);

impl<F, Fut> TokenSource for SourceFn<F>
where
    F: Fn(FetchContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<TokenSet, Error>> + Send,
{
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<TokenSet, Error>> + Send {
        (self.0)(cx)
    }
}

impl<F> fmt::Debug for SourceFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceFn")
    }
}
