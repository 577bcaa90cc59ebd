//! Records as they leave the process: encrypted, and bound to where they belong.

mod envelope;
mod ring;

pub(super) use envelope::{Closed, Envelope, Place, seal};
pub use ring::KeyRing;
