//! An authorization server, a store that can be told to fail, and processes that share both.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard},
    time::{Instant, sleep, timeout_at},
};
use tower_oauth::{
    ClientAuth, ClientCredentials, Error, ErrorKind, FetchContext, RefreshToken, SecretSource,
    TokenHandle, TokenSet, TokenSource, Transport,
    observe::Event,
    source::Identified,
    store::{Key, Persisted, Record, RecordState, Saved, TokenStore},
    testing::{AuthorizationServer, Rotation},
};

use crate::clock::TestClock;

pub(crate) const LIFE: Duration = Duration::from_secs(100);

/// An authorization server that rotates refresh tokens, with as much grace for spent ones.
pub(crate) fn server(grace: Duration) -> AuthorizationServer {
    let server = AuthorizationServer::in_process();
    server.rotation(Rotation::Always { grace }).lifetime(LIFE);
    server
}

pub(crate) fn strict() -> AuthorizationServer {
    server(Duration::ZERO)
}

pub(crate) fn transport(server: &AuthorizationServer) -> Transport {
    Transport::new::<_, Full<Bytes>, _>(server.service())
}

pub(crate) fn refresh(
    server: &AuthorizationServer,
    initial: impl Into<SecretSource>,
) -> RefreshToken {
    RefreshToken::builder(server.token_endpoint(), ClientAuth::none("cli"), initial)
        .transport(transport(server))
        .build()
        .unwrap()
}

pub(crate) fn revocable(server: &AuthorizationServer, initial: &str) -> RefreshToken {
    RefreshToken::builder(server.token_endpoint(), ClientAuth::none("cli"), initial)
        .revocation_endpoint(format!("{}/revoke", server.url()))
        .transport(transport(server))
        .build()
        .unwrap()
}

pub(crate) fn client_credentials(server: &AuthorizationServer) -> ClientCredentials {
    ClientCredentials::builder(server.token_endpoint(), ClientAuth::basic("orders", "secret"))
        .transport(transport(server))
        .build()
        .unwrap()
}

/// One process: a handle on a persisted source, and what it was told.
pub(crate) struct Process {
    pub(crate) tokens: TokenHandle,
    pub(crate) events: Events,
}

impl Process {
    pub(crate) fn start(source: impl Identified, store: &TestStore) -> Self {
        Self::with(source, store, |persisted| persisted)
    }

    /// With a grant whose refresh tokens rotate, or with one that spends nothing.
    pub(crate) fn of_grant(
        rotates: bool,
        server: &AuthorizationServer,
        initial: &str,
        store: &TestStore,
    ) -> Self {
        if rotates {
            Self::start(refresh(server, initial), store)
        } else {
            Self::start(client_credentials(server), store)
        }
    }

    pub(crate) fn with<P: Identified>(
        source: P,
        store: &TestStore,
        set: impl FnOnce(Persisted<P, TestStore>) -> Persisted<P, TestStore>,
    ) -> Self {
        let events = Events::default();
        let persisted = Persisted::new(source, store.clone()).observer(events.observer());
        let tokens = TokenHandle::builder(set(persisted))
            .observer(events.observer())
            .clock(store.clock.clone())
            .spawn();
        Self { tokens, events }
    }

    /// The access token.
    pub(crate) async fn token(&self) -> Result<String, Error> {
        Ok(self.tokens.token().await?.access_token().expose().to_owned())
    }
}

/// What was told, as text.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    pub(crate) fn observer(&self) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
        let seen = self.0.clone();
        move |event| seen.lock().unwrap().push(format!("{event:?}"))
    }

    /// How many there were of a kind.
    pub(crate) fn count(&self, kind: &str) -> usize {
        let is_kind = |event: &&String| event.split([' ', '{']).next() == Some(kind);
        self.0.lock().unwrap().iter().filter(is_kind).count()
    }

    pub(crate) fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// A store in memory, which fails as it is told. Clones are the same store.
