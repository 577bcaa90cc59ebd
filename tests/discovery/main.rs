//! Discovery, and what is chosen by it: endpoints, client authentication, audiences. Revocation and
//! introspection, which are found by it too.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what helps a test may panic")]

mod cache;
mod calls;
mod endpoints;
mod fake;
mod methods;
mod resources;
mod shutdown;
#[cfg(feature = "private-key-jwt")]
mod signed;
#[cfg(feature = "reqwest")]
mod wire;
