//! How a request leaves a service, whoever holds its token: one handle, or a pool of tenants.

use std::{
    future::Future,
    mem,
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
};

use tokio::time::Instant;
use tower_service::Service;

use super::{
    Origins, ResponseFuture, SecondService,
    answer::Sent,
    attempt::{WaitingRequest, authorize, wait_and_send},
    claim::TrialClaim,
    context::{Context, Exempt},
    future::{Again, Watch},
    replay::Replay,
    tokens::Tokens,
};
use crate::{
    error::{BoxError, Error, ErrorKind},
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
    origins: Option<Arc<Origins>>,
    claim: Option<Box<TrialClaim<T>>>,
) -> ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    R: Replay<Q> + SecondService<S>,
    S: Service<R::Sent>,
{
    let (request, kept) = replay.keep(request);
    let response = inner.call(request);
    let again = kept.and_then(|kept| Some(Again { service: R::second(inner)?, kept, origins }));
    ResponseFuture::sent(response, Some(Watch { context: context.clone(), sent, again, claim }))
}

/// Sends a request with a token that is bound to something, or once there is a token.
#[cold]
pub(super) fn bind_or_wait<S, Q, R, T>(
    inner: &mut S,
    context: &Sharded<Context<T>>,
    replay: &R,
    mut request: Q,
    key: T::Key,
    origins: Option<Arc<Origins>>,
) -> ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    Q: HttpRequest + 'static,
    R: Replay<Q> + SecondService<S> + 'static,
    S: Service<R::Sent> + Send + 'static,
    S::Response: HttpResponse + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    if let Some((owner, token)) = context.tokens.bound(&key) {
        let allowed = origins.as_ref().unwrap_or(&context.origins);
        return match authorize(context, allowed, &mut request, owner, &token) {
            Ok(sent) => send(inner, context, replay, request, sent, origins, None),
            Err(error) => ResponseFuture::failed(error),
        };
    }
    let Some((fresh, service)) = R::second(inner).zip(R::second(inner)) else {
        return ask_once(inner, context, replay, request, &key, origins);
    };
    // A waiting request holds nothing of the service below: what the ready one has reserved is given
    // back, and the request polls another clone once there is a token.
    drop(mem::replace(inner, fresh));
    let (request, kept) = replay.keep(request);
    let origins = origins.unwrap_or_else(|| context.origins.clone());
    let context = context.clone();
    let waiting = WaitingRequest { context, key, origins, kept };
    ResponseFuture::slow(wait_and_send::<S, Q, R, _>(waiting, service, R::second, request))
}

/// Sends a request with a token that comes up now, or fails: there is no second service to wait with.
fn ask_once<S, Q, R, T>(
    inner: &mut S,
    context: &Sharded<Context<T>>,
    replay: &R,
    mut request: Q,
    key: &T::Key,
    origins: Option<Arc<Origins>>,
) -> ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    Q: HttpRequest,
    R: Replay<Q> + SecondService<S>,
    S: Service<R::Sent>,
{
    let obtained = {
        let obtain = pin!(context.tokens.obtain(key, Instant::now()));
        // To ask for a token triggers a fetch.
        obtain.poll(&mut TaskContext::from_waker(Waker::noop()))
    };
    let authorized = match obtained {
        Poll::Ready(Ok((owner, token))) => {
            let allowed = origins.as_ref().unwrap_or(&context.origins);
            authorize(context, allowed, &mut request, owner, &token)
        }
        Poll::Ready(Err(error)) if error.kind() != ErrorKind::Timeout => Err(error),
        Poll::Ready(Err(_)) | Poll::Pending => {
            Err(Error::new(ErrorKind::Timeout, "no token is at hand"))
        }
    };
    match authorized {
        Ok(sent) => {
            let claim = TrialClaim::of(&context.tokens, sent.owner, sent.epoch);
            send(inner, context, replay, request, sent, origins, claim)
        }
        Err(error) => ResponseFuture::failed(error),
    }
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
