//! Mutual TLS (RFC 8705), over real connections: who presents which certificate to whom.
#![cfg(feature = "mtls")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what helps a test may panic")]
#![expect(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

mod api;
#[path = "../common/mod.rs"]
mod common;
mod server;
mod token_endpoint;
