use std::{fmt, sync::Arc};

use super::builder::{Checked, GrantBuilder};
use crate::{
    client_auth::ClientAuth,
    discovery::EndpointSource,
    error::{ConfigError, Error},
    source::{FetchContext, TokenSource},
    token::TokenSet,
};

/// The client credentials grant ([RFC 6749 §4.4]): a service asks in its own name.
///
/// ```no_run
/// use tower_oauth::{ClientAuth, ClientCredentials};
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let source = ClientCredentials::builder(
///     "https://idp.example/oauth2/token",
///     ClientAuth::basic("orders", "gX1fBat3bV"),
/// )
/// .scope("orders.read")
/// .build()?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
///
/// [RFC 6749 §4.4]: https://www.rfc-editor.org/rfc/rfc6749#section-4.4
#[derive(Clone)]
pub struct ClientCredentials(pub(super) Arc<Checked>);

/// What only [`ClientCredentials`] has to configure: nothing.
#[derive(Debug)]
pub struct ClientCredentialsOptions(());

impl ClientCredentials {
    /// Starts with the token endpoint's URL, or a [`Discovery`](crate::Discovery) of it and the client.
    pub fn builder(
        token_endpoint: impl Into<EndpointSource>,
        auth: impl Into<ClientAuth>,
    ) -> GrantBuilder<ClientCredentialsOptions> {
        GrantBuilder::new(token_endpoint.into(), auth.into(), ClientCredentialsOptions(()))
    }
}

impl GrantBuilder<ClientCredentialsOptions> {
    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything that cannot work, a public client among it.
    pub fn build(self) -> Result<ClientCredentials, ConfigError> {
        if self.auth().is_public() {
            // RFC 6749 §4.4: "The client credentials grant type MUST only be used by confidential
            // clients."
            return Err(ConfigError::ClientAuth {
                method: self.auth().method(),
                reason: "the client credentials grant is for clients that authenticate",
            });
        }
        let (checked, ClientCredentialsOptions(())) = self.check("client_credentials")?;
        Ok(ClientCredentials(checked.into()))
    }
}

impl TokenSource for ClientCredentials {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let Checked { endpoint, scopes, form, .. } = &*self.0;
        let token = endpoint.request(&cx, form, scopes).await?;
        // RFC 6749 §4.4.3: "A refresh token SHOULD NOT be included." The client can ask again with
        // its own credentials.
        Ok(token.without_refresh_token())
    }

    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        self.0.revoke(&cx).await
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = &self.0.endpoint;
        f.debug_struct("ClientCredentials")
            .field("token_endpoint", &endpoint.caller.location)
            .field("auth", &endpoint.caller.auth)
            .field("scopes", &self.0.scopes)
            .finish_non_exhaustive()
    }
}
