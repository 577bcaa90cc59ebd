//! Discovery, and what is chosen by it: endpoints, client authentication, audiences. Revocation and
//! introspection, which are found by it too.

#![cfg(test)] // tells clippy that this is test code, which may unwrap and index
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

mod cache;
mod calls;
mod endpoints;
mod fake;
#[cfg(feature = "dpop")]
mod fapi;
mod methods;
mod resources;
mod shutdown;
#[cfg(feature = "private-key-jwt")]
mod signed;
#[cfg(feature = "reqwest")]
mod wire;
