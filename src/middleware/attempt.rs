//! What a request does off its usual way: wait for a token, and be sent again.

use std::future::poll_fn;

use http::{HeaderName, StatusCode, Version, header::AUTHORIZATION};
use tokio::time::Instant;
use tower_service::Service;

use super::{
    challenge::Challenges,
    context::Context,
    proof::Prover,
    replay::Replay,
    tokens::Tokens,
    verdict::{Refused, Verdict, verdict},
};
#[cfg(feature = "mtls")]
use crate::http::bind;
use crate::{
    error::{BoxError, Error},
    http::{HttpRequest, HttpResponse, date},
    observe::Event,
    refresh::{Refusal, Rejection, SteppingUp, Token},
    slot::Sharded,
    time::instant_in,
};

/// What is remembered of a request that was sent with a token.
#[derive(Debug)]
pub(super) struct Sent<O> {
    /// Whose token it is.
    pub(super) owner: O,
    /// The token's number.
    pub(super) epoch: u64,
    /// Whether the answer may be gRPC's, which comes over HTTP/2 and no other version.
    grpc: bool,
    /// Who made the proof, if the token needs one.
    prover: Option<Prover>,
}

impl<O> Sent<O> {
    /// A request whose token is good by itself.
    pub(super) fn new(request: &impl HttpRequest, owner: O, epoch: u64) -> Self {
        Self { owner, epoch, grpc: request.version() == Version::HTTP_2, prover: None }
    }
}

/// What comes after an answer.
pub(super) enum Next {
    /// It is the caller's.
    Return,
    /// The token was refused: the request is sent again with a newer one.
    Renew,
    /// The token lacks something: the request is sent again with one that has it.
    StepUp(SteppingUp),
    /// The proof was refused: the request is sent again with another one.
    Prove,
}

/// What a request has been sent again for: each once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tried {
    token: bool,
    proof: bool,
}

/// Waits for a token, sends the request, and again if its token was refused.
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
    let sent = authorize(&context, &mut request, owner, &token)?;
    let mut response = service.call(request).await.map_err(Into::into)?;
    let next = report(&context, &sent, &mut response, Tried::default());
    match kept {
        Some(kept) => replay::<S, Q, R, T>(context, service, kept, sent, response, next).await,
        None => Ok(response),
    }
}

/// Sends a request again, for each reason once. If that cannot be done, the last answer is the
/// caller's.
pub(super) async fn replay<S, Q, R, T>(
    context: Sharded<Context<T>>,
    mut service: S,
    kept: R::Kept,
    mut sent: Sent<T::Owner>,
    mut response: S::Response,
    mut next: Next,
) -> Result<S::Response, BoxError>
where
    T: Tokens,
    R: Replay<Q>,
    S: Service<R::Sent>,
    S::Response: HttpResponse,
    S::Error: Into<BoxError>,
{
    let mut tried = Tried::default();
    loop {
        let Sent { owner, epoch, .. } = sent;
        let after = match next {
            Next::Return => return Ok(response),
            Next::Renew => {
                if context.tokens.newer(owner, epoch, deadline(&context)).await.is_err() {
                    return Ok(response);
                }
                tried.token = true;
                epoch
            }
            Next::StepUp(stepping_up) => {
                if stepping_up.ended(deadline(&context)).await.is_err() {
                    return Ok(response);
                }
                tried.token = true;
                epoch
            }
            Next::Prove => {
                tried.proof = true;
                0
            }
        };
        let Some(mut request) = R::again(&kept)? else { return Ok(response) };
        // Before asking for readiness: the refusal's connection may be the only one.
        drop(response);
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
        // Only now: becoming ready may have taken longer than the token lives.
        let token = context.tokens.newer(owner, after, deadline(&context)).await?;
        sent = authorize(&context, &mut request, owner, &token)?;
        response = service.call(request).await.map_err(Into::into)?;
        let status = response.status().as_u16();
        context.tokens.emit(owner, &Event::Replayed { status });
        next = report(&context, &sent, &mut response, tried);
    }
}

