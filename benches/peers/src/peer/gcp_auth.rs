use std::sync::Arc;

use gcp_auth::{CustomServiceAccount, TokenProvider};

use super::key::service_account;
use crate::{
    cost::Bench,
    endpoint::Endpoint,
    point::{self, Scenario, authorize},
    service::{bearer, call_with, request},
};

const SCOPES: &[&str] = &["scope"];

/// The token of a service account, and the header made of it.
pub fn cost(bench: &mut Bench<'_>) {
    let account = bench.runtime.block_on(async { start(&Endpoint::start(3600).await) });
    bench.row("gcp_auth", async || {
        let token = account.token(SCOPES).await.expect("a token");
        call_with(request(), bearer(token.as_str())).await;
    });
}

/// Due from the start: it renews a token 20 seconds before its end.
pub async fn point(scenario: Scenario, quick: bool) -> String {
    let endpoint = Endpoint::start(15).await;
    let account = start(&endpoint);
    let peer = authorize(move || {
        let account = account.clone();
        async move { account.token(SCOPES).await.map(drop).map_err(|error| error.to_string()) }
    });
    point::run("gcp_auth", scenario, &endpoint, peer, quick).await
}

fn start(endpoint: &Endpoint) -> Arc<CustomServiceAccount> {
    let key = service_account(endpoint);
    Arc::new(CustomServiceAccount::from_json(&key).expect("a service account"))
}
