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
    ledger::{Ended, Ledger},
    rules::{Limits, Rules},
    shared::{Hook, Make, Map, Read, Shared},
    source::Made,
    tenant::STALE,
    timeline::Timeline,
};
use crate::{
    error::ConfigError,
    observe::{Event, Observer, Sink},
    refresh::Policy,
    source::TokenSource,
    task::Foreign,
    time::{Clock, SystemClock, contained, timers},
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
        let make = Foreign::new(make);
        Self {
            make: Arc::new(move |key| Arc::new(Made::new((*make)(key)))),
            policy: Policy { max_waiting: 100_000, ..Policy::default() },
            limits: Limits::default(),
            sink: Sink::many(),
            hook: None,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Sets how many tenants there may be. One more takes the place of another one, of these the least
    /// recently used:
    ///
    /// 1. one that never had a token, if it was not used for 10 s; or else any of them, once a second,
    /// 2. one that had a token, if it was not used for a minute,
    /// 3. one that has a refresh token, if it was not used for a minute: its session is lost unless a
    ///    store has it.
    ///
    /// A tenant whose token is being fetched, or waited for, stays. If none can go, the new one fails
    /// with [`Overloaded`](crate::ErrorKind::Overloaded). Default: 100 000.
    pub fn max_tenants(mut self, tenants: usize) -> Self {
        self.limits.max_tenants = tenants.max(1);
        self
    }

    /// Sets after how long without a request a tenant is dropped, to the second, and its token and its
    /// refresh token with it. Default: 1 h.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle_timeout = timeout;
        self
    }

    /// Sets how many tokens are fetched at the same time, not counting slow fetches; at least one.
    /// Default: 32.
    ///
    /// A fetch is slow after 400 ms. It runs on, but no longer keeps others from beginning: servers that
    /// never answer do not hold up the tenants of others. For a moment, each fetch that has become slow
    /// lends five others a permit, so that where many hang, six times as many begin every 400 ms. With 32,
    /// a caller waits less than a second for its fetch to begin even if a thousand tenants before it hang;
    /// with 1, one waits 2 s behind 250 tenants that hang. [`max_slow`](Self::max_slow) bounds what may be
    /// under way in all.
    ///
    /// If more have to wait, these begin in turn: a token that a caller misses, a renewal, and a tenant
    /// that never had a token.
    pub fn max_parallel(mut self, fetches: usize) -> Self {
        self.limits.max_parallel = fetches.max(1);
        self
    }

    /// Sets how many slow fetches may be under way besides [`max_parallel`](Self::max_parallel). Each
    /// may hold a connection. Default: 64 times `max_parallel`, so 2 048.
    ///
    /// However many hang, a share of them is kept for each kind of tenant. Each takes what the others
    /// leave:
    ///
    /// - A quarter is kept for tenants that never had a token. The last eighth (of `max_slow`) of what is
    ///   there for them is lent at the pace at which it is given back, one in
    ///   [`fetch_timeout`](Self::fetch_timeout)` × 8 ÷ max_slow`: every 117 ms by default. Of new tenants
    ///   that hang, about fifty a second may arrive until others wait for that pace, which serves the
    ///   newest every other time.
    /// - An eighth is kept for tenants that had a token.
    /// - A sixty-fourth is kept for tenants whose last fetch gave no token in 5 s. They have a quarter at
    ///   most, and no other permits until a fetch of theirs succeeds, or fails in less.
    ///
    /// So with the defaults a new tenant's fetch begins within a second. With a small `max_slow` and a long
    /// `fetch_timeout` it may take longer once that many hang: with `max_parallel(1)`, and so 64 slow
    /// ones, the pace is one every 3.75 s. A healthy tenant's renewal may wait for the `fetch_timeout` if the
    /// renewals of as many others as there are permits hang at once.
    ///
    /// With 0, `max_parallel` is the limit for all fetches, and each that hangs keeps one permit for the
    /// `fetch_timeout`; tenants that hung before leave every other one to others.
    pub fn max_slow(mut self, fetches: usize) -> Self {
        self.limits.max_slow = Some(fetches);
        self
    }

    /// Sets how many callers may wait for tokens at once, of all tenants; more fail with
    /// [`Overloaded`](crate::ErrorKind::Overloaded), and their tokens are fetched all the same. Default:
    /// 100 000.
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
    /// [`ConfigError::Setting`] for less than 10 s.
    pub fn max_margin(mut self, margin: Duration) -> Result<Self, ConfigError> {
        self.policy.set_max_margin(margin)?;
        Ok(self)
    }

    /// Sets how long one fetch may take. Default: 30 s. A token that becomes usable only later
    /// (`not_before`) is waited for beyond that, for 5 min at most.
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
        let observer = Foreign::new(observer);
        self.hook = Some(Box::new(move |key: &K, event: &Event<'_>| (*observer)(key, event)));
        self
    }

    /// Tells the time. Default: this machine's clocks.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = contained(clock);
        self
    }

    /// Starts the keeper on a task of its own. Needs a tokio runtime whose timers are enabled: elsewhere
    /// the pool has ended already, and each request fails with
    /// [`ErrorKind::Shutdown`](crate::ErrorKind::Shutdown), which says why.
    #[expect(clippy::disallowed_methods, reason = "this is what the method is for")]
    pub fn spawn(self) -> TokenPool<K> {
        let (shared, pool, keeper) = self.parts();
        match timers() {
            Ok(()) => drop(tokio::spawn(keeper)),
            Err(missing) => shared.refuse(Ended::NoTimers(missing)),
        }
        pool
    }

    /// The pool, and the task that must run for it to have tokens.
    pub fn pair(self) -> (TokenPool<K>, PoolKeeper) {
        let (_, pool, keeper) = self.parts();
        (pool, keeper)
    }

    fn parts(self) -> (Arc<Shared<K>>, TokenPool<K>, PoolKeeper) {
        let timeline = Timeline::new(&*self.clock);
        let rules = Rules { policy: self.policy, timeline, limits: self.limits };
        let now = timeline.tick(self.clock.now());
        let shared = Arc::new(Shared {
            read: Read { map: Map::new(), second: AtomicU32::new(STALE) },
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
        (shared.clone(), TokenPool::new(shared.clone()), PoolKeeper::new(shared))
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
