use std::{future::Ready, task, time::Duration};

use http::{Request, Response};
use toolkit_auth::oauth2::{BearerAuthLayer, OAuthClientConfig, SecretString, TokenProvider};
use toolkit_http::{HttpClientConfig, HttpError};
use tower::Service;
use tower_layer::Layer;

use crate::{
    cost::Bench,
    endpoint::Endpoint,
    point::{self, Scenario, authorize},
    service::{Bare, Body, call, request},
};

/// The bare service, with the error that its layer asks for.
#[derive(Debug, Clone)]
struct BareHere;

impl Service<Request<Body>> for BareHere {
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = Ready<Result<Response<Body>, HttpError>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), HttpError>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Ok(response) = Bare.call(request).into_inner();
        std::future::ready(Ok(response))
    }
}

/// Its layer, without the replay.
pub fn cost(bench: &mut Bench<'_>) {
    let tokens = bench.runtime.block_on(async {
        let tokens = start(&Endpoint::start(3600).await, Duration::from_secs(30));
        tokens.get().await.expect("the first token comes");
        tokens
    });
    let mut bare = BareHere;
    let mut service = BearerAuthLayer::new(tokens).layer(BareHere);
    bench.row_over(
        "cf-gears-toolkit-auth",
        async || call(&mut bare, request()).await,
        async || call(&mut service, request()).await,
    );
}

/// Due after a second.
pub async fn point(scenario: Scenario, quick: bool) -> String {
    let endpoint = Endpoint::start(600).await;
    let tokens = start(&endpoint, Duration::from_secs(599));
    let peer = authorize(move || {
        let tokens = tokens.clone();
        async move { tokens.get().await.map(drop).map_err(|error| error.to_string()) }
    });
    point::run("cf-gears-toolkit-auth", scenario, &endpoint, peer, quick).await
}

fn start(endpoint: &Endpoint, refresh_offset: Duration) -> TokenProvider {
    let config = OAuthClientConfig {
        token_endpoint: Some(endpoint.url.parse().expect("a URL")),
        client_id: "client".to_owned(),
        client_secret: SecretString::new("secret"),
        refresh_offset,
        jitter_max: Duration::ZERO,
        http_config: Some(HttpClientConfig::for_testing()),
        ..OAuthClientConfig::default()
    };
    TokenProvider::new(config).expect("a provider")
}
