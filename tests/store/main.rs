//! Tokens that outlive the process: `Persisted` around grants, on stores that fail in every way.

#![cfg(feature = "store")]
#![expect(clippy::unwrap_used, reason = "what helps a test may panic")]

use log_watch as _;

#[cfg(feature = "dpop")]
mod bound;
#[expect(unreachable_pub, reason = "other tests use it too")]
#[path = "../common/clock.rs"]
mod clock;
mod failing;
mod harness;
mod hint;
mod lost;
#[cfg(all(feature = "store-file", feature = "store-redis", feature = "reqwest", unix))]
mod redis;
#[cfg(all(feature = "store-file", feature = "store-redis", feature = "reqwest", unix))]
mod redis_hints;
#[cfg(all(feature = "store-file", feature = "store-redis", feature = "reqwest", unix))]
mod redis_leases;
#[cfg(all(feature = "store-file", feature = "store-redis", feature = "reqwest", unix))]
mod redis_masters;
#[cfg(all(feature = "store-file", feature = "store-redis", feature = "reqwest", unix))]
mod redis_server;
mod refused;
mod removed;
mod revoked;
mod shared;
#[cfg(all(feature = "store-file", feature = "reqwest", unix))]
#[expect(unreachable_pub, reason = "other tests use it too")]
#[path = "../common/signal.rs"]
mod signal;
mod start;
mod twins;

/// The store that comes with the crate for one process.
mod memory {
    tower_oauth::store_conformance!(tower_oauth::store::MemoryStore::new());
}

/// The store that the tests here make trouble with.
mod troubled {
    tower_oauth::store_conformance!(crate::harness::TestStore::new());
}

#[cfg(all(feature = "store-file", unix))]
mod file;
#[cfg(all(feature = "store-keyring", unix))]
mod keychain;
#[cfg(all(feature = "store-keyring", unix))]
mod keyring;
#[cfg(all(feature = "store-file", feature = "reqwest", unix))]
mod processes;
#[cfg(all(feature = "store-file", unix))]
mod temporary;
#[cfg(all(feature = "store-file", target_os = "linux"))]
mod user_space;
