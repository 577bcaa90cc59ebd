use std::{
    fmt,
    fs::File,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, sleep},
};
use zeroize::Zeroizing;

use super::{
    super::{
        Key, KeyRing, Record, Saved, TokenStore,
        seal::{Closed, Envelope, Place, seal},
    },
    folder::{FILE_CAP, prepare},
    paths::Paths,
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
/// is renewed, a lock (`flock`) on a file beside it keeps other processes out; the kernel gives it
/// back when its holder dies.
///
/// The folder is made if it is missing. What is not safe is refused: a folder that others can write
/// to, a file that others can read, links, other users' files, and network file systems, on which
/// locks and renames may not hold.
///
/// A file that does not open is an error that says so, and stays as it is; unless the one before
/// opens: then that is used, and the damaged one kept beside it, as `….damaged`. To start over,
/// remove `….token`.
///
/// File operations run on tokio's blocking threads, a few at a time.
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
    folder: PathBuf,
    keys: KeyRing,
    name: String,
    any_file_system: bool,
    sink: Sink,
    blocking: Arc<Semaphore>,
    lock_was_tried: Arc<AtomicBool>,
    #[cfg(feature = "testing")]
    temporary: Option<Arc<super::temporary::TemporaryFolder>>,
}

/// The right to renew a record of a [`FileStore`].
#[derive(Debug)]
pub struct FileLease {
    key: Key,
    /// The lock lasts as long as the file is open, here or in a write that is under way.
    lock: Arc<File>,
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
            folder: folder.into(),
            keys,
            name: "default".to_owned(),
            any_file_system: false,
            sink: Sink::one(),
            blocking: Arc::new(Semaphore::new(BLOCKING)),
            lock_was_tried: Arc::default(),
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
    pub fn temporary() -> io::Result<Self> {
        let folder = super::temporary::TemporaryFolder::new()?;
        let key: String = std::iter::repeat_with(|| fastrand::digit(16)).take(64).collect();
        let keys = KeyRing::new("temporary", key).map_err(io::Error::other)?;
        let store = Self::new(folder.path(), keys);
        Ok(store.change(|inner| inner.temporary = Some(Arc::new(folder))))
    }

    /// Names the store. Files of a store of another name do not open, even with the same key.
    /// Default: `default`.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.change(|inner| inner.name = name.into())
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
        self.change(|inner| inner.any_file_system = true)
    }

    fn change(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Self(Arc::new(inner))
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.0.folder.display()
    }

    fn paths(&self, key: &Key) -> Paths {
        Paths::new(&self.0.folder, key)
    }

    /// Runs file operations off the async threads, after the folder has been checked.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let failed = |source: io::Error| {
            let message = format!("the token store {} cannot be {what}", self.shown());
            Error::new(ErrorKind::Store, message).with_source(source)
        };
        // It is never closed.
        let permit = self
            .0
            .blocking
            .clone()
            .acquire_owned()
            .await
            .map_err(|e| failed(io::Error::other(e)))?;
        let (folder, any_file_system) = (self.0.folder.clone(), self.0.any_file_system);
        let outcome = spawn_blocking(move || {
            // Here, not outside: an operation goes on when nobody waits for it any more.
            let _permit = permit;
            prepare(&folder, any_file_system)?;
            operation()
        });
        outcome.await.unwrap_or_else(|lost| Err(io::Error::other(lost))).map_err(failed)
    }

    /// The record, or the one before it if that one is damaged.
    async fn find(&self, key: &Key) -> Result<Found, Error> {
        let paths = self.paths(key);
        let current = self.blocking("read", move || paths.current()).await?;
        let Some(current) = current else { return Ok(Found { record: None, instead: None }) };
        match self.open(&current, key).await {
            Ok(record) => return Ok(Found { record: Some(record), instead: None }),
            Err(Closed::Unknown(error)) => return Err(error),
            Err(Closed::Damaged) => {}
        }
        let paths = self.paths(key);
        let previous = self.blocking("read", move || paths.previous()).await?;
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

    async fn lock(&self, key: &Key, deadline: Instant) -> Result<Arc<File>, Error> {
        let mut pause = SHORTEST_PAUSE;
        let file = loop {
            let paths = self.paths(key);
            if let Some(file) = self.blocking("locked", move || paths.try_lock()).await? {
                break Arc::new(file);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "another process renews the stored token, and is not done in time",
                ));
            }
            sleep(left.min(pause.mul_f64(fastrand::f64() + 0.5))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        if !self.0.lock_was_tried.load(Ordering::Relaxed) {
            let paths = self.paths(key);
            if !self.blocking("locked", move || paths.lock_works()).await? {
                let message = format!(
                    "the token store {} is on a file system whose locks keep nobody out; use a \
                     local disk",
                    self.shown()
                );
                return Err(Error::new(ErrorKind::Store, message));
            }
            self.0.lock_was_tried.store(true, Ordering::Relaxed);
        }
        Ok(file)
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
        let lock = self.lock(key, deadline).await?;
        let Found { record, instead } = self.find(key).await?;
        if let Some(bytes) = instead {
            let (paths, held) = (self.paths(key), lock.clone());
            self.blocking("mended", move || {
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
        self.blocking("written", move || {
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
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("folder", &self.0.folder)
            .field("keys", &self.0.keys)
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

/// How many file operations run at once.
const BLOCKING: usize = 4;
const SHORTEST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
