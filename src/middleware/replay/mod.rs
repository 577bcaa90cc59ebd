//! What happens to a request whose token was refused.

mod body;
mod buffered;
mod clone;
mod record;

use std::convert::Infallible;

pub use body::ReplayBody;
#[cfg(feature = "reqwest")]
pub use buffered::BufferedReqwest;
pub use buffered::{Buffered, BufferedRequest};
pub use clone::{CloneRequest, CloneableRequest, Idempotent};

use super::FailFast;
use crate::{error::BoxError, http::HttpRequest};

/// Keeps what is needed to send a request a second time, or does not.
///
/// A policy also has to implement [`SecondService`](super::SecondService), which says how it gets the
/// service for the second attempt.
pub trait Replay<Q>: Clone {
    /// The request that the service below gets.
    type Sent: HttpRequest + Send + 'static;
    /// What is kept of it until it is answered for good. It is dropped as soon as the request cannot
    /// be sent again any more.
    type Kept: Send + 'static;

    /// Whether a request waits for a token when none is at hand.
    const WAITS: bool = true;

    /// Prepares a request that will not be sent again, whatever comes.
    fn pass(&self, request: Q) -> Self::Sent;

    /// Prepares a request, and keeps what it takes to send it again. `None` if it cannot be.
    ///
    /// The request may have its token already; when it is sent again, a newer one takes its place.
    fn keep(&self, request: Q) -> (Self::Sent, Option<Self::Kept>);

    /// Returns the request once more; `None` if it turned out that it cannot be sent again: the caller
    /// then gets the refusal. It may be called twice: for another token, and for another proof of the
    /// token's key.
    ///
    /// # Errors
    ///
    /// What made the request fail, such as the error of its body. The caller gets this error in place
    /// of the refusal.
    fn again(kept: &Self::Kept) -> Result<Option<Self::Sent>, BoxError>;
}

/// Sends no request twice: the caller gets the refusal, and the next request a fresh token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoReplay;

impl<Q: HttpRequest + Send + 'static> Replay<Q> for NoReplay {
    type Sent = Q;
    type Kept = Infallible;

    fn pass(&self, request: Q) -> Q {
        request
    }

    fn keep(&self, request: Q) -> (Q, Option<Infallible>) {
        (request, None)
    }

    fn again(kept: &Infallible) -> Result<Option<Q>, BoxError> {
        match *kept {}
    }
}

impl<Q: HttpRequest + Send + 'static> Replay<Q> for FailFast {
    type Sent = Q;
    type Kept = Infallible;

    const WAITS: bool = false;

    fn pass(&self, request: Q) -> Q {
        request
    }

    fn keep(&self, request: Q) -> (Q, Option<Infallible>) {
        (request, None)
    }

    fn again(kept: &Infallible) -> Result<Option<Q>, BoxError> {
        match *kept {}
    }
}

#[cfg(test)]
mod tests;
