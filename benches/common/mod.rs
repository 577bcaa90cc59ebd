//! The service that all designs wrap, and what is sent through it.
#![allow(dead_code, unreachable_pub, reason = "each bench uses a part of this")]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Request, Response, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use tower::Service;
use tower_http::{auth::AddAuthorizationLayer, set_header::SetRequestHeaderLayer};
use tower_layer::Layer;
use tower_oauth::{OAuthLayer, Origins, TokenHandle, TokenSet, TokenSource, source_fn};

pub const ORIGIN: &str = "https://api.example";

/// The service below: answers at once, with one header.
#[derive(Debug, Clone, Copy)]
pub struct Bare;

impl Service<Request<()>> for Bare {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        drop(black_box(request));
        let mut response = Response::new(());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        ready(Ok(response))
    }
}

static URI: LazyLock<Uri> = LazyLock::new(|| Uri::from_static("https://api.example/orders?page=3"));

/// A request with two headers and room for more. Nothing in it is counted by reference, so that
/// threads share nothing but what the design under test shares.
pub fn request() -> Request<()> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static("bench/1.0"));
    let mut request = Request::new(());
    *request.uri_mut() = URI.clone();
    *request.headers_mut() = headers;
    request
}

/// Sends a request and takes its response; it must come at once.
#[inline]
pub fn send<S: Service<Request<()>>>(service: &mut S, request: Request<()>) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    match pin!(service.call(request)).poll(&mut cx) {
        Poll::Ready(response) => drop(black_box(response)),
        Poll::Pending => unreachable!("the token is at hand, and the service below is ready"),
    }
}

pub type WithHeader = tower_http::set_header::SetRequestHeader<Bare, HeaderValue>;

/// The floor: a value that is never counted nor freed.
pub fn static_header(bytes: usize) -> WithHeader {
    let value = Box::leak(format!("Bearer {}", token(bytes)).into_boxed_str());
    SetRequestHeaderLayer::overriding(AUTHORIZATION, HeaderValue::from_static(value)).layer(Bare)
}

/// One value that all requests count.
pub fn shared_header(bytes: usize) -> WithHeader {
    let value =
        HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("Bearer {}", token(bytes))));
    let value = value.expect("a token is a header value");
    SetRequestHeaderLayer::overriding(AUTHORIZATION, value).layer(Bare)
}

pub fn add_authorization(bytes: usize) -> tower_http::auth::AddAuthorization<Bare> {
    AddAuthorizationLayer::bearer(&token(bytes)).layer(Bare)
}

pub fn layer(tokens: &TokenHandle) -> OAuthLayer {
    OAuthLayer::new(tokens.clone(), origins(&[ORIGIN]))
}

/// The layer with eight origins, the one that is asked for at this place.
pub fn layer_of_eight(tokens: &TokenHandle, place: usize) -> OAuthLayer {
    let mut listed: Vec<_> = (0..7).map(|n| format!("https://api{n}.example")).collect();
    listed.insert(place, ORIGIN.to_owned());
    OAuthLayer::new(tokens.clone(), origins(&listed))
}

fn origins(listed: &[impl AsRef<str>]) -> Origins {
    Origins::new(listed).expect("they are origins")
}

/// Gives tokens of this length, for a year: long enough for a clock that runs fast, too.
pub fn source(bytes: usize) -> impl TokenSource {
    source_fn(move |_| async move {
        Ok(TokenSet::bearer(token(bytes))?.with_lifetime(Duration::from_secs(365 * 24 * 3600)))
    })
}

fn token(bytes: usize) -> String {
    "t".repeat(bytes)
}
