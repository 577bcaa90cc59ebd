use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jsonwebtoken::EncodingKey;

use super::{
    SigningAlgorithm,
    jwk::{PrivateDer, PrivateJwk},
    pem::PemKey,
};
use crate::{
    error::{Error, ErrorKind},
    secret::{Secret, SecretSource},
};

/// A private key and how to sign with it.
///
/// The key is read again for every signature, so that it can be replaced at any time; token
/// requests are rare.
#[derive(Clone)]
pub struct SigningKey {
    source: SecretSource,
    format: Format,
    key_id: Option<String>,
    uses: Arc<Mutex<Uses>>,
}

/// For whom a key signs. Clones of the key share it.
#[derive(Debug, Default)]
struct Uses {
    /// The first of them.
    audience: Option<String>,
    /// Whether there is another one.
    several: bool,
    /// Whether one of them is a token endpoint, not an issuer.
    legacy: bool,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Pem(SigningAlgorithm),
    Jwk,
}

/// A key that was read, ready to sign.
pub(super) struct Loaded {
    pub(super) key: EncodingKey,
    pub(super) algorithm: SigningAlgorithm,
    pub(super) key_id: Option<String>,
}

impl SigningKey {
    /// A key in PEM: PKCS#8, or PKCS#1 for RSA. RSA keys have 2048 bits or more.
    pub fn pem(source: impl Into<SecretSource>, algorithm: SigningAlgorithm) -> Self {
        Self::new(source.into(), Format::Pem(algorithm))
    }

    /// A private key as a JWK. An RSA key has to name its algorithm in `alg`; its `kid` is sent.
    pub fn jwk(source: impl Into<SecretSource>) -> Self {
        Self::new(source.into(), Format::Jwk)
    }

    fn new(source: SecretSource, format: Format) -> Self {
        Self { source, format, key_id: None, uses: Arc::default() }
    }

    /// The key's id, sent as `kid`. Default: none for PEM, the JWK's own for a JWK.
    #[must_use]
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// The algorithm, if it is known without reading the key.
    pub(crate) fn configured_algorithm(&self) -> Option<SigningAlgorithm> {
        match self.format {
            Format::Pem(algorithm) => Some(algorithm),
            Format::Jwk => None,
        }
    }

    /// Whether another reading may give another key.
    pub(crate) fn can_change(&self) -> bool {
        self.source.can_change()
    }

    /// Reads the key's text.
    pub(crate) async fn read(&self) -> Result<Secret, Error> {
        self.source.read().await
    }

    /// The algorithm that a key which was read is for.
    pub(crate) fn algorithm(&self, text: &Secret) -> Result<SigningAlgorithm, Error> {
        match self.format {
            Format::Pem(algorithm) => Ok(algorithm),
            Format::Jwk => self.load(text).map(|loaded| loaded.algorithm),
        }
    }

    /// Notes that this key signs for an audience. `false`, and nothing is noted, if there is
    /// another one and either of them is a token endpoint: an attacker's server could name that of
    /// an honest one as its own, and pass on there what was signed for it.
    pub(crate) fn bind(&self, audience: &str, legacy: bool) -> bool {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let another = uses.several || uses.audience.as_ref().is_some_and(|first| first != audience);
        if another && (legacy || uses.legacy) {
            return false;
        }
        // A key that is used for every tenant does not grow with them.
        uses.audience.get_or_insert_with(|| audience.to_owned());
        uses.several = another;
        uses.legacy |= legacy;
        true
    }

    pub(super) fn load(&self, text: &Secret) -> Result<Loaded, Error> {
        let loaded = match self.format {
            Format::Pem(algorithm) => {
                let key = PemKey::parse(text.expose()).and_then(|pem| {
                    Some(match algorithm {
                        SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => {
                            EncodingKey::from_rsa_der(pem.rsa()?)
                        }
                        SigningAlgorithm::Es256 | SigningAlgorithm::Es384 => {
                            EncodingKey::from_ec_der(pem.pkcs8()?)
                        }
                        SigningAlgorithm::EdDsa => EncodingKey::from_ed_der(pem.pkcs8()?),
                    })
                });
                key.map(|key| Loaded { key, algorithm, key_id: None })
                    .ok_or("is not a private key in PEM for its algorithm")
            }
            Format::Jwk => PrivateJwk::parse(text.expose()).and_then(|jwk| {
                let algorithm = jwk.algorithm().ok_or("has no algorithm that is supported")?;
                let key_id = jwk.key_id().map(str::to_owned);
                let key = match jwk.der()? {
                    PrivateDer::Rsa(der) => EncodingKey::from_rsa_der(&der),
                    PrivateDer::Ec(der) => EncodingKey::from_ec_der(&der),
                    PrivateDer::Ed25519(der) => EncodingKey::from_ed_der(&der),
                };
                Ok(Loaded { key, algorithm, key_id })
            }),
        };
        let mut loaded = loaded.map_err(|problem| self.failure(problem))?;
        loaded.key_id = self.key_id.clone().or(loaded.key_id);
        Ok(loaded)
    }

    /// An error about this key. It names where the key comes from, and nothing of it.
    pub(super) fn failure(&self, problem: &str) -> Error {
        Error::new(ErrorKind::Credential, format!("the key from {:?} {problem}", self.source))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("source", &self.source)
            .field("format", &self.format)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}
