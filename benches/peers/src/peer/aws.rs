use std::time::{Duration, SystemTime};

use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::client::{
    identity::{
        Identity, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache,
        SharedIdentityResolver, http::Token,
    },
    runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
};
use aws_smithy_types::config_bag::ConfigBag;

use crate::{
    cost::Bench,
    endpoint::Endpoint,
    point::{self, Scenario, authorize},
    service::{bearer, call_with, request},
};

/// Its lazy cache over a resolver of ours, as a generated client asks it for each request, and the
/// header made of the token.
pub fn cost(bench: &mut Bench<'_>) {
    let client = bench.runtime.block_on(async {
        let client = Client::start(&Endpoint::start(3600).await);
        client.token().await.expect("the first token comes");
        client
    });
    bench.row("aws-smithy-runtime, lazy cache", async || {
        let identity = client.token().await.expect("a token");
        let token = identity.data::<Token>().expect("the identity is a token");
        call_with(request(), bearer(token.token())).await;
    });
}

/// Due from the start: it renews a token ten seconds before its end.
pub async fn point(scenario: Scenario, quick: bool) -> String {
    let endpoint = Endpoint::start(9).await;
    let client = std::sync::Arc::new(Client::start(&endpoint));
    let peer = authorize(move || {
        let client = client.clone();
        async move { client.token().await.map(drop) }
    });
    point::run("aws-smithy-runtime, lazy cache", scenario, &endpoint, peer, quick).await
}

struct Client {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    config: ConfigBag,
}

impl Client {
    fn start(endpoint: &Endpoint) -> Self {
        let resolver = SharedIdentityResolver::new(Resolver { endpoint: endpoint.clone() });
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(Some(aws_smithy_async::time::SystemTimeSource::new()))
            .with_sleep_impl(Some(aws_smithy_async::rt::sleep::TokioSleep::new()))
            .build()
            .expect("components");
        let cache = IdentityCache::lazy().load_timeout(Duration::from_secs(9)).build();
        Self { cache, resolver, components, config: ConfigBag::base() }
    }

    async fn token(&self) -> Result<Identity, String> {
        let resolver = self.resolver.clone();
        let identity =
            self.cache.resolve_cached_identity(resolver, &self.components, &self.config);
        identity.await.map_err(|error| error.to_string())
    }
}

/// Asks the endpoint.
#[derive(Debug)]
struct Resolver {
    endpoint: Endpoint,
}

impl ResolveIdentity for Resolver {
    fn resolve_identity<'a>(
        &'a self,
        _: &'a RuntimeComponents,
        _: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        IdentityFuture::new(async {
            let (token, seconds) = self.endpoint.fetch().await?;
            let expiry = SystemTime::now() + Duration::from_secs(seconds);
            Ok(Identity::new(Token::new(token, Some(expiry)), Some(expiry)))
        })
    }
}
