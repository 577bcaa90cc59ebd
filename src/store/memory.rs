use std::{
    collections::HashMap,
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch},
    time::{Instant, timeout_at},
};

use super::{Key, Record, RecordState, Saved, TokenStore};
use crate::error::{Error, ErrorKind};

/// A store in memory, for tests and for handles of one process that share tokens. It ends with the
/// process.
///
/// Clones are the same store.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<HashMap<Key, Slot>>>);

#[derive(Default)]
struct Slot {
    record: Option<Record>,
    lock: Arc<AsyncMutex<()>>,
    /// Its generation.
    changes: watch::Sender<u64>,
}

/// The right to renew a record of a [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryLease {
    key: Key,
    _guard: OwnedMutexGuard<()>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, key: &Key) -> Option<Record> {
        self.slots().get(key)?.record.clone()
    }
}

impl TokenStore for MemoryStore {
    type Lease = MemoryLease;

    async fn load(&self, key: &Key) -> Result<Option<Record>, Error> {
        Ok(self.read(key))
    }

    async fn acquire(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> Result<(MemoryLease, Option<Record>), Error> {
        let lock = self.slots().entry(*key).or_default().lock.clone();
        let guard = timeout_at(deadline, lock.lock_owned()).await.map_err(|_| {
            Error::new(
                ErrorKind::Timeout,
                "somebody else renews the token, and is not done in time",
            )
        })?;
        Ok((MemoryLease { key: *key, _guard: guard }, self.read(key)))
    }

    async fn save(
        &self,
        lease: &mut MemoryLease,
        expected: u64,
        record: &Record,
    ) -> Result<Saved, Error> {
        let mut slots = self.slots();
        let slot = slots.entry(lease.key).or_default();
        if slot.record.as_ref().map_or(0, Record::generation) != expected {
            return Ok(Saved::Conflict(slot.record.clone()));
        }
        slot.record = Some(record.clone());
        if record.state() == RecordState::Clean {
            slot.changes.send_replace(record.generation());
        }
        Ok(Saved::Stored)
    }

    async fn release(&self, lease: MemoryLease) {
        drop(lease);
    }

    async fn remove(&self, key: &Key, deadline: Instant) -> Result<(), Error> {
        let _lease = self.acquire(key, deadline).await?;
        if let Some(slot) = self.slots().get_mut(key) {
            slot.record = None;
        }
        Ok(())
    }

    async fn changed(&self, key: &Key, since: u64) {
        let mut changes = self.slots().entry(*key).or_default().changes.subscribe();
        if changes.wait_for(|generation| *generation > since).await.is_err() {
            pending::<()>().await;
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("records", &self.slots().len()).finish()
    }
}

#[cfg(test)]
mod tests;
