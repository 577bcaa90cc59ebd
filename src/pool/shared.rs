use std::{
    hash::Hash,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use papaya::LocalGuard;
use tokio::sync::{Notify, watch};

use super::{
    ledger::{Ended, Ledger, Outcome},
    rules::Rules,
    tenant::{ByKey, STALE, Tenant, TenantId},
    timeline::Tick,
};
use crate::{
    error::{Error, ErrorKind},
    observe::{Event, Sink},
    refresh::{Act, Refusal, Rejection, State, Status},
    source::DynTokenSource,
    task::contain,
    time::Clock,
};

/// The tenants by key, read without a lock.
pub(super) type Map<K> = papaya::HashSet<ByKey<K>>;

/// What handles, the keeper and fetches share.
pub(super) struct Shared<K> {
    pub(super) read: Read<K>,
    pub(super) ledger: Mutex<Ledger<K>>,
    pub(super) wake: Notify,
    pub(super) ending: AtomicBool,
    pub(super) stopped: watch::Sender<bool>,
    pub(super) rules: Rules,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) make: Arc<Make<K>>,
    pub(super) sink: Sink,
    pub(super) hook: Option<Box<Hook<K>>>,
}

pub(super) type Make<K> = dyn Fn(&K) -> Arc<dyn DynTokenSource> + Send + Sync;
pub(super) type Hook<K> = dyn Fn(&K, &Event<'_>) + Send + Sync;

/// What requests read. On lines of its own: what is written beside it would slow every request.
#[repr(align(128))]
pub(super) struct Read<K> {
    pub(super) map: Map<K>,
    /// The current second, or [`STALE`]: then the next request that uses a token reads the clock.
    pub(super) second: AtomicU32,
}

/// The ledger, locked. The map frees what was removed from it when a guard of it goes: that is keys, with
/// destructors of their users, which may take their time, or use the pool. They run once the lock is
/// given back, since the outer guard goes after it.
pub(super) struct Locked<'a, K> {
    ledger: MutexGuard<'a, Ledger<K>>,
    _keeps_garbage: LocalGuard<'a>,
}

impl<K> Deref for Locked<'_, K> {
    type Target = Ledger<K>;

    fn deref(&self) -> &Ledger<K> {
        &self.ledger
    }
}

impl<K> DerefMut for Locked<'_, K> {
    fn deref_mut(&mut self) -> &mut Ledger<K> {
        &mut self.ledger
    }
}

