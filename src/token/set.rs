#[cfg(feature = "mtls")]
use std::sync::Arc;
use std::{fmt, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::Scopes;
#[cfg(feature = "dpop")]
use crate::dpop::DpopKey;
#[cfg(feature = "mtls")]
use crate::http::Identity;
use crate::{
    error::{Error, ErrorKind},
    secret::{Members, Secret},
};

/// How an access token is presented ([RFC 6749 §7.1]).
///
/// [RFC 6749 §7.1]: https://www.rfc-editor.org/rfc/rfc6749#section-7.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenType {
    /// `Authorization: Bearer …` ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750)).
    Bearer,
    /// `Authorization: DPoP …`, with a proof of the key that the token is bound to
    /// ([RFC 9449 §7.1](https://www.rfc-editor.org/rfc/rfc9449#section-7.1)).
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    Dpop,
}

impl TokenType {
    /// The authentication scheme in the `Authorization` header.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            #[cfg(feature = "dpop")]
            Self::Dpop => "DPoP",
        }
    }
}

/// What a token endpoint returned: an access token and what came with it.
///
/// Its `Debug` shows lifetimes and scopes, never a token.
#[derive(Clone)]
pub struct TokenSet {
    access_token: Secret,
    token_type: TokenType,
    lifetime: Option<Duration>,
    refresh_in: Option<Duration>,
    usable_in: Option<Duration>,
    sent_at: Option<Instant>,
    refresh_token: Option<Secret>,
    scopes: Option<Scopes>,
    members: Members,
    #[cfg(feature = "dpop")]
    dpop_key: Option<DpopKey>,
    #[cfg(feature = "mtls")]
    certificate: Option<Arc<Identity>>,
}

impl TokenSet {
    /// A bearer token of unknown lifetime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnusableToken`] when it is empty or has characters other than visible ASCII: it
    /// could not stand in a header, or would end it.
    pub fn bearer(access_token: impl Into<Secret>) -> Result<Self, Error> {
        let access_token = access_token.into();
        // RFC 6749 App. A.12: access-token = 1*VSCHAR; a space would split the credentials.
        let usable = |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        if !usable(access_token.expose()) {
            return Err(Error::new(
                ErrorKind::UnusableToken,
                "the access token is empty or has characters other than visible ASCII",
            ));
        }
        Ok(Self {
            access_token,
            token_type: TokenType::Bearer,
            lifetime: None,
            refresh_in: None,
            usable_in: None,
            sent_at: None,
            refresh_token: None,
            scopes: None,
            members: Members::default(),
            #[cfg(feature = "dpop")]
            dpop_key: None,
            #[cfg(feature = "mtls")]
            certificate: None,
        })
    }

    /// A refresh token alone: the access token that came with it could not be used. It is for a store,
    /// and never leaves a source.
    #[cfg(feature = "store")]
    pub(crate) fn without_access(refresh_token: Secret) -> Self {
        Self {
            access_token: Secret::from(""),
            token_type: TokenType::Bearer,
            lifetime: None,
            refresh_in: None,
            usable_in: None,
            sent_at: None,
            refresh_token: Some(refresh_token),
            scopes: None,
            members: Members::default(),
            #[cfg(feature = "dpop")]
            dpop_key: None,
            #[cfg(feature = "mtls")]
            certificate: None,
        }
    }

    /// Whether there is an access token, and not a refresh token alone.
    pub(crate) fn has_access(&self) -> bool {
        !self.access_token.expose().is_empty()
    }

    /// Says that the token is bound to a key: it is presented with a proof of it, and its type is
    /// [`TokenType::Dpop`].
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn with_dpop_key(mut self, key: DpopKey) -> Self {
        self.token_type = TokenType::Dpop;
        self.dpop_key = Some(key);
        self
    }

