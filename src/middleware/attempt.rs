//! What a request does off its usual way: wait for a token, and be sent again.

use std::{future::Future, ops::Deref, pin::pin, sync::Arc, time::Duration};

use http::header::AUTHORIZATION;
use tokio::time::timeout;
use tower_service::Service;

use super::{
    Origins,
    answer::{Next, Sent, Tried, note_acceptance, replayed, report},
    budget::{Budget, Readiness},
    claim::TrialClaim,
    context::Context,
    proof::Prover,
    replay::Replay,
    tokens::Tokens,
};
#[cfg(feature = "mtls")]
use crate::http::bind;
use crate::{
    error::{BoxError, Error, ErrorKind},
    http::{HttpRequest, HttpResponse},
    observe::Event,
    refresh::{Token, can_wait},
};

/// A request that waits for a token. `C` is how it holds the context.
pub(super) struct WaitingRequest<C, T: Tokens, K> {
    pub(super) context: C,
    pub(super) key: T::Key,
    /// Where its token may go, and so what its proof is for.
    pub(super) origins: Arc<Origins>,
    /// What it takes to send it again.
    pub(super) kept: Option<K>,
}

/// Waits for a token, sends the request, and again if its token was refused.
///
/// Nothing of the service below is held during the wait for the token: `service` is not ready yet.
pub(super) async fn wait_and_send<S, Q, R, T, C>(
    waiting: WaitingRequest<C, T, R::Kept>,
    mut service: S,
    second: fn(&S) -> Option<S>,
    mut request: R::Sent,
) -> Result<S::Response, BoxError>
where
    T: Tokens,
    C: Deref<Target = Context<T>>,
    R: Replay<Q>,
    S: Service<R::Sent>,
    S::Response: HttpResponse,
    S::Error: Into<BoxError>,
{
    let WaitingRequest { context, key, origins, kept } = waiting;
    let tokens = &context.tokens;
    let wait = if R::WAITS { context.options.wait } else { Duration::ZERO };
    let mut budget = Budget::new(wait);
    // Held until there is an answer.
    let (owner, token, _claim) = loop {
        let (owner, token) = budget.spend(|deadline| tokens.obtain(&key, deadline)).await?;
        let claim = TrialClaim::of(tokens, owner, token.epoch());
        if budget.ready(&mut service).await? == Readiness::AtOnce {
            break (owner, token, claim);
        }
        if let Some(token) = tokens.latest(owner, token) {
            break (owner, token, claim);
        }
        // The token ended meanwhile: the place below is given back.
        if let Some(fresh) = second(&service) {
            service = fresh;
        }
    };
    let sent = authorize(&context, &origins, &mut request, owner, &token)?;
    let mut response = service.call(request).await.map_err(Into::into)?;
    let next = report(&context, &sent, &mut response, Tried::default());
    if matches!(next, Next::Return) {
        note_acceptance(&context, &sent, &response, Tried::default());
    }
    match kept {
        Some(kept) => {
            let refused = RefusedRequest { context, origins, kept, sent, next, budget };
            replay::<S, Q, R, T, C>(refused, service, response).await
        }
        None => Ok(response),
    }
}

/// A request that was refused. `C` is how it holds the context.
pub(super) struct RefusedRequest<C, T: Tokens, K> {
    pub(super) context: C,
    pub(super) origins: Arc<Origins>,
    pub(super) kept: K,
    pub(super) sent: Sent<T::Owner>,
    pub(super) next: Next,
    pub(super) budget: Budget,
}