impl<K> Shared<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    pub(super) fn tick(&self) -> Tick {
        self.rules.timeline.tick(self.clock.now())
    }

    /// The tenant of this key, if there is one.
    pub(super) fn find(&self, key: &K) -> Option<Arc<Tenant<K>>> {
        self.read.map.pin().get(key).map(|found| found.0.clone())
    }

    /// Notes that the current token of a tenant is used.
    pub(super) fn touch(&self, tenant: &Tenant<K>) {
        let second = self.read.second.load(Ordering::Relaxed);
        if !tenant.was_used_in(second) {
            self.note_use(tenant, second);
        }
    }

    /// At most once a second for each tenant.
    #[cold]
    fn note_use(&self, tenant: &Tenant<K>, second: u32) {
        let second = if second == STALE { self.read_second() } else { second };
        if tenant.mark(second) {
            // Nobody had used the token, so it was not renewed. Now it is.
            let tick = self.tick();
            let mut ledger = self.ledger();
            if ledger.node(tenant.id()).is_some() {
                ledger.schedule(tenant.id().id, Tick::NEVER);
            }
            self.unlock(ledger, tick);
        }
    }

    /// Reads the current second off the clock, and has the keeper say when it is over.
    fn read_second(&self) -> u32 {
        let second = self.tick().seconds();
        self.read.second.store(second, Ordering::Relaxed);
        self.wake.notify_one();
        second
    }

    /// Whether a request has used a token in this second. If that was in an earlier one, that one ends:
    /// the next request reads the clock.
    pub(super) fn end_second(&self, ledger: &mut Ledger<K>, now: Tick) -> bool {
        let second = self.read.second.load(Ordering::Relaxed);
        if second == now.seconds() {
            return true;
        }
        if second != STALE {
            self.read.second.store(STALE, Ordering::Relaxed);
            ledger.overruns.add(second, now.seconds());
        }
        false
    }

    /// Takes a refused token out of service, unless that is doubtful.
    pub(super) fn reject(&self, id: TenantId, refusal: Refusal) -> Rejection {
        let tick = self.tick();
        let mut ledger = self.ledger();
        let Some(node) = ledger.node(id) else { return Rejection::Superseded };
        let (outcome, act) = node.life.reject(&node.tenant, refusal, &self.rules);
        let tenant = node.tenant.clone();
        let epoch = refusal.epoch;
        let event = match act {
            None => return outcome,
            Some(Act::Offer) => {
                let waiting = node.life.waiting.as_ref().map(|waiting| waiting.changed.clone());
                drop(ledger);
                if let Some(waiting) = waiting {
                    waiting.notify_waiters();
                }
                return outcome;
            }
            Some(Act::Replace) => Event::Rejected { epoch },
            Some(Act::Renew) => Event::Renewing { epoch },
        };
        ledger.schedule(id.id, Tick::NEVER);
        self.unlock(ledger, tick);
        self.emit(&tenant.key, &event);
        outcome
    }

    /// Notes that a server accepted a request with the token of this epoch. `refused` says whether
    /// the request had been refused with an older one.
    pub(super) fn accepted(&self, id: TenantId, epoch: u64, refused: bool) {
        let (now, tick) = (self.clock.now(), self.tick());
        let mut ledger = self.ledger();
        self.end_second(&mut ledger, tick);
        let Some(node) = ledger.node(id) else { return };
        let tenant = node.tenant.clone();
        // An error of a user's, dropped after the lock.
        let _error = node.life.error().cloned();
        let Some(event) = node.life.accepted(&tenant, epoch, refused, now, &self.rules) else {
            return;
        };
        let waiting = node.life.waiting.as_ref().map(|waiting| waiting.changed.clone());
        ledger.schedule(id.id, Tick::NEVER);
        self.unlock(ledger, tick);
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
        self.emit(&tenant.key, &event);
    }

    /// Ends the claim of a caller that takes a token by hand.
    pub(super) fn taken_by_hand(&self, id: TenantId, epoch: u64) {
        let mut ledger = self.ledger();
        let Some(node) = ledger.node(id) else { return };
        node.life.taken_by_hand(epoch, &self.rules);
        let waiting = node.life.waiting.as_ref().map(|waiting| waiting.changed.clone());
        drop(ledger);
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
    }

    /// Gives a claim back.
    pub(super) fn release(&self, id: TenantId, claim: u64) {
        let waiting = {
            let mut ledger = self.ledger();
            let Some(node) = ledger.node(id) else { return };
            if !node.life.release(claim) {
                return;
            }
            node.life.waiting.as_ref().map(|waiting| waiting.changed.clone())
        };
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
    }

    /// The claim of the request that tries the token of this epoch, which was refused before.
    pub(super) fn claim_of(&self, id: TenantId, epoch: u64) -> Option<u64> {
        let mut ledger = self.ledger();
        let node = ledger.node(id)?;
        node.life.claim_of(&node.tenant, epoch)
    }

    pub(super) fn status(&self, key: &K) -> Option<Status> {
        let tick = self.tick();
        let mut ledger = self.ledger();
        if let Some(why) = ledger.ended {
            let error = Some(Self::ended(why));
            return Some(Status { state: State::Stopped, error, ..Status::new() });
        }
        let id = self.find(key)?.id();
        let runs = ledger.keeper_runs();
        let node = ledger.node(id)?;
        let mut status = node.life.status(&node.tenant, tick, &self.rules);
        if !runs {
            status.error = Some(Self::not_kept());
        }
        Some(status)
    }

    /// Forgets a tenant. Those who wait for it start anew.
    pub(super) fn remove(&self, key: &K) -> bool {
        let Some(id) = self.find(key).map(|tenant| tenant.id()) else { return false };
        let mut outcome = Outcome::new();
        let mut ledger = self.ledger();
        if ledger.node(id).is_some() {
            outcome.forgotten.extend(ledger.forget(id.id, &self.read.map));
        }
        drop(ledger);
        let removed = !outcome.forgotten.is_empty();
        self.settle(outcome);
        removed
    }

    /// Refuses tokens from here on, and tells those who wait for one. The first reason counts.
    pub(super) fn refuse(&self, why: Ended) {
        let mut outcome = Outcome::new();
        let mut ledger = self.ledger();
        ledger.ended.get_or_insert(why);
        outcome.forgotten = ledger.forget_all(&self.read.map);
        drop(ledger);
        self.settle(outcome);
    }

    /// Marks the end.
    pub(super) fn stop(&self) {
        self.refuse(Ended::Stopped);
        self.stopped.send_replace(true);
        self.sink.emit(&Event::Stopped);
    }

    /// Tells what happened, wakes those who wait for tenants that are gone, and drops these.
    pub(super) fn settle(&self, outcome: Outcome<K>) {
        for (tenant, epoch) in outcome.expired {
            self.emit(&tenant.key, &Event::Expired { epoch });
        }
        for node in outcome.forgotten {
            if let Some(waiting) = &node.life.waiting {
                waiting.changed.notify_waiters();
            }
        }
    }

    /// Tells an event of a tenant.
    pub(super) fn emit(&self, key: &K, event: &Event<'_>) {
        self.sink.emit(event);
        if let Some(hook) = &self.hook {
            contain(|| hook(key, event));
        }
    }

    pub(super) fn ledger(&self) -> Locked<'_, K> {
        let keeps_garbage = self.read.map.guard();
        // A panic while it is held can only be one of the key's own `Hash`, `Eq` or `Clone`.
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { ledger, _keeps_garbage: keeps_garbage }
    }

    /// Gives the lock back, and wakes the keeper if there is something to do for it.
    pub(super) fn unlock(&self, ledger: Locked<'_, K>, tick: Tick) {
        let needed = ledger.needs_keeper(tick, &self.rules);
        drop(ledger);
        if needed {
            self.wake.notify_one();
        }
    }

    /// The error of those who ask a pool that has ended.
    pub(super) fn ended(why: Ended) -> Error {
        let message = match why {
            Ended::Stopped => {
                "the token pool has ended: it was shut down, or its runtime is gone".to_owned()
            }
            Ended::NoTimers(missing) => {
                format!("the token pool has ended: its keeper cannot run {}", missing.as_str())
            }
        };
        Error::new(ErrorKind::Shutdown, message)
    }

    /// The error of a keeper that does not get its turns.
    pub(super) fn not_kept() -> Error {
        Error::new(
            ErrorKind::Timeout,
            "the keeper of the token pool is not running: its runtime is busy or not driven, or the \
             keeper was not spawned",
        )
    }
}
