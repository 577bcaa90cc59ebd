use std::{
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
    time::{Instant, sleep},
};

use super::{
    super::Key,
    folder::prepare,
    paths::{Paths, RecordLock},
};
use crate::{
    error::{Error, ErrorKind},
    task::blocking,
};

/// A folder, and the locks in it: one for each record, among all processes of the machine.
#[derive(Debug, Clone)]
pub(in super::super) struct Locks {
    pub(super) folder: PathBuf,
    pub(super) any_file_system: bool,
    permits: Arc<Semaphore>,
    was_tried: Arc<AtomicBool>,
}

impl Locks {
    pub(in super::super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            any_file_system: false,
            permits: Arc::new(Semaphore::new(BLOCKING)),
            was_tried: Arc::default(),
        }
    }

    /// Takes the lock of a record.
    pub(in super::super) async fn lock(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> Result<Arc<RecordLock>, Error> {
        let paths = Paths::new(&self.folder, key);
        let mut pause = SHORTEST_PAUSE;
        let lock = loop {
            let paths = paths.clone();
            if let Some(lock) = self.blocking("locked", move || paths.try_lock()).await? {
                break Arc::new(lock);
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
        if !self.was_tried.load(Ordering::Relaxed) {
            if !self.blocking("locked", move || paths.lock_works()).await? {
                let message = format!(
                    "the token store {} is on a file system whose locks keep nobody out; use a \
                     local disk",
                    self.folder.display()
                );
                return Err(Error::new(ErrorKind::Store, message));
            }
            self.was_tried.store(true, Ordering::Relaxed);
        }
        Ok(lock)
    }

    /// Runs file operations off the async threads, after the folder has been checked.
    pub(in super::super) async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let failed = |source: io::Error| {
            let message = format!("the token store {} cannot be {what}", self.folder.display());
            Error::new(ErrorKind::Store, message).with_source(source)
        };
        // It is never closed.
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|error| failed(io::Error::other(error)))?;
        let (folder, any_file_system) = (self.folder.clone(), self.any_file_system);
        let outcome = blocking(Some(PATIENCE), move || {
            // Here, not outside: an operation goes on when nobody waits for it any more.
            let _permit = permit;
            prepare(&folder, any_file_system)?;
            operation()
        });
        outcome.await.map_err(failed)
    }
}

/// How many file operations run at once.
const BLOCKING: usize = 4;
/// How long an operation waits for a thread.
const PATIENCE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

#[cfg(all(test, feature = "testing"))]
mod tests;
