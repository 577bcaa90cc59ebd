use yup_oauth2::{ServiceAccountAuthenticator, authenticator::DefaultAuthenticator};

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
    let account = bench.runtime.block_on(async { start(&Endpoint::start(3600).await).await });
    bench.row("yup-oauth2", async || {
        let token = account.token(SCOPES).await.expect("a token");
        call_with(request(), bearer(token.token().expect("a token"))).await;
    });
}

/// Due from the start: it renews a token a minute before its end.
pub async fn point(scenario: Scenario, quick: bool) -> String {
    let endpoint = Endpoint::start(50).await;
    let account = start(&endpoint).await;
    let peer = authorize(move || {
        let account = account.clone();
        async move { account.token(SCOPES).await.map(drop).map_err(|error| error.to_string()) }
    });
    point::run("yup-oauth2", scenario, &endpoint, peer, quick).await
}

async fn start(endpoint: &Endpoint) -> DefaultAuthenticator {
    let key = yup_oauth2::parse_service_account_key(service_account(endpoint)).expect("a key");
    ServiceAccountAuthenticator::builder(key).build().await.expect("an authenticator")
}
