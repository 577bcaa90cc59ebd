use std::{fmt, future::poll_fn};

use tower_service::Service;

use super::{FetchContext, TokenSource};
use crate::{
    error::{BoxError, Error},
    token::TokenSet,
};

/// Makes a [`TokenSource`] of a tower service, so that tower's own layers apply to it.
#[derive(Clone)]
pub struct FromService<S>(S);

impl<S> FromService<S> {
    /// Asks this service for tokens.
    pub fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S> TokenSource for FromService<S>
where
    S: Service<FetchContext, Response = TokenSet> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let mut service = self.0.clone();
        poll_fn(|task| service.poll_ready(task)).await.map_err(ours)?;
        service.call(cx).await.map_err(ours)
    }
}

/// An error of ours that passed through other layers keeps its kind.
fn ours(error: impl Into<BoxError>) -> Error {
    let error = error.into();
    match Error::find(&*error) {
        Some(found) => found.clone(),
        None => Error::other(error),
    }
}

impl<S> fmt::Debug for FromService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromService")
    }
}
