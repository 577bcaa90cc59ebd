use std::{
    fmt,
    hash::Hash,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use tower_service::Service;

use super::{
    super::{
        NoReplay, ResponseFuture, SecondService,
        answer::Sent,
        context::{Context, Exempt},
        dispatch::{bind_or_wait, pass, send},
        replay::Replay,
    },
    OriginsOf,
};
use crate::{
    error::BoxError,
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
    origins: Option<Arc<OriginsOf<K>>>,
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
        origins: Option<Arc<OriginsOf<K>>>,
        replay: R,
    ) -> Self {
        Self { inner, context, key, origins, replay }
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
    R: SecondService<S>,
    S: Service<R::Sent> + Send + 'static,
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
        let Self { inner, context, key, origins, replay } = self;
        let (key, origins) = match origins {
            None => {
                if let Some(exempt) = context.exempt(&request) {
                    return pass(inner, context, replay, request, exempt);
                }
                let Some(key) = key(&request) else {
                    return pass(inner, context, replay, request, Exempt::NoKey);
                };
                (key, None)
            }
            // Where the token may go depends on whose it is.
            Some(origins_of) => {
                let Some(key) = key(&request) else {
                    let exempt = context.exempt_anywhere(&request).unwrap_or(Exempt::NoKey);
                    return pass(inner, context, replay, request, exempt);
                };
                let origins = origins_of(&key);
                let exempt = match &origins {
                    Some(origins) => context.exempt_at(origins, &request),
                    None => Some(Exempt::Foreign),
                };
                if let Some(exempt) = exempt {
                    return pass(inner, context, replay, request, exempt);
                }
                (key, origins)
            }
        };
        let Some((owner, epoch)) = context.tokens.inject(&key, request.headers_mut()) else {
            return bind_or_wait(inner, context, replay, request, key, origins);
        };
        let sent = Sent::new(&request, owner, epoch);
        send(inner, context, replay, request, sent, origins)
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
            .field("replay", &self.replay)
            .finish_non_exhaustive()
    }
}
