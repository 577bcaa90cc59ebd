use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{
    Client, ErrorKind as RedisErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation,
    ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::time::{Instant, sleep};

use super::{
    super::{
        Key, KeyRing, Record, RecordState, Saved, TokenStore,
        seal::{Closed, Envelope, Place, seal},
    },
    builder::RedisStoreBuilder,
    hints::Hints,
    scripts::Scripts,
};
use crate::{
    error::{Error, ErrorKind},
    secret::Secret,
    time::{Clock as _, SystemClock},
};

/// Tokens in Redis, for the processes of a fleet.
///
/// Records are sealed (XChaCha20-Poly1305) before they leave the process, and bound to their place.
/// The right to renew one is a lease, which expires by itself when its holder is gone. Whoever's
/// renewal is due first takes it. The others hear of it by pub/sub, on a connection of its own, and
/// have the new token within half a second; whoever hears nothing finds it when its own is due. No
/// request waits for Redis: each process serves its token from memory.
///
/// While Redis is away, tokens in memory go on. A grant that spends nothing is renewed without it;
/// for a rotating refresh token, [`WithoutStore`](super::super::WithoutStore) decides. When Redis
/// comes back without what it had, a process that has the newest tokens writes them back.
///
/// What Redis has acknowledged may still be lost with it: turn on its append-only file
/// (`appendfsync always` for a server without grace), and do not let it evict
/// (`maxmemory-policy noeviction`).
///
/// ```no_run
/// use tower_oauth::{
///     ClientAuth, ClientCredentials, SecretSource, TokenHandle,
///     store::{KeyRing, Persisted, RedisStore},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth::ConfigError> {
/// let keys = KeyRing::new("2026", SecretSource::env("TOKEN_KEY"))?;
/// let store = RedisStore::builder("rediss://orders:pw@redis.example", keys).build()?;
/// let source = ClientCredentials::builder(
///     "https://idp.example/oauth2/token",
///     ClientAuth::basic("orders", SecretSource::env("ORDERS_SECRET")),
/// )
/// .build()?;
/// let tokens = TokenHandle::spawn(Persisted::new(source, store));
/// # let _ = tokens;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    client: Client,
    settings: Settings,
    scripts: Scripts,
    connection: Connection,
    hints: Hints,
}

pub(super) struct Settings {
    pub(super) keys: KeyRing,
    pub(super) prefix: String,
    pub(super) lease: Duration,
}

/// The right to renew a record of a [`RedisStore`].
pub struct RedisLease {
    key: Key,
    owner: String,
    until: Instant,
}

impl RedisStore {
    /// Keeps tokens in the Redis server of this URL (`rediss://user:password@host:port/database`),
    /// sealed with these keys.
    pub fn builder(url: impl Into<Secret>, keys: KeyRing) -> RedisStoreBuilder {
        RedisStoreBuilder::new(url.into(), keys)
    }

    pub(super) fn with(client: Client, settings: Settings) -> Self {
        let (scripts, connection) = (Scripts::new(), Mutex::new(None));
        let hints = Hints::new(client.clone());
        Self(Arc::new(Inner { client, settings, scripts, connection, hints }))
    }

    /// The names of a record and of its lease. The braces keep them on one node of a cluster.
    fn names(&self, key: &Key) -> (String, String) {
        let prefix = &self.0.settings.prefix;
        (format!("{prefix}:{{{key}}}"), format!("{prefix}:{{{key}}}:lease"))
    }

    /// The channel on which it is said that a record was renewed.
    fn channel(&self, key: &Key) -> String {
        format!("{}:{{{key}}}:renewed", self.0.settings.prefix)
    }

