use std::{fmt, sync::Arc};

use http_body::Body;

use super::{
    Replay,
    body::{Record, ReplayBody},
};
use crate::error::BoxError;

/// Sends a request again whose body is a stream: what has been sent of it is kept, up to a bound,
/// and the rest is read on from where the first attempt stopped.
///
/// The service below gets bodies of type [`ReplayBody`]. A body that passes the bound is sent once,
/// in full, and not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffered {
    limit: usize,
}

impl Buffered {
    /// Keeps at most this many bytes of a body.
    pub fn up_to(bytes: usize) -> Self {
        Self { limit: bytes }
    }
}

/// What [`Buffered`] keeps of a request.
pub struct BufferedRequest<B> {
    parts: http::request::Parts,
    record: Arc<Record<B>>,
}

impl<B> Replay<http::Request<B>> for Buffered
where
    B: Body + Send + 'static,
{
    type Sent = http::Request<ReplayBody<B>>;
    type Kept = BufferedRequest<B>;

    fn pass(&self, request: http::Request<B>) -> Self::Sent {
        request.map(ReplayBody::passing)
    }

    fn keep(&self, request: http::Request<B>) -> (Self::Sent, Option<Self::Kept>) {
        let (parts, body) = request.into_parts();
        let record = Arc::new(Record::new(self.limit));
        let kept = BufferedRequest { parts: parts.clone(), record: record.clone() };
        let body = ReplayBody::recording(body, record);
        (http::Request::from_parts(parts, body), Some(kept))
    }

    fn again(kept: &Self::Kept) -> Result<Option<Self::Sent>, BoxError> {
        let body = ReplayBody::again(&kept.record);
        Ok(body.map(|body| http::Request::from_parts(kept.parts.clone(), body)))
    }
}

/// What [`Buffered`] keeps of a reqwest request.
#[cfg(feature = "reqwest")]
pub struct BufferedReqwest {
    head: reqwest::Request,
    body: Option<Arc<Record<reqwest::Body>>>,
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
            return (request, Some(BufferedReqwest { head, body: None }));
        }
        let stream = request.body_mut().take();
        let Some((stream, head)) = stream.zip(request.try_clone()) else {
            return (request, None);
        };
        let record = Arc::new(Record::new(self.limit));
        let recording = ReplayBody::recording(stream, record.clone());
        *request.body_mut() = Some(reqwest::Body::wrap(recording));
        (request, Some(BufferedReqwest { head, body: Some(record) }))
    }

    fn again(kept: &BufferedReqwest) -> Result<Option<reqwest::Request>, BoxError> {
        let Some(mut request) = kept.head.try_clone() else { return Ok(None) };
        if let Some(record) = &kept.body {
            let Some(body) = ReplayBody::again(record) else { return Ok(None) };
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
