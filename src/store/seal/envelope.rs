use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use super::{KeyRing, ring::KeyBytes};
use crate::{
    error::{Error, ErrorKind},
    secret::Secret,
};

use super::super::Key;

/// Where a sealed value belongs. One that is found elsewhere does not open.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Place<'a> {
    /// The store's name.
    pub(in super::super) store: &'a str,
    pub(in super::super) key: &'a Key,
    /// Which of a record's values it is.
    pub(in super::super) field: &'static str,
}

/// A sealed value, apart.
///
/// ```text
/// magic (3) | version (1) | length of the key id (1) | key id | generation (8) | nonce (24) | text
/// ```
#[derive(Debug)]
pub(in super::super) struct Envelope<'a> {
    /// All that stands before the sealed text.
    header: &'a [u8],
    key_id: &'a str,
    nonce: &'a [u8],
    sealed: &'a [u8],
}

/// Why a value does not open.
#[derive(Debug)]
pub(in super::super) enum Closed {
    /// It is cut, changed, sealed with another key of that name, or belongs elsewhere.
    Damaged,
    /// It may be good, but not for this process: what it needs is missing here.
    Unknown(Error),
}

impl<'a> Envelope<'a> {
    /// Takes a value apart.
    pub(in super::super) fn parse(bytes: &'a [u8]) -> Result<Self, Closed> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(Closed::Damaged)?;
        let (version, rest) = rest.split_first().ok_or(Closed::Damaged)?;
        if *version != VERSION {
            return Err(Closed::Unknown(Error::new(
                ErrorKind::Store,
                format!(
                    "a stored token is sealed in version {version}; bring this program up to date"
                ),
            )));
        }
        let (length, rest) = rest.split_first().ok_or(Closed::Damaged)?;
        let (key_id, rest) = rest.split_at_checked(usize::from(*length)).ok_or(Closed::Damaged)?;
        let (_generation, rest) = rest.split_at_checked(8).ok_or(Closed::Damaged)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or(Closed::Damaged)?;
        let header = bytes.get(..bytes.len() - sealed.len()).ok_or(Closed::Damaged)?;
        let key_id = std::str::from_utf8(key_id).map_err(|_| Closed::Damaged)?;
        Ok(Self { header, key_id, nonce, sealed })
    }

    /// Opens it, with the key that it names.
    pub(in super::super) async fn open(
        &self,
        ring: &KeyRing,
        place: Place<'_>,
    ) -> Result<Secret, Closed> {
        let Some(key) = ring.find(self.key_id).await else {
            // The id is visible ASCII in all that we write; what is not ours is not shown.
            let known = self.key_id.bytes().all(|b| b.is_ascii_graphic());
            let id = if known { self.key_id } else { "?" };
            return Err(Closed::Unknown(Error::new(
                ErrorKind::Store,
                format!(
                    "a stored token is sealed with the key {id:?}, which is not in the key ring"
                ),
            )));
        };
        let cipher = cipher(&key.map_err(Closed::Unknown)?);
        let aad = associated(self.header, place);
        let payload = Payload { msg: self.sealed, aad: &aad };
        let nonce = <&XNonce>::try_from(self.nonce).map_err(|_| Closed::Damaged)?;
        let text = cipher.decrypt(nonce, payload).map_err(|_| Closed::Damaged)?;
        match String::from_utf8(text) {
            Ok(text) => Ok(text.into()),
            Err(other) => {
                drop(Zeroizing::new(other.into_bytes()));
                Err(Closed::Damaged)
            }
        }
    }
}

/// Seals a text with the first key of the ring.
pub(in super::super) async fn seal(
    text: &Secret,
    generation: u64,
    ring: &KeyRing,
    place: Place<'_>,
) -> Result<Vec<u8>, Error> {
    let (key_id, key) = ring.primary().await?;
    let mut nonce = [0; NONCE];
    // 192 random bits: no two are the same, however many processes seal how often.
    getrandom::fill(&mut nonce)
        .map_err(|_| Error::new(ErrorKind::Store, "the system gives no random numbers"))?;
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    out.push(u8::try_from(key_id.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(key_id.as_bytes());
    out.extend_from_slice(&generation.to_be_bytes());
    out.extend_from_slice(&nonce);
    let aad = associated(&out, place);
    let payload = Payload { msg: text.expose().as_bytes(), aad: &aad };
    let sealed = cipher(&key)
        .encrypt(&nonce.into(), payload)
        .map_err(|_| Error::new(ErrorKind::Store, "the token is too large to be sealed"))?;
    out.extend_from_slice(&sealed);
    Ok(out)
}

fn cipher(key: &KeyBytes) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&**key).into())
}