/// Sends a request again, for each reason once. If that cannot be done, the last answer is the
/// caller's.
pub(super) async fn replay<S, Q, R, T, C>(
    refused: RefusedRequest<C, T, R::Kept>,
    mut service: S,
    mut response: S::Response,
) -> Result<S::Response, BoxError>
where
    T: Tokens,
    C: Deref<Target = Context<T>>,
    R: Replay<Q>,
    S: Service<R::Sent>,
    S::Response: HttpResponse,
    S::Error: Into<BoxError>,
{
    let RefusedRequest { context, origins, kept, mut sent, mut next, mut budget } = refused;
    let tokens = &context.tokens;
    let mut tried = Tried::default();
    loop {
        let Sent { owner, epoch, .. } = sent;
        let token = match next {
            Next::Return => return Ok(response),
            Next::Renew => {
                tried.token = true;
                budget.spend(|deadline| tokens.newer(owner, epoch, deadline)).await
            }
            Next::StepUp(stepping_up) => {
                tried.token = true;
                let stepped_up = |deadline| tokens.stepped_up(owner, stepping_up, epoch, deadline);
                budget.spend(stepped_up).await
            }
            Next::Prove => {
                tried.proof = true;
                budget.spend(|deadline| tokens.newer(owner, 0, deadline)).await
            }
        };
        let Ok(mut token) = token else { return Ok(response) };
        let Some(mut request) = R::again(&kept)? else { return Ok(response) };
        // Kept until there is a better answer.
        let mut refusal = Some(response);
        let or_refusal = |error: BoxError, refusal: Option<_>| refusal.ok_or(error);
        match patient(budget.ready(&mut service), &mut refusal).await {
            Ok(Readiness::AtOnce) => {}
            // Becoming ready may have taken longer than the token lives.
            Ok(Readiness::Later) => match tokens.latest(owner, token) {
                Some(latest) => token = latest,
                // A wait for another one would hold the place below.
                None => return or_refusal(gone().into(), refusal),
            },
            Err(error) => return or_refusal(error, refusal),
        }
        // The last attempt's proof is none of this token's.
        if sent.prover.is_some() {
            request.headers_mut().remove("dpop");
        }
        sent = match authorize(&context, &origins, &mut request, owner, &token) {
            Ok(sent) => sent,
            Err(error) => return or_refusal(error.into(), refusal),
        };
        response = match patient(service.call(request), &mut refusal).await {
            Ok(response) => response,
            Err(error) => {
                // Unless it was the caller's own body that failed.
                R::again(&kept)?;
                tokens.emit(owner, &Event::ReplayFailed);
                return or_refusal(error.into(), refusal);
            }
        };
        replayed(&context, &sent, &response);
        next = report(&context, &sent, &mut response, tried);
        if matches!(next, Next::Return) {
            note_acceptance(&context, &sent, &response, tried);
        }
    }
}

/// Waits for a step of a replay with the refusal in hand. Where the refusal's unread body may be what
/// the service below waits for, on a connection of HTTP/1.1, it is dropped after a while: kept longer, it
/// would keep both waiting.
async fn patient<F: Future, P: HttpResponse>(step: F, refusal: &mut Option<P>) -> F::Output {
    let mut step = pin!(step);
    if refusal.as_ref().is_some_and(may_hold_connection) {
        if can_wait().is_ok()
            && let Ok(outcome) = timeout(PATIENCE, step.as_mut()).await
        {
            return outcome;
        }
        *refusal = None;
    }
    step.await
}

fn may_hold_connection(response: &impl HttpResponse) -> bool {
    response.may_hold_connection()
}

fn gone() -> Error {
    Error::new(ErrorKind::Timeout, "the token ended before the service below was ready")
}

/// Puts a token on a request, and a proof if the token needs one; and notes which certificate it
/// goes with.
///
/// # Errors
///
/// When a proof cannot be made, or the request's URL is none that HTTP knows.
pub(super) fn authorize<T: Tokens>(
    context: &Context<T>,
    origins: &Origins,
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
    let prover = Prover::prove(origins, request, token, context.tokens.coarse_wall())?;
    Ok(Sent::new(request, owner, token.epoch()).proven_by(prover))
}

/// How long a refusal is kept whose unread body may hold a connection.
const PATIENCE: Duration = Duration::from_secs(1);
