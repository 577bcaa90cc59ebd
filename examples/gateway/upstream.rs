//! One API: its client, its token, and what happened to both.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode, Uri, header},
};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceExt};
use tower_oauth::{BoxError, Buffered, OAuth, TokenHandle, middleware::ReplayBody};

use crate::{history::History, settings::UpstreamSettings};

/// An HTTP client with a pool of connections.
pub type Http<B> = Client<HttpsConnector<HttpConnector>, B>;

pub struct Upstream {
    pub name: Arc<str>,
    /// The gateway's path for it, without a slash at its end.
    pub path: String,
    pub url: Uri,
    pub tokens: TokenHandle,
    pub history: Arc<History>,
    pub counts: Counts,
    client: Sender,
}

/// How requests are sent.
#[derive(Clone)]
enum Sender {
    Layered(OAuth<Http<ReplayBody<Body>>, Buffered>),
    /// Without the layer: only to measure what it costs.
    Bare(Http<Body>),
}

/// What became of the requests.
#[derive(Default)]
pub struct Counts {
    /// Sent with a token of the gateway's.
    pub injected: AtomicU64,
    /// Sent with the caller's own `Authorization`.
    pub passed: AtomicU64,
    /// Answered with 401 in the end.
    pub refused: AtomicU64,
    /// Not answered by the API: without a token, or a connection.
    pub failed: AtomicU64,
}

impl Upstream {
    pub fn new(name: &str, settings: &UpstreamSettings) -> Result<Self, BoxError> {
        let history = Arc::new(History::default());
        let observer = history.clone();
        let client = settings
            .oauth
            .builder()
            .name(name)
            .observer(move |event: &tower_oauth::observe::Event<'_>| observer.note(event))
            .build()?;
        Ok(Self {
            name: name.into(),
            path: settings.path.clone().unwrap_or_default(),
            url: settings.url.parse()?,
            tokens: client.tokens().clone(),
            history,
            counts: Counts::default(),
            client: Sender::Layered(
                client.layer().replay(Buffered::up_to(REPLAYED)).layer(http()?),
            ),
        })
    }

    /// The same without the layer.
    pub fn bare(self) -> Result<Self, BoxError> {
        Ok(Self { client: Sender::Bare(http()?), ..self })
    }

    /// Sends a request that is the API's already.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        let own = request.headers().contains_key(header::AUTHORIZATION);
        let outcome = match self.client.clone() {
            Sender::Layered(client) => client.oneshot(request).await,
            Sender::Bare(client) => client.oneshot(request).await.map_err(Into::into),
        };
        let counts = &self.counts;
        match &outcome {
            Ok(response) => {
                add(if own { &counts.passed } else { &counts.injected });
                if response.status() == StatusCode::UNAUTHORIZED {
                    add(&counts.refused);
                }
            }
            Err(_) => add(&counts.failed),
        }
        outcome
    }
}

/// The client of all upstreams: no redirects, and the roots that this machine trusts.
pub fn http<B>() -> Result<Http<B>, BoxError>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(std::time::Duration::from_secs(10)));
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// How much of a request's body is kept, to send it again if its token was refused.
const REPLAYED: usize = 64 * 1024;
