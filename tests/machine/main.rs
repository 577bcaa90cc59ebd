//! Real processes on a machine that runs out of things: descriptors, threads, disk, answers.
//!
//! A process is this test's own binary, which runs [`child::child`] and does what the test tells it
//! over a socket. `tests/torture` runs one process through everything, one after the other.
#![cfg(test)]
#![cfg(all(
    feature = "testing",
    feature = "reqwest",
    feature = "mtls",
    feature = "tracing",
    feature = "metrics",
    feature = "pool",
    feature = "store-file",
    target_os = "linux"
))]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

#[path = "../common/certificates.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests use the rest")]
mod certificates;
mod child;
mod clocks;
mod connections;
mod destructors;
mod logs;
mod mutual_tls;
mod parent;
mod proxy;
mod server;
#[expect(unreachable_pub, reason = "other tests use it too")]
#[path = "../common/signal.rs"]
mod signal;
mod tenants;
mod threads;
mod torture;
