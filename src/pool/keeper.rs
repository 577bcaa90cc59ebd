use std::{
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::yield_now,
    time::{Instant, timeout},
};

use super::{
    ledger::{Ended, LONGEST_LOOK, Outcome},
    shared::Shared,
    timeline::Tick,
};
use crate::{
    refresh::{HEARTBEAT, JUMP_SPREAD, jumped},
    time::{Moment, timers},
};

/// The task that keeps the tokens of a pool fresh, for the caller's executor: one for all tenants.
///
/// It must be polled within a tokio runtime whose timers are enabled. Elsewhere it ends at once, and
/// the error of requests says so. It ends when the last handle is dropped or
/// [`shutdown()`](super::TokenPool::shutdown) is called; when it is dropped before, requests that
/// need a token fail with [`ErrorKind::Shutdown`](crate::ErrorKind::Shutdown).
#[must_use = "no token is obtained unless the keeper runs"]
pub struct PoolKeeper(Pin<Box<dyn Future<Output = ()> + Send>>);

impl PoolKeeper {
    pub(super) fn new<K>(shared: Arc<Shared<K>>) -> Self
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
    {
        // Made here and moved in, so that a task which is dropped unpolled has ended too.
        let running = Running(shared);
        Self(Box::pin(async move { Task::new(&running.0).run().await }))
    }
}

impl Future for PoolKeeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for PoolKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolKeeper")
    }
}

/// However the keeper ends, no token is served after it.
struct Running<K>(Arc<Shared<K>>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static;

impl<K> Drop for Running<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct Task<'a, K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    shared: &'a Arc<Shared<K>>,
    /// What the clocks said when they were last known to agree.
    baseline: Moment,
    /// The tenant from which on renewals are brought forward, after a jump of the wall clock.
    jumped: Option<u32>,
    heartbeat: Duration,
}

impl<'a, K> Task<'a, K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    fn new(shared: &'a Arc<Shared<K>>) -> Self {
        let quarter = shared.rules.limits.idle_timeout / 4;
        let heartbeat = quarter.clamp(Duration::from_secs(1), HEARTBEAT);
        Self { shared, baseline: shared.clock.now(), jumped: None, heartbeat }
    }

    async fn run(mut self) {
        if let Err(missing) = timers() {
            return self.shared.refuse(Ended::NoTimers(missing));
        }
        while !self.shared.is_ending() {
            match self.turn() {
                // Others get their turn: however many are due, no turn takes long.
                None => yield_now().await,
                Some(sleep) => drop(timeout(sleep, self.shared.wake.notified()).await),
            }
        }
        // Fetches under way are finished: each may have rotated a refresh token.
        while self.shared.ledger().permits.running() > 0 {
            self.shared.wake.notified().await;
        }
    }

    /// Does a bounded piece of work. Returns how long there is nothing more to do, or `None`.
    fn turn(&mut self) -> Option<Duration> {
        let shared = self.shared;
        let rules = &shared.rules;
        let now = shared.clock.now();
        let tick = rules.timeline.tick(now);
        if jumped(self.baseline, now) {
            self.jumped = Some(0);
            self.baseline = now;
        }

        let mut outcome = Outcome::new();
        let mut ledger = shared.ledger();
        let in_use = shared.end_second(&mut ledger, tick);
        let mut more = ledger.look_at_due(&shared.read.map, now, rules, &mut outcome);
        more |= ledger.begin_queued(&shared.read.map, now, rules, &mut outcome);
        if let Some(first) = self.jumped {
            // The wall time at which each token expires is another one now. And one early renewal each: the machine may have slept, been restored, or been wrong about
            // the time before. A large pool takes longer for it than a single handle would.
            let spread = JUMP_SPREAD + Duration::from_millis(ledger.len() as u64);
            let end = first.saturating_add(LONGEST_LOOK).min(ledger.end());
            for id in first..end {
                let at = tick.after(spread.mul_f64(fastrand::f64()));
                let Some(node) = ledger.node_at(id) else { continue };
                node.tenant.restamp();
                if node.life.renew_at(&node.tenant, at) {
                    ledger.schedule(id, at);
                }
            }
            self.jumped = (end < ledger.end()).then_some(end);
            more = true;
        }
        let sleep = ledger.next_due(rules).map_or(self.heartbeat, |due| due.since(tick));
        let mut sleep = sleep.min(self.heartbeat);
        if in_use {
            sleep = sleep.min(tick.until_next_second());
        }
        ledger.next_turn = Instant::now() + sleep;
        ledger.asleep_until = if more { Tick::NEVER } else { tick.after(sleep) };
        drop(ledger);

        for started in std::mem::take(&mut outcome.begun) {
            shared.start(&started);
        }
        shared.settle(outcome);
        (!more).then_some(sleep)
    }
}
