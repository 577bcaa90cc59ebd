use std::fmt;

use crate::{
    discovery::{Discovery, ResourceDiscovery},
    error::{ConfigError, Error, ErrorKind},
    source::{FetchContext, Link, TokenSource, first_of},
    token::TokenSet,
};

/// Takes tokens from whichever of several authorization servers an API names in its metadata
/// ([RFC 9728]).
///
/// Each server has a grant of its own, and sees only what it gave itself. The API is asked for its
/// metadata at the well-known place, before the first token and whenever the copy is out of date.
/// It chooses among servers that are configured, and nothing else: neither where credentials go nor
/// which scopes are asked for.
///
/// ```no_run
/// use tower_oauth::{
///     ByResource, ClientAuth, ClientCredentials, Discovery, ResourceDiscovery, SecretSource,
/// };
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let api = "https://api.example/orders";
/// let issuers = ["https://idp.example", "https://partner.example"].map(Discovery::issuer);
/// let source = ByResource::new(ResourceDiscovery::new(issuers), api, |issuer| {
///     let auth = ClientAuth::secret("orders", SecretSource::env("ORDERS_SECRET"));
///     // The token is good at this API only.
///     ClientCredentials::builder(issuer, auth).resource(api).build()
/// })?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
///
/// [RFC 9728]: https://www.rfc-editor.org/rfc/rfc9728
#[derive(Clone)]
pub struct ByResource {
    discovery: ResourceDiscovery,
    resource: String,
    /// One for each of the issuers, in their order.
    grants: Vec<(Discovery, Link)>,
}

impl ByResource {
    /// Takes tokens for a resource from the issuers of `discovery`. `grant` makes the grant for one
    /// of them; it should set the resource.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the resource is not a URL, when there is no issuer, and whatever `grant`
    /// fails with.
    pub fn new<S: TokenSource>(
        discovery: ResourceDiscovery,
        resource: impl Into<String>,
        mut grant: impl FnMut(Discovery) -> Result<S, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let resource = resource.into();
        discovery.check(&resource)?;
        let grants = discovery.issuers().iter().map(|issuer| {
            let source = grant(issuer.clone())?;
            Ok((issuer.clone(), Link::new(source)))
        });
        let grants = grants.collect::<Result<_, ConfigError>>()?;
        Ok(Self { discovery, resource, grants })
    }
}

impl TokenSource for ByResource {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let metadata = self.discovery.of_resource(&self.resource).await?;
        let chosen = metadata.authorization_server()?.configured_issuer();
        let grant = self.grants.iter().find(|(issuer, _)| issuer.configured_issuer() == chosen);
        let (_, grant) = grant.ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "there is no grant for the authorization server")
        })?;
        grant.fetch(cx).await
    }

    async fn renewed(&self, cx: FetchContext) -> TokenSet {
        first_of(self.grants.iter().map(|(_, grant)| grant), &cx).await
    }

    /// Each server revokes what it gave.
    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        let mut outcome = Ok(());
        for (_, grant) in &self.grants {
            outcome = outcome.and(grant.revoke(cx.clone()).await);
        }
        outcome
    }
}

impl fmt::Debug for ByResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByResource")
            .field("resource", &self.resource)
            .field("discovery", &self.discovery)
            .finish_non_exhaustive()
    }
}
