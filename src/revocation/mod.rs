//! Ends tokens before they expire ([RFC 7009]).
//!
//! A [`TokenHandle`](crate::TokenHandle) revokes its own with
//! [`shutdown().revoke()`](crate::TokenHandle::shutdown); [`Revocation`] is for any others.
//!
//! [RFC 7009]: https://www.rfc-editor.org/rfc/rfc7009

use std::fmt;

use crate::{
    client_auth::ClientAuth,
    discovery::{EndpointKind, EndpointSource},
    endpoint::{Revoker, TokenHint},
    error::{ConfigError, Error},
    secret::Secret,
    token::TokenSet,
};

pub use crate::endpoint::EndpointBuilder;

/// A client of a revocation endpoint.
///
/// ```no_run
/// use tower_oauth::{ClientAuth, Discovery, Revocation, SecretSource};
///
/// # async fn example(token: tower_oauth::TokenSet) -> Result<(), tower_oauth::BoxError> {
/// let secret = SecretSource::env("ORDERS_SECRET");
/// let revocation = Revocation::builder(
///     Discovery::issuer("https://idp.example"),
///     ClientAuth::secret("orders", secret),
/// )
/// .build()?;
/// revocation.revoke(&token).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Revocation(Revoker);

impl Revocation {
    /// Starts with the revocation endpoint's URL, or a [`Discovery`](crate::Discovery) of it, and
    /// the client that the tokens were issued to.
    pub fn builder(
        endpoint: impl Into<EndpointSource>,
        auth: impl Into<ClientAuth>,
    ) -> EndpointBuilder<Self> {
        EndpointBuilder::new(endpoint.into(), auth.into())
    }

    /// Revokes a refresh token, if there is one, and then the access token.
    ///
    /// A server that asks to come back within half a minute is asked once more.
    ///
    /// # Errors
    ///
    /// Whatever kept a token from being revoked; both are tried, and the first error is returned.
    /// [`UnsupportedTokenType`](crate::ErrorKind::UnsupportedTokenType) is final: such tokens end by
    /// themselves.
    pub async fn revoke(&self, token: &TokenSet) -> Result<(), Error> {
        self.0.revoke_set(token, &self.0.context()).await
    }

    /// Revokes one access token.
    ///
    /// # Errors
    ///
    /// As [`revoke`](Self::revoke).
    pub async fn revoke_access_token(&self, token: impl Into<Secret>) -> Result<(), Error> {
        self.0.revoke(&token.into(), TokenHint::Access, &self.0.context()).await
    }

    /// Revokes one refresh token, and with it the whole grant and its access tokens, if the server
    /// does as it should.
    ///
    /// # Errors
    ///
    /// As [`revoke`](Self::revoke).
    pub async fn revoke_refresh_token(&self, token: impl Into<Secret>) -> Result<(), Error> {
        self.0.revoke(&token.into(), TokenHint::Refresh, &self.0.context()).await
    }
}

impl EndpointBuilder<Revocation> {
    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything that cannot work.
    pub fn build(self) -> Result<Revocation, ConfigError> {
        let caller = self.settings.check()?.caller(EndpointKind::Revocation)?;
        Ok(Revocation(Revoker::new(caller)))
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revocation")
    }
}
