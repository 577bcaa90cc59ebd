//! Replay of streaming bodies, which are recorded while they are sent.

use std::fmt;

use http_body::Body;

use super::{Replay, body::ReplayBody, record::ReplayPermit};
use crate::error::BoxError;

/// Sends a request again whose body is a stream. The layer records what the first attempt sends, up
/// to a limit; the second attempt sends the record, and then reads on from the same stream.
///
/// The service below gets bodies of type [`ReplayBody`].
///
/// - A body larger than the limit is sent once, in full. The record of it is dropped.
/// - A server may refuse a request before it has read the body. The second attempt then takes over
///   in the middle of the stream, and the first one ends with an error.
/// - If the stream fails, the request is not sent again, and the caller gets the stream's error.
/// - Once the server has accepted the request, the record is dropped, even if the stream goes on.
/// - The second attempt announces the length that the first one announced, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffered {
    limit: usize,
}

impl Buffered {
    /// Records at most this many bytes of a body.
    pub fn up_to(bytes: usize) -> Self {
        Self { limit: bytes }
    }
}

/// What [`Buffered`] keeps of a request. When it is dropped, the record of the body is, too.
pub struct BufferedRequest<B> {
    parts: http::request::Parts,
    permit: ReplayPermit<B>,
}

impl<B> Replay<http::Request<B>> for Buffered
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Sent = http::Request<ReplayBody<B>>;
    type Kept = BufferedRequest<B>;

    fn pass(&self, request: http::Request<B>) -> Self::Sent {
        request.map(ReplayBody::passing)
    }

    fn keep(&self, request: http::Request<B>) -> (Self::Sent, Option<Self::Kept>) {
        let (parts, body) = request.into_parts();
        let (body, permit) = ReplayBody::recording(body, self.limit);
        let kept = BufferedRequest { parts: parts.clone(), permit };
        (http::Request::from_parts(parts, body), Some(kept))
    }

    fn again(kept: &Self::Kept) -> Result<Option<Self::Sent>, BoxError> {
        let body = ReplayBody::again(&kept.permit)?;
        Ok(body.map(|body| http::Request::from_parts(kept.parts.clone(), body)))
    }
}

/// What [`Buffered`] keeps of a reqwest request. When it is dropped, the record of the body is, too.
#[cfg(feature = "reqwest")]
pub struct BufferedReqwest {
    head: reqwest::Request,
    /// None if the body is not a stream: then it is in the head.
    permit: Option<ReplayPermit<reqwest::Body>>,
}

#[cfg(feature = "reqwest")]
impl Replay<reqwest::Request> for Buffered {
    type Sent = reqwest::Request;
    type Kept = BufferedReqwest;

    fn pass(&self, request: reqwest::Request) -> reqwest::Request {
        request
    }

    fn keep(&self, mut request: reqwest::Request) -> (reqwest::Request, Option<BufferedReqwest>) {
        // Without a body, or with one that is not a stream, the request is cloned as it is.
        if let Some(head) = request.try_clone() {
            return (request, Some(BufferedReqwest { head, permit: None }));
        }
        let stream = request.body_mut().take();
        let Some((stream, head)) = stream.zip(request.try_clone()) else {
            return (request, None);
        };
        let (body, permit) = ReplayBody::recording(stream, self.limit);
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        (request, Some(BufferedReqwest { head, permit: Some(permit) }))
    }

    fn again(kept: &BufferedReqwest) -> Result<Option<reqwest::Request>, BoxError> {
        let Some(mut request) = kept.head.try_clone() else { return Ok(None) };
        if let Some(permit) = &kept.permit {
            let Some(body) = ReplayBody::again(permit)? else { return Ok(None) };
            *request.body_mut() = Some(reqwest::Body::wrap(body));
        }
        Ok(Some(request))
    }
}

impl<B> fmt::Debug for BufferedRequest<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BufferedRequest")
    }
}

#[cfg(feature = "reqwest")]
impl fmt::Debug for BufferedReqwest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BufferedReqwest")
    }
}
