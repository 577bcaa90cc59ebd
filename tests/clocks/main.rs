//! Real processes whose clocks do what clocks do: stop, jump, and run backwards.
//!
//! A process is this test's own binary, which runs [`child::child`]. Its boot and wall clocks are
//! shifted by `shim.c`, which is compiled with `cc` and preloaded, as `faketime` is.
#![cfg(test)]
#![cfg(all(feature = "testing", feature = "reqwest", target_os = "linux", target_env = "gnu"))]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

mod child;
mod frozen;
mod parent;
mod shifted;
#[expect(unreachable_pub, reason = "other tests use it too")]
#[path = "../common/signal.rs"]
mod signal;
