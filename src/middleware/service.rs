use std::task::{Context as TaskContext, Poll};

use tower_service::Service;

use super::{
    ResponseFuture, SecondService,
    answer::Sent,
    context::Context,
    dispatch::{bind_or_wait, pass, send},
    replay::{NoReplay, Replay},
};
use crate::{
    error::BoxError,
    http::{HttpRequest, HttpResponse},
    slot::Sharded,
};

/// A service that puts a token on its requests. Made by [`OAuthLayer`](super::OAuthLayer).
#[derive(Debug, Clone)]
pub struct OAuth<S, R = NoReplay> {
    inner: S,
    context: Sharded<Context>,
    replay: R,
}

impl<S, R> OAuth<S, R> {
    pub(super) fn new(inner: S, context: Sharded<Context>, replay: R) -> Self {
        Self { inner, context, replay }
    }

    /// The service below.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service below, to be changed.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service below.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, R, Q> Service<Q> for OAuth<S, R>
where
    Q: HttpRequest + 'static,
    R: Replay<Q> + 'static,
    R: SecondService<S>,
    S: Service<R::Sent> + Send + 'static,
    S::Response: HttpResponse + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S, Q, R>;

    /// Asks the service below, and nothing else: a token that is missing is no reason to give up
    /// the service for good, as an error here would be.
    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    // What is rare is in functions of its own, and the request is changed where it lies before it is
    // moved on: a request is large, and each move of it costs as much as reading the slot.
    fn call(&mut self, mut request: Q) -> Self::Future {
        let Self { inner, context, replay } = self;
        if let Some(exempt) = context.exempt(&request) {
            return pass(inner, context, replay, request, exempt);
        }
        let Some(epoch) = context.tokens.inject(request.headers_mut()) else {
            return bind_or_wait(inner, context, replay, request, (), None);
        };
        let sent = Sent::new(&request, (), epoch);
        send(inner, context, replay, request, sent, None)
    }
}
