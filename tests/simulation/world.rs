//! What all parts of the simulated world share.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tower_oauth::time::{Clock, Moment};

use crate::{
    common::clock::TestClock,
    dice::Dice,
    ledger::{Cause, Invariant, Key, Ledger, Times},
    weather::{Trouble, Weather},
};

/// The world, as one of those in it has it. Clones are for the same one.
#[derive(Clone)]
pub(crate) struct World {
    inner: Arc<Inner>,
    dice: Arc<Dice>,
}

struct Inner {
    start: Instant,
    birth: Moment,
    clock: TestClock,
    weather: Weather,
    ledger: Mutex<Ledger>,
}

impl World {
    /// A world of so many keys, which is calm from `calm` on.
    pub(crate) fn new(seed: u64, keys: usize, calm: Duration) -> Self {
        let (clock, dice) = (TestClock::new(), Dice::new(seed));
        let weather = Weather::draw(&dice, keys, calm);
        let mut ledger = Ledger::new(seed);
        weather.lines().for_each(|line| ledger.say(line));
        let (start, birth) = (Instant::now(), clock.now());
        let ledger = Mutex::new(ledger);
        let inner = Arc::new(Inner { start, birth, clock, weather, ledger });
        Self { inner, dice: Arc::new(dice) }
    }

    /// The same world for somebody else, with dice of their own.
    pub(crate) fn fork(&self) -> Self {
        Self { inner: self.inner.clone(), dice: Arc::new(self.dice.fork()) }
    }

    pub(crate) fn clock(&self) -> &TestClock {
        &self.inner.clock
    }

    pub(crate) fn dice(&self) -> &Dice {
        &self.dice
    }

    pub(crate) fn now(&self) -> Times {
        let boot = self.inner.clock.now().boot.saturating_sub(self.inner.birth.boot);
        Times { at: self.inner.start.elapsed(), boot }
    }

    pub(crate) fn since_start(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.inner.start)
    }

    /// The ledger, at the time of now.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        let now = self.now();
        let mut ledger = self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.now = now;
        ledger
    }

    pub(crate) fn require(&self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) {
        self.ledger().require(invariant, holds, what);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.inner.weather.is_calm(self.inner.start.elapsed())
    }

    pub(crate) fn has(&self, trouble: Trouble, key: Key) -> bool {
        let here = self.inner.weather.has(trouble, key, self.inner.start.elapsed());
        if here {
            self.ledger().count(name(trouble));
        }
        here
    }

    /// Whether log lines cannot be written. Without a word in the ledger, which may be in use.
    pub(crate) fn log_fails(&self) -> bool {
        self.inner.weather.has(Trouble::LogFails, 0, self.inner.start.elapsed())
    }

    /// Whether an API refuses tokens of this key that are good.
    pub(crate) fn refuses_in_vain(&self, key: Key) -> bool {
        self.inner.weather.refuses_in_vain(key, self.inner.start.elapsed())
    }

    /// Whether a rare thing happens now.
    pub(crate) fn befalls(&self, probability: f64) -> bool {
        !self.is_calm() && self.dice.chance(probability)
    }

    /// The store of this key did something that it should not.
    pub(crate) fn store_trouble(&self, key: Key) {
        self.ledger().credit(key, Cause::StoreTrouble);
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

fn name(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::IssuerDown => "issuer down",
        Trouble::IssuerHangs => "issuer hangs",
        Trouble::IssuerFlaky => "issuer flaky",
        Trouble::IssuerThrottles => "issuer throttles",
        Trouble::IssuerBehindProxy => "issuer behind proxy",
        Trouble::IssuerSlow => "issuer slow",
        Trouble::IssuerAbsurd => "issuer absurd",
        Trouble::IssuerHasty => "issuer hasty",
        Trouble::ClientUnknown => "client unknown",
        Trouble::ApiDown => "API down",
        Trouble::ApiSlow => "API slow",
        Trouble::ApiFlaky => "API flaky",
        Trouble::ApiRefuses => "API refuses",
        Trouble::ApiRefusesMutely => "API refuses mutely",
        Trouble::ApiRefusesOnePath => "API refuses one path",
        Trouble::ApiRefusesOnePathMutely => "API refuses one path mutely",
        Trouble::ApiLags => "API lags",
        Trouble::ApiLagsMutely => "API lags mutely",
        Trouble::ApiSloppy => "API sloppy",
        Trouble::ApiLate => "API late",
        Trouble::ApiWantsMore => "API wants more",
        Trouble::StoreDown => "store down",
        Trouble::StoreReadOnly => "store read-only",
        Trouble::StoreSlow => "store slow",
        Trouble::StoreSilent => "store silent",
        Trouble::SourcePanics => "source panics",
        Trouble::LogFails => "log fails",
    }
}
