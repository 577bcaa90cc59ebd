//! What an answer means for the token that its request was sent with, and what comes after it.

use http::{
    Method, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};

use super::{
    challenge::Challenges,
    context::Context,
    proof::Prover,
    tokens::Tokens,
    used_token::{Certainty, UsedToken},
    verdict::{Refused, Verdict, leaves_token_good, verdict},
};
use crate::{
    http::{HttpRequest, HttpResponse, date},
    observe::Event,
    refresh::{Refusal, Rejection, SteppingUp},
};

/// What is remembered of a request that was sent with a token.
#[derive(Debug)]
pub(super) struct Sent<O> {
    /// Whose token it is.
    pub(super) owner: O,
    /// The token's number.
    pub(super) epoch: u64,
    /// Whether it may be gRPC's, which are all sent by `POST`: other responses need not be looked at.
    may_be_grpc: bool,
    /// The origin that the request was sent to, where the response will tell which one answered.
    origin: u64,
    /// Who made the proof, if the token needs one.
    pub(super) prover: Option<Prover>,
}

impl<O> Sent<O> {
    /// A request whose token is good by itself.
    #[inline]
    pub(super) fn new(request: &impl HttpRequest, owner: O, epoch: u64) -> Self {
        let may_be_grpc = *request.method() == Method::POST;
        Self { owner, epoch, may_be_grpc, origin: request.origin_print(), prover: None }
    }

    /// The same, with a proof.
    pub(super) fn proven_by(self, prover: Option<Prover>) -> Self {
        Self { prover, ..self }
    }

    /// Whether the server that the request was sent to has answered, as far as the client below
    /// tells: it may have followed a redirect, and left the token behind.
    fn is_answered_by(&self, response: &impl HttpResponse) -> bool {
        response.origin_print().is_none_or(|origin| origin == self.origin)
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
    pub(super) token: bool,
    pub(super) proof: bool,
}

/// What the head of an answer says.
#[derive(Debug, Clone, Copy)]
enum Head {
    /// It may have challenges.
    Challenged,
    /// The token is refused, without a reason.
    Unexplained,
    /// The token is refused: the user's classifier says so.
    Refused,
    /// Nothing about the token.
    Other,
}

#[inline]
fn head<T: Tokens>(context: &Context<T>, may_be_grpc: bool, response: &impl HttpResponse) -> Head {
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
            Head::Challenged
        }
        _ if context.options.refused_by.matches(response) => Head::Refused,
        StatusCode::OK if may_be_grpc && is_unauthenticated_grpc(response.headers()) => {
            Head::Unexplained
        }
        _ => Head::Other,
    }
}

/// A gRPC answer without a body carries its status in the header: 16 is `UNAUTHENTICATED`.
fn is_unauthenticated_grpc(headers: &HeaderMap) -> bool {
    // The content type first: its name is looked up in half the time.
    is_grpc(headers) && headers.get("grpc-status").is_some_and(|code| code.as_bytes() == b"16")
}

/// Whether an answer is gRPC's, over whatever HTTP version.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
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
    if !sent.is_answered_by(response)
        && let Some(origin) = response.origin().filter(|origin| !context.origins.allow(*origin))
    {
        context.redirected(sent.owner, origin);
    }
    if context.options.expose_token {
        expose(context, sent, response);
    }
    match head(context, sent.may_be_grpc, response) {
        Head::Other => Next::Return,
        head => refused(context, sent, response, head, tried),
    }
}

#[cold]
fn refused<T: Tokens>(
    context: &Context<T>,
    sent: &Sent<T::Owner>,
    response: &mut impl HttpResponse,
    head: Head,
    tried: Tried,
) -> Next {
    // What another server says is not about this token.
    if !sent.is_answered_by(response) {
        return Next::Return;
    }
    match head {
        Head::Other => Next::Return,
        Head::Unexplained => doubt(context, sent, response, tried),
        Head::Refused => reject(context, sent, Refusal::certain(sent.epoch), tried),
        Head::Challenged => challenged(context, sent, response, tried),
    }
}

fn challenged<T: Tokens>(
    context: &Context<T>,
    sent: &Sent<T::Owner>,
    response: &mut impl HttpResponse,
    tried: Tried,
) -> Next {
    let challenges = Challenges::read(response.headers());
    let verdict = verdict(response.status(), &challenges, sent.prover.is_some());
    let explained = leaves_token_good(&challenges);
    let refused = context.options.refused_by.matches_challenged(response, explained);
    if !challenges.is_empty() {
        response.extensions_mut().insert(challenges);
    }
    match verdict {
        Verdict::InvalidToken => reject(context, sent, Refusal::certain(sent.epoch), tried),
        Verdict::Unexplained | Verdict::Other | Verdict::Insufficient(_) if refused => {
            reject(context, sent, Refusal::certain(sent.epoch), tried)
        }
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
    if tried.token {
        // Each request is sent again once for its token. A second refusal is the caller's, and no
        // reason to renew a token that is as new as can be.
        return Next::Return;
    }
    match context.tokens.report(sent.owner, refusal) {
        Rejection::Accepted | Rejection::Renewing | Rejection::Superseded => Next::Renew,
        Rejection::TooSoon => Next::Return,
    }
}

/// Tells the handle if an answer shows that the server accepts the token. Asked only after something
/// was wrong with it: `tried` says what the request was sent again for.
pub(super) fn note_acceptance<T: Tokens>(
    context: &Context<T>,
    sent: &Sent<T::Owner>,
    response: &impl HttpResponse,
    tried: Tried,
) {
    let status = response.status();
    // Those say nothing, or that something else comes before the token.
    let silent = status.is_server_error()
        || [
            StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_EARLY,
            StatusCode::TOO_MANY_REQUESTS,
        ]
        .contains(&status);
    let other = matches!(head(context, sent.may_be_grpc, response), Head::Other);
    if !silent && other && sent.is_answered_by(response) {
        context.tokens.accepted(sent.owner, sent.epoch, tried.token);
    }
}

#[cold]
fn expose<T: Tokens>(
    context: &Context<T>,
    sent: &Sent<T::Owner>,
    response: &mut impl HttpResponse,
) {
    let (tokens, owner, epoch) = (context.tokens.clone(), sent.owner, sent.epoch);
    let min_age = context.options.bare_401_min_age;
    response.extensions_mut().insert(UsedToken::new(epoch, move |certainty| {
        let refusal = match certainty {
            Certainty::Certain => Refusal::certain(epoch),
            Certainty::Doubtful => Refusal { min_age, ..Refusal::certain(epoch) },
        };
        tokens.report(owner, refusal)
    }));
}

/// Tells that a request was sent again.
pub(super) fn replayed<T: Tokens>(
    context: &Context<T>,
    sent: &Sent<T::Owner>,
    response: &impl HttpResponse,
) {
    let status = response.status().as_u16();
    context.tokens.emit(sent.owner, &Event::Replayed { status });
}
