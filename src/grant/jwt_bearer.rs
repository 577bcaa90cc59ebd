use std::{fmt, sync::Arc};

use super::{assertion::AssertionGrant, builder::GrantBuilder};
use crate::{
    client_auth::ClientAuth,
    discovery::EndpointSource,
    error::{ConfigError, Error},
    secret::{Secret, SecretSource},
    source::{FetchContext, TokenSource},
    token::TokenSet,
};

/// The JWT bearer grant ([RFC 7523 §2.1]): a signed assertion is traded for a token.
///
/// The assertion is read again for every exchange, and one that has expired is not sent. No refresh
/// token is used: at expiry a new assertion is. The server may know the client by the assertion
/// alone; then the client is [`ClientAuth::anonymous`].
///
/// ```no_run
/// use tower_oauth::{ClientAuth, JwtBearer, SecretSource};
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let source = JwtBearer::builder(
///     "https://idp.example/oauth2/token",
///     ClientAuth::anonymous(),
///     SecretSource::file("/var/run/secrets/assertion"),
/// )
/// .scope("orders.read")
/// .build()?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
///
/// [RFC 7523 §2.1]: https://www.rfc-editor.org/rfc/rfc7523#section-2.1
#[derive(Clone)]
pub struct JwtBearer(pub(super) Arc<AssertionGrant>);

/// What only [`JwtBearer`] has to configure.
#[derive(Debug)]
pub struct JwtBearerOptions {
    assertion: SecretSource,
}

impl JwtBearer {
    /// Starts with the token endpoint's URL, or a [`Discovery`](crate::Discovery) of it, the client, and where the assertion comes from.
    pub fn builder(
        token_endpoint: impl Into<EndpointSource>,
        auth: impl Into<ClientAuth>,
        assertion: impl Into<SecretSource>,
    ) -> GrantBuilder<JwtBearerOptions> {
        let options = JwtBearerOptions { assertion: assertion.into() };
        GrantBuilder::new(token_endpoint.into(), auth.into(), options)
    }
}

impl GrantBuilder<JwtBearerOptions> {
    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything that cannot work.
    pub fn build(self) -> Result<JwtBearer, ConfigError> {
        let (checked, JwtBearerOptions { assertion }) = self.check(GRANT_TYPE)?;
        let encode = Secret::clone;
        Ok(JwtBearer(Arc::new(AssertionGrant { checked, assertion, encode })))
    }
}

impl TokenSource for JwtBearer {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        self.0.fetch(&cx).await
    }

    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        self.0.checked.revoke(&cx).await
    }
}

impl fmt::Debug for JwtBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("JwtBearer", f)
    }
}

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
