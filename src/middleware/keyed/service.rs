use std::{
    fmt,
    hash::Hash,
    mem,
    task::{Context as TaskContext, Poll},
};

use tower_service::Service;

use super::{
    super::{
        NoReplay, ResponseFuture,
        attempt::wait_and_send,
        context::{Admission, Context},
        future::Watch,
        replay::Replay,
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

    fn call(&mut self, request: Q) -> Self::Future {
        let key = match self.context.admit(&request) {
            Admission::Inject => (self.key)(&request),
            Admission::PassAsItIs => {
                return ResponseFuture::sent(self.inner.call(self.replay.pass(request)), None);
            }
            Admission::Refuse(error) => return ResponseFuture::failed(error),
        };
        let Some(key) = key else {
            return match self.missing {
                MissingKey::PassWithoutToken => {
                    ResponseFuture::sent(self.inner.call(self.replay.pass(request)), None)
                }
                MissingKey::Refuse => ResponseFuture::failed(Error::new(
                    ErrorKind::NoKey,
                    "the request names no tenant whose token it could get",
                )),
            };
        };
        let (mut request, kept) = self.replay.keep(request);
        let Some((owner, epoch)) = self.context.tokens.inject(&key, request.headers_mut()) else {
            // The ready service travels with the request; a clone takes its place.
            let clone = self.inner.clone();
            let service = mem::replace(&mut self.inner, clone);
            let context = self.context.clone();
            return ResponseFuture::slow(wait_and_send::<S, Q, R, _>(
                context, key, service, request, kept,
            ));
        };
        let response = self.inner.call(request);
        let again = kept.map(|kept| (self.inner.clone(), kept));
        let watch = Watch { context: self.context.clone(), owner, epoch, again };
        ResponseFuture::sent(response, Some(watch))
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
