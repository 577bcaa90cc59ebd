use std::{convert::Infallible, future::Ready, hint::black_box, sync::LazyLock, task};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::Empty;
use tower::Service;

pub type Body = Empty<Bytes>;

/// Where requests go.
pub const ORIGIN: &str = "https://api.example";

/// The service below every design: answers at once.
#[derive(Debug, Clone, Copy)]
pub struct Bare;

impl Service<Request<Body>> for Bare {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        drop(black_box(request));
        let mut response = Response::new(Body::new());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        std::future::ready(Ok(response))
    }
}

static URI: LazyLock<Uri> = LazyLock::new(|| Uri::from_static("https://api.example/orders"));

/// A request with two headers and room for more.
pub fn request() -> Request<Body> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static("bench/1.0"));
    let mut request = Request::new(Body::new());
    *request.uri_mut() = URI.clone();
    *request.headers_mut() = headers;
    request
}

/// Sends through a tower service that is kept.
pub async fn call<S: Service<Request<Body>>>(service: &mut S, request: Request<Body>)
where
    S::Error: std::fmt::Debug,
{
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.expect("it is ready");
    drop(black_box(service.call(request).await.expect("it answers")));
}

/// Sends a request with this header: what a user writes around a crate that hands out tokens.
pub async fn call_with(mut request: Request<Body>, header: HeaderValue) {
    request.headers_mut().insert(AUTHORIZATION, header);
    call(&mut Bare, request).await;
}

/// The header that is made of a token in text.
pub fn bearer(token: &str) -> HeaderValue {
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).expect("a header value");
    header.set_sensitive(true);
    header
}
