//! Against Glewlwyd, a C server that shares no code with `oidc-provider` and disagrees with it on
//! much that the standards leave open.
//!
//! It is a package of Debian; elsewhere than on Linux there is nothing to test against.
#![cfg(test)]
#![cfg(all(target_os = "linux", feature = "reqwest"))]

use log_watch as _;

mod client_auth;
#[cfg(feature = "dpop")]
mod dpop;
mod refresh;
mod server;
