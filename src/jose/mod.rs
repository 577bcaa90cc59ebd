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

#[cfg(feature = "private-key-jwt")]
mod algorithm;
mod der;
#[cfg(all(any(fuzzing, test), feature = "private-key-jwt"))]
pub(crate) mod fuzz;
mod jwk;
#[cfg(feature = "private-key-jwt")]
mod key;
#[cfg(feature = "private-key-jwt")]
mod pem;
#[cfg(feature = "dpop")]
mod proof;
#[cfg(feature = "private-key-jwt")]
mod sign;

#[cfg(feature = "private-key-jwt")]
pub use algorithm::SigningAlgorithm;
#[cfg(feature = "private-key-jwt")]
pub use key::SigningKey;
#[cfg(feature = "dpop")]
pub(crate) use proof::{ProofSigner, sha256_base64url};
#[cfg(feature = "private-key-jwt")]
pub(crate) use sign::{Jws, sign_hs256};
