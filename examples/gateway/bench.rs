//! What the layer costs: the same proxy with it and without it, 64 connections at once.

use std::time::Duration;

use axum::{Router, http::Request, routing::any};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tower_oauth::{BoxError, testing::AuthorizationServer};

use crate::{routes::Gateway, settings::Settings};

pub async fn run(recorder: PrometheusHandle) -> Result<(), BoxError> {
    let issuer = AuthorizationServer::start().await?;
    let api = serve(Router::new().fallback(any(async || "ok"))).await?;
    let secret = std::env::temp_dir().join(format!("gateway-bench-{}", std::process::id()));
    std::fs::write(&secret, "a secret")?;
    let settings = Settings::parse(&format!(
        "[upstreams.api]\nurl = '{api}'\n[upstreams.api.oauth]\ntoken_endpoint = '{}'\n\
         client = {{ id = 'gateway', secret = {{ file = '{}' }} }}",
        issuer.token_endpoint(),
        secret.display()
    ))?;
    let with = Gateway::new(&settings, recorder.clone())?;
    let without = Gateway::bare(&settings, recorder)?;
    let with = Callers::new(&listen(&with).await?);
    let without = Callers::new(&listen(&without).await?);
    let (mut times, mut bare) = (Vec::new(), Vec::new());
    for slice in 0..=SLICES {
        // In turn, and each first as often: whatever else the machine does hits both.
        let (first, second) = if slice % 2 == 0 { (&with, &without) } else { (&without, &with) };
        let (one, two) = (first.time().await?, second.time().await?);
        let (time, without) = if slice % 2 == 0 { (one, two) } else { (two, one) };
        // The first one opens connections.
        if slice > 0 {
            times.push(time);
            bare.push(without);
        }
    }
    std::fs::remove_file(&secret)?;
    // Not the median: what others do on this machine makes slices slower, and never faster.
    let (time, bare) = (tenth(times), tenth(bare));
    let ratio = time.as_secs_f64() / bare.as_secs_f64();
    println!("a request at {CONNECTIONS} connections, its caller and the API on the same cores:");
    println!("with the layer {time:?}, without {bare:?}, ratio {ratio:.3}");
    if ratio <= MOST { Ok(()) } else { Err(format!("more than {MOST}").into()) }
}

/// The time that one slice of ten is faster than.
fn tenth(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 10).copied().unwrap_or_default()
}

/// So many connections, which stay open.
struct Callers {
    url: String,
    clients: Vec<Client<HttpConnector, Empty<bytes::Bytes>>>,
}

impl Callers {
    fn new(url: &str) -> Self {
        let client = |_| Client::builder(TokioExecutor::new()).build_http();
        Self { url: url.to_owned(), clients: (0..CONNECTIONS).map(client).collect() }
    }

    /// The time of one request.
    async fn time(&self) -> Result<Duration, BoxError> {
        let start = Instant::now();
        let mut calls = JoinSet::new();
        for client in &self.clients {
            let (url, client) = (self.url.clone(), client.clone());
            calls.spawn(async move {
                for _ in 0..REQUESTS {
                    let request = Request::get(&url).body(Empty::new())?;
                    let response = client.request(request).await?;
                    if response.status() != 200 {
                        return Err(response.status().to_string().into());
                    }
                    response.into_body().collect().await?;
                }
                Ok::<_, BoxError>(())
            });
        }
        while let Some(outcome) = calls.join_next().await {
            outcome??;
        }
        Ok(start.elapsed() / (CONNECTIONS * REQUESTS))
    }
}

async fn listen(gateway: &Gateway) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/api/orders", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, gateway.router()).into_future());
    Ok(url)
}

async fn serve(router: Router) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(url)
}

const CONNECTIONS: u32 = 64;
const REQUESTS: u32 = 20;
const SLICES: usize = 100;
const MOST: f64 = 1.10;
