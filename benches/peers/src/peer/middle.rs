use std::{sync::Arc, time::Duration};

use middle::{Authorizer, BasicClientCredentialAuthorizer};

use crate::{
    cost::Bench,
    endpoint::Endpoint,
    point::{self, Scenario, authorize},
    service::{call_with, request},
};

/// As its `HttpClient` does for a request.
pub fn cost(bench: &mut Bench<'_>) {
    let authorizer = bench.runtime.block_on(async {
        let endpoint = Endpoint::start(3600).await;
        start(&endpoint, Duration::from_secs(30)).await
    });
    bench.row("middle", async || {
        let header = authorizer.authorization_header().expect("a header");
        call_with(request(), Arc::unwrap_or_clone(header)).await;
    });
}

/// Due after a second.
pub async fn point(scenario: Scenario, quick: bool) -> String {
    let endpoint = Endpoint::start(600).await;
    let authorizer = start(&endpoint, Duration::from_secs(599)).await;
    let peer = authorize(move || {
        let header = authorizer.authorization_header();
        async move { header.map(drop).map_err(|error| error.to_string()) }
    });
    point::run("middle", scenario, &endpoint, peer, quick).await
}

async fn start(endpoint: &Endpoint, tolerance: Duration) -> BasicClientCredentialAuthorizer {
    let url = endpoint.url.parse().expect("a URL");
    BasicClientCredentialAuthorizer::basic_builder("client", "secret", url)
        .refresh_tolerance(tolerance)
        .build()
        .await
        .expect("the first token comes")
}
