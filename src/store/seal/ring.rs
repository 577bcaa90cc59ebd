use std::{fmt, sync::Arc};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use crate::{
    error::{ConfigError, Error, ErrorKind},
    secret::{Secret, SecretSource},
};

/// The keys that stored tokens are sealed with, each under a name of its own.
///
/// What is stored is sealed with the first key, and opened with the key that it names. So a key is
/// replaced in two steps, without a moment in which anything cannot be read: first all processes
/// get a ring that has the new key too ([`or`](Self::or)), then one that has the new key first.
///
/// A key is 32 random bytes, in base64 or as 64 hexadecimal digits, such as `head -c 32
/// /dev/urandom | base64` makes. It is read again each time it is needed; with
/// [`SecretSource::provider`] it comes from a keychain or a key management service.
///
/// ```
/// use tower_oauth::{SecretSource, store::KeyRing};
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let ring = KeyRing::new("2026", SecretSource::env("TOKEN_KEY_2026"))?
///     .or("2025", SecretSource::file("/run/secrets/token-key-2025"))?;
/// # let _ = ring;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KeyRing {
    first: Named,
    others: Vec<Named>,
}

#[derive(Clone)]
struct Named {
    id: Arc<str>,
    key: SecretSource,
}

/// A key, ready to be used.
pub(super) type KeyBytes = Zeroizing<[u8; 32]>;

impl KeyRing {
    /// Seals and opens with this key. The name is stored beside what is sealed: it must not be
    /// given to another key later.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Setting`] when the name is empty, longer than 64 bytes or not plain text.
    pub fn new(id: impl Into<String>, key: impl Into<SecretSource>) -> Result<Self, ConfigError> {
        Ok(Self { first: Named::new(id.into(), key.into())?, others: Vec::new() })
    }

    /// Also opens with this key.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Setting`] as for [`new`](Self::new), and when the name is taken.
    pub fn or(
        mut self,
        id: impl Into<String>,
        key: impl Into<SecretSource>,
    ) -> Result<Self, ConfigError> {
        let named = Named::new(id.into(), key.into())?;
        if self.all().any(|other| other.id == named.id) {
            return Err(bad_id(&named.id, "another key of the ring has it"));
        }
        self.others.push(named);
        Ok(self)
    }

    /// The key to seal with.
    pub(super) async fn primary(&self) -> Result<(&str, KeyBytes), Error> {
        Ok((&self.first.id, self.first.read().await?))
    }

    /// The key of this name, if it is in the ring.
    pub(super) async fn find(&self, id: &str) -> Option<Result<KeyBytes, Error>> {
        let named = self.all().find(|named| &*named.id == id)?;
        Some(named.read().await)
    }

    fn all(&self) -> impl Iterator<Item = &Named> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl Named {
    fn new(id: String, key: SecretSource) -> Result<Self, ConfigError> {
        if id.is_empty() || id.len() > MAX_ID {
            return Err(bad_id(&id, "a key's name has 1 to 64 bytes"));
        }
        if !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad_id(&id, "a key's name is visible ASCII without spaces"));
        }
        Ok(Self { id: id.into(), key })
    }

    async fn read(&self) -> Result<KeyBytes, Error> {
        decode(&self.key.read().await?).ok_or_else(|| {
            let message = format!(
                "the token store's key {:?} from {:?} is not 32 bytes in base64 or hexadecimal \
                 digits; `head -c 32 /dev/urandom | base64` makes one",
                self.id, self.key
            );
            Error::new(ErrorKind::Credential, message)
        })
    }
}

/// Base64 of either alphabet, padded or not, or hexadecimal digits.
fn decode(key: &Secret) -> Option<KeyBytes> {
    let text = key.expose().trim();
    let bytes = if text.len() == 64 {
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        let byte = |pair: &[u8]| {
            let [high, low] = pair else { return None };
            u8::try_from(digit(high)? * 16 + digit(low)?).ok()
        };
        Zeroizing::new(text.as_bytes().chunks(2).map(byte).collect::<Option<Vec<u8>>>()?)
    } else {
        let config =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let alphabet =
            if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
        Zeroizing::new(GeneralPurpose::new(alphabet, config).decode(text).ok()?)
    };
    Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
}

fn bad_id(id: &str, reason: &'static str) -> ConfigError {
    ConfigError::Setting { name: "key id", value: format!("{id:?}"), reason }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.all().map(|named| (&named.id, &named.key))).finish()
    }
}

const MAX_ID: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_in_every_common_way_of_writing() {
        let hex = "ff".repeat(31) + "FE";
        for text in [
            &*hex,
            "//////////////////////////////////////////4=",
            "//////////////////////////////////////////4",
            "__________________________________________4=",
            " __________________________________________4\n",
        ] {
            let key = decode(&text.into()).unwrap();
            assert_eq!((key[0], key[30], key[31]), (0xff, 0xff, 0xfe), "{text}");
        }
        for bad in ["", "hunter2", &"g".repeat(64), &"ff".repeat(31), &"é".repeat(32), "AAAA"] {
            assert!(decode(&bad.into()).is_none(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_bad_key_is_told_without_showing_it() {
        let error = KeyRing::new("k", "hunter2").unwrap().primary().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credential);
        assert!(error.to_string().contains("32 bytes") && !error.to_string().contains("hunter2"));
    }

    #[test]
    fn names_are_checked() {
        let ring = KeyRing::new("a", "x").unwrap();
        assert!(ring.clone().or("b", "y").is_ok());
        let taken = ring.or("a", "y").unwrap_err();
        assert!(taken.to_string().contains("another key"), "{taken}");
        for bad in ["", "a b", "é", "a\n", &"x".repeat(65)] {
            assert!(KeyRing::new(bad, "x").is_err(), "{bad:?}");
        }
    }
}
