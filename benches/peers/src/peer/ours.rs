use tower_layer::Layer;
use tower_oauth::{ClientAuth, ClientCredentials, CloneRequest, OAuthLayer, TokenHandle};

use crate::{
    cost::Bench,
    endpoint::Endpoint,
    point::{self, Scenario, authorize},
    service::{Bare, ORIGIN, call, request},
};

pub fn cost(bench: &mut Bench<'_>) {
    let tokens = bench.runtime.block_on(async {
        let tokens = tokens(&Endpoint::start(3600).await);
        tokens.ready().await.expect("a token");
        tokens
    });
    let layer = OAuthLayer::new(tokens, ORIGIN.parse().expect("an origin"));
    let mut service = layer.layer(Bare);
    bench.row("tower-oauth", async || call(&mut service, request()).await);
    let service = layer.layer(Bare);
    bench.row("tower-oauth, service cloned", async || call(&mut service.clone(), request()).await);
    let mut service = layer.replay(CloneRequest).layer(Bare);
    bench.row("tower-oauth, CloneRequest", async || call(&mut service, request()).await);
}

/// Due after a second, as the endpoint says.
pub async fn point(scenario: Scenario, quick: bool) -> String {
    let endpoint = Endpoint::start(600).await;
    let tokens = tokens(&endpoint);
    let peer = authorize(move || {
        let tokens = tokens.clone();
        async move { tokens.token().await.map(drop).map_err(|error| error.to_string()) }
    });
    point::run("tower-oauth", scenario, &endpoint, peer, quick).await
}

fn tokens(endpoint: &Endpoint) -> TokenHandle {
    let auth = ClientAuth::basic("client", "secret");
    let source = ClientCredentials::builder(&*endpoint.url, auth).build().expect("a source");
    TokenHandle::spawn(source)
}
