//! The token slot: what a request reads.
//!
//! Publishing swaps one pointer; reading takes no lock, makes no allocation and writes no memory
//! that threads share. The cost that grows with cores is a reference count that all of them touch,
//! so each entry holds one copy of the header for each [shard](sharded) of threads, and what a
//! service carries is sharded the same way.

mod cell;
mod entry;
mod header;
mod sharded;

pub(crate) use cell::Slot;
pub(crate) use entry::{Entry, Validity};
pub(crate) use sharded::Sharded;