/// Puts a token on a request, and a proof if the token needs one; and notes which certificate it
/// goes with.
///
/// # Errors
///
/// When a proof cannot be made, or the request's URL is none that HTTP knows.
pub(super) fn authorize<T: Tokens>(
    context: &Context<T>,
    request: &mut impl HttpRequest,
    owner: T::Owner,
    token: &Token,
) -> Result<Sent<T::Owner>, Error> {
    request.headers_mut().insert(AUTHORIZATION, token.header_value());
    #[cfg(feature = "mtls")]
    if let Some(certificate) = token.certificate() {
        let (header, certificate) = (token.header_value(), certificate.clone());
        request.annotate(|extensions| bind(extensions, header, certificate))?;
    }
    let prover = Prover::prove(&context.origins, request, token, context.tokens.coarse_wall())?;
    Ok(Sent { prover, ..Sent::new(request, owner, token.epoch()) })
}

/// Learns from an answer, and tells the handle if it refuses the token. Returns what comes after it.
#[inline]
pub(super) fn report<T: Tokens>(
    context: &Context<T>,
    sent: &Sent<T::Owner>,
    response: &mut impl HttpResponse,
    tried: Tried,
) -> Next {
    if let Some(prover) = &sent.prover {
        prover.learn(response);
    }
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
            refused(context, sent, response, tried)
        }
        // A gRPC answer without a body carries its status in the header: 16 is UNAUTHENTICATED.
        StatusCode::OK if sent.grpc => match response.headers().get(&GRPC_STATUS) {
            Some(code) if code.as_bytes() == b"16" => doubt(context, sent, response, tried),
            _ => Next::Return,
        },
        _ => Next::Return,
    }
}

#[cold]
fn refused<T: Tokens>(
    context: &Context<T>,
    sent: &Sent<T::Owner>,
    response: &mut impl HttpResponse,
    tried: Tried,
) -> Next {
    // A client below followed a redirect, and left the token behind: what the other server says is
    // not about it.
    if response.origin().is_some_and(|origin| !context.origins.allow(origin)) {
        return Next::Return;
    }
    let challenges = Challenges::read(response.headers());
    let verdict = verdict(response.status(), &challenges, sent.prover.is_some());
    if !challenges.is_empty() {
        response.extensions_mut().insert(challenges);
    }
    match verdict {
        Verdict::InvalidToken => reject(context, sent, Refusal::certain(sent.epoch), tried),
        Verdict::Unexplained => doubt(context, sent, response, tried),
        Verdict::Insufficient(step_up) if !tried.token && context.options.allows(&step_up) => {
            let asked = context.tokens.ask_step_up(sent.owner, sent.epoch, step_up);
            asked.map_or(Next::Return, Next::StepUp)
        }
        Verdict::Proof(refused) if !tried.proof => {
            let another = sent.prover.as_ref().is_some_and(|prover| match refused {
                Refused::Nonce => prover.has_nonce(response),
                Refused::Invalid => prover.correct_clock(response, context.tokens.coarse_wall()),
            });
            if another { Next::Prove } else { Next::Return }
        }
        _ => Next::Return,
    }
}

/// Reports a token that was refused without a reason, if it is old enough for that to be the reason:
/// by our clocks, or by the server's, which go on while those of a snapshot stand still.
#[cold]
fn doubt<T: Tokens>(
    context: &Context<T>,
    sent: &Sent<T::Owner>,
    response: &impl HttpResponse,
    tried: Tried,
) -> Next {
    let refusal = Refusal {
        epoch: sent.epoch,
        min_age: context.options.bare_401_min_age,
        server_time: date(response.headers()),
    };
    reject(context, sent, refusal, tried)
}

/// Reports a refused token.
fn reject<T: Tokens>(
    context: &Context<T>,
    sent: &Sent<T::Owner>,
    refusal: Refusal,
    tried: Tried,
) -> Next {
    // A second refusal is the caller's, and does not count against the token: it is as new as can
    // be, so the fault is elsewhere.
    if tried.token {
        return Next::Return;
    }
    match context.tokens.report(sent.owner, refusal) {
        Rejection::Accepted | Rejection::Superseded => Next::Renew,
        Rejection::TooSoon => Next::Return,
    }
}

fn deadline<T>(context: &Context<T>) -> Instant {
    instant_in(context.options.wait)
}

/// As a name that is parsed already: nearly every response is asked for it.
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
