//! The soak: many requests over many short lifetimes, while both servers fail in every way.
//!
//! By default a few seconds of it. `tests/run` runs it whole, optimised:
//!
//! ```sh
//! SOAK_LIFETIMES=100 SOAK_REQUESTS=1000000 cargo test --release --test soak -- --nocapture
//! ```
//!
//! `SOAK_CYCLES` is how many handles and stacks are made and dropped in `cycles`.
#![cfg(test)]
#![cfg(all(feature = "testing", feature = "reqwest", target_os = "linux"))]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

mod api;
mod cycles;
mod faults;
mod ledger;
mod load;
mod resources;
mod source;

use std::{env, sync::Mutex};

/// What is allocated is counted, which is what tells a leak of bytes from a heap that is kept.
#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// One test at a time in a process: each measures all of it.
static ALONE: Mutex<()> = Mutex::new(());

/// A number from the environment.
fn number(name: &str, default: usize) -> usize {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => default,
    }
}