    /// The connection, which is made when it is first used, and anew after it broke.
    fn connection(&self) -> Result<ConnectionManager, Error> {
        let mut connection = lock(&self.0.connection);
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(500));
        let client = self.0.client.clone();
        let made = ConnectionManager::new_lazy_with_config(client, config).map_err(failed)?;
        Ok(connection.insert(made).clone())
    }

    /// Runs a script; once more if the connection turns out to be broken, as it may have been for
    /// long. The second time finds what the first one did.
    async fn call<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Error> {
        let first = self.invoke(script).await?;
        match first {
            Err(error) if error.is_io_error() && !error.is_timeout() => {}
            outcome => return outcome.map_err(failed),
        }
        self.invoke(script).await?.map_err(failed)
    }

    /// Runs a script once. The connection stays only if an answer comes that the next call can use
    /// as well.
    async fn invoke<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<RedisResult<T>, Error> {
        let mut connection = self.connection()?;
        let mut answer = Answer { connection: &self.0.connection, is_good: false };
        let outcome = script.invoke_async(&mut connection).await;
        answer.is_good = !outcome.as_ref().is_err_and(|error| {
            // After a failover the old master refuses writes, and its name may lead to the new one.
            error.kind() == RedisErrorKind::Server(ServerErrorKind::ReadOnly) || error.is_timeout()
        });
        Ok(outcome)
    }

    /// Takes the lease, and reads the record as it was then.
    async fn take(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> Result<(RedisLease, Option<Vec<u8>>), Error> {
        let owner = owner()?;
        let (record, lease) = self.names(key);
        let time = self.0.settings.lease;
        let mut script = self.0.scripts.acquire.prepare_invoke();
        script.key(record).key(lease).arg(&owner).arg(milliseconds(time));
        loop {
            // Before it is asked for: the lease is never longer than we think.
            let until = Instant::now() + time;
            let (taken, sealed, rest): (u8, Option<Vec<u8>>, i64) = self.call(&script).await?;
            if taken == 1 {
                return Ok((RedisLease { key: *key, owner, until }, sealed));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "another process renews the stored token, and is not done in time",
                ));
            }
            let rest = Duration::from_millis(rest.try_into().unwrap_or(POLL_MS));
            // Each at another time, so that they do not all ask at once.
            let pause = POLL.mul_f64(0.5 + fastrand::f64()).min(rest + Duration::from_millis(1));
            sleep(left.min(pause)).await;
        }
    }

    async fn open(&self, sealed: Option<Vec<u8>>, key: &Key) -> Result<Option<Record>, Error> {
        let Some(sealed) = sealed else { return Ok(None) };
        let opened = match Envelope::parse(&sealed) {
            Ok(envelope) => envelope.open(&self.0.settings.keys, self.place(key)).await,
            Err(closed) => Err(closed),
        };
        match opened {
            Ok(text) => Record::from_json(text.expose()).map(Some),
            Err(Closed::Unknown(error)) => Err(error),
            Err(Closed::Damaged) => {
                let message = format!(
                    "the stored token {} does not open: it was changed, or sealed with another key \
                     of that name. To start over, delete it (`Persisted::forget`)",
                    self.names(key).0
                );
                Err(Error::new(ErrorKind::Store, message))
            }
        }
    }

    fn place<'a>(&'a self, key: &'a Key) -> Place<'a> {
        Place { store: &self.0.settings.prefix, key, field: "record" }
    }
}

type Connection = Mutex<Option<ConnectionManager>>;

fn lock(connection: &Connection) -> MutexGuard<'_, Option<ConnectionManager>> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wait for an answer. If none comes, or whoever wants it gives up first, the connection is not
/// used again: nobody says so when the way to the server is gone.
struct Answer<'a> {
    connection: &'a Connection,
    is_good: bool,
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if !self.is_good {
            *lock(self.connection) = None;
        }
    }
}

impl TokenStore for RedisStore {
    type Lease = RedisLease;

    async fn load(&self, key: &Key) -> Result<Option<Record>, Error> {
        let mut script = self.0.scripts.read.prepare_invoke();
        script.key(self.names(key).0);
        let (channel, hints) = (self.channel(key), &self.0.hints);
        let said = hints.said(&channel);
        let sealed = self.call(&script).await?;
        let record = self.open(sealed, key).await?;
        hints.correct(&channel, said, record.as_ref().map_or(0, Record::generation));
        Ok(record)
    }

