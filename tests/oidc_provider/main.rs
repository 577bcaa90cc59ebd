//! Against `oidc-provider`, an authorization server that is not ours, and an API that checks the
//! tokens it gets.
#![cfg(test)]
#![cfg(feature = "reqwest")]

use log_watch as _;

#[path = "../common/mod.rs"]
mod common;
mod harness;

mod client_auth;
#[cfg(feature = "dpop")]
mod dpop;
mod foreign_api;
mod grants;
mod life;
#[cfg(feature = "mtls")]
mod mutual_tls;
mod readme;
