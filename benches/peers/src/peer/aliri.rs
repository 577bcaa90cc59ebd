use aliri_clock::DurationSecs;
use aliri_tokens::{
    AccessToken, IdToken, TokenLifetimeConfig, TokenWatcher, TokenWithLifetime,
    backoff::ErrorBackoffConfig, jitter::NullJitter, sources::AsyncTokenSource,
};
use async_trait::async_trait;

use crate::{
    cost::Bench,
    endpoint::Endpoint,
    point::{self, Scenario, authorize},
    service::{bearer, call_with, request},
};

/// A source that asks the endpoint without HTTP.
struct Source {
    endpoint: Endpoint,
    config: TokenLifetimeConfig,
}

#[derive(Debug)]
struct Down(String);

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Down {}

#[async_trait]
impl AsyncTokenSource for Source {
    type Error = Down;

    async fn request_token(&mut self) -> Result<TokenWithLifetime, Down> {
        let (token, lifetime) = self.endpoint.fetch().await.map_err(Down)?;
        let token = AccessToken::from(token);
        Ok(self.config.create_token(token, None::<IdToken>, DurationSecs(lifetime)))
    }
}

/// Its watcher, and the header made of the token: what `aliri_tower` does.
pub fn cost(bench: &mut Bench<'_>) {
    let watcher = bench.runtime.block_on(async {
        start(Source { endpoint: Endpoint::start(3600).await, config: Default::default() }).await
    });
    bench.row("aliri_tokens", async || {
        let header = bearer(watcher.token().access_token().as_str());
        call_with(request(), header).await;
    });
}

/// Due after a second.
pub async fn point(scenario: Scenario, quick: bool) -> String {
    let endpoint = Endpoint::start(600).await;
    let config = TokenLifetimeConfig::new(0.0, DurationSecs(1));
    let watcher = start(Source { endpoint: endpoint.clone(), config }).await;
    let peer = authorize(move || {
        let header = bearer(watcher.token().access_token().as_str());
        async move {
            drop(header);
            Ok(())
        }
    });
    point::run("aliri_tokens", scenario, &endpoint, peer, quick).await
}

async fn start(source: Source) -> TokenWatcher {
    TokenWatcher::spawn_from_token_source(source, NullJitter, ErrorBackoffConfig::default())
        .await
        .expect("the first token comes")
}