#[derive(Clone)]
pub(crate) struct TestStore {
    inner: Arc<Mutex<Inner>>,
    /// The clock of all who use it: in paused time, each system clock starts anew.
    pub(crate) clock: TestClock,
}

#[derive(Default)]
struct Inner {
    slots: HashMap<String, Slot>,
    trouble: Trouble,
    saves: Vec<(u64, RecordState)>,
    loads: usize,
    changes: Arc<Notify>,
}

#[derive(Default)]
struct Slot {
    record: Option<Record>,
    lock: Arc<AsyncMutex<()>>,
}

/// What goes wrong.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each goes wrong by itself")]
pub(crate) struct Trouble {
    pub(crate) reads_fail: bool,
    pub(crate) writes_fail: bool,
    /// Writes of new tokens only: what comes after the exchange.
    pub(crate) commits_fail: bool,
    pub(crate) never_answers: bool,
    /// How long a read takes, whatever comes of it.
    pub(crate) read_takes: Duration,
    pub(crate) write_takes: Duration,
    /// How long a lease holds; for ever, if `None`.
    pub(crate) lease: Option<Duration>,
    /// All keys are one.
    pub(crate) ignores_keys: bool,
    pub(crate) hints: Hints,
}

/// What is said of records that were stored.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Hints {
    /// Nothing.
    #[default]
    None,
    /// The truth.
    Honest,
    /// That there is something, all the time.
    Always,
}

pub(crate) struct TestLease {
    key: Key,
    until: Option<Instant>,
    _guard: Option<OwnedMutexGuard<()>>,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::default(), clock: TestClock::new() }
    }

    pub(crate) fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        change(&mut self.inner.lock().unwrap().trouble);
    }

    pub(crate) fn well(&self) {
        self.trouble(|trouble| *trouble = Trouble::default());
    }

    /// The generations and states that were saved, in their order.
    pub(crate) fn saves(&self) -> Vec<(u64, RecordState)> {
        self.inner.lock().unwrap().saves.clone()
    }

    /// How often a record was read without the lock.
    pub(crate) fn loads(&self) -> usize {
        self.inner.lock().unwrap().loads
    }

    /// The one record.
    pub(crate) fn record(&self) -> Record {
        let inner = self.inner.lock().unwrap();
        let mut records = inner.slots.values().filter_map(|slot| slot.record.clone());
        let record = records.next().expect("there is a record");
        assert!(records.next().is_none(), "there is more than one record");
        record
    }

    pub(crate) fn records(&self) -> usize {
        self.inner.lock().unwrap().slots.values().filter(|slot| slot.record.is_some()).count()
    }

    /// Puts a record in the place of the one there is, as an operator does.
    pub(crate) fn restore(&self, record: Option<&Record>) {
        for slot in self.inner.lock().unwrap().slots.values_mut() {
            slot.record = record.cloned();
        }
    }

    /// What a copy of the disk holds.
    pub(crate) fn copy(&self) -> Self {
        let slots = self.inner.lock().unwrap();
        let copied = slots.slots.iter().map(|(name, slot)| {
            (name.clone(), Slot { record: slot.record.clone(), lock: Arc::default() })
        });
        let inner = Inner { slots: copied.collect(), ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)), clock: self.clock.clone() }
    }

    fn slot<T>(&self, key: &Key, with: impl FnOnce(&mut Slot) -> T) -> T {
        let inner = &mut *self.inner.lock().unwrap();
        let name = if inner.trouble.ignores_keys { "the one".to_owned() } else { key.to_string() };
        with(inner.slots.entry(name).or_default())
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>, Error> {
        let trouble = self.inner.lock().unwrap().trouble;
        if trouble.never_answers {
            std::future::pending::<()>().await;
        }
        if !trouble.read_takes.is_zero() {
            sleep(trouble.read_takes).await;
        }
        if trouble.reads_fail {
            return Err(Error::new(ErrorKind::Store, "the disk is on fire"));
        }
        Ok(self.slot(key, |slot| slot.record.clone()))
    }
}

