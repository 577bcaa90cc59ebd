//! Tokens in the keychain of the operating system.

mod keychain;
mod store;

pub use store::{KeyringLease, KeyringStore};
