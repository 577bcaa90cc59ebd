//! Layers in place of ours that are broken on purpose, each in one way: the checks must find them.

use std::{
    future::{Future, pending},
    mem,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt};
use tower_oauth::{FetchContext, Rejection, TokenHandle, TokenSource};

use crate::{
    ledger::{ANSWER, Ledger, REQUEST, number},
    middle::WAIT,
    source::Source,
    story::Story,
    tap::{Below, outcome},
    terms::Role,
    wire::Answer,
};

/// What is wrong with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Nothing,
    /// Sends half of some bodies, as if they were whole.
    Truncates,
    /// Sends the token to foreign origins.
    Leaks,
    /// Sends a request three times when its token is refused.
    SendsThrice,
    /// Sends a request again although its token was not refused.
    SendsTwice,
    /// Never answers some requests.
    Hangs,
    /// Forgets some tokens.
    Untokened,
    /// Uses the first token for ever.
    Stale,
    /// Replaces the caller's own header.
    Replaces,
    /// Calls a service that is not ready.
    SkipsReadiness,
    /// Keeps a place of the limit below for ever.
    KeepsPlaces,
    /// Gives another answer than the server's.
    ChangesAnswers,
    /// Asks for a token for each request.
    AlwaysFetches,
    /// Turns a refusal into an error.
    LosesRefusals,
}

/// A layer that does what ours does, in a simple way, except for one thing.
#[derive(Clone)]
pub(crate) struct Broken {
    pub(crate) below: Below,
    pub(crate) ways: Arc<Ways>,
}

/// What the clones of a broken layer share.
pub(crate) struct Ways {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) tokens: TokenHandle,
    pub(crate) source: Source,
    pub(crate) fault: Fault,
    pub(crate) first: OnceLock<String>,
}

impl Service<Request<Story>> for Broken {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::<Request<Story>>::poll_ready(&mut self.below, cx)
    }

    fn call(&mut self, request: Request<Story>) -> Self::Future {
        let clone = self.below.clone();
        let ready = mem::replace(&mut self.below, clone);
        Box::pin(self.ways.clone().send(self.below.clone(), ready, request))
    }
}

impl Ways {
    async fn send(
        self: Arc<Self>,
        fresh: Below,
        mut ready: Below,
        mut request: Request<Story>,
    ) -> Result<Response<Answer>, BoxError> {
        let fault = self.fault;
        let number = number(request.headers(), REQUEST).unwrap_or(0);
        let affected = number.is_multiple_of(3);
        match fault {
            Fault::Hangs if affected => return pending().await,
            Fault::Truncates if affected => {
                let half = request.body().halved();
                *request.body_mut() = half;
            }
            Fault::KeepsPlaces if affected => {
                let kept = mem::replace(&mut ready, fresh.clone());
                mem::forget(kept);
                ServiceExt::<Request<Story>>::ready(&mut ready).await?;
            }
            Fault::AlwaysFetches => drop(self.source.fetch(FetchContext::first()).await),
            _ => {}
        }
        let foreign = request.uri().to_string().starts_with(self.ledger.origin(Role::Foreign));
        let own = request.headers().contains_key(AUTHORIZATION) && fault != Fault::Replaces;
        let trace = request.method() == http::Method::TRACE;
        let exempt = own || trace || (foreign && fault != Fault::Leaks);
        let again = request.clone();
        if !exempt && self.tokens.current().is_none() {
            // Nothing is held while it waits.
            drop(mem::replace(&mut ready, fresh.clone()));
            let waiting = async {
                self.tokens.token().await?;
                ServiceExt::<Request<Story>>::ready(&mut ready).await.map(drop)
            };
            timeout(WAIT, waiting).await??;
        }
        let mut epoch = None;
        let forgets = fault == Fault::Untokened && affected;
        if !exempt && !forgets {
            epoch = Some(self.authorize(&mut request).await?);
        }
        if fault == Fault::SkipsReadiness {
            ready = ready.clone();
        }
        let mut response = ready.call(request).await?;
        if let Some(epoch) = epoch.filter(|_| is_refusal(&response)) {
            let rejected = self.tokens.reject(epoch) != Rejection::TooSoon;
            if rejected && fault == Fault::Nothing {
                // Whatever keeps it from being sent again, the refusal is the answer.
                let again = timeout(WAIT, self.again(fresh.clone(), again.clone())).await;
                return Ok(again.ok().and_then(Result::ok).unwrap_or(response));
            }
        }
        let sends = match fault {
            _ if exempt => 1,
            Fault::SendsThrice if response.status() == 401 => 3,
            Fault::SendsTwice if affected && response.status() == 200 => 2,
            _ => 1,
        };
        for _ in 1..sends {
            let mut request = again.clone();
            self.authorize(&mut request).await?;
            ServiceExt::<Request<Story>>::ready(&mut ready).await?;
            response = ready.call(request).await?;
        }
        match fault {
            Fault::LosesRefusals if response.status() == 401 => Err("it was refused".into()),
            Fault::ChangesAnswers if affected => {
                response.headers_mut().insert(ANSWER, 0.into());
                Ok(response)
            }
            _ => Ok(response),
        }
    }

    async fn again(
        &self,
        mut service: Below,
        mut request: Request<Story>,
    ) -> Result<Response<Answer>, BoxError> {
        self.tokens.token().await?;
        ServiceExt::<Request<Story>>::ready(&mut service).await?;
        self.authorize(&mut request).await?;
        service.call(request).await
    }

    async fn authorize(&self, request: &mut Request<Story>) -> Result<u64, BoxError> {
        let current = self.tokens.token().await?;
        let token = current.access_token().expose().to_owned();
        let first = self.first.get_or_init(|| token.clone());
        let token = if self.fault == Fault::Stale { first } else { &token };
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(current.epoch())
    }
}

fn is_refusal(response: &Response<Answer>) -> bool {
    outcome(response).refused
}
