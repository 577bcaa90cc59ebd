use std::{fmt, path::PathBuf, sync::Arc};

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    super::{
        Key, KeyRing, Record, Saved, TokenStore,
        seal::{Closed, Envelope, Place, seal},
    },
    folder::FILE_CAP,
    locks::Locks,
    paths::{Paths, RecordLock},
};
use crate::{
    error::{Error, ErrorKind},
    observe::{Event, Observer, Sink},
};

/// Tokens in files, one for each credential, for the processes of one machine.
///
/// Files are sealed (XChaCha20-Poly1305) and bound to their place: one that was changed, or belongs
/// to another credential or store, does not open. They are written beside, flushed to disk and then
/// renamed, so that there is a whole one at every moment; the one before is kept too. While a token
/// is renewed, a lock (`flock`) on a file beside it keeps other processes out. The kernel releases
/// the lock of a process that dies, once the children that it forked without `exec` have ended too.
///
/// The folder is made if it is missing. What is not safe is refused: a folder that others can write
/// to, a file that others can read, links, other users' files, and network file systems, on which
/// locks and renames may not hold.
///
/// A file that does not open is an error that says so, and stays as it is; unless the one before
/// opens: then that is used, and the damaged one kept beside it, as `….damaged`. To start over,
/// remove `….token`.
///
/// File operations run on tokio's blocking threads, a few at a time. While the machine has no thread
/// for them, they fail with [`ErrorKind::Store`].
///
/// ```no_run
/// use tower_oauth::{
///     ClientAuth, RefreshToken, SecretSource, TokenHandle,
///     store::{FileStore, KeyRing, Persisted},
/// };
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let keys = KeyRing::new("2026", SecretSource::env("TOKEN_KEY"))?;
/// let store = FileStore::new("/var/lib/orders/tokens", keys);
/// let source = RefreshToken::builder(
///     "https://idp.example/oauth2/token",
///     ClientAuth::none("cli"),
///     SecretSource::file("/run/secrets/refresh-token"),
/// )
/// .build()?;
/// let tokens = TokenHandle::spawn(Persisted::new(source, store));
/// # let _ = tokens;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FileStore(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    locks: Locks,
    keys: KeyRing,
    name: String,
    sink: Sink,
    #[cfg(feature = "testing")]
    temporary: Option<Arc<super::temporary::TemporaryFolder>>,
}

/// The right to renew a record of a [`FileStore`].
#[derive(Debug)]
pub struct FileLease {
    key: Key,
    /// Shared with a write that is under way.
    lock: Arc<RecordLock>,
}

/// What was found.
struct Found {
    record: Option<Record>,
    /// The previous record's bytes, if it was used because the current one is damaged.
    instead: Option<Zeroizing<Vec<u8>>>,
}

impl FileStore {
    /// Keeps tokens in this folder, sealed with these keys.
    pub fn new(folder: impl Into<PathBuf>, keys: KeyRing) -> Self {
        Self(Arc::new(Inner {
            locks: Locks::new(folder.into()),
            keys,
            name: "default".to_owned(),
            sink: Sink::one(),
            #[cfg(feature = "testing")]
            temporary: None,
        }))
    }

    /// A store for a test: in a folder of its own, which is removed with the last clone, and sealed
    /// with a key that nobody knows.
    ///
    /// # Errors
    ///
    /// When no folder can be made.
    #[cfg(feature = "testing")]
    #[cfg_attr(docsrs, doc(cfg(all(feature = "store-file", feature = "testing"))))]
    pub fn temporary() -> std::io::Result<Self> {
        let folder = super::temporary::TemporaryFolder::new()?;
        let key: String = std::iter::repeat_with(|| fastrand::digit(16)).take(64).collect();
        let keys = KeyRing::new("temporary", key).map_err(std::io::Error::other)?;
        let store = Self::new(folder.path(), keys);
        Ok(store.change(|inner| inner.temporary = Some(Arc::new(folder))))
    }

