//! Tokens that outlive the process, and are shared by several.
//!
//! [`Persisted`] is a source around another one. It keeps what that one obtains in a
//! [`TokenStore`]: a process that starts takes a good token from there without a token request, and
//! a rotated refresh token is stored before the access token that came with it is used.
//!
//! ```
//! use tower_oauth::{
//!     ClientAuth, RefreshToken, TokenHandle,
//!     store::{MemoryStore, Persisted},
//!     testing::{AuthorizationServer, Rotation},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_oauth::BoxError> {
//! let issuer = AuthorizationServer::start().await?;
//! issuer.rotation(Rotation::Always { grace: std::time::Duration::ZERO });
//! let initial = issuer.issue_refresh_token("cli");
//!
//! let store = MemoryStore::new(); // of a real one, what it keeps is on disk
//! let source = || {
//!     RefreshToken::builder(issuer.token_endpoint(), ClientAuth::none("cli"), &*initial).build()
//! };
//!
//! let first = TokenHandle::spawn(Persisted::new(source()?, store.clone()));
//! let token = first.token().await?;
//!
//! // Another process, or the same one after a restart.
//! let second = TokenHandle::spawn(Persisted::new(source()?, store));
//! assert_eq!(second.token().await?.access_token(), token.access_token());
//! assert_eq!(issuer.token_request_count(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! [`docs::storing_tokens`](crate::docs::storing_tokens) has what survives which failure.
//!
//! # A store of your own
//!
//! Implement [`TokenStore`], seal what leaves the process, and let the macro `store_conformance!`
//! (feature `testing`) test it.

#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod conformance;
mod fail_point;
#[cfg(all(feature = "store-file", unix))]
mod file;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
#[cfg(all(feature = "store-keyring", unix))]
mod keyring;
mod memory;
mod persisted;
mod record;
#[cfg(feature = "store-redis")]
mod redis;
mod rotation;
#[cfg(any(feature = "store-file", feature = "store-redis"))]
mod seal;
mod stamp;

use std::{
    future::{Future, pending},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

#[cfg(all(feature = "store-file", unix))]
#[cfg_attr(docsrs, doc(cfg(feature = "store-file")))]
pub use file::{FileLease, FileStore};
#[cfg(all(feature = "store-keyring", unix))]
#[cfg_attr(docsrs, doc(cfg(feature = "store-keyring")))]
pub use keyring::{KeyringLease, KeyringStore};
pub use memory::{MemoryLease, MemoryStore};
pub use persisted::{Persisted, WithoutStore};
pub use record::{Record, RecordState};
#[cfg(feature = "store-redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "store-redis")))]
pub use redis::{RedisLease, RedisStore, RedisStoreBuilder};
#[cfg(any(feature = "store-file", feature = "store-redis"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "store-file", feature = "store-redis"))))]
pub use seal::KeyRing;
pub use stamp::Key;

use crate::error::Error;

/// Keeps one [`Record`] for each [`Key`], and lets one process at a time renew it.
///
/// Of whatever happens, three things are asked. What [`save`](Self::save) has returned as stored
/// survives the process. A record changes only from the generation that was expected. And a lease
/// is held by one at a time, unless it says, by [`remaining`](Self::remaining), when it ends.
///
/// [`Persisted`] bounds every call in time, and drops the future of one that takes longer.
pub trait TokenStore: Send + Sync + 'static {
    /// The right to renew one record. Dropping it gives it back, at once or after a while.
    type Lease: Send + 'static;

    /// Reads a record, whoever is renewing it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) when the store does not work. A record that
    /// is damaged beyond use is an absent one.
    fn load(&self, key: &Key) -> impl Future<Output = Result<Option<Record>, Error>> + Send;

    /// Waits for the right to renew a record, and reads it then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when somebody else has it until the
    /// deadline; [`ErrorKind::Store`](crate::ErrorKind::Store) when the store does not work.
    fn acquire(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> impl Future<Output = Result<(Self::Lease, Option<Record>), Error>> + Send;

    /// For how long the right is still ours; `None` if until it is given back. Default: `None`.
    fn remaining(&self, lease: &Self::Lease) -> Option<Duration> {
        let _ = lease;
        None
    }

    /// Stores a record durably, if the stored one has the expected generation; an absent one has
    /// generation 0. That the lease has ended meanwhile is no reason to refuse.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) when it is not known to be stored.
    fn save(
        &self,
        lease: &mut Self::Lease,
        expected: u64,
        record: &Record,
    ) -> impl Future<Output = Result<Saved, Error>> + Send;

    /// Gives the right back, at once.
    fn release(&self, lease: Self::Lease) -> impl Future<Output = ()> + Send;

    /// Waits for the right to renew a record, and removes it, with all copies of earlier ones: no
    /// secret of it is left. Also one that cannot be read; one that is not there is removed already.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when somebody else has the right until the
    /// deadline; [`ErrorKind::Store`](crate::ErrorKind::Store) when it is not known to be removed.
    fn remove(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Waits until a record may have been stored whose generation is above `since`, at once if that
    /// has happened before.
    ///
    /// It is a hint, which spares others the time until their token is due: it may come late, in
    /// vain, more than once, or not at all. What it is a hint of is read by [`load`](Self::load).
    ///
    /// Default: it waits for ever.
    ///
    /// # Cancellation
    ///
    /// It may be dropped at any time, and called again.
    fn changed(&self, key: &Key, since: u64) -> impl Future<Output = ()> + Send {
        let _ = (key, since);
        pending()
    }
}

/// What became of a record that was to be stored.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum Saved {
    /// It is stored.
    Stored,
    /// It is not: this is stored, of another generation than the expected one.
    Conflict(Option<Record>),
}

impl<S: TokenStore> TokenStore for Arc<S> {
    type Lease = S::Lease;

    fn load(&self, key: &Key) -> impl Future<Output = Result<Option<Record>, Error>> + Send {
        S::load(self, key)
    }

    fn acquire(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> impl Future<Output = Result<(Self::Lease, Option<Record>), Error>> + Send {
        S::acquire(self, key, deadline)
    }

    fn remaining(&self, lease: &Self::Lease) -> Option<Duration> {
        S::remaining(self, lease)
    }

    fn save(
        &self,
        lease: &mut Self::Lease,
        expected: u64,
        record: &Record,
    ) -> impl Future<Output = Result<Saved, Error>> + Send {
        S::save(self, lease, expected, record)
    }

    fn release(&self, lease: Self::Lease) -> impl Future<Output = ()> + Send {
        S::release(self, lease)
    }

    fn remove(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        S::remove(self, key, deadline)
    }

    fn changed(&self, key: &Key, since: u64) -> impl Future<Output = ()> + Send {
        S::changed(self, key, since)
    }
}
