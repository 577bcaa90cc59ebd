//! What holds for every text that is given as a key.
#![expect(clippy::missing_panics_doc, reason = "to panic is what they are for")]

use serde_json::json;

use super::{Jws, SigningAlgorithm, SigningKey};
use crate::secret::Secret;

/// A byte that chooses the format, and the key's text.
pub fn keys(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let key = match choice % 6 {
        0 => SigningKey::jwk("x"),
        1 => SigningKey::pem("x", SigningAlgorithm::Rs256),
        2 => SigningKey::pem("x", SigningAlgorithm::Ps256),
        3 => SigningKey::pem("x", SigningAlgorithm::Es256),
        4 => SigningKey::pem("x", SigningAlgorithm::Es384),
        _ => SigningKey::pem("x", SigningAlgorithm::EdDsa),
    };
    let claims = json!({ "iss": "a" });
    match (Jws { typ: None, claims: &claims }).sign(&key, &Secret::from(text)) {
        Ok(jws) => assert_eq!(jws.expose().split('.').filter(|part| !part.is_empty()).count(), 3),
        // Nothing of the text is in it: all of it is ours.
        Err(error) => assert!(error.to_string().starts_with("the key from literal "), "{error}"),
    }
}
