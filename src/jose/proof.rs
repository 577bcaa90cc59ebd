use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, Signature,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{
    der::Bytes,
    jwk::{PrivateDer, PrivateJwk},
};

/// A private key that is read once and signs many times: proofs are made for every request.
pub(crate) enum ProofSigner {
    Es256(Box<EcdsaKeyPair>),
    EdDsa(Ed25519KeyPair),
}

impl ProofSigner {
    /// A new key on P-256; `None` if the machine has no randomness.
    pub(crate) fn generate_es256() -> Option<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        pair.ok().map(|pair| Self::Es256(Box::new(pair)))
    }

    /// A new Ed25519 key; `None` if the machine has no randomness.
    pub(crate) fn generate_ed25519() -> Option<Self> {
        Ed25519KeyPair::generate().ok().map(Self::EdDsa)
    }

    /// Reads a key in PEM; what is wrong with it, if it is none. The text is never repeated.
    pub(crate) fn from_pem(text: &str) -> Result<Self, &'static str> {
        match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(der)) => Self::ec(der.secret_pkcs8_der())
                .or_else(|_| Self::ed25519(der.secret_pkcs8_der()))
                .map_err(|_| UNSUPPORTED),
            Ok(PrivateKeyDer::Sec1(der)) => Self::ec(der.secret_sec1_der()),
            Ok(_) => Err(UNSUPPORTED),
            Err(_) => Err("is not a private key in PEM"),
        }
    }

    /// Reads a key that is a JWK; what is wrong with it, if it is none.
    pub(crate) fn from_jwk(text: &str) -> Result<Self, &'static str> {
        match PrivateJwk::parse(text)?.der()? {
            PrivateDer::Ec(der) => Self::ec(&der),
            PrivateDer::Ed25519(der) => Self::ed25519(&der),
            PrivateDer::Rsa(_) => Err(UNSUPPORTED),
        }
    }

    fn ec(der: &[u8]) -> Result<Self, &'static str> {
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        pair.map(|pair| Self::Es256(Box::new(pair))).map_err(|_| UNSUPPORTED)
    }

    fn ed25519(der: &[u8]) -> Result<Self, &'static str> {
        // Most tools write keys without their public half.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self::EdDsa).map_err(|_| UNSUPPORTED)
    }

    /// The key as PKCS #8 ([RFC 5958](https://www.rfc-editor.org/rfc/rfc5958)); `None` if the
    /// library fails.
    pub(crate) fn to_pkcs8(&self) -> Option<Bytes> {
        let document = match self {
            Self::Es256(pair) => pair.to_pkcs8v1(),
            Self::EdDsa(pair) => pair.to_pkcs8v1(),
        };
        document.ok().map(|document| Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The registered name of the algorithm.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
        }
    }

    /// The public half as a JWK: its required members alone, in lexicographic order, as
    /// [RFC 7638 §3.2](https://www.rfc-editor.org/rfc/rfc7638#section-3.2) hashes them.
    pub(crate) fn public_jwk(&self) -> String {
        let encoded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Es256(pair) => {
                // An uncompressed point: 4, x, y.
                let point = pair.public_key().as_ref();
                let (x, y) =
                    point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
                let (x, y) = (encoded(x), encoded(y));
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Self::EdDsa(pair) => {
                let x = encoded(pair.public_key().as_ref());
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)
            }
        }
    }

    /// The signature of a message, 64 bytes with both algorithms; `None` if the library fails.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Signature> {
        match self {
            // RFC 7518 §3.4: r and s, each of 32 bytes.
            Self::Es256(pair) => pair.sign(&SystemRandom::new(), message).ok(),
            Self::EdDsa(pair) => Some(pair.sign(message)),
        }
    }
}

/// `base64url(SHA-256(text))`: a thumbprint, or the hash of an access token.
pub(crate) fn sha256_base64url(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

const UNSUPPORTED: &str = "is no key for proofs: they are signed with P-256 or Ed25519 keys";
