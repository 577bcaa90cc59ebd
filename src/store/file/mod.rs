//! Tokens in files, for the processes of one machine.

mod folder;
mod locks;
mod paths;
mod store;
#[cfg(feature = "testing")]
mod temporary;

pub use store::{FileLease, FileStore};
#[cfg(feature = "store-keyring")]
pub(super) use {locks::Locks, paths::RecordLock};
