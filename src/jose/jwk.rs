use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use zeroize::Zeroizing;

#[cfg(feature = "private-key-jwt")]
use super::SigningAlgorithm;
use super::der::{self, Bytes};
use crate::secret::Members;

/// A private key in DER, by its kind.
pub(super) enum PrivateDer {
    /// `RSAPrivateKey`.
    #[cfg_attr(not(feature = "private-key-jwt"), expect(dead_code, reason = "proofs are not RSA"))]
    Rsa(Bytes),
    /// `PrivateKeyInfo` of a key on P-256 or P-384.
    Ec(Bytes),
    /// `PrivateKeyInfo`.
    Ed25519(Bytes),
}

/// A private key as a JWK ([RFC 7517](https://www.rfc-editor.org/rfc/rfc7517)).
pub(super) struct PrivateJwk {
    members: Members,
}

impl PrivateJwk {
    /// Reads a JWK; what is wrong with it, if it is none. The text is never repeated.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let value = serde_json::from_str(text).map_err(|_| "is not JSON")?;
        let Value::Object(object) = value else { return Err("is not a JSON object") };
        let mut members = Members::default();
        for (name, value) in object {
            members.insert(name, value);
        }
        Ok(Self { members })
    }

    /// The algorithm it names, or the only one its curve has.
    #[cfg(feature = "private-key-jwt")]
    pub(super) fn algorithm(&self) -> Option<SigningAlgorithm> {
        match self.text("alg") {
            Some(name) => SigningAlgorithm::from_name(name),
            None => match self.text("crv")? {
                "P-256" => Some(SigningAlgorithm::Es256),
                "P-384" => Some(SigningAlgorithm::Es384),
                "Ed25519" => Some(SigningAlgorithm::EdDsa),
                _ => None,
            },
        }
    }

    #[cfg(feature = "private-key-jwt")]
    pub(super) fn key_id(&self) -> Option<&str> {
        self.text("kid")
    }

    /// The key, as signing libraries want it.
    pub(super) fn der(&self) -> Result<PrivateDer, &'static str> {
        let curve = self.text("crv");
        match (self.text("kty"), curve) {
            (Some("RSA"), _) => {
                // RFC 7518 §6.3: n, e, d and, for all who sign, the factors.
                let names = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];
                let numbers = names.map(|name| self.number(name)).into_iter();
                let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
                Ok(PrivateDer::Rsa(der::rsa_private_key(&numbers)))
            }
            (Some("EC"), Some("P-256")) => self.ec(der::P256, 32),
            (Some("EC"), Some("P-384")) => self.ec(der::P384, 48),
            (Some("OKP"), Some("Ed25519")) => {
                let private = self.sized("d", 32)?;
                Ok(PrivateDer::Ed25519(der::ed25519_private_key(&private)))
            }
            _ => Err("is of a kind that is not supported; RSA, EC (P-256, P-384) and Ed25519 are"),
        }
    }

    fn ec(&self, curve: &[u8], size: usize) -> Result<PrivateDer, &'static str> {
        let [d, x, y] = ["d", "x", "y"].map(|name| self.sized(name, size));
        Ok(PrivateDer::Ec(der::ec_private_key(curve, &d?, &x?, &y?)))
    }

    /// RFC 7518 §6.2: coordinates and private keys have the full size of the curve.
    fn sized(&self, name: &str, size: usize) -> Result<Bytes, &'static str> {
        let number = self.number(name)?;
        if number.len() == size { Ok(number) } else { Err("has a member of the wrong size") }
    }

    fn number(&self, name: &str) -> Result<Bytes, &'static str> {
        let text = self.text(name).ok_or("lacks a member of a private key")?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text);
        bytes.map(Zeroizing::new).map_err(|_| "has a member that is not base64url")
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }
}