    /// Sets how long the token lives, counted from when it was asked for (`expires_in`). Zero counts
    /// as not said, as it does in an answer: the
    /// [default](crate::refresh::TokenHandleBuilder::default_lifetime) is taken.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime).filter(|lifetime| !lifetime.is_zero());
        self
    }

    /// Sets how long the token lives of which the instant of its expiry is known: zero if that has
    /// passed.
    pub(crate) fn with_time_left(mut self, left: Duration) -> Self {
        self.lifetime = Some(left);
        self
    }

    /// Sets the server's hint after how long the token should be renewed (`refresh_in`).
    #[must_use]
    pub fn with_refresh_in(mut self, refresh_in: Duration) -> Self {
        self.refresh_in = Some(refresh_in);
        self
    }

    /// Sets after how long the token becomes usable (`not_before`).
    #[must_use]
    pub fn with_usable_in(mut self, usable_in: Duration) -> Self {
        self.usable_in = Some(usable_in);
        self
    }

    /// Sets when the token was asked for, which may be long ago. Without it, its life counts from the
    /// start of the fetch.
    #[must_use]
    pub fn with_sent_at(mut self, sent_at: Instant) -> Self {
        self.sent_at = Some(sent_at);
        self
    }

    /// Sets the refresh token.
    #[must_use]
    pub fn with_refresh_token(mut self, refresh_token: impl Into<Secret>) -> Self {
        self.refresh_token = Some(refresh_token.into());
        self
    }

    /// Sets the scopes that were granted.
    #[must_use]
    pub fn with_scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = Some(scopes);
        self
    }

    /// Sets the other members of the token response.
    #[must_use]
    pub(crate) fn with_members(mut self, members: Members) -> Self {
        self.members = members;
        self
    }

    /// Says which certificate the token was obtained with.
    #[cfg(feature = "mtls")]
    #[must_use]
    pub(crate) fn with_certificate(mut self, certificate: Arc<Identity>) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// The other members of the token response.
    #[cfg(feature = "store")]
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Takes the refresh token away.
    #[must_use]
    pub fn without_refresh_token(mut self) -> Self {
        self.refresh_token = None;
        self
    }

    /// The access token.
    pub fn access_token(&self) -> &Secret {
        &self.access_token
    }

    /// How the access token is presented.
    pub fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// The key that the token is bound to, if it is bound to one.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    pub fn dpop_key(&self) -> Option<&DpopKey> {
        self.dpop_key.as_ref()
    }

    /// How long the token lives, counted from when it was asked for; `None` if unknown.
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// The server's hint after how long the token should be renewed.
    pub fn refresh_in(&self) -> Option<Duration> {
        self.refresh_in
    }

    /// After how long the token becomes usable, if not at once.
    pub fn usable_in(&self) -> Option<Duration> {
        self.usable_in
    }

    /// When the token was asked for, if the source told.
    pub fn sent_at(&self) -> Option<Instant> {
        self.sent_at
    }

    /// The refresh token, if there is one.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.refresh_token.as_ref()
    }

    /// The scopes that were granted; `None` if the server did not say.
    pub fn scopes(&self) -> Option<&Scopes> {
        self.scopes.as_ref()
    }

    /// The SHA-256 thumbprint of the client certificate that the token was obtained with, in
    /// base64url: what it has in `cnf`, as `x5t#S256`, if the server has bound it ([RFC 8705 §3.1]).
    ///
    /// [RFC 8705 §3.1]: https://www.rfc-editor.org/rfc/rfc8705#section-3.1
    #[cfg(feature = "mtls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "mtls")))]
    pub fn certificate_thumbprint(&self) -> Option<&str> {
        self.certificate.as_ref().map(|certificate| certificate.thumbprint())
    }

    /// Whether it takes more than the token to use it: a proof, or a certificate.
    #[cfg(any(feature = "dpop", feature = "mtls"))]
    pub(crate) fn is_bound(&self) -> bool {
        #[cfg(feature = "dpop")]
        let by_key = self.dpop_key.is_some();
        #[cfg(not(feature = "dpop"))]
        let by_key = false;
        #[cfg(feature = "mtls")]
        let by_certificate = self.certificate.is_some();
        #[cfg(not(feature = "mtls"))]
        let by_certificate = false;
        by_key || by_certificate
    }

    /// The certificate that the token was obtained with.
    #[cfg(feature = "mtls")]
    pub(crate) fn certificate(&self) -> Option<&Arc<Identity>> {
        self.certificate.as_ref()
    }

    /// Another member of the token response, such as `instance_url`.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }
}

impl fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSet")
            .field("token_type", &self.token_type)
            .field("lifetime", &self.lifetime)
            .field("has_refresh_token", &self.refresh_token.is_some())
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}
