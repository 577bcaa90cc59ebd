//! Asks the authorization server about a token ([RFC 7662]).
//!
//! [RFC 7662]: https://www.rfc-editor.org/rfc/rfc7662

mod info;

use std::fmt;

pub use info::TokenInfo;

pub use crate::endpoint::EndpointBuilder;
use crate::{
    client_auth::ClientAuth,
    discovery::{EndpointKind, EndpointSource},
    endpoint::{Caller, Exchanged, Form, object_of, refusal, unexpected},
    error::{ConfigError, Error},
    secret::Secret,
};

/// A client of an introspection endpoint.
///
/// ```no_run
/// use tower_oauth::{ClientAuth, Discovery, Introspection, SecretSource};
///
/// # async fn example(token: String) -> Result<(), tower_oauth::BoxError> {
/// let secret = SecretSource::env("ORDERS_SECRET");
/// let introspection = Introspection::builder(
///     Discovery::issuer("https://idp.example"),
///     ClientAuth::secret("orders", secret),
/// )
/// .build()?;
/// let info = introspection.introspect(token).await?;
/// if info.is_active() {
///     println!("{:?} until {:?}", info.client_id(), info.expires_at());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Introspection(Caller);

impl Introspection {
    /// Starts with the introspection endpoint's URL, or a [`Discovery`](crate::Discovery) of it, and
    /// the client that asks.
    pub fn builder(
        endpoint: impl Into<EndpointSource>,
        auth: impl Into<ClientAuth>,
    ) -> EndpointBuilder<Self> {
        EndpointBuilder::new(endpoint.into(), auth.into())
    }

    /// Asks about a token. Nothing is cached.
    ///
    /// # Errors
    ///
    /// The kinds of a failed request, and
    /// [`MalformedResponse`](crate::ErrorKind::MalformedResponse) when the answer does not clearly
    /// say whether the token is active.
    pub async fn introspect(&self, token: impl Into<Secret>) -> Result<TokenInfo, Error> {
        let mut form = Form::default();
        form.set_secret("token", token.into());
        self.0.post(&self.0.context(), &form, read).await
    }
}

impl EndpointBuilder<Introspection> {
    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything that cannot work.
    pub fn build(self) -> Result<Introspection, ConfigError> {
        self.settings.check()?.caller(EndpointKind::Introspection).map(Introspection)
    }
}

fn read(exchanged: &Exchanged<'_>) -> Result<TokenInfo, Error> {
    let status = exchanged.answer.status();
    if status.is_client_error() || status.is_server_error() {
        return Err(refusal(exchanged));
    }
    if !status.is_success() {
        return Err(unexpected("introspection endpoint", status));
    }
    TokenInfo::read(object_of(exchanged.answer))
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("endpoint", &self.0.location).finish_non_exhaustive()
    }
}
