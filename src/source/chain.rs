use std::{fmt, sync::Arc};

use super::{DynTokenSource, FetchContext, TokenSource};
use crate::{error::Error, token::TokenSet};

/// Several sources, asked in order until one gives a token.
///
/// When none does, the error is the first one that may pass by itself, or else the last one: it
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
    first: Arc<dyn DynTokenSource>,
    others: Vec<Arc<dyn DynTokenSource>>,
}

impl Chain {
    /// Starts with the source that is asked first.
    pub fn new(first: impl TokenSource) -> Self {
        Self { first: Arc::new(first), others: Vec::new() }
    }

    /// Adds a source that is asked when those before it gave no token.
    #[must_use]
    pub fn or(mut self, next: impl TokenSource) -> Self {
        self.others.push(Arc::new(next));
        self
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
