//! Taps right above and right below the layer, which report to the ledger.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::{BoxError, Service};

use crate::{
    ledger::{ANSWER, Invariant, Ledger, Outcome, PASS, SEND, number},
    story::Story,
    wire::{Answer, Svc, Wire},
};

type Answering = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

/// Numbers the calls of the layer.
#[derive(Clone)]
pub(crate) struct Above<S> {
    inner: S,
    ledger: Arc<Ledger>,
}

impl<S> Above<S> {
    pub(crate) fn new(inner: S, ledger: &Arc<Ledger>) -> Self {
        Self { inner, ledger: ledger.clone() }
    }
}

impl<S> Service<Request<Story>> for Above<S>
where
    S: Service<Request<Story>, Response = Response<Answer>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Story>) -> Answering {
        let ledger = self.ledger.clone();
        let pass = ledger.pass(request.headers());
        request.headers_mut().insert(PASS, pass.into());
        let response = self.inner.call(request);
        Box::pin(async move {
            let result = response.await;
            ledger.passed(pass, &ended(&result));
            result
        })
    }
}

/// Numbers the calls by the layer, and sees that each follows a readiness of the same service.
pub(crate) struct Below {
    inner: Svc<Wire>,
    ledger: Arc<Ledger>,
    ready: bool,
}

impl Below {
    pub(crate) fn new(inner: Svc<Wire>, ledger: &Arc<Ledger>) -> Self {
        Self { inner, ledger: ledger.clone(), ready: false }
    }
}

impl Clone for Below {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), ledger: self.ledger.clone(), ready: false }
    }
}

impl<B: Into<Wire>> Service<Request<B>> for Below {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let ready = self.inner.poll_ready(cx);
        self.ready = matches!(ready, Poll::Ready(Ok(())));
        ready
    }

    fn call(&mut self, mut request: Request<B>) -> Answering {
        let ledger = self.ledger.clone();
        if !mem::take(&mut self.ready) {
            let what = "the service below was called without having been polled ready";
            ledger.violation(Invariant::I1, what.to_owned());
            return Box::pin(async move { Err(what.into()) });
        }
        let send = ledger.send(request.method(), request.uri(), request.headers());
        request.headers_mut().insert(SEND, send.into());
        let pass = number(request.headers(), PASS).unwrap_or(u64::MAX);
        let response = self.inner.call(request.map(Into::into));
        Box::pin(async move {
            let result = response.await;
            ledger.sent((pass, send), ended(&result));
            result
        })
    }
}

/// What a tap remembers of an answer.
pub(crate) fn outcome(response: &Response<Answer>) -> Outcome {
    let grpc = response.headers().get("grpc-status").is_some_and(|code| code == "16");
    let length = number(response.headers(), "content-length").unwrap_or(0);
    let is_chunked = response.headers().contains_key("transfer-encoding");
    Outcome {
        holds_connection: is_chunked || length > 4096,
        status: response.status().as_u16(),
        answer: number(response.headers(), ANSWER),
        refused: response.status() == 401 || (response.status() == 200 && grpc),
    }
}

/// As [`outcome`], also of an error.
pub(crate) fn ended(result: &Result<Response<Answer>, BoxError>) -> Result<Outcome, String> {
    result.as_ref().map(outcome).map_err(shown)
}

/// An error with its causes.
pub(crate) fn shown(error: &BoxError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
