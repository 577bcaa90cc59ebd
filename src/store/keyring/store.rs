use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use keyring_core::CredentialStore;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    super::{
        Key, Record, Saved, TokenStore,
        file::{Locks, RecordLock},
    },
    keychain::{Keychain, failed},
};
use crate::{error::Error, secret::Secret};

/// Tokens in the keychain of the operating system, for the programs of one user.
///
/// That is the Keychain of macOS, and the [Secret Service] of other systems (GNOME Keyring
/// and others), which is reached over D-Bus. The keychain seals what it keeps: no key is
/// to be configured, and nothing is written elsewhere.
///
/// A keychain has no lock that keeps others out while a token is renewed, so there is a folder with
/// one lock file (`flock`) for each record, as for a [`FileStore`](super::super::FileStore). **All
/// processes that share tokens have to be given the same folder.** It is made if it is missing, and
/// refused if others can write to it, or if it is on a network file system. It holds no secrets: the
/// user's `$XDG_RUNTIME_DIR` is a good place.
///
/// Each call is made on a thread of its own and waited for as long as [`timeout`](Self::timeout)
/// allows. One that is late, for instance because the keychain asks the user for a password, goes on
/// and keeps the record's lock until it is done, so that it never overwrites what is newer.
///
/// A keychain that is locked, missing or silent is an error that says so
/// ([`ErrorKind::Store`](crate::ErrorKind::Store)); nothing is kept elsewhere instead. Where a
/// program also runs without one, decide once, at its start, and alike in all processes that share
/// tokens: two stores do not know of each other's rotations.
///
/// ```no_run
/// use tower_oauth::{
///     ClientAuth, RefreshToken, SecretSource, TokenHandle,
///     store::{FileStore, KeyRing, KeyringStore, Persisted},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth::ConfigError> {
/// let source = RefreshToken::builder(
///     "https://idp.example/oauth2/token",
///     ClientAuth::none("cli"),
///     SecretSource::file("/run/secrets/refresh-token"),
/// )
/// .build()?;
/// let keychain = KeyringStore::new("/run/user/1000/orders").name("orders");
/// let tokens = match keychain.check().await {
///     Ok(()) => TokenHandle::spawn(Persisted::new(source, keychain)),
///     Err(error) => {
///         eprintln!("without a keychain: {error}");
///         let keys = KeyRing::new("2026", SecretSource::env("TOKEN_KEY"))?;
///         let files = FileStore::new("/var/lib/orders/tokens", keys);
///         TokenHandle::spawn(Persisted::new(source, files))
///     }
/// };
/// # let _ = tokens;
/// # Ok(())
/// # }
/// ```
///
/// [Secret Service]: https://specifications.freedesktop.org/secret-service-spec/latest/
#[derive(Clone)]
pub struct KeyringStore {
    locks: Locks,
    keychain: Keychain,
    /// What was written has been read again.
    was_tried: Arc<AtomicBool>,
}

/// The right to renew a record of a [`KeyringStore`].
#[derive(Debug)]
pub struct KeyringLease {
    key: Key,
    /// Shared with a write that is under way.
    lock: Arc<RecordLock>,
    /// One write after the other: a late one must not come after the next.
    writes: Arc<Mutex<()>>,
}

