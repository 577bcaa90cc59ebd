use super::replay::{Buffered, CloneRequest, Idempotent, NoReplay};

/// Whether a replay policy can get a second service: a request that waits for a token, or is sent
/// again, polls a clone ready.
///
/// All policies but [`FailFast`] need a service that is `Clone`.
#[diagnostic::on_unimplemented(
    message = "the service below `OAuthLayer` is not `Clone`, so no request can wait for a token",
    label = "this service is not `Clone`",
    note = "put a buffer below the layer, `.buffer(64)` in a `ServiceBuilder`",
    note = "or let requests fail when no token is at hand: `OAuthLayer::fail_fast()`"
)]
pub trait SecondService<S> {
    /// A second service, not ready yet; `None` if the policy does without one.
    fn second(service: &S) -> Option<S>;
}

/// Neither waits for a token nor sends a request twice: for services that are not `Clone`.
///
/// A request fails at once, with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout), when no token is
/// at hand; the request still triggers a fetch. See
/// [`OAuthLayer::fail_fast`](super::OAuthLayer::fail_fast).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FailFast;

impl<S> SecondService<S> for FailFast {
    fn second(_: &S) -> Option<S> {
        None
    }
}

#[diagnostic::do_not_recommend]
impl<S: Clone> SecondService<S> for NoReplay {
    fn second(service: &S) -> Option<S> {
        Some(service.clone())
    }
}

#[diagnostic::do_not_recommend]
impl<S: Clone> SecondService<S> for CloneRequest {
    fn second(service: &S) -> Option<S> {
        Some(service.clone())
    }
}

#[diagnostic::do_not_recommend]
impl<S: Clone, R> SecondService<S> for Idempotent<R> {
    fn second(service: &S) -> Option<S> {
        Some(service.clone())
    }
}

#[diagnostic::do_not_recommend]
impl<S: Clone> SecondService<S> for Buffered {
    fn second(service: &S) -> Option<S> {
        Some(service.clone())
    }
}
