use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::der::{self, Bytes};

/// The private key in a PEM text ([RFC 7468](https://www.rfc-editor.org/rfc/rfc7468)).
///
/// The library has a reader of its own, which leaves copies of the key in memory.
pub(super) enum PemKey {
    /// RFC 7468 §10: PKCS#8, unencrypted.
    Pkcs8(Bytes),
    /// RFC 8017 App. A.1: PKCS#1, for RSA alone.
    Pkcs1(Bytes),
}

impl PemKey {
    /// Reads the first private key; text around it, such as a certificate, is left out.
    pub(super) fn parse(text: &str) -> Option<Self> {
        section(text, "PRIVATE KEY")
            .map(Self::Pkcs8)
            .or_else(|| section(text, "RSA PRIVATE KEY").map(Self::Pkcs1))
    }

    /// The key as PKCS#1, if it can be RSA.
    pub(super) fn rsa(&self) -> Option<&[u8]> {
        match self {
            Self::Pkcs1(der) => Some(der),
            Self::Pkcs8(der) => der::private_key(der),
        }
    }

    /// The key as PKCS#8.
    pub(super) fn pkcs8(&self) -> Option<&[u8]> {
        match self {
            Self::Pkcs1(_) => None,
            Self::Pkcs8(der) => Some(der),
        }
    }
}

fn section(text: &str, label: &str) -> Option<Bytes> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let mut encoded = Zeroizing::new(String::with_capacity(body.len()));
    encoded.extend(body.split_ascii_whitespace());
    let mut der = Zeroizing::new(Vec::with_capacity(encoded.len()));
    BASE64_STANDARD.decode_vec(encoded.as_str(), &mut der).ok()?;
    Some(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_private_key_is_found_among_other_things() {
        let text = "x\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\r\n\
                    -----BEGIN PRIVATE KEY-----\r\nAQ\r\nID\r\n-----END PRIVATE KEY-----\r\n\
                    -----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n";
        let key = PemKey::parse(text).unwrap();
        assert_eq!(key.pkcs8(), Some(&[1, 2, 3][..]));
        let text = "-----BEGIN RSA PRIVATE KEY-----\nAQID\n-----END RSA PRIVATE KEY-----";
        let key = PemKey::parse(text).unwrap();
        assert_eq!((key.rsa(), key.pkcs8()), (Some(&[1, 2, 3][..]), None));
    }

    #[test]
    fn what_is_not_an_unencrypted_private_key_is_none() {
        for text in [
            "",
            "AQID",
            "-----BEGIN PRIVATE KEY-----\nAQID",
            "-----BEGIN PRIVATE KEY-----\nA?ID\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nAQID\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----",
            "-----BEGIN PUBLIC KEY-----\nAQID\n-----END PUBLIC KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n\
             -----END RSA PRIVATE KEY-----",
        ] {
            assert!(PemKey::parse(text).is_none(), "{text}");
        }
    }
}
