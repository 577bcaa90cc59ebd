use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    Origins,
    answer::{Next, Sent, Tried, report},
    attempt::{RefusedRequest, replay},
    budget::Budget,
    context::Context,
    replay::Replay,
    tokens::Tokens,
};
use crate::{
    error::{BoxError, Error},
    http::HttpResponse,
    refresh::TokenHandle,
    slot::Sharded,
};

pin_project! {
    /// The response to a request that passed through [`OAuth`](super::OAuth).
    ///
    /// In its common state it is the response of the service below and what is needed to report a
    /// refusal. Waiting for a token and sending again are rare, and boxed.
    pub struct ResponseFuture<S, Q, R, T = TokenHandle>
    where
        R: Replay<Q>,
        S: Service<R::Sent>,
        T: Tokens,
    {
        #[pin]
        state: State<S, Q, R, T>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Q, R, T>
    where
        R: Replay<Q>,
        S: Service<R::Sent>,
        T: Tokens,
    {
        Sent { #[pin] response: S::Future, watch: Option<Watch<S, R::Kept, T>> },
        Slow { response: Slow<S::Response> },
        Failed { error: Option<Error> },
    }
}

type Slow<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// What is needed to report a refusal, and to send the request again.
pub(super) struct Watch<S, K, T: Tokens> {
    pub(super) context: Sharded<Context<T>>,
    pub(super) sent: Sent<T::Owner>,
    pub(super) again: Option<Again<S, K>>,
}

/// What is needed to send a request again.
pub(super) struct Again<S, K> {
    pub(super) service: S,
    pub(super) kept: K,
    /// Where the token may go, if not where the layer says: the tenant's own origins.
    pub(super) origins: Option<Arc<Origins>>,
}

impl<S, Q, R, T> ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    R: Replay<Q>,
    S: Service<R::Sent>,
{
    pub(super) fn sent(response: S::Future, watch: Option<Watch<S, R::Kept, T>>) -> Self {
        Self { state: State::Sent { response, watch } }
    }

    pub(super) fn slow(
        response: impl Future<Output = Result<S::Response, BoxError>> + Send + 'static,
    ) -> Self {
        Self { state: State::Slow { response: Box::pin(response) } }
    }

    pub(super) fn failed(error: Error) -> Self {
        Self { state: State::Failed { error: Some(error) } }
    }
}

impl<S, Q, R, T> Future for ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    R: Replay<Q>,
    S: Service<R::Sent> + Send + 'static,
    S::Response: HttpResponse + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    Q: 'static,
    R: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let slow = match state.as_mut().project() {
                StateProj::Sent { response, watch } => {
                    let mut response = ready!(response.poll(cx)).map_err(Into::into)?;
                    let Some(Watch { context, sent, again }) = watch.take() else {
                        return Poll::Ready(Ok(response));
                    };
                    let next = report(&context, &sent, &mut response, Tried::default());
                    if matches!(next, Next::Return) {
                        return Poll::Ready(Ok(response));
                    }
                    let Some(Again { service, kept, origins }) = again else {
                        return Poll::Ready(Ok(response));
                    };
                    // Sent -> Slow: the server refused this token. Ask for a newer one, once.
                    let budget = Budget::new(context.options.wait);
                    let origins = origins.unwrap_or_else(|| context.origins.clone());
                    let refused = RefusedRequest { context, origins, kept, sent, next, budget };
                    replay::<S, Q, R, T, _>(refused, service, response)
                }
                StateProj::Slow { response } => return response.as_mut().poll(cx),
                StateProj::Failed { error } => {
                    let error = error.take().expect("a future is not polled after it is ready");
                    return Poll::Ready(Err(error.into()));
                }
            };
            state.set(State::Slow { response: Box::pin(slow) });
        }
    }
}

impl<S, Q, R, T> fmt::Debug for ResponseFuture<S, Q, R, T>
where
    T: Tokens,
    R: Replay<Q>,
    S: Service<R::Sent>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
