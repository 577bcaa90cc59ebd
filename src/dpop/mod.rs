//! Tokens that are bound to a key ([RFC 9449]): whoever steals one cannot use it.
//!
//! A [`DpopKey`] signs a proof for every request, to the token endpoint and to the API. A grant that
//! is given one asks for bound tokens; the layer then presents them with the scheme `DPoP` and a
//! proof of their own key, and answers a server's wish for a nonce by itself.
//!
//! ```no_run
//! use tower_oauth::{ClientAuth, ClientCredentials, DpopAlgorithm, DpopKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = ClientCredentials::builder(
//!     "https://idp.example/oauth2/token",
//!     ClientAuth::basic("orders", "gX1fBat3bV"),
//! )
//! .dpop(DpopKey::generate(DpopAlgorithm::Es256)?)
//! .build()?;
//! # let _ = source;
//! # Ok(())
//! # }
//! ```
//!
//! [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449

mod key;
mod nonce;
mod proof;
mod server;
mod url;

pub(crate) use key::token_hash;
pub use key::{DpopAlgorithm, DpopKey};
use nonce::nonce;
pub(crate) use proof::Proof;
pub(crate) use server::{Role, Server};
pub(crate) use url::ProofUrl;

use http::HeaderName;

/// The header field of a proof.
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");
