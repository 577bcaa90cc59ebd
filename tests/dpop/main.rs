//! Tokens that are bound to a key: proofs at the token endpoint and at the API, each of them
//! verified by the servers here.
#![cfg(test)]
#![cfg(all(feature = "dpop", feature = "private-key-jwt", feature = "pool"))]

use log_watch as _;

mod allocations;
mod api;
mod below;
mod server;
mod token_endpoint;
#[cfg(feature = "reqwest")]
mod wire;
