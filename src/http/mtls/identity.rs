use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::{
    error::{Error, ErrorKind},
    secret::Secret,
};

/// A certificate and key that were read: who the client is on a connection.
pub(crate) struct Identity {
    chain: Secret,
    /// `None` if it is part of `chain`.
    key: Option<Secret>,
    thumbprint: String,
}

/// What is wrong with a certificate or key. It holds nothing of either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusable(&'static str);

impl Identity {
    /// Checks what was read. That the key belongs to the certificate is seen when a client is
    /// built.
    pub(super) fn parse(chain: Secret, key: Option<Secret>) -> Result<Self, Unusable> {
        let leaf = CertificateDer::pem_slice_iter(chain.expose().as_bytes()).next();
        let Some(Ok(leaf)) = leaf else {
            return Err(Unusable("there is no certificate in PEM"));
        };
        let key_text = key.as_ref().unwrap_or(&chain).expose();
        if PrivateKeyDer::from_pem_slice(key_text.as_bytes()).is_err() {
            return Err(Unusable(
                "there is no private key in PEM; it is PKCS#8, PKCS#1 or SEC1, not encrypted",
            ));
        }
        let thumbprint = thumbprint(&leaf);
        Ok(Self { chain, key, thumbprint })
    }

    /// Whether it was made of this text.
    pub(super) fn is_of(&self, chain: &Secret, key: Option<&Secret>) -> bool {
        self.chain == *chain && self.key.as_ref() == key
    }

    /// The `x5t#S256` of the client's own certificate.
    pub(crate) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// As reqwest takes it.
    pub(super) fn to_reqwest(&self) -> Result<reqwest::Identity, reqwest::Error> {
        let key = self.key.as_ref().map(Secret::expose).unwrap_or_default();
        let chain = self.chain.expose();
        let mut pem = Zeroizing::new(Vec::with_capacity(chain.len() + key.len() + 1));
        pem.extend_from_slice(chain.as_bytes());
        // A secret is read without the line break at its end.
        pem.push(b'\n');
        pem.extend_from_slice(key.as_bytes());
        reqwest::Identity::from_pem(&pem)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("thumbprint", &self.thumbprint).finish_non_exhaustive()
    }
}

impl Unusable {
    pub(super) fn within(self, place: &dyn fmt::Debug) -> Error {
        Error::new(ErrorKind::Credential, format!("{place:?} cannot be used: {}", self.0))
    }
}

/// RFC 8705 §3.1: "a base64url-encoded SHA-256 hash (a.k.a., thumbprint, fingerprint, or digest)
/// of the DER encoding of the X.509 certificate".
fn thumbprint(certificate: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8705 App. A. The certificate alone is public, so a key of another one stands beside it.
    #[test]
    fn mtl_04_the_thumbprint_is_that_of_the_standards_certificate() {
        let certificate = pem("CERTIFICATE", CERTIFICATE);
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (chain, key) in [
            (certificate.clone(), Some(key.clone())),
            (format!("{certificate}{key}"), None),
            // What OpenSSL writes around a certificate does not matter.
            (format!("subject=CN=mtls\r\n{}", certificate.replace('\n', "\r\n")), Some(key)),
        ] {
            let identity = Identity::parse(chain.into(), key.map(Secret::from)).unwrap();
            assert_eq!(identity.thumbprint(), "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let certificate = pem("CERTIFICATE", CERTIFICATE);
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (chain, key, problem) in [
            (certificate.clone(), None, "no private key"),
            (certificate.clone(), Some(certificate.clone()), "no private key"),
            (certificate, Some(pem("ENCRYPTED PRIVATE KEY", "AAAA")), "no private key"),
            (key.clone(), None, "no certificate"),
            (String::from("hunter2"), Some(key.clone()), "no certificate"),
            (pem("CERTIFICATE", "not base64!"), Some(key), "no certificate"),
        ] {
            let unusable = Identity::parse(chain.into(), key.map(Secret::from)).unwrap_err();
            let error = unusable.within(&"the certificate");
            assert_eq!(error.kind(), ErrorKind::Credential);
            assert!(error.to_string().contains(problem), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }

    fn pem(label: &str, base64: &str) -> String {
        format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
    }

    const CERTIFICATE: &str = "\
MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx
ODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG
SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ
/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID
SQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOV
bUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=";
}
