//! A protected API as a service: strict about readiness, and it remembers what it was sent.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::BodyExt;
use tower::Service;

/// What a request looked like when it arrived.
#[derive(Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Seen {
    /// The one `Authorization` field, or none.
    pub fn authorization(&self) -> Option<&str> {
        let mut fields = self.headers.get_all(header::AUTHORIZATION).iter();
        let first = fields.next().map(|value| value.to_str().unwrap());
        assert!(fields.next().is_none(), "two Authorization fields");
        first
    }
}

/// Panics when it is called without having been polled ready, as each clone must be by itself.
pub struct Api {
    state: Arc<Mutex<State>>,
    ready: bool,
}

struct State {
    accept: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    refusal: (StatusCode, HeaderMap),
    delay: Duration,
    reads_body_first: bool,
    seen: Vec<Seen>,
}

impl Api {
    /// Accepts every token.
    pub fn new() -> Self {
        let state = State {
            accept: Arc::new(|_| true),
            refusal: (StatusCode::UNAUTHORIZED, invalid_token()),
            delay: Duration::ZERO,
            reads_body_first: true,
            seen: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), ready: false }
    }

    /// Accepts these values of the `Authorization` field from now on.
    pub fn accept(&self, accept: impl Fn(&str) -> bool + Send + Sync + 'static) -> &Self {
        self.state.lock().unwrap().accept = Arc::new(accept);
        self
    }

    /// How it refuses. Default: 401 and `Bearer error="invalid_token"`.
    pub fn refuse_with(&self, status: u16, fields: &[(&'static str, &'static str)]) -> &Self {
        let fields = fields.iter().map(|(name, value)| {
            (name.parse::<header::HeaderName>().unwrap(), HeaderValue::from_static(value))
        });
        let status = StatusCode::from_u16(status).unwrap();
        self.state.lock().unwrap().refusal = (status, fields.collect());
        self
    }

    /// How long each answer takes.
    pub fn delay(&self, delay: Duration) -> &Self {
        self.state.lock().unwrap().delay = delay;
        self
    }

    /// Refuses from the header alone, without reading the body.
    pub fn refuse_early(&self) -> &Self {
        self.state.lock().unwrap().reads_body_first = false;
        self
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn count(&self) -> usize {
        self.state.lock().unwrap().seen.len()
    }
}

fn invalid_token() -> HeaderMap {
    let value = HeaderValue::from_static(r#"Bearer realm="api", error="invalid_token""#);
    HeaderMap::from_iter([(header::WWW_AUTHENTICATE, value)])
}

impl Clone for Api {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), ready: false }
    }
}

impl<B> Service<Request<B>> for Api
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: std::fmt::Debug,
{
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        let state = self.state.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let (accept, delay, refusal, reads_body) = {
                let state = state.lock().unwrap();
                let reads = state.reads_body_first;
                (state.accept.clone(), state.delay, state.refusal.clone(), reads)
            };
            let token = parts.headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap());
            let accepted = token.is_some_and(|token| accept(token));
            let (trailers, body) = if accepted || reads_body {
                let body = body.collect().await.expect("the body can be read");
                (body.trailers().cloned(), body.to_bytes())
            } else {
                (None, Bytes::new())
            };
            state.lock().unwrap().seen.push(Seen {
                method: parts.method,
                uri: parts.uri,
                headers: parts.headers,
                body,
                trailers,
            });
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let mut response = Response::new(String::from("hello"));
            if !accepted {
                (*response.status_mut(), *response.headers_mut()) = refusal;
            }
            Ok(response)
        })
    }
}
