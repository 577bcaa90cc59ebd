//! Mutual TLS ([RFC 8705]): a client certificate that may be replaced at any time, and HTTP clients
//! that present it.
//!
//! [RFC 8705]: https://www.rfc-editor.org/rfc/rfc8705

mod certificate;
mod client;
mod clients;
mod identity;
mod transport;

pub use certificate::ClientCertificate;
pub use client::MutualTlsClient;
pub(crate) use client::bind;
pub(crate) use identity::Identity;
