//! A token for each of many tenants: that none reaches another, and that many cost little.
#![cfg(test)] // tells clippy that this is test code, which may unwrap and index
#![cfg(feature = "pool")]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

#[path = "../common/mod.rs"]
mod common;
mod destructors;
mod eviction;
mod hanging;
mod isolation;
mod layer;
mod life;
mod limits;
mod pauses;
mod runtimes;
mod source;
mod time;
