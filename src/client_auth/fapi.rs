//! What the FAPI 2.0 Security Profile asks of client authentication.

#[cfg(feature = "private-key-jwt")]
use super::{AssertionAudience, ClientAssertion, assertion::Signer};
use super::{ClientAuth, auth::Method};
use crate::error::ConfigError;

/// The algorithms that the profile allows, and another registered name of one of them
/// ([§5.4](https://openid.net/specs/fapi-security-profile-2_0-final.html)).
pub(crate) const FAPI_ALGORITHMS: [&str; 4] = ["PS256", "ES256", "EdDSA", "Ed25519"];

impl ClientAuth {
    /// Whether the profile allows this at the server of this issuer, as far as can be told without
    /// the key itself.
    pub(crate) fn check_fapi(&self, issuer: &str) -> Result<(), ConfigError> {
        #[cfg(not(feature = "private-key-jwt"))]
        let _ = issuer;
        match &self.method {
            #[cfg(feature = "private-key-jwt")]
            Method::Assertion(assertion) => assertion.check_fapi(issuer),
            Method::AnyOf(held) => held.iter().try_for_each(|auth| auth.check_fapi(issuer)),
            _ if self.is_mtls() => Ok(()),
            _ => Err(weak_method()),
        }
    }
}

#[cfg(feature = "private-key-jwt")]
impl ClientAssertion {
    fn check_fapi(&self, issuer: &str) -> Result<(), ConfigError> {
        let Signer::Key(key) = &self.signer else { return Err(weak_method()) };
        let for_issuer = match &self.audience {
            AssertionAudience::Issuer(audience) => audience == issuer,
            AssertionAudience::Discovered => true,
            AssertionAudience::LegacyTokenEndpoint(_) => false,
        };
        if !for_issuer {
            return Err(ConfigError::Fapi {
                clause: "if using private_key_jwt, shall use the authorization server's issuer \
                         identifier value [...] in the aud claim sent as a string",
                reason: "leave the assertion's audience to discovery",
            });
        }
        let allowed = |name: &str| FAPI_ALGORITHMS.contains(&name);
        if key.configured_algorithm().is_some_and(|algorithm| !allowed(algorithm.name())) {
            return Err(ConfigError::Fapi {
                clause: "shall [...] use PS256, ES256, or EdDSA",
                reason: "use a key for one of these algorithms",
            });
        }
        Ok(())
    }
}

fn weak_method() -> ConfigError {
    ConfigError::Fapi {
        clause: "shall support client authentication using [...] MTLS [or] private_key_jwt",
        reason: "let the client authenticate with a private key or a certificate",
    }
}
