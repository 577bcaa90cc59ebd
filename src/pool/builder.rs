use std::{
    fmt,
    hash::Hash,
    ops::Range,
    sync::{Arc, Mutex, atomic::AtomicU32},
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{
    PoolKeeper, TokenPool,
    ledger::Ledger,
    rules::{Limits, Rules},
    shared::{Hook, Make, Map, Read, Shared},
    timeline::Timeline,
};
use crate::{
    error::ConfigError,
    observe::{Event, Observer, Sink},
    refresh::Policy,
    source::TokenSource,
    time::{Clock, SystemClock},
};

/// Settings of a [`TokenPool`].
#[must_use]
pub struct TokenPoolBuilder<K> {
    make: Arc<Make<K>>,
    policy: Policy,
    limits: Limits,
    sink: Sink,
    hook: Option<Box<Hook<K>>>,
    clock: Arc<dyn Clock>,
}

impl<K> TokenPoolBuilder<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    pub(super) fn new<T: TokenSource>(make: impl Fn(&K) -> T + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(move |key| Arc::new(make(key))),
            policy: Policy { max_waiting: 100_000, ..Policy::default() },
            limits: Limits::default(),
            sink: Sink::many(),
            hook: None,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// How many tenants there may be. One more takes the place of the one that was used least
    /// recently, if that was not used for a minute; else it fails with
    /// [`Overloaded`](crate::ErrorKind::Overloaded). Default: 100 000.
    pub fn max_tenants(mut self, tenants: usize) -> Self {
        self.limits.max_tenants = tenants.max(1);
        self
    }

    /// After how long without a request a tenant is dropped, to the half minute. Default: 1 h.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle_timeout = timeout;
        self
    }

    /// How many tokens are fetched at the same time; at least one. Default: 32.
    pub fn max_parallel(mut self, fetches: usize) -> Self {
        self.limits.max_parallel = fetches.max(1);
        self
    }

    /// How many callers may wait for tokens at once, of all tenants; more fail with
    /// [`Overloaded`](crate::ErrorKind::Overloaded). Default: 100 000.
    pub fn max_waiting(mut self, waiting: usize) -> Self {
        self.policy.max_waiting = waiting;
        self
    }

    /// How many callers may wait for the token of one tenant: one in trouble leaves places for the
    /// others. Default: 1 000.
    pub fn max_waiting_per_tenant(mut self, waiting: usize) -> Self {
        self.limits.max_waiting_per_tenant = waiting;
        self
    }

    /// The lifetime of a token that came without one. Default: 1 h.
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.policy.default_lifetime = lifetime;
        self
    }

    /// Sets the part of a token's lifetime that is left when it is renewed, drawn once per token from
    /// this range: what spreads the renewals. Where that would leave less than a second before the
    /// token goes out of service, as for tokens that live for seconds, it is renewed earlier. Default:
    /// `0.15..0.25`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Setting`] unless `0.05 <= start <= end < 1`.
    pub fn margin(mut self, margin: Range<f64>) -> Result<Self, ConfigError> {
        self.policy.set_margin(margin)?;
        Ok(self)
    }

    /// Sets the longest time before its end that a token is renewed. Default: 1 h.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Setting`] for less than 5 s.
    pub fn max_margin(mut self, margin: Duration) -> Result<Self, ConfigError> {
        self.policy.set_max_margin(margin)?;
        Ok(self)
    }

    /// How long one fetch may take in all. Default: 30 s.
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.policy.fetch_timeout = timeout;
        self
    }

    /// How long [`token()`](TokenPool::token) waits. Default: 30 s.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.policy.wait = wait;
        self
    }

    /// Sets the shortest time between two renewals of one tenant's token because of refusals. See
    /// [`TokenHandleBuilder::rejection_interval`](crate::refresh::TokenHandleBuilder::rejection_interval).
    /// Default: 1 s.
    pub fn rejection_interval(mut self, interval: Duration) -> Self {
        self.policy.rejection_interval = interval;
        self
    }

    /// What the pool is called in logs and metrics, as `client`: a word of yours, and the same one
    /// in every run. Default: `default`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.sink.set_name(name);
        self
    }

    /// Is told what happens, but not to which tenant. Default: nobody, beside `tracing` and
    /// `metrics`.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.sink.set_observer(observer);
        self
    }

    /// Is told what happens to which tenant. Keys may be personal data, so this is the only place
    /// where they appear: no event, error or `Debug` output of the pool has one. As an
    /// [`Observer`], it must not block, and a panic in it is ignored. Default: nobody.
    pub fn tenant_observer(
        mut self,
        observer: impl Fn(&K, &Event<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.hook = Some(Box::new(observer));
        self
    }

    /// Tells the time. Default: this machine's clocks.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Starts the keeper on a task of its own. Needs a tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[expect(clippy::disallowed_methods, reason = "this is what the method is for")]
    pub fn spawn(self) -> TokenPool<K> {
        let (pool, keeper) = self.pair();
        tokio::spawn(keeper);
        pool
    }

    /// The pool, and the task that must run for it to have tokens.
    pub fn pair(self) -> (TokenPool<K>, PoolKeeper) {
        let timeline = Timeline::new(&*self.clock);
        let rules = Rules { policy: self.policy, timeline, limits: self.limits };
        let now = timeline.tick(self.clock.now());
        let shared = Arc::new(Shared {
            read: Read { map: Map::new(), second: AtomicU32::new(now.seconds()) },
            ledger: Mutex::new(Ledger::new(now)),
            wake: Notify::new(),
            ending: false.into(),
            stopped: watch::Sender::new(false),
            rules,
            clock: self.clock,
            make: self.make,
            sink: self.sink,
            hook: self.hook,
        });
        (TokenPool::new(shared.clone()), PoolKeeper::new(shared))
    }
}

impl<K> fmt::Debug for TokenPoolBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPoolBuilder")
            .field("policy", &self.policy)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
