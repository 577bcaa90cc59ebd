//! Answers that were made to hurt: whatever their shape, reading one takes time that is linear in its
//! size, and memory of at most four times what an answer may have.
#![cfg(test)]
#![cfg(target_os = "linux")]

use log_watch as _;

mod cost;
mod readers;
mod shapes;
