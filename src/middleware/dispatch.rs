//! How a request leaves a service, whoever holds its token: one handle, or a pool of tenants.

use std::mem;

use tower_service::Service;

use super::{
    ResponseFuture,
    attempt::{Sent, authorize, wait_and_send},
    context::{Context, Exempt},
    future::Watch,
    replay::Replay,
    tokens::Tokens,
};
use crate::{
    error::BoxError,
    http::{HttpRequest, HttpResponse},
    slot::Sharded,
};

/// Sends a request that has its token.
#[inline]
pub(super) fn send<S, Q, R, T>(
    inner: &mut S,
    context: &Sharded<Context<T>>,
    replay: &R,
    request: Q,
    sent: Sent<T::Owner>,
) -> ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    R: Replay<Q>,
    S: Service<R::Sent> + Clone,
{
    let (request, kept) = replay.keep(request);
    let response = inner.call(request);
    let again = kept.map(|kept| (inner.clone(), kept));
    ResponseFuture::sent(response, Some(Watch { context: context.clone(), sent, again }))
}

/// Sends a request with a token that is bound to something, or once there is a token.
#[cold]
pub(super) fn bind_or_wait<S, Q, R, T>(
    inner: &mut S,
    context: &Sharded<Context<T>>,
    replay: &R,
    mut request: Q,
    key: T::Key,
) -> ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    Q: HttpRequest + 'static,
    R: Replay<Q> + 'static,
    S: Service<R::Sent> + Clone + Send + 'static,
    S::Response: HttpResponse + Send,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    if let Some((owner, token)) = context.tokens.bound(&key) {
        return match authorize(context, &mut request, owner, &token) {
            Ok(sent) => send(inner, context, replay, request, sent),
            Err(error) => ResponseFuture::failed(error),
        };
    }
    let (request, kept) = replay.keep(request);
    // The ready service travels with the request; a clone takes its place.
    let clone = inner.clone();
    let service = mem::replace(inner, clone);
    let waiting = wait_and_send::<S, Q, R, _>(context.clone(), key, service, request, kept);
    ResponseFuture::slow(waiting)
}

/// Sends a request without a token and reports that, unless the settings refuse such a request.
#[cold]
pub(super) fn pass<S, Q, R, T>(
    inner: &mut S,
    context: &Context<T>,
    replay: &R,
    request: Q,
    exempt: Exempt,
) -> ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    Q: HttpRequest,
    R: Replay<Q>,
    S: Service<R::Sent>,
{
    if let Some(error) = context.refusal(exempt) {
        return ResponseFuture::failed(error);
    }
    context.passed(exempt, &request);
    ResponseFuture::sent(inner.call(replay.pass(request)), None)
}
