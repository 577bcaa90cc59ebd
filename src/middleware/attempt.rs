//! What a request does off its usual way: wait for a token, and be sent again.

use std::{future::poll_fn, time::Duration};

use http::{HeaderMap, Version, header::AUTHORIZATION};
use tokio::time::Instant;
use tower_service::Service;

use super::{
    challenge::{Verdict, verdict},
    context::Context,
    replay::Replay,
    tokens::Tokens,
};
use crate::{
    error::BoxError,
    http::{HttpRequest, HttpResponse},
    observe::Event,
    refresh::{Rejection, Token},
    slot::Sharded,
    time::instant_in,
};

/// What is remembered of a request that was sent with a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent<O> {
    /// Whose token it is.
    pub(super) owner: O,
    /// The token's number.
    pub(super) epoch: u64,
    /// Whether the answer may be gRPC's, which comes over HTTP/2 and no other version.
    grpc: bool,
}

impl<O> Sent<O> {
    pub(super) fn new(request: &impl HttpRequest, owner: O, epoch: u64) -> Self {
        Self { owner, epoch, grpc: request.version() == Version::HTTP_2 }
    }
}

/// Waits for a token, sends the request, and once more if its token was refused.
pub(super) async fn wait_and_send<S, Q, R, T>(
    context: Sharded<Context<T>>,
    key: T::Key,
    mut service: S,
    mut request: R::Sent,
    kept: Option<R::Kept>,
) -> Result<S::Response, BoxError>
where
    T: Tokens,
    R: Replay<Q>,
    S: Service<R::Sent>,
    S::Response: HttpResponse,
    S::Error: Into<BoxError>,
{
    let (owner, token) = context.tokens.obtain(&key, deadline(&context)).await?;
    let epoch = insert(&token, request.headers_mut());
    let sent = Sent::new(&request, owner, epoch);
    let response = service.call(request).await.map_err(Into::into)?;
    match kept.filter(|_| report(&context, sent, &response)) {
        Some(kept) => replay::<S, Q, R, T>(context, service, kept, sent, response).await,
        None => Ok(response),
    }
}

/// Sends a request again with a token newer than the refused one. If there is none, or the request
/// cannot be sent again, the refusal is the answer.
pub(super) async fn replay<S, Q, R, T>(
    context: Sharded<Context<T>>,
    mut service: S,
    kept: R::Kept,
    refused: Sent<T::Owner>,
    refusal: S::Response,
) -> Result<S::Response, BoxError>
where
    T: Tokens,
    R: Replay<Q>,
    S: Service<R::Sent>,
    S::Response: HttpResponse,
    S::Error: Into<BoxError>,
{
    let Sent { owner, epoch, .. } = refused;
    if context.tokens.newer(owner, epoch, deadline(&context)).await.is_err() {
        return Ok(refusal);
    }
    let Some(mut request) = R::again(kept) else { return Ok(refusal) };
    // Before asking for readiness: the refusal's connection may be the only one.
    drop(refusal);
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    // Only now: becoming ready may have taken longer than the token lives.
    let token = context.tokens.newer(owner, epoch, deadline(&context)).await?;
    insert(&token, request.headers_mut());
    let response = service.call(request).await.map_err(Into::into)?;
    // A second refusal is the caller's, and does not count against the token: it is as new as can
    // be, so the fault is elsewhere.
    context.tokens.emit(owner, &Event::Replayed { status: response.status().as_u16() });
    Ok(response)
}

/// Tells the handle if the response refuses the token. Returns whether a newer one can be had.
pub(super) fn report<T: Tokens>(
    context: &Context<T>,
    sent: Sent<T::Owner>,
    response: &impl HttpResponse,
) -> bool {
    let min_age = match verdict(response.status(), response.headers(), sent.grpc) {
        Verdict::InvalidToken => Duration::ZERO,
        Verdict::Unexplained => context.options.bare_401_min_age,
        Verdict::Other => return false,
    };
    // A client below followed a redirect, and left the token behind: what the other server says is
    // not about it.
    if response.origin().is_some_and(|origin| !context.origins.allow(origin)) {
        return false;
    }
    match context.tokens.reject_older(sent.owner, sent.epoch, min_age) {
        Rejection::Accepted | Rejection::Superseded => true,
        Rejection::TooSoon => false,
    }
}

fn insert(token: &Token, headers: &mut HeaderMap) -> u64 {
    headers.insert(AUTHORIZATION, token.header_value());
    token.epoch()
}

fn deadline<T>(context: &Context<T>) -> Instant {
    instant_in(context.options.wait)
}
