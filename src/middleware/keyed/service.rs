use std::{
    fmt,
    hash::Hash,
    mem,
    task::{Context as TaskContext, Poll},
};

use http::header::AUTHORIZATION;
use tower_service::Service;

use super::{
    super::{
        NoReplay, ResponseFuture,
        attempt::{Sent, authorize, wait_and_send},
        context::{Context, Exempt},
        future::Watch,
        replay::Replay,
        tokens::Tokens,
    },
    MissingKey,
};
use crate::{
    error::{BoxError, Error, ErrorKind},
    http::{HttpRequest, HttpResponse},
    pool::TokenPool,
    slot::Sharded,
};

/// A service that puts the token of its tenant on each request. Made by
/// [`KeyedOAuthLayer`](super::KeyedOAuthLayer).
#[derive(Clone)]
pub struct KeyedOAuth<S, K, F, R = NoReplay>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    inner: S,
    context: Sharded<Context<TokenPool<K>>>,
    key: F,
    missing: MissingKey,
    replay: R,
}

impl<S, K, F, R> KeyedOAuth<S, K, F, R>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    pub(super) fn new(
        inner: S,
        context: Sharded<Context<TokenPool<K>>>,
        key: F,
        missing: MissingKey,
        replay: R,
    ) -> Self {
        Self { inner, context, key, missing, replay }
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

impl<S, K, F, R, Q> Service<Q> for KeyedOAuth<S, K, F, R>
where
    Q: HttpRequest + 'static,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&Q) -> Option<K>,
    R: Replay<Q> + 'static,
    S: Service<R::Sent> + Clone + Send + 'static,
    S::Response: HttpResponse + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S, Q, R, TokenPool<K>>;

    /// Asks the service below, and nothing else, as [`OAuth`](crate::OAuth) does.
    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Q) -> Self::Future {
        if !self.context.origins.allow(request.target()) {
            return self.pass(request, Exempt::Foreign);
        }
        if !self.context.replaces() && request.headers().contains_key(AUTHORIZATION) {
            return self.pass(request, Exempt::Present);
        }
        let Some(key) = (self.key)(&request) else {
            return self.pass(request, Exempt::NoKey);
        };
        let Some((owner, epoch)) = self.context.tokens.inject(&key, request.headers_mut()) else {
            return self.prove_or_wait(key, request);
        };
        let sent = Sent::new(&request, owner, epoch);
        self.send(request, sent)
    }
}

impl<S, K, F, R> KeyedOAuth<S, K, F, R>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Sends a request that has its token.
    #[inline]
    fn send<Q>(
        &mut self,
        request: Q,
        sent: Sent<<TokenPool<K> as Tokens>::Owner>,
    ) -> ResponseFuture<S, Q, R, TokenPool<K>>
    where
        R: Replay<Q>,
        S: Service<R::Sent> + Clone,
    {
        let (request, kept) = self.replay.keep(request);
        let response = self.inner.call(request);
        let again = kept.map(|kept| (self.inner.clone(), kept));
        ResponseFuture::sent(response, Some(Watch { context: self.context.clone(), sent, again }))
    }

    /// Sends a request with a token that is bound to something, or once there is a token.
    #[cold]
    fn prove_or_wait<Q>(&mut self, key: K, mut request: Q) -> ResponseFuture<S, Q, R, TokenPool<K>>
    where
        Q: HttpRequest + 'static,
        R: Replay<Q> + 'static,
        S: Service<R::Sent> + Clone + Send + 'static,
        S::Response: HttpResponse + Send,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        if let Some((owner, token)) = self.context.tokens.bound(&key) {
            return match authorize(&self.context, &mut request, owner, &token) {
                Ok(sent) => self.send(request, sent),
                Err(error) => ResponseFuture::failed(error),
            };
        }
        let (request, kept) = self.replay.keep(request);
        // The ready service travels with the request; a clone takes its place.
        let clone = self.inner.clone();
        let service = mem::replace(&mut self.inner, clone);
        let context = self.context.clone();
        ResponseFuture::slow(wait_and_send::<S, Q, R, _>(context, key, service, request, kept))
    }

    /// Sends a request without a token, or refuses it.
    #[cold]
    fn pass<Q>(&mut self, request: Q, exempt: Exempt) -> ResponseFuture<S, Q, R, TokenPool<K>>
    where
        R: Replay<Q>,
        S: Service<R::Sent>,
    {
        let refusal = match exempt {
            Exempt::NoKey if self.missing == MissingKey::Refuse => Some(Error::new(
                ErrorKind::NoKey,
                "the request names no tenant whose token it could get",
            )),
            _ => self.context.refusal(exempt),
        };
        match refusal {
            None => ResponseFuture::sent(self.inner.call(self.replay.pass(request)), None),
            Some(error) => ResponseFuture::failed(error),
        }
    }
}

impl<S, K, F, R> fmt::Debug for KeyedOAuth<S, K, F, R>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: fmt::Debug,
    R: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedOAuth")
            .field("inner", &self.inner)
            .field("context", &self.context)
            .field("missing", &self.missing)
            .field("replay", &self.replay)
            .finish_non_exhaustive()
    }
}
