//! Real processes whose clocks do what clocks do: stop, jump, and run backwards.
//!
//! A process is this test's own binary, which runs [`child::child`]. Its boot and wall clocks are
//! shifted by `shim.c`, which is compiled with `cc` and preloaded: the crate reads them without
//! libc, where `faketime` and others that replace libc's functions do not reach.
#![cfg(test)]
#![cfg(all(
    feature = "testing",
    feature = "reqwest",
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64"
))]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

mod child;
mod frozen;
mod parent;
mod shifted;
#[expect(unreachable_pub, reason = "other tests use it too")]
#[path = "../common/signal.rs"]
mod signal;
