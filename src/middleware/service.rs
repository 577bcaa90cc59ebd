use std::{
    mem,
    task::{Context as TaskContext, Poll},
};

use http::header::AUTHORIZATION;
use tower_service::Service;

use super::{
    ResponseFuture,
    attempt::{Sent, authorize, wait_and_send},
    context::{Context, Exempt},
    future::Watch,
    replay::{NoReplay, Replay},
    tokens::Tokens,
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

    // What is rare is in functions of its own, and the request is changed where it lies before it is
    // moved on: a request is large, and each move of it costs as much as reading the slot.
    fn call(&mut self, mut request: Q) -> Self::Future {
        // Judged on every pass: a redirect follower above calls for each hop.
        if !self.context.origins.allow(request.target()) {
            return self.pass(request, Exempt::Foreign);
        }
        // `HeaderMap::entry` would search once for both, and is slower all the same.
        if !self.context.replaces() && request.headers().contains_key(AUTHORIZATION) {
            return self.pass(request, Exempt::Present);
        }
        let Some(epoch) = self.context.tokens.inject(request.headers_mut()) else {
            return self.prove_or_wait(request);
        };
        let sent = Sent::new(&request, (), epoch);
        self.send(request, sent)
    }
}

impl<S, R> OAuth<S, R> {
    /// Sends a request that has its token.
    #[inline]
    fn send<Q>(&mut self, request: Q, sent: Sent<()>) -> ResponseFuture<S, Q, R>
    where
        R: Replay<Q>,
        S: Service<R::Sent> + Clone,
    {
        let (request, kept) = self.replay.keep(request);
        let response = self.inner.call(request);
        let again = kept.map(|kept| (self.inner.clone(), kept));
        ResponseFuture::sent(response, Some(Watch { context: self.context.clone(), sent, again }))
    }

    /// Sends a request with a token that is bound to something, or waits for a token.
    #[cold]
    fn prove_or_wait<Q>(&mut self, mut request: Q) -> ResponseFuture<S, Q, R>
    where
        Q: HttpRequest + 'static,
        R: Replay<Q> + 'static,
        S: Service<R::Sent> + Clone + Send + 'static,
        S::Response: HttpResponse + Send,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        if let Some(((), token)) = self.context.tokens.bound(&()) {
            return match authorize(&self.context, &mut request, (), &token) {
                Ok(sent) => self.send(request, sent),
                Err(error) => ResponseFuture::failed(error),
            };
        }
        self.wait(request)
    }

    /// Sends a request without a token, or refuses it.
    #[cold]
    fn pass<Q>(&mut self, request: Q, exempt: Exempt) -> ResponseFuture<S, Q, R>
    where
        R: Replay<Q>,
        S: Service<R::Sent>,
    {
        match self.context.refusal(exempt) {
            None => ResponseFuture::sent(self.inner.call(self.replay.pass(request)), None),
            Some(error) => ResponseFuture::failed(error),
        }
    }

    /// Sends a request once there is a token.
    fn wait<Q>(&mut self, request: Q) -> ResponseFuture<S, Q, R>
    where
        Q: HttpRequest + 'static,
        R: Replay<Q> + 'static,
        S: Service<R::Sent> + Clone + Send + 'static,
        S::Response: HttpResponse + Send,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let (request, kept) = self.replay.keep(request);
        // The ready service travels with the request; a clone takes its place.
        let clone = self.inner.clone();
        let service = mem::replace(&mut self.inner, clone);
        let context = self.context.clone();
        ResponseFuture::slow(wait_and_send::<S, Q, R, _>(context, (), service, request, kept))
    }
}
