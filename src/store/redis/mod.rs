//! Tokens in Redis, for a fleet.

mod builder;
mod hints;
mod scripts;
mod store;

pub use builder::RedisStoreBuilder;
pub use store::{RedisLease, RedisStore};
