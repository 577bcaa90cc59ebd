//! Keys: of assertions, and of proofs.

use super::{SecretRef, build::bad};
use crate::error::ConfigError;

/// One of two places of a key.
fn pem_or_jwk<'a>(
    path: &str,
    pem: Option<&'a SecretRef>,
    jwk: Option<&'a SecretRef>,
) -> Result<Option<(&'a SecretRef, bool)>, ConfigError> {
    match (pem, jwk) {
        (Some(_), Some(_)) => Err(bad(path, "a key is in PEM or a JWK, not both")),
        (Some(pem), None) => Ok(Some((pem, true))),
        (None, Some(jwk)) => Ok(Some((jwk, false))),
        (None, None) => Ok(None),
    }
}

#[cfg(feature = "dpop")]
mod proof {
    use super::{
        super::{DpopConfig, build::bad},
        pem_or_jwk,
    };
    use crate::{
        dpop::{DpopAlgorithm, DpopKey},
        error::{ConfigError, Error},
    };

    impl DpopConfig {
        /// The key. One that was generated before stays: refresh tokens may be bound to it.
        pub(in super::super) fn key(
            &self,
            before: Option<&DpopKey>,
        ) -> Result<DpopKey, ConfigError> {
            let failed = |error: Error| ConfigError::Document {
                path: "dpop".to_owned(),
                reason: error.to_string(),
            };
            if let Some((key, is_pem)) = pem_or_jwk("dpop", self.pem.as_ref(), self.jwk.as_ref())? {
                if self.algorithm.is_some() {
                    return Err(bad("dpop.algorithm", "the key says what it signs with"));
                }
                let path = if is_pem { "dpop.pem" } else { "dpop.jwk" };
                let text = key.read_now(path)?;
                let key = if is_pem { DpopKey::from_pem(&text) } else { DpopKey::from_jwk(&text) };
                return key.map_err(failed);
            }
            let algorithm = match self.algorithm.as_deref() {
                None | Some("ES256") => DpopAlgorithm::Es256,
                Some("EdDSA") => DpopAlgorithm::EdDsa,
                Some(_) => return Err(bad("dpop.algorithm", "it is ES256 or EdDSA")),
            };
            match before {
                Some(key) => Ok(key.clone()),
                None => DpopKey::generate(algorithm).map_err(failed),
            }
        }
    }
}

#[cfg(feature = "private-key-jwt")]
mod assertion {
    use super::{
        super::{ClientConfig, build::bad},
        pem_or_jwk,
    };
    use crate::{
        client_auth::{AssertionAudience, AssertionType, ClientAssertion, ClientAuth},
        error::ConfigError,
        jose::{SigningAlgorithm, SigningKey},
        secret::SecretSource,
    };

    impl ClientConfig {
        pub(in super::super) fn assertion_by_secret(
            &self,
            secret: SecretSource,
            discovered: bool,
        ) -> Result<ClientAuth, ConfigError> {
            let audience = self.audience(discovered)?;
            self.set(ClientAssertion::client_secret(&self.id, secret, audience))
        }

        pub(in super::super) fn assertion_by_key(
            &self,
            discovered: bool,
        ) -> Result<ClientAuth, ConfigError> {
            let missing = || bad("client.key", "it is missing, and private_key_jwt needs it");
            let config = self.key.as_ref().ok_or_else(missing)?;
            let place = pem_or_jwk("client.key", config.pem.as_ref(), config.jwk.as_ref())?;
            let (source, is_pem) = place.ok_or_else(missing)?;
            let mut key = if is_pem {
                let source = source.checked("client.key.pem")?;
                SigningKey::pem(source, algorithm(config.algorithm.as_deref())?)
            } else if config.algorithm.is_some() {
                return Err(bad("client.key.algorithm", "a JWK says what it signs with"));
            } else {
                SigningKey::jwk(source.checked("client.key.jwk")?)
            };
            if let Some(id) = &config.key_id {
                key = key.key_id(id);
            }
            let audience = self.audience(discovered)?;
            self.set(ClientAssertion::private_key(&self.id, key, audience))
        }

        fn audience(&self, discovered: bool) -> Result<AssertionAudience, ConfigError> {
            let config = &self.assertion;
            match (&config.audience, &config.legacy_audience) {
                (Some(_), Some(_)) => {
                    Err(bad("client.assertion", "it is audience or legacy_audience, not both"))
                }
                (Some(issuer), None) => Ok(AssertionAudience::Issuer(issuer.clone())),
                (None, Some(url)) => Ok(AssertionAudience::LegacyTokenEndpoint(url.clone())),
                (None, None) if discovered => Ok(AssertionAudience::Discovered),
                (None, None) => Err(bad(
                    "client.assertion.audience",
                    "it is missing: without discovery it is the URL of the server's issuer",
                )),
            }
        }

        fn set(&self, mut assertion: ClientAssertion) -> Result<ClientAuth, ConfigError> {
            let config = &self.assertion;
            if let Some(lifetime) = config.lifetime {
                assertion = assertion.lifetime(lifetime);
            }
            if let Some(typ) = &config.typ {
                assertion = assertion.assertion_type(match &**typ {
                    "client-authentication+jwt" => AssertionType::ClientAuthentication,
                    "JWT" => AssertionType::Jwt,
                    "" => AssertionType::Absent,
                    _ => {
                        let reason = "it is client-authentication+jwt, JWT, or empty for none";
                        return Err(bad("client.assertion.typ", reason));
                    }
                });
            }
            Ok(assertion.into())
        }
    }

    fn algorithm(name: Option<&str>) -> Result<SigningAlgorithm, ConfigError> {
        use SigningAlgorithm::{EdDsa, Es256, Es384, Ps256, Rs256};
        [Rs256, Ps256, Es256, Es384, EdDsa]
            .into_iter()
            .find(|algorithm| Some(algorithm.name()) == name)
            .ok_or_else(|| {
                let reason = "a key in PEM signs with RS256, PS256, ES256, ES384 or EdDSA";
                bad("client.key.algorithm", reason)
            })
    }
}
