use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use super::{ClientAuth, Credentials, Offer};
use crate::{
    error::{ConfigError, Error, ErrorKind, printable},
    jose::{Jws, SigningAlgorithm, SigningKey, sign_hs256},
    secret::SecretSource,
};

/// A client that signs an assertion about itself ([RFC 7523 §2.2]): `private_key_jwt`, or
/// `client_secret_jwt` with a shared secret.
///
/// A new assertion is signed for every attempt, with an identifier of its own; it lives a minute.
/// Where the server refuses one and its `Date` shows that the clocks differ, another one is dated by
/// the server's, and so are later ones, as far as a day from ours.
/// Its audience is the authorization server's issuer, as [FAPI 2.0] and OAuth 2.1 want it. Where the
/// server's metadata lists the algorithms that it takes, the key's has to be among them.
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
    pub(super) signer: Signer,
    pub(super) audience: AssertionAudience,
    assertion_type: AssertionType,
    lifetime: Duration,
    /// The algorithms that the server takes, if it says.
    algorithms: Option<Vec<String>>,
}

#[derive(Clone)]
pub(super) enum Signer {
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
    /// must not be good at another, so a key that is used like this cannot be used for another
    /// audience too: load it again, or better, use another one.
    LegacyTokenEndpoint(String),
    /// The issuer of the [`Discovery`](crate::Discovery) that takes the place of the token
    /// endpoint's URL, as it was configured. Nothing in the metadata can change it.
    Discovered,
}

impl From<String> for AssertionAudience {
    fn from(issuer: String) -> Self {
        Self::Issuer(issuer)
    }
}

impl From<&String> for AssertionAudience {
    fn from(issuer: &String) -> Self {
        Self::Issuer(issuer.clone())
    }
}

impl From<&str> for AssertionAudience {
    fn from(issuer: &str) -> Self {
        Self::Issuer(issuer.to_owned())
    }
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
    /// `private_key_jwt`: signed with a private key whose public half the server knows, for the
    /// issuer.
    pub fn private_key(
        client_id: impl Into<String>,
        key: SigningKey,
        audience: impl Into<AssertionAudience>,
    ) -> Self {
        Self::new(client_id.into(), Signer::Key(key), audience.into())
    }

    /// `client_secret_jwt`: signed with the client's secret, of at least 32 bytes, by HS256.
    pub fn client_secret(
        client_id: impl Into<String>,
        secret: impl Into<SecretSource>,
        audience: impl Into<AssertionAudience>,
    ) -> Self {
        Self::new(client_id.into(), Signer::Secret(secret.into()), audience.into())
    }

    fn new(client_id: String, signer: Signer, audience: AssertionAudience) -> Self {
        Self {
            client_id,
            signer,
            audience,
            assertion_type: AssertionType::default(),
            lifetime: LIFETIME,
            algorithms: None,
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
        if let Some(audience) = self.audience.value()
            && !audience.contains("://")
        {
            return Err(ConfigError::Url {
                what: "assertion audience",
                value: audience.to_owned(),
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

    /// Checks what depends on the server, and notes for whom the key signs.
    pub(super) fn check_for(&self, issuer: Option<&str>) -> Result<(), ConfigError> {
        let method = self.method();
        let bad = |reason| ConfigError::ClientAuth { method, reason };
        let audience = self.audience.value().or(issuer);
        let audience =
            audience.ok_or_else(|| bad("without discovery it needs the issuer's URL"))?;
        if self.audience == AssertionAudience::Discovered && audience.contains('{') {
            return Err(bad("the issuer is a template: give the assertion its audience"));
        }
        let legacy = matches!(self.audience, AssertionAudience::LegacyTokenEndpoint(_));
        match &self.signer {
            Signer::Key(key) if !key.bind(audience, legacy) => Err(bad(
                "its key signs for another authorization server too, and then the audience has to \
                 be the issuer's URL for each of them",
            )),
            _ => Ok(()),
        }
    }

    /// The assertion for a server that says this about itself.
    pub(super) fn for_server(&self, offer: &Offer<'_>) -> Result<Self, Error> {
        let mut assertion = self.clone();
        if let (AssertionAudience::Discovered, Some(issuer)) = (&self.audience, offer.issuer) {
            assertion.audience = AssertionAudience::Issuer(issuer.to_owned());
        }
        let owned = |names: &Vec<&str>| names.iter().map(|name| (*name).to_owned()).collect();
        assertion.algorithms = offer.algorithms.as_ref().map_err(Clone::clone)?.as_ref().map(owned);
        Ok(assertion)
    }

    /// Whether the server takes assertions that are signed like this.
    fn check_algorithm(&self, algorithm: &str) -> Result<(), Error> {
        // RFC 9864 has another name for one of them.
        let same = |name: &str| SigningAlgorithm::registered(name) == algorithm;
        match &self.algorithms {
            Some(names) if !names.iter().any(|name| same(name)) => {
                let names: Vec<_> = names.iter().take(10).map(|name| printable(name, 20)).collect();
                Err(Error::new(
                    ErrorKind::Configuration,
                    format!(
                        "the authorization server takes assertions signed with {}, and the \
                         client's key is for {algorithm}",
                        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") },
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Signs an assertion for one attempt.
    pub(super) async fn credentials(&self, now: SystemTime) -> Result<Credentials, Error> {
        let audience = self.audience.value().ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "the audience of the assertion is not known")
        })?;
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
                self.check_algorithm(key.algorithm(&text)?.name())?;
                (jws.sign(key, &text)?, text)
            }
            Signer::Secret(source) => {
                self.check_algorithm("HS256")?;
                let secret = source.read().await?;
                (sign_hs256(&jws, &secret)?, secret)
            }
        };
        Ok(Credentials::assertion(&self.client_id, assertion, secret))
    }
}

impl AssertionAudience {
    /// The value, unless it is still to be discovered.
    fn value(&self) -> Option<&str> {
        match self {
            Self::Issuer(audience) | Self::LegacyTokenEndpoint(audience) => Some(audience),
            Self::Discovered => None,
        }
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
        out.field("lifetime", &self.lifetime).finish_non_exhaustive()
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
