use super::Replay;
use crate::http::HttpRequest;

/// Sends a request again if it can be cloned: `http::Request<B>` with a body that is `Clone`, or a
/// `reqwest::Request` whose body is not a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloneRequest;

impl<B: Clone + Send + 'static> Replay<http::Request<B>> for CloneRequest {
    type Sent = http::Request<B>;
    type Kept = http::Request<B>;

    fn pass(&self, request: http::Request<B>) -> http::Request<B> {
        request
    }

    fn keep(&self, request: http::Request<B>) -> (http::Request<B>, Option<http::Request<B>>) {
        let kept = request.clone();
        (request, Some(kept))
    }

    fn again(kept: http::Request<B>) -> Option<http::Request<B>> {
        Some(kept)
    }
}

#[cfg(feature = "reqwest")]
impl Replay<reqwest::Request> for CloneRequest {
    type Sent = reqwest::Request;
    type Kept = reqwest::Request;

    fn pass(&self, request: reqwest::Request) -> reqwest::Request {
        request
    }

    fn keep(&self, request: reqwest::Request) -> (reqwest::Request, Option<reqwest::Request>) {
        let kept = request.try_clone();
        (request, kept)
    }

    fn again(kept: reqwest::Request) -> Option<reqwest::Request> {
        Some(kept)
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

    fn again(kept: R::Kept) -> Option<R::Sent> {
        R::again(kept)
    }
}