impl TokenStore for TestStore {
    type Lease = TestLease;

    async fn load(&self, key: &Key) -> Result<Option<Record>, Error> {
        self.inner.lock().unwrap().loads += 1;
        self.read(key).await
    }

    async fn acquire(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> Result<(TestLease, Option<Record>), Error> {
        self.read(key).await?;
        let lease = self.inner.lock().unwrap().trouble.lease;
        let lock = self.slot(key, |slot| slot.lock.clone());
        // One that expires keeps nobody out any more; for these tests, not even before that.
        let guard = match lease {
            Some(_) => None,
            None => Some(
                timeout_at(deadline, lock.lock_owned())
                    .await
                    .map_err(|_| Error::new(ErrorKind::Timeout, "somebody else has the lock"))?,
            ),
        };
        let until = lease.map(|lease| Instant::now() + lease);
        Ok((TestLease { key: *key, until, _guard: guard }, self.read(key).await?))
    }

    fn remaining(&self, lease: &TestLease) -> Option<Duration> {
        lease.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    async fn save(
        &self,
        lease: &mut TestLease,
        expected: u64,
        record: &Record,
    ) -> Result<Saved, Error> {
        let trouble = self.inner.lock().unwrap().trouble;
        self.read(&lease.key).await?;
        sleep(trouble.write_takes).await;
        let is_commit = record.state() == RecordState::Clean;
        if trouble.writes_fail || (trouble.commits_fail && is_commit) {
            return Err(Error::new(ErrorKind::Store, "the disk is full"));
        }
        let saved = self.slot(&lease.key, |slot| {
            if slot.record.as_ref().map_or(0, Record::generation) != expected {
                return Saved::Conflict(slot.record.clone());
            }
            slot.record = Some(record.clone());
            Saved::Stored
        });
        if let Saved::Stored = saved {
            let mut inner = self.inner.lock().unwrap();
            inner.saves.push((record.generation(), record.state()));
            inner.changes.notify_waiters();
        }
        Ok(saved)
    }

    async fn release(&self, lease: TestLease) {
        drop(lease);
    }

    async fn remove(&self, key: &Key, deadline: Instant) -> Result<(), Error> {
        let _lease = self.acquire(key, deadline).await?;
        self.slot(key, |slot| slot.record = None);
        Ok(())
    }

    async fn changed(&self, key: &Key, since: u64) {
        let (changes, hints) = {
            let inner = self.inner.lock().unwrap();
            (inner.changes.clone(), inner.trouble.hints)
        };
        let generation =
            || self.slot(key, |slot| slot.record.as_ref().map_or(0, Record::generation));
        match hints {
            Hints::None => std::future::pending().await,
            Hints::Honest => loop {
                let next = changes.notified();
                if generation() > since {
                    return;
                }
                next.await;
            },
            Hints::Always => {}
        }
    }
}

impl fmt::Debug for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestStore")
    }
}

/// The refresh tokens that were sent.
pub(crate) fn sent(server: &AuthorizationServer) -> Vec<String> {
    let requests = server.token_requests();
    requests.iter().map(|request| request.param("refresh_token").unwrap()).collect()
}

/// A secret that can be replaced, as a file can.
pub(crate) fn replaceable(first: &str) -> (Arc<Mutex<String>>, SecretSource) {
    let value = Arc::new(Mutex::new(first.to_owned()));
    let shared = value.clone();
    let source = SecretSource::provider(move || {
        let secret = tower_oauth::Secret::from(&**shared.lock().unwrap());
        async move { Ok(secret) }
    });
    (value, source)
}

/// Fetches without a handle.
pub(crate) async fn fetch(source: &impl TokenSource, store: &TestStore) -> Result<TokenSet, Error> {
    let mut cx = FetchContext::first();
    cx.clock = Arc::new(store.clock.clone());
    source.fetch(cx).await
}
