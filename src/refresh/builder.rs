use std::{fmt, ops::Range, sync::Arc, time::Duration};

use super::{Refresher, TokenHandle, policy::Policy, shared::Shared};
use crate::{
    error::ConfigError,
    observe::{Observer, Sink},
    slot::Slot,
    source::{DynTokenSource, TokenSource},
    time::{Clock, SystemClock, contained},
};

/// Settings of a [`TokenHandle`].
///
/// ```
/// use std::time::Duration;
/// use tower_oauth::{TokenHandle, TokenSet, observe::Event, source_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let tokens = TokenHandle::builder(source_fn(|_| async { TokenSet::bearer("abc") }))
///     .default_lifetime(Duration::from_secs(600))
///     .observer(|event: &Event<'_>| println!("{event:?}"))
///     .spawn();
/// # }
/// ```
#[must_use]
pub struct TokenHandleBuilder {
    source: Arc<dyn DynTokenSource>,
    policy: Policy,
    sink: Sink,
    clock: Arc<dyn Clock>,
}

impl TokenHandleBuilder {
    pub(super) fn new(source: impl TokenSource) -> Self {
        Self {
            source: Arc::new(source),
            policy: Policy::default(),
            sink: Sink::one(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The lifetime of a token that came without one. Default: 1 h.
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.policy.default_lifetime = lifetime;
        self
    }

    /// Sets the part of a token's lifetime that is left when it is renewed, drawn once per token from
    /// this range. Where that would leave less than a second before the token goes out of service, as
    /// for tokens that live for seconds, it is renewed earlier. Default: `0.15..0.25`.
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

    /// How long [`ready()`](TokenHandle::ready) and [`token()`](TokenHandle::token) wait for a
    /// token. Default: 30 s.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.policy.wait = wait;
        self
    }

    /// How many callers may wait for a token at once; more fail with
    /// [`Overloaded`](crate::ErrorKind::Overloaded). Default: 10 000.
    pub fn max_waiting(mut self, waiting: usize) -> Self {
        self.policy.max_waiting = waiting;
        self
    }

    /// Sets the shortest time between two renewals because of refusals. Default: 1 s.
    ///
    /// After a renewal that did not help, the next one waits for twice this time, then four times,
    /// up to 5 minutes; meanwhile the token stays in service. For refusals without a reason,
    /// [`bare_401_min_age`](crate::OAuthLayer::bare_401_min_age) is doubled in its place, if it is
    /// longer. The spacing starts anew when a refused request is accepted with a newer token, or when
    /// no refusal arrived for 30 s and for as long as the current spacing.
    pub fn rejection_interval(mut self, interval: Duration) -> Self {
        self.policy.rejection_interval = interval;
        self
    }

    /// What the token is called in logs and metrics, as `client`: a word of yours, such as the
    /// name of the API, and the same one in every run. Default: `default`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.sink.set_name(name);
        self
    }

    /// Is told what happens. Default: nobody, beside `tracing` and `metrics`.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.sink.set_observer(observer);
        self
    }

    /// Tells the time. Default: this machine's clocks.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = contained(clock);
        self
    }

    /// Starts the refresher on a task of its own. Needs a tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[expect(clippy::disallowed_methods, reason = "this is what the method is for")]
    pub fn spawn(self) -> TokenHandle {
        let (handle, refresher) = self.pair();
        tokio::spawn(refresher);
        handle
    }

    /// The handle, and the task that must run for it to have tokens.
    pub fn pair(self) -> (TokenHandle, Refresher) {
        let slot = Slot::new(self.clock.clone());
        let shared = Arc::new(Shared::new(slot, self.policy, self.sink));
        let handle = TokenHandle::new(shared.clone());
        (handle, Refresher::new(shared, self.source, self.clock))
    }
}

impl fmt::Debug for TokenHandleBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenHandleBuilder").field("policy", &self.policy).finish_non_exhaustive()
    }
}
