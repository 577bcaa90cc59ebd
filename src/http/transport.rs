use std::{fmt, future::Future, marker::PhantomData, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header::CONTENT_ENCODING};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::error::{BoxError, ConfigError, Error, ErrorKind};

/// The HTTP client that talks to the authorization server.
///
/// With the feature `reqwest` the default is [`Transport::reqwest()`]: rustls, no redirects, bounded
/// time. Any other tower service of HTTP requests can take its place.
///
/// The service must not follow redirects, or the client's credentials would follow them too, and
/// it must not be one that passes through an `OAuthLayer` fed by it. Nor may it share a concurrency
/// limit with requests that wait for a token: they would hold the places that the token needs.
#[derive(Clone)]
pub struct Transport(Arc<dyn Exchange>);

/// What one exchange may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// When the exchange must be over, the body included.
    pub(crate) deadline: Instant,
    /// The largest body, counted after decompression.
    pub(crate) body: usize,
}

/// An answer of the authorization server, read to its end.
pub(crate) type Answer = http::Response<Bytes>;

pub(super) type ExchangeFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send + 'a>>;

pub(super) trait Exchange: Send + Sync {
    fn exchange(&self, request: http::Request<Bytes>, limits: Limits) -> ExchangeFuture<'_>;

    /// Whether it is known to present a client certificate.
    fn is_mtls(&self) -> bool {
        false
    }

    /// A URL as it is sent.
    fn sent_url(&self, url: &Uri) -> Uri {
        url.clone()
    }
}

impl Transport {
    /// Uses a tower service, such as a `hyper_util` client of `http_body_util::Full<Bytes>`.
    pub fn new<S, B, R>(service: S) -> Self
    where
        S: Service<http::Request<B>, Response = http::Response<R>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: From<Bytes> + Send + 'static,
        R: Body + Send,
        R::Data: Send,
        R::Error: Into<BoxError>,
    {
        Self(Arc::new(Erased { service, body: PhantomData }))
    }

    #[cfg(feature = "reqwest")]
    pub(super) fn of(exchange: Arc<dyn Exchange>) -> Self {
        Self(exchange)
    }

    /// Whether it is known to present a client certificate.
    pub(crate) fn is_mtls(&self) -> bool {
        self.0.is_mtls()
    }

    /// A URL as it is sent: a client may write it in another way, such as without dot segments.
    pub(crate) fn sent_url(&self, url: &Uri) -> Uri {
        self.0.sent_url(url)
    }

    /// Sends a request and reads the answer, within the limits.
    pub(crate) async fn exchange(
        &self,
        request: http::Request<Bytes>,
        limits: Limits,
    ) -> Result<Answer, Error> {
        // A process that was stopped may be past it: what nobody waits for any more, and somebody else
        // may be sending by now, is not sent.
        if Instant::now() >= limits.deadline {
            let message = "no time was left to ask the authorization server";
            return Err(Error::new(ErrorKind::Timeout, message));
        }
        // One deadline over everything: a server that drips a byte a second is as dead as one
        // that does not answer.
        match timeout_at(limits.deadline, self.0.exchange(request, limits)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "the authorization server did not answer in time",
            )),
        }
    }

    /// The client that is used unless one is set.
    #[cfg(feature = "reqwest")]
    pub(crate) fn standard() -> Result<Self, ConfigError> {
        Self::reqwest()
    }

    /// The client that is used unless one is set: there is none.
    #[cfg(not(feature = "reqwest"))]
    pub(crate) fn standard() -> Result<Self, ConfigError> {
        Err(ConfigError::Transport(
            "there is none: set one with transport(), or turn on the feature reqwest".to_owned(),
        ))
    }

    /// As [`standard`](Self::standard), for URLs that came over the network.
    #[cfg(not(feature = "reqwest"))]
    pub(crate) fn screened(_: impl IntoIterator<Item = String>) -> Result<Self, ConfigError> {
        Self::standard()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

struct Erased<S, B> {
    service: S,
    body: PhantomData<fn(B)>,
}

impl<S, B, R> Exchange for Erased<S, B>
where
    S: Service<http::Request<B>, Response = http::Response<R>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: From<Bytes> + Send + 'static,
    R: Body + Send,
    R::Data: Send,
    R::Error: Into<BoxError>,
{
    fn exchange(&self, request: http::Request<Bytes>, limits: Limits) -> ExchangeFuture<'_> {
        let mut service = self.service.clone();
        Box::pin(async move {
            std::future::poll_fn(|cx| service.poll_ready(cx)).await.map_err(unreachable)?;
            let response = service.call(request.map(B::from)).await.map_err(unreachable)?;
            read(response, limits.body).await
        })
    }
}

/// The size that an answer might have had. What is made of it may take a multiple of that.
pub(crate) fn body_limit(answer: &Answer) -> usize {
    answer.extensions().get().map_or(MIB, |BodyLimit(limit)| *limit)
}

#[derive(Debug, Clone, Copy)]
struct BodyLimit(usize);

const MIB: usize = 1024 * 1024;

pub(super) async fn read<R>(response: http::Response<R>, cap: usize) -> Result<Answer, Error>
where
    R: Body,
    R::Error: Into<BoxError>,
{
    let (mut parts, body) = response.into_parts();
    parts.extensions.insert(BodyLimit(cap));
    check_encoding(&parts.headers, parts.status)?;
    let body = Limited::new(body, cap).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return Error::new(
                ErrorKind::MalformedResponse,
                format!("the authorization server's answer is larger than {cap} bytes"),
            );
        }
        Error::new(
            ErrorKind::Transport,
            "the connection to the authorization server broke before its answer was complete",
        )
        .with_source(without_url(error))
    })?;
    Ok(http::Response::from_parts(parts, body.to_bytes()))
}

/// A client that decompresses removes the header; what is left is compressed still.
fn check_encoding(headers: &HeaderMap, status: StatusCode) -> Result<(), Error> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Error::new(
                ErrorKind::MalformedResponse,
                format!("the authorization server's answer ({status}) is compressed, unasked"),
            ))
        }
        _ => Ok(()),
    }
}

pub(super) fn unreachable(error: impl Into<BoxError>) -> Error {
    let error = error.into();
    // Ours, from within the client: a resolver that refused an address.
    if let Some(refused) = Error::find(&*error).filter(|e| e.kind() == ErrorKind::Discovery) {
        return refused.clone();
    }
    Error::new(
        ErrorKind::Transport,
        "the authorization server cannot be reached, or broke the connection",
    )
    .with_source(without_url(error))
}

/// reqwest's errors show the URL, whose query may hold a key.
fn without_url(error: BoxError) -> BoxError {
    #[cfg(feature = "reqwest")]
    let error = match error.downcast::<reqwest::Error>() {
        Ok(error) => return Box::new(error.without_url()),
        Err(error) => error,
    };
    error
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use http_body_util::Full;

    use super::*;

    /// The first poll of a request may write it, before any timer is looked at.
    #[tokio::test(start_paused = true)]
    async fn f41_nothing_is_sent_once_the_deadline_has_passed() {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let transport = Transport::new(tower::service_fn(move |_: http::Request<Full<Bytes>>| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, BoxError>(http::Response::new(Full::<Bytes>::default())) }
        }));
        let deadline = Instant::now() + Duration::from_secs(1);
        let limits = Limits { deadline, body: 1024 };
        transport.exchange(http::Request::default(), limits).await.unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
        let late = transport.exchange(http::Request::default(), limits).await.unwrap_err();
        assert_eq!((late.kind(), sent.load(Ordering::Relaxed)), (ErrorKind::Timeout, 1));
    }
}
