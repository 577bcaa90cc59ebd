//! The gateway of `examples/gateway`, as a process of its own.
#![cfg(test)]
#![cfg(all(
    feature = "config",
    feature = "metrics",
    feature = "reqwest",
    feature = "testing",
    target_os = "linux"
))]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

mod harness;
mod load;
mod page;
mod proxy;
mod secrets;
mod settings;
