//! hyper-util's client, for requests and for tokens: no reqwest needed.
//!
//! ```sh
//! cargo run --example hyper
//! ```
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Service, ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, OAuthLayer, TokenHandle, Transport,
    testing::{AuthorizationServer, ProtectedApi},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = AuthorizationServer::start().await?;
    let api = ProtectedApi::start(&issuer).await?;

    // hyper-util's client follows no redirects, so it may carry the client's credentials too.
    let hyper = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let auth = ClientAuth::post("orders", "a secret");
    let source = ClientCredentials::builder(issuer.token_endpoint(), auth)
        .transport(Transport::new(hyper.clone()))
        .build()?;
    let tokens = TokenHandle::spawn(source);

    let mut client = ServiceBuilder::new()
        .layer(OAuthLayer::new(tokens, api.url().parse()?).replay(CloneRequest))
        // Below the layer, it bounds each attempt; above, it would bound the wait for a token too.
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .service(hyper);

    let request = Request::post(format!("{}/orders", api.url())).body("one pizza".into())?;
    let response = client.ready().await?.call(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    println!("{status}: {}", String::from_utf8_lossy(&body));
    Ok(())
}
