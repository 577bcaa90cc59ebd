use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{assertion::AssertionGrant, builder::GrantBuilder};
use crate::{
    client_auth::ClientAuth,
    discovery::EndpointSource,
    error::{ConfigError, Error},
    secret::{Secret, SecretSource},
    source::{FetchContext, TokenSource},
    token::TokenSet,
};

/// The SAML 2.0 bearer grant ([RFC 7522 §2.1]): an assertion that somebody else signed is traded
/// for a token.
///
/// The assertion is given as XML, and read again for every exchange. SAML as client authentication
/// is not offered.
///
/// ```no_run
/// use tower_oauth::{ClientAuth, Saml2Bearer, SecretSource};
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let source = Saml2Bearer::builder(
///     "https://idp.example/oauth2/token",
///     ClientAuth::basic("orders", SecretSource::env("ORDERS_SECRET")),
///     SecretSource::file("/var/run/secrets/assertion.xml"),
/// )
/// .build()?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
///
/// [RFC 7522 §2.1]: https://www.rfc-editor.org/rfc/rfc7522#section-2.1
#[derive(Clone)]
pub struct Saml2Bearer(pub(super) Arc<AssertionGrant>);

/// What only [`Saml2Bearer`] has to configure.
#[derive(Debug)]
pub struct Saml2BearerOptions {
    assertion: SecretSource,
}

impl Saml2Bearer {
    /// Starts with the token endpoint's URL, or a [`Discovery`](crate::Discovery) of it, the client, and where the assertion's XML comes from.
    pub fn builder(
        token_endpoint: impl Into<EndpointSource>,
        auth: impl Into<ClientAuth>,
        assertion: impl Into<SecretSource>,
    ) -> GrantBuilder<Saml2BearerOptions> {
        let options = Saml2BearerOptions { assertion: assertion.into() };
        GrantBuilder::new(token_endpoint.into(), auth.into(), options)
    }
}

impl GrantBuilder<Saml2BearerOptions> {
    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything that cannot work.
    pub fn build(self) -> Result<Saml2Bearer, ConfigError> {
        let (checked, Saml2BearerOptions { assertion }) = self.check(GRANT_TYPE)?;
        let encode = encoded;
        Ok(Saml2Bearer(Arc::new(AssertionGrant { checked, assertion, encode })))
    }
}

impl TokenSource for Saml2Bearer {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        self.0.fetch(&cx).await
    }

    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        self.0.checked.revoke(&cx).await
    }
}

/// RFC 7522 §2.1: "The SAML Assertion XML data MUST be encoded using base64url [...] the encoded
/// data SHOULD NOT be line wrapped and pad characters ("=") SHOULD NOT be included."
fn encoded(xml: &Secret) -> Secret {
    BASE64_URL_SAFE_NO_PAD.encode(xml.expose()).into()
}

impl fmt::Debug for Saml2Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("Saml2Bearer", f)
    }
}

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:saml2-bearer";
