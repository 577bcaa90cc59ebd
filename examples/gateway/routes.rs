//! The gateway's own paths, and the way to the others.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, State},
    http::{Request, Response, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::Instant;
use tower_oauth::BoxError;

use crate::{page, proxy, settings::Settings, upstream::Upstream};

/// All of it; clones are the same.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    /// Those with the longest paths first.
    upstreams: Vec<Upstream>,
    recorder: PrometheusHandle,
    ending: AtomicBool,
}

/// Makes this process' metrics something that Prometheus reads.
pub fn install_recorder() -> Result<PrometheusHandle, BoxError> {
    let buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), &buckets)?
        .install_recorder()?;
    let upkeep = recorder.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    Ok(recorder)
}

impl Gateway {
    pub fn new(settings: &Settings, recorder: PrometheusHandle) -> Result<Self, BoxError> {
        let upstreams = settings.upstreams.iter();
        let upstreams = upstreams.map(|(name, settings)| Upstream::new(name, settings));
        Ok(Self::of(upstreams.collect::<Result<_, _>>()?, recorder))
    }

    /// The same without the layer: only to measure what it costs.
    pub fn bare(settings: &Settings, recorder: PrometheusHandle) -> Result<Self, BoxError> {
        let upstreams = settings.upstreams.iter();
        let upstreams = upstreams.map(|(name, settings)| Upstream::new(name, settings)?.bare());
        Ok(Self::of(upstreams.collect::<Result<_, _>>()?, recorder))
    }

    fn of(mut upstreams: Vec<Upstream>, recorder: PrometheusHandle) -> Self {
        upstreams.sort_by_key(|upstream| std::cmp::Reverse(upstream.path.len()));
        Self(Arc::new(Inner { upstreams, recorder, ending: AtomicBool::new(false) }))
    }

    pub fn router(
        &self,
    ) -> axum::extract::connect_info::IntoMakeServiceWithConnectInfo<Router, SocketAddr> {
        Router::new()
            // The process runs. Not more: without tokens it is of use all the same.
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .fallback(forward)
            .with_state(self.clone())
            .into_make_service_with_connect_info()
    }

    /// Says that no more requests should come.
    pub fn end(&self) {
        self.0.ending.store(true, Ordering::Relaxed);
    }

    pub async fn shutdown(&self) {
        for upstream in &self.0.upstreams {
            upstream.tokens.shutdown().await;
        }
    }

    fn upstream(&self, path: &str) -> Option<&Upstream> {
        self.0.upstreams.iter().find(|upstream| {
            let rest = path.strip_prefix(&*upstream.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

async fn forward(
    State(gateway): State<Gateway>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Response<Body> {
    let Some(upstream) = gateway.upstream(request.uri().path()) else {
        return proxy::problem(StatusCode::NOT_FOUND, "not found", "no API has this path");
    };
    let started = Instant::now();
    let response = proxy::forward(upstream, request, Some(caller.ip())).await;
    // As OpenTelemetry calls it: http.server.request.duration.
    let status = response.status().as_str().to_owned();
    let labels = [("client", upstream.name.to_string()), ("http_response_status_code", status)];
    metrics::histogram!("http_server_request_duration_seconds", &labels).record(started.elapsed());
    response
}

/// Whether requests would get a token at once.
async fn ready(State(gateway): State<Gateway>) -> Response<Body> {
    if gateway.0.ending.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response();
    }
    let without = gateway.0.upstreams.iter().filter(|up| up.tokens.current().is_none());
    let without: Vec<_> = without.map(|upstream| &*upstream.name).collect();
    if without.is_empty() {
        return "ready\n".into_response();
    }
    let text = format!("no token for {}\n", without.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(gateway): State<Gateway>) -> impl IntoResponse {
    let version = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, version)], gateway.0.recorder.render())
}

async fn status(State(gateway): State<Gateway>) -> impl IntoResponse {
    let nonce = format!("{:016x}", fastrand::u64(..));
    let page = page::render(&gateway.0.upstreams, &nonce);
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, page)
}
