use std::sync::Arc;

use object_store::{
    ClientOptions,
    azure::{AzureCredential, AzureCredentialProvider, MicrosoftAzureBuilder},
};

use crate::{
    cost::Bench,
    endpoint::Endpoint,
    point::{self, Scenario, authorize},
    service::{bearer, call_with, request},
};

/// The token of a client with a secret, and the header made of it.
pub fn cost(bench: &mut Bench<'_>) {
    let tokens = bench.runtime.block_on(async {
        let tokens = start(&Endpoint::start(3600).await);
        token(&tokens).await.expect("the first token comes");
        tokens
    });
    bench.row("object_store, Azure", async || {
        let credential = token(&tokens).await.expect("a token");
        let AzureCredential::BearerToken(token) = &*credential else {
            unreachable!("a client with a secret has a bearer token")
        };
        call_with(request(), bearer(token)).await;
    });
}

/// Due from the start: it renews a token five minutes before its end.
pub async fn point(scenario: Scenario, quick: bool) -> String {
    let endpoint = Endpoint::start(290).await;
    let tokens = start(&endpoint);
    let peer = authorize(move || {
        let tokens = tokens.clone();
        async move { token(&tokens).await.map(drop) }
    });
    point::run("object_store, Azure", scenario, &endpoint, peer, quick).await
}

async fn token(tokens: &AzureCredentialProvider) -> Result<Arc<AzureCredential>, String> {
    tokens.get_credential().await.map_err(|error| error.to_string())
}

fn start(endpoint: &Endpoint) -> AzureCredentialProvider {
    let store = MicrosoftAzureBuilder::new()
        .with_account("account")
        .with_container_name("container")
        .with_client_secret_authorization("client", "secret", "tenant")
        .with_authority_host(&endpoint.url)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()
        .expect("a store");
    store.credentials().clone()
}
