//! What several test files need.
#![allow(dead_code, reason = "each test file uses a part of this")]

pub mod api;
pub mod clock;
pub mod node;
pub mod script;
