//! Keys and signatures ([RFC 7515]), for clients that authenticate with a signed assertion.
//!
//! ```
//! use tower_oauth::{SecretSource, SigningAlgorithm, SigningKey};
//!
//! let pem = SecretSource::file("/run/secrets/orders-key.pem");
//! let key = SigningKey::pem(pem, SigningAlgorithm::Es256).key_id("2026-11");
//! # let _ = key;
//! ```
//!
//! [RFC 7515]: https://www.rfc-editor.org/rfc/rfc7515

mod algorithm;
mod der;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod jwk;
mod key;
mod sign;

pub use algorithm::SigningAlgorithm;
pub use key::SigningKey;
pub(crate) use sign::{Jws, sign_hs256};
