use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{answer::is_grpc, used_token::UsedToken};

/// Reports gRPC's `UNAUTHENTICATED` in the trailers of a response, for streams that are refused while
/// they run. The request is not sent again: part of its response has reached the caller.
///
/// It goes above an [`OAuthLayer`](super::OAuthLayer) that
/// [exposes the token](super::OAuthLayer::expose_token); elsewhere, or without that option, it does
/// nothing. As with any refusal without a reason, a
/// token younger than [`bare_401_min_age`](super::OAuthLayer::bare_401_min_age) stays in service.
/// Only responses with the content type `application/grpc` are looked at.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_oauth::{FixedToken, OAuthLayer, TokenHandle, TokenSet, middleware::GrpcTrailersLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth::BoxError> {
/// # let tokens = TokenHandle::spawn(FixedToken::new(TokenSet::bearer("abc")?));
/// # let channel = tower::service_fn(|_: http::Request<String>| async {
/// #     Ok::<_, std::io::Error>(http::Response::new(String::new()))
/// # });
/// let api = ServiceBuilder::new()
///     .layer(GrpcTrailersLayer)
///     .layer(OAuthLayer::new(tokens, "https://api.example".parse()?).expose_token())
///     .service(channel);
/// # let _ = api;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcTrailersLayer;

/// A service that reports refusals in trailers. Made by [`GrpcTrailersLayer`].
#[derive(Debug, Clone)]
pub struct GrpcTrailersService<S>(S);

impl<S> Layer<S> for GrpcTrailersLayer {
    type Service = GrpcTrailersService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcTrailersService(inner)
    }
}

impl<S, Q, B> Service<Q> for GrpcTrailersService<S>
where
    S: Service<Q, Response = Response<B>>,
{
    type Response = Response<GrpcTrailers<B>>;
    type Error = S::Error;
    type Future = GrpcTrailersFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        GrpcTrailersFuture { response: self.0.call(request) }
    }
}

pin_project! {
    /// The response of a [`GrpcTrailersService`].
    #[derive(Debug)]
    pub struct GrpcTrailersFuture<F> {
        #[pin]
        response: F,
    }
}

impl<F, B, E> Future for GrpcTrailersFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<GrpcTrailers<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().response.poll(cx))?;
        let (parts, body) = response.into_parts();
        let token = parts.extensions.get::<UsedToken>().filter(|_| is_grpc(&parts.headers));
        let body = GrpcTrailers { token: token.cloned(), body };
        Poll::Ready(Ok(Response::from_parts(parts, body)))
    }
}

pin_project! {
    /// A response body whose trailers are looked at.
    pub struct GrpcTrailers<B> {
        token: Option<UsedToken>,
        #[pin]
        body: B,
    }
}

impl<B: Body> Body for GrpcTrailers<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        let trailers = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.trailers_ref());
        if trailers.is_some_and(is_unauthenticated)
            && let Some(token) = this.token.take()
        {
            token.doubt();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn is_unauthenticated(trailers: &HeaderMap) -> bool {
    trailers.get("grpc-status").is_some_and(|code| code.as_bytes() == b"16")
}

impl<B: Default> Default for GrpcTrailers<B> {
    fn default() -> Self {
        Self { token: None, body: B::default() }
    }
}

/// Nothing of the body: it is the caller's.
impl<B> fmt::Debug for GrpcTrailers<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrpcTrailers")
    }
}
