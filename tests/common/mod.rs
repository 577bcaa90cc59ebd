//! What several test files need.
#![cfg(test)] // tells clippy that this is test code, which may unwrap and index
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of this")]

pub mod api;
pub mod certificates;
pub mod clock;
pub mod dice;
#[cfg(feature = "reqwest")]
pub mod node;
pub mod process;
pub mod script;
