//! A store that processes share, with the troubles that stores have.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch},
    time::{Instant, sleep, timeout_at},
};
use tower_oauth::{
    Error, ErrorKind,
    store::{Key as RecordKey, Record, Saved, TokenStore},
};

use crate::{canary, ledger::Key, weather::Trouble, world::World};

/// The records of one key, for all of its processes. Clones are the same store.
#[derive(Clone)]
pub(crate) struct SharedStore {
    world: World,
    key: Key,
    /// For how long a lease holds; if `None`, until it is given back or its process is gone.
    lease: Option<Duration>,
    /// Whether it tells of what is stored.
    hints: bool,
    records: Arc<Mutex<BTreeMap<String, Stored>>>,
}

#[derive(Default)]
struct Stored {
    json: Option<String>,
    lock: Arc<AsyncMutex<()>>,
    /// Who has the lease, and until when.
    lease: Option<(u64, Instant)>,
    leases: u64,
    /// The generation that was stored last, for those who wait for hints.
    newest: watch::Sender<u64>,
}

/// The right to renew the record.
pub(crate) struct Lease {
    record: String,
    number: u64,
    until: Option<Instant>,
    _guard: Option<OwnedMutexGuard<()>>,
}

impl SharedStore {
    pub(crate) fn new(world: &World, key: Key, lease: Option<Duration>, hints: bool) -> Self {
        Self { world: world.clone(), key, lease, hints, records: Arc::default() }
    }

    /// The same store for another process.
    pub(crate) fn for_process(&self) -> Self {
        Self { world: self.world.fork(), ..self.clone() }
    }

    fn with<T>(&self, name: &str, then: impl FnOnce(&mut Stored) -> T) -> T {
        then(self.records.lock().unwrap().entry(name.to_owned()).or_default())
    }

    fn failed(&self, what: &'static str) -> Error {
        self.world.store_trouble(self.key);
        Error::new(ErrorKind::Store, what)
    }

    fn busy(&self) -> Error {
        self.world.ledger().count("lease busy");
        self.world.store_trouble(self.key);
        Error::new(ErrorKind::Timeout, "somebody else has the lease")
    }

    /// A call takes time, and may fail.
    async fn call(&self) -> Result<(), Error> {
        let (world, key) = (&self.world, self.key);
        sleep(world.dice().seconds(0.0005, 0.02)).await;
        if world.has(Trouble::StoreSilent, key) {
            world.store_trouble(key);
            std::future::pending::<()>().await;
        }
        if world.has(Trouble::StoreSlow, key) {
            world.store_trouble(key);
            sleep(world.dice().seconds(0.1, 8.0)).await;
        }
        if world.has(Trouble::StoreDown, key) || world.befalls(0.005) {
            return Err(self.failed("the store is down"));
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Option<Record>, Error> {
        let json = self.with(name, |stored| stored.json.clone());
        json.map(|json| Record::from_json(&json)).transpose()
    }

    async fn take_lease(
        &self,
        name: &str,
        length: Duration,
        deadline: Instant,
    ) -> Result<Lease, Error> {
        loop {
            let now = Instant::now();
            let number = self.with(name, |stored| {
                let ended = stored.lease.is_some_and(|(_, until)| until <= now);
                if ended {
                    self.world.ledger().lease_ended(self.key);
                }
                (ended || stored.lease.is_none()).then(|| {
                    stored.leases += 1;
                    stored.lease = Some((stored.leases, now + length));
                    stored.leases
                })
            });
            if let Some(number) = number {
                let (record, until) = (name.to_owned(), Some(now + length));
                return Ok(Lease { record, number, until, _guard: None });
            }
            if now >= deadline {
                return Err(self.busy());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl TokenStore for SharedStore {
    type Lease = Lease;

    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        self.call().await?;
        self.read(&key.to_string())
    }

    async fn acquire(
        &self,
        key: &RecordKey,
        deadline: Instant,
    ) -> Result<(Lease, Option<Record>), Error> {
        self.call().await?;
        let name = key.to_string();
        let lease = if let Some(length) = self.lease {
            self.take_lease(&name, length, deadline).await?
        } else {
            let lock = self.with(&name, |stored| stored.lock.clone());
            let guard = timeout_at(deadline, lock.lock_owned()).await.map_err(|_| self.busy())?;
            Lease { record: name.clone(), number: 0, until: None, _guard: Some(guard) }
        };
        Ok((lease, self.read(&name)?))
    }

    fn remaining(&self, lease: &Lease) -> Option<Duration> {
        lease.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    async fn save(
        &self,
        lease: &mut Lease,
        expected: u64,
        record: &Record,
    ) -> Result<Saved, Error> {
        self.call().await?;
        if self.world.has(Trouble::StoreReadOnly, self.key) {
            return Err(self.failed("the disk is full"));
        }
        let found = self.read(&lease.record)?;
        if found.as_ref().map_or(0, Record::generation) != expected {
            return Ok(Saved::Conflict(found));
        }
        let json = record.to_json().expose().to_owned();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let number = |name: &str, kind| {
            let token = value.get(name).and_then(|token| token.as_str());
            token.and_then(|token| canary::number_of(kind, token))
        };
        let (access, refresh) = (number("access_token", "at"), number("refresh_token", "rt"));
        let generation = record.generation();
        self.with(&lease.record, |stored| {
            stored.json = Some(json);
            stored.newest.send_replace(generation);
        });
        self.world.ledger().stored(self.key, &lease.record, generation, access, refresh);
        // It is stored, but the answer does not say so.
        if self.world.befalls(0.01) {
            return Err(self.failed("nobody knows"));
        }
        Ok(Saved::Stored)
    }

    async fn remove(&self, key: &RecordKey, deadline: Instant) -> Result<(), Error> {
        let (lease, _) = self.acquire(key, deadline).await?;
        self.with(&lease.record, |stored| stored.json = None);
        self.release(lease).await;
        Ok(())
    }

    async fn changed(&self, key: &RecordKey, since: u64) {
        if !self.hints {
            std::future::pending::<()>().await;
        }
        let mut newest = self.with(&key.to_string(), |stored| stored.newest.subscribe());
        loop {
            if newest.wait_for(|newest| *newest > since).await.is_err() {
                std::future::pending::<()>().await;
            }
            let world = &self.world;
            // One that is lost waits for the next.
            if !world.befalls(0.2) {
                let late = if world.befalls(0.2) { 120.0 } else { 0.05 };
                sleep(world.dice().seconds(0.001, late)).await;
                world.ledger().count("hint");
                return;
            }
            world.ledger().count("hint lost");
            newest.mark_unchanged();
            if newest.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn release(&self, lease: Lease) {
        self.with(&lease.record, |stored| {
            if stored.lease.is_some_and(|(number, _)| number == lease.number) {
                stored.lease = None;
            }
        });
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedStore")
    }
}
