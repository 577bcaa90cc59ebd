use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::{
    error::{BoxError, Error, ErrorKind},
    refresh::can_wait,
    time::instant_in,
};

/// How long a request may still wait, for tokens and for the service below together. What the API
/// takes to answer is not counted.
#[derive(Debug)]
pub(super) struct Budget(Duration);

/// How a service became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    AtOnce,
    Later,
}

impl Budget {
    pub(super) fn new(wait: Duration) -> Self {
        Self(wait)
    }

    /// Runs a wait that ends at a deadline, and takes what it took off the budget.
    pub(super) async fn spend<F: Future>(&mut self, wait: impl FnOnce(Instant) -> F) -> F::Output {
        let begun = Instant::now();
        let output = wait(instant_in(self.0)).await;
        self.0 = self.0.saturating_sub(begun.elapsed());
        output
    }

    /// Waits until a service is ready.
    ///
    /// # Errors
    ///
    /// The service's own, or [`ErrorKind::Timeout`] when the budget is spent.
    pub(super) async fn ready<S, Q>(&mut self, service: &mut S) -> Result<Readiness, BoxError>
    where
        S: Service<Q>,
        S::Error: Into<BoxError>,
    {
        if let Poll::Ready(outcome) = poll_fn(|cx| Poll::Ready(service.poll_ready(cx))).await {
            return outcome.map(|()| Readiness::AtOnce).map_err(Into::into);
        }
        can_wait()?;
        let ready = poll_fn(|cx| service.poll_ready(cx));
        match self.spend(|deadline| timeout_at(deadline, ready)).await {
            Ok(outcome) => outcome.map(|()| Readiness::Later).map_err(Into::into),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "the service below the layer was not ready in time",
            )
            .into()),
        }
    }
}
