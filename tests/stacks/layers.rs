//! The layers of tower and tower-http that are drawn, above ours and below.

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tower::{
    BoxError, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::ServiceList,
    hedge::{self, Hedge},
    limit::{ConcurrencyLimit, RateLimit, rate::Rate},
    load::Constant,
    load_shed::LoadShed,
    retry::{self, Retry},
    spawn_ready::SpawnReady,
    timeout::Timeout,
    util::{BoxCloneService, option_layer},
};
use tower_http::{
    LatencyUnit,
    follow_redirect::{FollowRedirect, policy},
    propagate_header::PropagateHeader,
    set_header::SetRequestHeader,
    timeout::Timeout as HttpTimeout,
    trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer},
};

use crate::wire::{Answer, Payload, Svc, again, erase};

/// A layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Buffer(usize),
    ConcurrencyLimit(usize),
    /// Behind a buffer, as all that cannot be cloned.
    RateLimit(u64),
    LoadShed,
    Timeout(u64),
    HttpTimeout(u64),
    Retry(usize),
    SpawnReady,
    Hedge,
    Balance,
    Map,
    Either(bool),
    SetHeader,
    Trace,
    Propagate,
    /// Above ours only.
    FollowRedirect,
}

impl Kind {
    /// How often the layer may send one request.
    pub(crate) fn factor(self) -> usize {
        match self {
            Self::Retry(retries) => 1 + retries,
            Self::Hedge => 2,
            _ => 1,
        }
    }

    /// How many services the layer may hold ready while nothing is under way.
    pub(crate) fn holds(self) -> usize {
        match self {
            Self::Buffer(_) | Self::RateLimit(_) | Self::SpawnReady | Self::Hedge => 1,
            Self::Balance => 2,
            _ => 0,
        }
    }

    /// Puts the layer on a service. The limit takes its permits from `permits`.
    pub(crate) fn on<B: Payload>(self, below: Svc<B>, permits: &mut Vec<Arc<Semaphore>>) -> Svc<B> {
        match self {
            Self::Buffer(bound) => buffered(below, bound),
            Self::ConcurrencyLimit(most) => {
                let semaphore = Arc::new(Semaphore::new(most));
                permits.push(semaphore.clone());
                BoxCloneService::new(ConcurrencyLimit::with_semaphore(below, semaphore))
            }
            Self::RateLimit(number) => {
                buffered(RateLimit::new(below, Rate::new(number, Duration::from_millis(50))), 8)
            }
            Self::LoadShed => BoxCloneService::new(LoadShed::new(below)),
            Self::Timeout(ms) => {
                BoxCloneService::new(Timeout::new(below, Duration::from_millis(ms)))
            }
            Self::HttpTimeout(ms) => BoxCloneService::new(HttpTimeout::with_status_code(
                below,
                StatusCode::REQUEST_TIMEOUT,
                Duration::from_millis(ms),
            )),
            Self::Retry(retries) => BoxCloneService::new(Retry::new(Unavailable(retries), below)),
            Self::SpawnReady => buffered(SpawnReady::new(below), 8),
            Self::Hedge => {
                let hedge = Hedge::new(below, Late, 2, 0.9, Duration::from_secs(1));
                buffered(hedge, 8)
            }
            Self::Balance => {
                let services = [below.clone(), below].map(|service| Constant::new(service, 1_u32));
                buffered(Balance::new(ServiceList::new::<Request<B>>(services)), 8)
            }
            Self::Map => BoxCloneService::new(
                below
                    .map_request(|request: Request<B>| request)
                    .map_response(|response: Response<Answer>| response)
                    .map_err(|error: BoxError| error),
            ),
            Self::Either(there) => {
                let limit = there.then(|| tower::limit::ConcurrencyLimitLayer::new(64));
                let stack = ServiceBuilder::new().layer(option_layer(limit)).service(below);
                BoxCloneService::new(stack.map_err(|error| -> BoxError { error }))
            }
            Self::SetHeader => {
                let (name, value) =
                    (HeaderName::from_static("x-set"), HeaderValue::from_static("1"));
                BoxCloneService::new(SetRequestHeader::if_not_present(below, name, value))
            }
            // With the header fields: the watch over logs sees a token that is not hidden.
            Self::Trace => {
                let trace = TraceLayer::new_for_http()
                    .make_span_with(DefaultMakeSpan::new().include_headers(true))
                    .on_response(DefaultOnResponse::new().latency_unit(LatencyUnit::Micros));
                let stack = ServiceBuilder::new().layer(trace).service(below);
                BoxCloneService::new(stack.map_response(erase))
            }
            Self::Propagate => {
                let name = HeaderName::from_static(crate::ledger::TENANT);
                BoxCloneService::new(PropagateHeader::new(below, name))
            }
            Self::FollowRedirect => {
                BoxCloneService::new(FollowRedirect::with_policy(below, Everywhere))
            }
        }
    }
}

fn buffered<S, B>(service: S, bound: usize) -> Svc<B>
where
    B: Payload,
    S: tower::Service<Request<B>, Response = Response<Answer>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send + Sync,
{
    BoxCloneService::new(Buffer::new(service, bound))
}

/// Follows every redirect, with the body.
#[derive(Clone)]
struct Everywhere;

impl<B: Payload> policy::Policy<B, BoxError> for Everywhere {
    fn redirect(&mut self, _: &policy::Attempt<'_>) -> Result<policy::Action, BoxError> {
        Ok(policy::Action::Follow)
    }

    fn clone_body(&self, body: &B) -> Option<B> {
        body.again()
    }
}

/// Tries again after a 503 or an error.
#[derive(Clone)]
pub(crate) struct Unavailable(pub(crate) usize);

impl<B: Payload, R, E> retry::Policy<Request<B>, Response<R>, E> for Unavailable {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<R>, E>,
    ) -> Option<Ready<()>> {
        let again = result.as_ref().map_or(true, |response| response.status() == 503);
        self.0 = self.0.checked_sub(usize::from(again))?;
        again.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        again(request)
    }
}

/// Hedges every request whose body can be sent again.
#[derive(Clone)]
struct Late;

impl<B: Payload> hedge::Policy<Request<B>> for Late {
    fn clone_request(&self, request: &Request<B>) -> Option<Request<B>> {
        again(request)
    }

    fn can_retry(&self, _: &Request<B>) -> bool {
        true
    }
}