    /// Names the store. Files of a store of another name do not open, even with the same key. In
    /// logs and metrics of damaged files, the name is the `client`. Default: `default`.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.change(|inner| {
            inner.sink.set_name(name.as_str());
            inner.name = name;
        })
    }

    /// Is told of damaged files ([`Event::RecordIgnored`]). Default: nobody, beside `tracing`.
    #[must_use]
    pub fn observer(self, observer: impl Observer) -> Self {
        self.change(|inner| inner.sink.set_observer(observer))
    }

    /// Takes any file system. On one whose locks do not hold between machines, two of them may use
    /// the same refresh token, and lose the session. Default: network and user-space file systems
    /// are refused (on Linux).
    #[must_use]
    pub fn danger_any_file_system(self) -> Self {
        self.change(|inner| inner.locks.any_file_system = true)
    }

    fn change(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Self(Arc::new(inner))
    }

    fn paths(&self, key: &Key) -> Paths {
        Paths::new(&self.0.locks.folder, key)
    }

    /// The record, or the one before it if that one is damaged.
    async fn find(&self, key: &Key) -> Result<Found, Error> {
        let paths = self.paths(key);
        let current = self.0.locks.blocking("read", move || paths.current()).await?;
        let Some(current) = current else { return Ok(Found { record: None, instead: None }) };
        match self.open(&current, key).await {
            Ok(record) => return Ok(Found { record: Some(record), instead: None }),
            Err(Closed::Unknown(error)) => return Err(error),
            Err(Closed::Damaged) => {}
        }
        let paths = self.paths(key);
        let previous = self.0.locks.blocking("read", move || paths.previous()).await?;
        if let Some(previous) = previous
            && let Ok(record) = self.open(&previous, key).await
        {
            self.0
                .sink
                .emit(&Event::RecordIgnored { what: "damaged file; the one before is used" });
            return Ok(Found { record: Some(record), instead: Some(previous) });
        }
        let path = self.paths(key).current;
        let message = format!(
            "the stored token {} does not open: it is damaged, or sealed with another key of \
             that name. Restore the file or the key; to start over, remove the file",
            path.display()
        );
        Err(Error::new(ErrorKind::Store, message))
    }

    async fn open(&self, bytes: &[u8], key: &Key) -> Result<Record, Closed> {
        let text = Envelope::parse(bytes)?.open(&self.0.keys, self.place(key)).await?;
        // It is authentic, so what cannot be read is of a newer version.
        Record::from_json(text.expose()).map_err(Closed::Unknown)
    }

    fn place<'a>(&'a self, key: &'a Key) -> Place<'a> {
        Place { store: &self.0.name, key, field: "record" }
    }
}

impl TokenStore for FileStore {
    type Lease = FileLease;

    async fn load(&self, key: &Key) -> Result<Option<Record>, Error> {
        Ok(self.find(key).await?.record)
    }

    async fn acquire(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> Result<(FileLease, Option<Record>), Error> {
        let lock = self.0.locks.lock(key, deadline).await?;
        let Found { record, instead } = self.find(key).await?;
        if let Some(bytes) = instead {
            let (paths, held) = (self.paths(key), lock.clone());
            self.0
                .locks
                .blocking("mended", move || {
                    let _held = held;
                    paths.replace_damaged(&bytes)
                })
                .await?;
        }
        Ok((FileLease { key: *key, lock }, record))
    }

    async fn save(
        &self,
        lease: &mut FileLease,
        expected: u64,
        record: &Record,
    ) -> Result<Saved, Error> {
        let key = lease.key;
        let found = self.find(&key).await?.record;
        if found.as_ref().map_or(0, Record::generation) != expected {
            return Ok(Saved::Conflict(found));
        }
        let place = self.place(&key);
        let sealed = seal(&record.to_json(), record.generation(), &self.0.keys, place).await?;
        if sealed.len() as u64 > FILE_CAP {
            return Err(Error::new(ErrorKind::Store, "the token is too large to be stored"));
        }
        let (paths, held) = (self.paths(&key), lease.lock.clone());
        self.0
            .locks
            .blocking("written", move || {
                // If nobody waits any more, the lock is given back only after the write.
                let _held = held;
                paths.write(&sealed)
            })
            .await?;
        Ok(Saved::Stored)
    }

    async fn release(&self, lease: FileLease) {
        drop(lease);
    }

    async fn remove(&self, key: &Key, deadline: Instant) -> Result<(), Error> {
        let lock = self.0.locks.lock(key, deadline).await?;
        let paths = self.paths(key);
        let remove = move || {
            let _held = lock;
            paths.remove()
        };
        self.0.locks.blocking("emptied", remove).await
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("folder", &self.0.locks.folder)
            .field("keys", &self.0.keys)
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}
