use std::fmt;

use jsonwebtoken::EncodingKey;

use super::{
    SigningAlgorithm,
    jwk::{PrivateDer, PrivateJwk},
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
        Self { source: source.into(), format: Format::Pem(algorithm), key_id: None }
    }

    /// A private key as a JWK. An RSA key has to name its algorithm in `alg`; its `kid` is sent.
    pub fn jwk(source: impl Into<SecretSource>) -> Self {
        Self { source: source.into(), format: Format::Jwk, key_id: None }
    }

    /// The key's id, sent as `kid`. Default: none for PEM, the JWK's own for a JWK.
    #[must_use]
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// Whether another reading may give another key.
    pub(crate) fn can_change(&self) -> bool {
        self.source.can_change()
    }

    /// Reads the key's text.
    pub(crate) async fn read(&self) -> Result<Secret, Error> {
        self.source.read().await
    }

    pub(super) fn load(&self, text: &Secret) -> Result<Loaded, Error> {
        let loaded = match self.format {
            Format::Pem(algorithm) => {
                let pem = text.expose().as_bytes();
                let key = match algorithm {
                    SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => {
                        EncodingKey::from_rsa_pem(pem)
                    }
                    SigningAlgorithm::Es256 | SigningAlgorithm::Es384 => {
                        EncodingKey::from_ec_pem(pem)
                    }
                    SigningAlgorithm::EdDsa => EncodingKey::from_ed_pem(pem),
                };
                key.map(|key| Loaded { key, algorithm, key_id: None })
                    .map_err(|_| "is not a private key in PEM for its algorithm")
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
            .finish()
    }
}
