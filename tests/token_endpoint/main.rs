//! Grants against a token endpoint: what is sent, and what every answer leads to.

mod answers;
mod fake;
mod limits;
mod refresh;
mod requests;
#[cfg(feature = "reqwest")]
mod wire;
