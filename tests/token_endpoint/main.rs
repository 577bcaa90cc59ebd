//! Grants against a token endpoint: what is sent, and what every answer leads to.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what helps a test may panic")]

use log_watch as _;

mod answers;
mod assertions;
mod fake;
mod limits;
mod refresh;
mod requests;
#[cfg(feature = "private-key-jwt")]
mod signed;
#[cfg(feature = "reqwest")]
mod wire;
mod workload;
