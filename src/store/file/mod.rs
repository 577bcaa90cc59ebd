//! Tokens in files, for the processes of one machine.

mod folder;
mod paths;
mod store;
#[cfg(feature = "testing")]
mod temporary;

pub use store::{FileLease, FileStore};
