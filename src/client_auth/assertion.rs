use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use super::{ClientAuth, Credentials};
use crate::{
    error::{ConfigError, Error, ErrorKind},
    jose::{Jws, SigningKey, sign_hs256},
    secret::SecretSource,
};

/// A client that signs an assertion about itself ([RFC 7523 §2.2]): `private_key_jwt`, or
/// `client_secret_jwt` with a shared secret.
///
/// A new assertion is signed for every attempt, with an identifier of its own; it lives a minute.
/// Its audience is the authorization server's issuer, as [FAPI 2.0] and OAuth 2.1 want it.
///
/// ```
/// use tower_oauth::{ClientAssertion, ClientAuth, SecretSource, SigningAlgorithm, SigningKey};
///
/// let pem = SecretSource::file("/run/secrets/orders-key.pem");
/// let key = SigningKey::pem(pem, SigningAlgorithm::Es256).key_id("2026-11");
/// let auth: ClientAuth =
///     ClientAssertion::private_key("orders", key, "https://idp.example").into();
/// assert_eq!(auth.method(), "private_key_jwt");
/// ```
///
/// [RFC 7523 §2.2]: https://www.rfc-editor.org/rfc/rfc7523#section-2.2
/// [FAPI 2.0]: https://openid.net/specs/fapi-security-profile-2_0-final.html
#[derive(Clone)]
pub struct ClientAssertion {
    client_id: String,
    signer: Signer,
    audience: AssertionAudience,
    assertion_type: AssertionType,
    lifetime: Duration,
}

#[derive(Clone)]
enum Signer {
    Key(SigningKey),
    Secret(SecretSource),
}

/// Who an assertion is for: the `aud` claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssertionAudience {
    /// The authorization server's issuer.
    Issuer(String),
    /// The token endpoint's URL, for servers that accept nothing else. An assertion for one server
    /// must not be good at another: use a key of its own for such a server.
    LegacyTokenEndpoint(String),
}

/// The `typ` header of an assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AssertionType {
    /// `client-authentication+jwt`, so that it cannot be taken for another kind of JWT.
    #[default]
    ClientAuthentication,
    /// `JWT`, for servers that refuse other types.
    Jwt,
    /// None.
    Absent,
}

impl ClientAssertion {
    /// `private_key_jwt`: signed with a private key whose public half the server knows.
    pub fn private_key(
        client_id: impl Into<String>,
        key: SigningKey,
        issuer: impl Into<String>,
    ) -> Self {
        Self::new(client_id.into(), Signer::Key(key), issuer.into())
    }

    /// `client_secret_jwt`: signed with the client's secret, of at least 32 bytes, by HS256.
    pub fn client_secret(
        client_id: impl Into<String>,
        secret: impl Into<SecretSource>,
        issuer: impl Into<String>,
    ) -> Self {
        Self::new(client_id.into(), Signer::Secret(secret.into()), issuer.into())
    }

    fn new(client_id: String, signer: Signer, issuer: String) -> Self {
        Self {
            client_id,
            signer,
            audience: AssertionAudience::Issuer(issuer),
            assertion_type: AssertionType::default(),
            lifetime: LIFETIME,
        }
    }

    /// Sets who the assertion is for. Default: the issuer.
    #[must_use]
    pub fn audience(mut self, audience: AssertionAudience) -> Self {
        self.audience = audience;
        self
    }

    /// Sets the `typ` header. Default: `client-authentication+jwt`.
    #[must_use]
    pub fn assertion_type(mut self, assertion_type: AssertionType) -> Self {
        self.assertion_type = assertion_type;
        self
    }

    /// Sets how long an assertion lives. Default: 1 min; at most 5 min.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) fn method(&self) -> &'static str {
        match self.signer {
            Signer::Key(_) => "private_key_jwt",
            Signer::Secret(_) => "client_secret_jwt",
        }
    }

    pub(super) fn can_change(&self) -> bool {
        match &self.signer {
            Signer::Key(key) => key.can_change(),
            Signer::Secret(secret) => secret.can_change(),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let (AssertionAudience::Issuer(audience)
        | AssertionAudience::LegacyTokenEndpoint(audience)) = &self.audience;
        if !audience.contains("://") {
            return Err(ConfigError::Url {
                what: "assertion audience",
                value: audience.clone(),
                reason: "it is the issuer's URL, such as https://idp.example",
            });
        }
        if self.lifetime < Duration::from_secs(1) || self.lifetime > MAX_LIFETIME {
            return Err(ConfigError::Setting {
                name: "assertion lifetime",
                value: format!("{:?}", self.lifetime),
                reason: "an assertion lives from 1 s to 5 min",
            });
        }
        Ok(())
    }

    /// Signs an assertion for one attempt.
    pub(super) async fn credentials(&self, now: SystemTime) -> Result<Credentials, Error> {
        let (AssertionAudience::Issuer(audience)
        | AssertionAudience::LegacyTokenEndpoint(audience)) = &self.audience;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        // RFC 7523 §3: iss and sub are the client. The audience is one string: an array is what
        // an attacker's server would need to have its own name beside another's.
        let claims = json!({
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience,
            "iat": now,
            "exp": now.saturating_add(self.lifetime.as_secs()),
            "jti": identifier()?,
        });
        let typ = match self.assertion_type {
            AssertionType::ClientAuthentication => Some("client-authentication+jwt"),
            AssertionType::Jwt => Some("JWT"),
            AssertionType::Absent => None,
        };
        let jws = Jws { typ, claims: &claims };
        let (assertion, secret) = match &self.signer {
            Signer::Key(key) => {
                let text = key.read().await?;
                (jws.sign(key, &text)?, text)
            }
            Signer::Secret(source) => {
                let secret = source.read().await?;
                (sign_hs256(&jws, &secret)?, secret)
            }
        };
        Ok(Credentials::assertion(&self.client_id, assertion, secret))
    }
}

impl From<ClientAssertion> for ClientAuth {
    fn from(assertion: ClientAssertion) -> Self {
        Self::by_assertion(assertion)
    }
}

impl fmt::Debug for ClientAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ClientAssertion");
        out.field("client_id", &self.client_id);
        match &self.signer {
            Signer::Key(key) => out.field("key", key),
            Signer::Secret(secret) => out.field("secret", secret),
        };
        out.field("audience", &self.audience).field("typ", &self.assertion_type);
        out.field("lifetime", &self.lifetime).finish()
    }
}

/// 128 random bits: no two assertions have the same.
fn identifier() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::new(ErrorKind::Credential, "the system gives no random numbers"))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

const LIFETIME: Duration = Duration::from_secs(60);
const MAX_LIFETIME: Duration = Duration::from_secs(300);
