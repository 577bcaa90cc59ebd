use std::{
    mem,
    task::{Context as TaskContext, Poll},
};

use tower_service::Service;

use super::{
    ResponseFuture,
    attempt::wait_and_send,
    context::{Admission, Context},
    future::Watch,
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
    S: Service<R::Sent> + Clone + Send + 'static,
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

    fn call(&mut self, request: Q) -> Self::Future {
        match self.context.admit(&request) {
            Admission::Inject => {}
            Admission::PassAsItIs => {
                return ResponseFuture::sent(self.inner.call(self.replay.pass(request)), None);
            }
            Admission::Refuse(error) => return ResponseFuture::failed(error),
        }
        let (mut request, kept) = self.replay.keep(request);
        let Some(epoch) = self.context.tokens.inject(request.headers_mut()) else {
            // The ready service travels with the request; a clone takes its place.
            let clone = self.inner.clone();
            let service = mem::replace(&mut self.inner, clone);
            let context = self.context.clone();
            return ResponseFuture::slow(wait_and_send::<S, Q, R, _>(
                context,
                (),
                service,
                request,
                kept,
            ));
        };
        let response = self.inner.call(request);
        let again = kept.map(|kept| (self.inner.clone(), kept));
        ResponseFuture::sent(
            response,
            Some(Watch { context: self.context.clone(), owner: (), epoch, again }),
        )
    }
}
