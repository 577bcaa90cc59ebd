//! Code that must not end more than itself: code of others, which may panic, and work that blocks
//! its thread, for which there may be none.

mod blocking;
mod contain;
mod foreign;

pub(crate) use blocking::blocking;
pub(crate) use contain::{Contained, contain};
pub(crate) use foreign::Foreign;
