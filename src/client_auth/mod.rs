//! How a client shows the authorization server who it is ([RFC 6749 §2.3]).
//!
//! A request carries exactly one authentication, the one that was configured, or one that the
//! server's metadata lists ([`ClientAuth::secret`], [`ClientAuth::any_of`]). Another one is never
//! tried after a failure: a secret goes only where it was meant to go.
//!
//! ```
//! use tower_oauth::{ClientAuth, SecretSource};
//!
//! let auth = ClientAuth::basic("orders", SecretSource::env("ORDERS_SECRET"));
//! assert_eq!(auth.method(), "client_secret_basic");
//! ```
//!
//! [RFC 6749 §2.3]: https://www.rfc-editor.org/rfc/rfc6749#section-2.3

#[cfg(feature = "private-key-jwt")]
mod assertion;
mod auth;
mod basic;
mod credentials;
mod fapi;
mod offer;

#[cfg(feature = "private-key-jwt")]
pub use assertion::{AssertionAudience, AssertionType, ClientAssertion};
pub use auth::ClientAuth;
pub(crate) use credentials::Credentials;
pub(crate) use fapi::FAPI_ALGORITHMS;
pub(crate) use offer::Offer;
