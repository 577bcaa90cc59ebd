use super::Replay;
use crate::{error::BoxError, http::HttpRequest};

/// Sends a request again if it can be cloned: `http::Request<B>` with a body that is `Clone`, or a
/// `reqwest::Request` whose body is not a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloneRequest;

// One impl for all requests, so that the compiler finds the request's type from the service below:
// `client.ready().await?` has no other hint.
impl<Q: CloneableRequest> Replay<Q> for CloneRequest {
    type Sent = Q;
    type Kept = Q;

    fn pass(&self, request: Q) -> Q {
        request
    }

    fn keep(&self, request: Q) -> (Q, Option<Q>) {
        let kept = request.try_clone();
        (request, kept)
    }

    fn again(kept: &Q) -> Result<Option<Q>, BoxError> {
        Ok(kept.try_clone())
    }
}

/// A request that can be cloned, or can be when its body is not a stream.
pub trait CloneableRequest: HttpRequest + Send + 'static {
    /// A copy of the request; `None` if its body is a stream.
    fn try_clone(&self) -> Option<Self>
    where
        Self: Sized;
}

impl<B: Clone + Send + 'static> CloneableRequest for http::Request<B> {
    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

#[cfg(feature = "reqwest")]
impl CloneableRequest for reqwest::Request {
    fn try_clone(&self) -> Option<Self> {
        self.try_clone()
    }
}

/// Sends only requests again whose method may be repeated without harm ([RFC 9110 §9.2.2]):
/// `GET`, `HEAD`, `OPTIONS`, `TRACE`, `PUT`, `DELETE`. How, the policy inside says.
///
/// A server that refuses a token has not acted on the request, so most APIs do not need this.
///
/// [RFC 9110 §9.2.2]: https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Idempotent<R>(pub R);

impl<R: Replay<Q>, Q: HttpRequest> Replay<Q> for Idempotent<R> {
    type Sent = R::Sent;
    type Kept = R::Kept;

    fn pass(&self, request: Q) -> R::Sent {
        self.0.pass(request)
    }

    fn keep(&self, request: Q) -> (R::Sent, Option<R::Kept>) {
        if request.method().is_idempotent() {
            self.0.keep(request)
        } else {
            (self.0.pass(request), None)
        }
    }

    fn again(kept: &R::Kept) -> Result<Option<R::Sent>, BoxError> {
        R::again(kept)
    }
}