    async fn acquire(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> Result<(RedisLease, Option<Record>), Error> {
        let (lease, sealed) = self.take(key, deadline).await?;
        match self.open(sealed, key).await {
            Ok(record) => Ok((lease, record)),
            Err(error) => {
                self.release(lease).await;
                Err(error)
            }
        }
    }

    fn remaining(&self, lease: &RedisLease) -> Option<Duration> {
        Some(lease.until.saturating_duration_since(Instant::now()))
    }

    async fn save(
        &self,
        lease: &mut RedisLease,
        expected: u64,
        record: &Record,
    ) -> Result<Saved, Error> {
        let key = lease.key;
        let Settings { keys, .. } = &self.0.settings;
        let generation = record.generation();
        let sealed = seal(&record.to_json(), generation, keys, self.place(&key)).await?;
        // Only to send a refresh token takes the lease. What it was sent for is judged by its
        // generation, however late it comes.
        let must_own = record.state() == RecordState::Intent;
        let is_renewed = record.state() == RecordState::Clean;
        let channel = if is_renewed { self.channel(&key) } else { String::new() };
        let (record_name, lease_name) = self.names(&key);
        let mut script = self.0.scripts.save.prepare_invoke();
        script
            .key(record_name)
            .key(lease_name)
            .arg(expected)
            .arg(generation)
            .arg(sealed)
            .arg(&lease.owner)
            .arg(u8::from(must_own))
            .arg(milliseconds(time_to_live(record)))
            .arg(channel);
        let (outcome, stored): (u8, Option<Vec<u8>>) = self.call(&script).await?;
        match outcome {
            1 => Ok(Saved::Stored),
            0 => Ok(Saved::Conflict(self.open(stored, &key).await?)),
            _ => Err(Error::new(ErrorKind::Store, "the lease ended before the token was renewed")),
        }
    }

    async fn release(&self, lease: RedisLease) {
        let mut script = self.0.scripts.release.prepare_invoke();
        script.key(self.names(&lease.key).1).arg(&lease.owner);
        // If it fails, the lease ends by itself.
        let _: Result<i64, _> = self.call(&script).await;
    }

    async fn remove(&self, key: &Key, deadline: Instant) -> Result<(), Error> {
        let (lease, _) = self.take(key, deadline).await?;
        let (record, lease_name) = self.names(key);
        let mut script = self.0.scripts.remove.prepare_invoke();
        script.key(record).key(lease_name).arg(&lease.owner);
        let _: i64 = self.call(&script).await?;
        Ok(())
    }

    async fn changed(&self, key: &Key, since: u64) {
        self.0.hints.above(self.channel(key), since).await;
    }
}

/// How long Redis keeps a record: for ever, if a session depends on it, and otherwise a while longer
/// than its token lives.
fn time_to_live(record: &Record) -> Duration {
    match &record.tokens {
        Some(tokens) if tokens.set.refresh_token().is_none() => {
            let left = tokens.left(SystemClock::new().now().wall);
            left.unwrap_or(DAY).saturating_add(HOUR)
        }
        _ => Duration::ZERO,
    }
}

fn owner() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::new(ErrorKind::Store, "the system gives no random numbers"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn failed(error: RedisError) -> Error {
    Error::new(ErrorKind::Store, "the token store in Redis failed").with_source(error)
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client: it shows the password.
        f.debug_struct("RedisStore")
            .field("prefix", &self.0.settings.prefix)
            .field("keys", &self.0.settings.keys)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLease").field("until", &self.until).finish_non_exhaustive()
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often one that waits for the lease looks again.
const POLL: Duration = Duration::from_millis(POLL_MS);
const POLL_MS: u64 = 50;
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
