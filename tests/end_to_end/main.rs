//! The whole product over real sockets: an authorization server, an API, the default transport for
//! tokens, and below the layer either client that people use.
#![cfg(test)]
#![cfg(all(feature = "testing", feature = "reqwest"))]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

#[macro_use]
mod harness;

mod life;
mod outage;
mod redirect;
mod replay;
mod rotation;
mod token_endpoint;
mod upload;
