//! What the layer costs: the same proxy with it and without it, 64 connections at once.

use std::{collections::BTreeMap, time::Duration};

use axum::{Router, http::Request, routing::any};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
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
    let mut urls = BTreeMap::new();
    for (name, gateway) in [("with", with), ("without", without)] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        urls.insert(name, format!("http://{}/api/orders", listener.local_addr()?));
        tokio::spawn(axum::serve(listener, gateway.router()).into_future());
    }
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        // In turn, and each first as often: whatever else the machine does hits both.
        let order = if round % 2 == 0 { ["with", "without"] } else { ["without", "with"] };
        let mut times = BTreeMap::new();
        for name in order {
            times.insert(name, time(&urls[name]).await?);
        }
        // The first one opens connections.
        if round > 0 {
            let ratio = times["with"].as_secs_f64() / times["without"].as_secs_f64();
            println!("with {:?}, without {:?}: {ratio:.3}", times["with"], times["without"]);
            ratios.push(ratio);
        }
    }
    std::fs::remove_file(&secret)?;
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!(
        "time of a request at {CONNECTIONS} connections, with the layer to without: {median:.3}"
    );
    if median <= MOST { Ok(()) } else { Err(format!("more than {MOST}").into()) }
}

/// The time of one request, at so many connections.
async fn time(url: &str) -> Result<Duration, BoxError> {
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let url = url.to_owned();
        callers.spawn(async move {
            let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
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
    while let Some(outcome) = callers.join_next().await {
        outcome??;
    }
    Ok(start.elapsed() / (CONNECTIONS * REQUESTS))
}

async fn serve(router: Router) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(url)
}

const CONNECTIONS: u32 = 64;
const REQUESTS: u32 = 100;
const ROUNDS: usize = 9;
const MOST: f64 = 1.10;