/// What is bound to the text: its header, and where it belongs. Each part with its length.
fn associated(header: &[u8], place: Place<'_>) -> Vec<u8> {
    let key = place.key.to_string();
    let parts = [header, place.store.as_bytes(), key.as_bytes(), place.field.as_bytes()];
    parts.iter().fold(Vec::new(), |mut out, part| {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
        out
    })
}

const MAGIC: &[u8] = b"toS";
const VERSION: u8 = 1;
const NONCE: usize = 24;

#[cfg(test)]
mod tests {
    use super::super::super::stamp::Stamp;
    use super::*;
    use crate::source::Identity;

    fn key(client: &str) -> Key {
        Stamp::new(&Identity::new("https://as.example/token", client), "").key()
    }

    fn ring(id: &str, byte: &str) -> KeyRing {
        KeyRing::new(id, byte.repeat(32)).unwrap()
    }

    async fn open(bytes: &[u8], ring: &KeyRing, place: Place<'_>) -> Result<Secret, Closed> {
        Envelope::parse(bytes)?.open(ring, place).await
    }

    #[tokio::test]
    async fn what_was_sealed_opens_and_shows_nothing() {
        let (key, ring) = (key("c"), ring("k", "01"));
        let place = Place { store: "s", key: &key, field: "record" };
        let sealed = seal(&"hunter2".into(), 7, &ring, place).await.unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("hunter2"));
        assert_eq!(open(&sealed, &ring, place).await.unwrap().expose(), "hunter2");
        let again = seal(&"hunter2".into(), 7, &ring, place).await.unwrap();
        assert_ne!(sealed, again, "the nonce is not random");
    }

    #[tokio::test]
    async fn f47_what_was_changed_cut_or_moved_does_not_open() {
        let (one, other, ring) = (key("c"), key("d"), ring("k", "01"));
        let place = Place { store: "s", key: &one, field: "record" };
        let sealed = seal(&"text".into(), 7, &ring, place).await.unwrap();
        for elsewhere in [
            Place { store: "t", ..place },
            Place { key: &other, ..place },
            Place { field: "other", ..place },
        ] {
            assert!(matches!(open(&sealed, &ring, elsewhere).await, Err(Closed::Damaged)));
        }
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert!(open(&changed, &ring, place).await.is_err(), "byte {i}");
            assert!(open(&sealed[..i], &ring, place).await.is_err(), "cut at {i}");
        }
        // The generation is a part of it.
        let mut older = sealed.clone();
        older[6..14].copy_from_slice(&6u64.to_be_bytes());
        assert!(matches!(open(&older, &ring, place).await, Err(Closed::Damaged)));
    }

    #[tokio::test]
    async fn f48_a_key_is_replaced_step_by_step() {
        let key = key("c");
        let place = Place { store: "s", key: &key, field: "record" };
        let (old, both) =
            (ring("old", "01"), ring("old", "01").or("new", "02".repeat(32)).unwrap());
        let turned = ring("new", "02").or("old", "01".repeat(32)).unwrap();
        let by_old = seal(&"text".into(), 1, &old, place).await.unwrap();
        let by_both = seal(&"text".into(), 1, &both, place).await.unwrap();
        let by_new = seal(&"text".into(), 1, &turned, place).await.unwrap();
        for (sealed, opens) in [
            (&by_old, [true, true, true]),
            (&by_both, [true, true, true]),
            (&by_new, [false, true, true]),
        ] {
            for (ring, opens) in [&old, &both, &turned].into_iter().zip(opens) {
                assert_eq!(open(sealed, ring, place).await.is_ok(), opens);
            }
        }
        let Err(Closed::Unknown(error)) = open(&by_new, &old, place).await else { panic!() };
        assert!(error.to_string().contains("\"new\""), "{error}");
    }

    #[tokio::test]
    async fn f48_a_newer_version_is_refused_and_not_taken_for_damaged() {
        let (key, ring) = (key("c"), ring("k", "01"));
        let place = Place { store: "s", key: &key, field: "record" };
        let mut sealed = seal(&"text".into(), 7, &ring, place).await.unwrap();
        sealed[3] = 2;
        assert!(matches!(open(&sealed, &ring, place).await, Err(Closed::Unknown(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0u8..=255, 0..80)) {
            let _ = Envelope::parse(&bytes);
            let _ = Envelope::parse(&[MAGIC, &[1], &bytes].concat());
        }
    }
}
