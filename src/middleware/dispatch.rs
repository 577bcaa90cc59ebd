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
    answer::{Next, Sent, Tried, note_acceptance, report},
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
) -> ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    R: Replay<Q> + SecondService<S>,
    S: Service<R::Sent>,
{
    let (request, kept) = replay.keep(request);
    let response = inner.call(request);
    let again = kept.and_then(|kept| Some(Again { service: R::second(inner)?, kept, origins }));
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
    origins: Option<Arc<Origins>>,
) -> ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    Q: HttpRequest + 'static,
    R: Replay<Q> + SecondService<S> + 'static,
    S: Service<R::Sent> + Send + 'static,
    S::Response: HttpResponse + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    if let Some((owner, token)) = context.tokens.bound(&key) {
        let allowed = origins.as_ref().unwrap_or(&context.origins);
        return match authorize(context, allowed, &mut request, owner, &token) {
            Ok(sent) => send(inner, context, replay, request, sent, origins),
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
    ResponseFuture::slow(wait_and_send::<S, Q, R, _, _>(waiting, service, R::second, request))
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
    Q: HttpRequest + 'static,
    R: Replay<Q> + SecondService<S> + 'static,
    S: Service<R::Sent> + 'static,
    S::Response: HttpResponse + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
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
            let Some(claim) = TrialClaim::of(&context.tokens, sent.owner, sent.epoch) else {
                return send(inner, context, replay, request, sent, origins);
            };
            let (request, _) = replay.keep(request);
            let (response, context) = (inner.call(request), context.clone());
            ResponseFuture::slow(try_token::<S, Q, R, T>(response, context, sent, claim))
        }
        Err(error) => ResponseFuture::failed(error),
    }
}

/// Waits for the answer to a request with a token on trial, and says whether the server accepts it.
async fn try_token<S, Q, R, T>(
    response: S::Future,
    context: Sharded<Context<T>>,
    sent: Sent<T::Owner>,
    claim: Box<TrialClaim<T>>,
) -> Result<S::Response, BoxError>
where
    T: Tokens,
    R: Replay<Q>,
    S: Service<R::Sent>,
    S::Response: HttpResponse,
    S::Error: Into<BoxError>,
{
    let mut response = response.await.map_err(Into::into)?;
    if let Next::Return = report(&context, &sent, &mut response, Tried::default()) {
        note_acceptance(&context, &sent, &response, Tried::default());
    }
    drop(claim);
    Ok(response)
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