impl KeyringStore {
    /// Keeps tokens in the keychain of this system, with locks in this folder. The keychain is
    /// opened when it is needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self::in_keychain(folder.into(), None)
    }

    /// Keeps tokens in another credential store of the [keyring family], with locks in this folder.
    /// On a Linux server that has no session, `linux-keyutils-keyring-store` keeps them in the
    /// kernel, for the processes of one kernel session (`keyctl session`, or a systemd unit) and
    /// until the machine restarts or they have not been used for some days. A store that forgets at
    /// once what it is given is refused.
    ///
    /// [keyring family]: https://docs.rs/keyring-core/1
    pub fn with(folder: impl Into<PathBuf>, credentials: Arc<CredentialStore>) -> Self {
        Self::in_keychain(folder.into(), Some(credentials))
    }

    fn in_keychain(folder: PathBuf, given: Option<Arc<CredentialStore>>) -> Self {
        let keychain = Keychain::new(given);
        Self { locks: Locks::new(folder), keychain, was_tried: Arc::default() }
    }

    /// Names the store: the *service* of all its entries in the keychain. Stores of different names
    /// do not see each other's tokens. Default: `tower-oauth`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.keychain.service = name.into();
        self
    }

    /// Sets how long a call of the keychain is waited for. [`Persisted`](super::super::Persisted)
    /// waits 4 s at most, so a longer time is of use for [`check`](Self::check), while somebody
    /// types a password. Default: 3 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.keychain.timeout = timeout;
        self
    }

    /// Sets how large an entry may be, in bytes. A larger record is an error that says so, and its
    /// tokens are used from memory. An entry holds the access token, the refresh token and about
    /// 600 bytes more; the kernel's keyring of Linux takes 32,767 bytes. Default: 1 MiB.
    #[must_use]
    pub fn entry_limit(mut self, bytes: usize) -> Self {
        self.keychain.limit = bytes;
        self
    }

    /// Tries whether the keychain works: writes an entry, reads it and deletes it. The user may be
    /// asked to unlock it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) if it is locked, missing or silent, or if the
    /// folder cannot be used.
    pub async fn check(&self) -> Result<(), Error> {
        self.locks.blocking("used", || Ok(())).await?;
        // Of its own: another process may be checking, too.
        let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(20).collect();
        let name: Arc<str> = format!("check {name}").into();
        let (written, text) = (name.clone(), Secret::from("check"));
        self.keychain.run(move |keychain| keychain.write(&written, &text)).await?;
        // Each on a thread of its own, see `save`.
        let read = name.clone();
        let found = self.keychain.run(move |keychain| keychain.read(&read)).await?;
        if found.is_none_or(|text| text.expose() != "check") {
            return Err(forgets());
        }
        self.keychain.run(move |keychain| keychain.delete(&name)).await
    }
}

impl TokenStore for KeyringStore {
    type Lease = KeyringLease;

    async fn load(&self, key: &Key) -> Result<Option<Record>, Error> {
        let key = *key;
        self.keychain.run(move |keychain| find(keychain, &key)).await
    }

    async fn acquire(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> Result<(KeyringLease, Option<Record>), Error> {
        let lock = self.locks.lock(key, deadline).await?;
        let record = self.load(key).await?;
        Ok((KeyringLease { key: *key, lock, writes: Arc::default() }, record))
    }

    async fn save(
        &self,
        lease: &mut KeyringLease,
        expected: u64,
        record: &Record,
    ) -> Result<Saved, Error> {
        let turn = timeout(self.keychain.timeout, lease.writes.clone().lock_owned()).await;
        let turn = turn.map_err(|_| failed("the write before is not done in time"))?;
        let (key, lock, text) = (lease.key, lease.lock.clone(), record.to_json());
        let written = text.clone();
        let calls = move |keychain: &Keychain| {
            // If nobody waits any more, the lock is given back only after the write.
            let _held = (turn, lock);
            let found = find(keychain, &key)?;
            if found.as_ref().map_or(0, Record::generation) != expected {
                return Ok(Saved::Conflict(found));
            }
            keychain.write(&key.to_string(), &text)?;
            Ok(Saved::Stored)
        };
        let saved = self.keychain.run(calls).await?;
        if matches!(saved, Saved::Stored) && !self.was_tried.load(Ordering::Relaxed) {
            // The kernel's keyring gives a thread one of its own where the session has none.
            let found = self.load(&key).await?;
            if found.is_none_or(|found| found.to_json() != written) {
                return Err(forgets());
            }
            self.was_tried.store(true, Ordering::Relaxed);
        }
        Ok(saved)
    }

    async fn release(&self, lease: KeyringLease) {
        drop(lease);
    }

    async fn remove(&self, key: &Key, deadline: Instant) -> Result<(), Error> {
        let lock = self.locks.lock(key, deadline).await?;
        let name = key.to_string();
        let delete = move |keychain: &Keychain| {
            let _held = lock;
            keychain.delete(&name)
        };
        self.keychain.run(delete).await
    }
}

fn find(keychain: &Keychain, key: &Key) -> Result<Option<Record>, Error> {
    let Some(text) = keychain.read(&key.to_string())? else { return Ok(None) };
    Record::from_json(text.expose()).map(Some)
}

fn forgets() -> Error {
    failed(
        "the keychain forgets at once what it is given: perhaps the session has none of its own \
         (for the kernel's, run the program by `keyctl session`)",
    )
}

impl fmt::Debug for KeyringStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyringStore")
            .field("name", &self.keychain.service)
            .field("locks", &self.locks)
            .finish_non_exhaustive()
    }
}
