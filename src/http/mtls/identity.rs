use std::{
    fmt,
    sync::{Mutex, PoisonError, Weak},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::{crypto::aws_lc_rs::default_provider, sign::CertifiedKey};
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
    /// Who has an HTTP client with this certificate, which goes when the certificate does.
    users: Mutex<Vec<Weak<dyn User>>>,
}

/// Who has HTTP clients with certificates.
pub(super) trait User: Send + Sync {
    /// Closes the connections of certificates that are gone.
    fn forget_unused(&self);
}

/// What is wrong with a certificate or key. It holds nothing of either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusable(&'static str);

impl Identity {
    /// Checks what was read: certificate and key, and that they are a pair. While one of two files has
    /// been replaced and the other has not, they are none.
    pub(super) fn parse(chain: Secret, key: Option<Secret>) -> Result<Self, Unusable> {
        let certificates = CertificateDer::pem_slice_iter(chain.expose().as_bytes());
        let certificates: Vec<_> = certificates.map_while(Result::ok).collect();
        let leaf = certificates.first().ok_or(Unusable("there is no certificate in PEM"))?;
        let thumbprint = thumbprint(leaf);
        let key_text = key.as_ref().unwrap_or(&chain).expose();
        let private_key = PrivateKeyDer::from_pem_slice(key_text.as_bytes()).map_err(|_| {
            Unusable("there is no private key in PEM; it is PKCS#8, PKCS#1 or SEC1, not encrypted")
        })?;
        match CertifiedKey::from_der(certificates, private_key, &default_provider()) {
            Ok(_) => Ok(Self { chain, key, thumbprint, users: Mutex::default() }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(Unusable(
                "the private key is not the certificate's; one of them may have been replaced just now",
            )),
            Err(_) => Err(Unusable("certificate or key are of a kind that is not supported")),
        }
    }

    /// Notes who has an HTTP client with this certificate.
    pub(super) fn add_user(&self, user: Weak<impl User + 'static>) {
        let user: Weak<dyn User> = user;
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&user));
        users.push(user);
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

/// Nobody uses the certificate any more: its connections are closed.
impl Drop for Identity {
    fn drop(&mut self) {
        let users = self.users.get_mut().unwrap_or_else(PoisonError::into_inner);
        users.drain(..).filter_map(|user| user.upgrade()).for_each(|user| user.forget_unused());
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

    /// RFC 8705 App. A.
    #[test]
    fn mtl_04_the_thumbprint_is_that_of_the_standards_certificate() {
        let certificate = pem("CERTIFICATE", CERTIFICATE);
        // What OpenSSL writes around a certificate does not matter.
        let noisy = format!("subject=CN=mtls\r\n{}", certificate.replace('\n', "\r\n"));
        for chain in [certificate, noisy] {
            let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
            assert_eq!(thumbprint(&leaf), "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0");
        }
    }

    #[test]
    fn mtl_03_certificate_and_key_have_to_be_a_pair() {
        let new = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let names = vec!["orders".to_owned()];
            let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key);
            (certificate.unwrap().pem(), key.serialize_pem())
        };
        let ((old, old_key), (new, new_key)) = (new(), new());
        let parse =
            |chain: &str, key: Option<&str>| Identity::parse(chain.into(), key.map(Secret::from));
        assert!(parse(&old, Some(&old_key)).is_ok() && parse(&new, Some(&new_key)).is_ok());
        assert!(parse(&format!("{old}{old_key}"), None).is_ok());
        for (chain, key) in [(&new, &old_key), (&old, &new_key)] {
            let error = parse(chain, Some(key)).unwrap_err();
            assert!(error.0.contains("not the certificate's"), "{error:?}");
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
