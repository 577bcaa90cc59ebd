use std::{collections::VecDeque, sync::Arc};

use super::{
    calendar::{Calendar, Step},
    life::{Life, Next, Phase},
    recency::Recency,
    rules::Rules,
    shared::Map,
    slab::Slab,
    tenant::{ByKey, Tenant, TenantId},
    timeline::Tick,
};
use crate::{observe::FetchReason, source::DynTokenSource, time::Moment};

/// What is known of all tenants beside what requests read. Under one lock, which requests with a
/// token at hand never take, and which is held for short and bounded times only. No code of a user
/// runs under it but the key's `Hash` and `Eq`.
pub(super) struct Ledger<K> {
    tenants: Slab<Node<K>>,
    calendar: Calendar,
    recency: Recency,
    /// Those whose fetch is put off: somebody waits for the first ones.
    first: VecDeque<TenantId>,
    then: VecDeque<TenantId>,
    pub(super) running: usize,
    pub(super) waiting: usize,
    /// The last epoch of all: each token has one of its own, so that one which was refused is never
    /// mistaken for another.
    epochs: u64,
    /// Until when the keeper sleeps.
    pub(super) asleep_until: Tick,
    pub(super) stopped: bool,
}

/// A tenant in the ledger.
pub(super) struct Node<K> {
    pub(super) tenant: Arc<Tenant<K>>,
    pub(super) source: Option<Arc<dyn DynTokenSource>>,
    pub(super) life: Life,
}

/// What a look at tenants brought about, to be seen to once the lock is given back.
pub(super) struct Outcome<K> {
    pub(super) expired: Vec<(Arc<Tenant<K>>, u64)>,
    /// Dropped without the lock: their sources are users' code.
    pub(super) forgotten: Vec<Node<K>>,
    pub(super) begun: Vec<(TenantId, FetchReason)>,
}

/// Whether there is room for another tenant.
pub(super) enum Room {
    Yes,
    /// Unknown yet: it took long enough to look. Ask again.
    Perhaps,
    No,
}

impl<K> Outcome<K> {
    pub(super) fn new() -> Self {
        Self { expired: Vec::new(), forgotten: Vec::new(), begun: Vec::new() }
    }
}

impl<K: Eq + std::hash::Hash> Ledger<K> {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            tenants: Slab::new(),
            calendar: Calendar::new(now),
            recency: Recency::new(),
            first: VecDeque::new(),
            then: VecDeque::new(),
            running: 0,
            waiting: 0,
            epochs: 0,
            asleep_until: Tick::NEVER,
            stopped: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tenants.len()
    }

    /// One more than the highest number of a tenant.
    pub(super) fn end(&self) -> u32 {
        self.tenants.end()
    }

    pub(super) fn next_epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }

    /// The tenant that is meant, if it is still there.
    pub(super) fn node(&mut self, id: TenantId) -> Option<&mut Node<K>> {
        let node = self.tenants.get_mut(id.id)?;
        (node.tenant.id() == id).then_some(node)
    }

    pub(super) fn node_at(&mut self, id: u32) -> Option<&mut Node<K>> {
        self.tenants.get_mut(id)
    }

    /// Makes room for one more tenant, if need be at the cost of the one that was used least
    /// recently and is idle.
    pub(super) fn make_room(
        &mut self,
        map: &Map<K>,
        tick: Tick,
        rules: &Rules,
        outcome: &mut Outcome<K>,
    ) -> Room {
        if self.tenants.len() < rules.limits.max_tenants {
            return Room::Yes;
        }
        for _ in 0..LONGEST_LOOK {
            let Some(id) = self.recency.oldest() else { return Room::No };
            let Some(node) = self.tenants.get_mut(id) else { return Room::No };
            let used = node.life.last_used(&node.tenant);
            if used > self.recency.noted(id) {
                self.note_use(id, used);
            } else if tick.since(Tick::from_seconds(used)) < rules.limits.evictable_after() {
                return Room::No;
            } else if !node.life.is_at_rest() {
                self.note_use(id, tick.seconds());
            } else {
                outcome.forgotten.extend(self.forget(id, map));
                return Room::Yes;
            }
        }
        Room::Perhaps
    }

    /// Adds the tenant that `make` makes for the number it is given.
    pub(super) fn add(
        &mut self,
        map: &Map<K>,
        tick: Tick,
        make: impl FnOnce(u32) -> Arc<Tenant<K>>,
    ) -> Arc<Tenant<K>> {
        let id = self.tenants.next();
        let tenant = make(id);
        let second = tick.seconds();
        self.recency.insert(id, second);
        let life = Life::new(second);
        self.tenants.insert(Node { tenant: tenant.clone(), source: None, life });
        map.pin().insert(ByKey(tenant.clone()));
        self.schedule(id, Tick::NEVER);
        tenant
    }

    /// Takes a tenant out of everything. Its token is out of service from here on.
    pub(super) fn forget(&mut self, id: u32, map: &Map<K>) -> Option<Node<K>> {
        let node = self.tenants.remove(id)?;
        self.calendar.remove(id);
        self.recency.remove(id);
        map.pin().remove(&node.tenant.key);
        node.tenant.slot.clear();
        Some(node)
    }

    /// Takes everything out.
    pub(super) fn forget_all(&mut self, map: &Map<K>) -> Vec<Node<K>> {
        let nodes: Vec<_> = self.tenants.drain().collect();
        map.pin().clear();
        for node in &nodes {
            node.tenant.slot.clear();
        }
        self.calendar = Calendar::new(Tick::NEVER);
        self.recency = Recency::new();
        self.first.clear();
        self.then.clear();
        nodes
    }

    /// Has a tenant looked at when `due` has come, and not before; at [`Tick::NEVER`] at once.
    pub(super) fn schedule(&mut self, id: u32, due: Tick) {
        self.calendar.insert(id, due);
    }

    /// Has a tenant looked at as soon as an attempt may be made, or put before those whose token
    /// nobody misses.
    pub(super) fn hurry(&mut self, id: u32, now: Tick, rules: &Rules) {
        let Some(node) = self.tenants.get_mut(id) else { return };
        let held = node.tenant.slot.peek().is_some();
        let at = node.life.attempt_at(held, rules);
        let at = if at <= now { Tick::NEVER } else { at };
        match node.life.phase {
            Phase::Idle if at < self.calendar.due(id) => self.schedule(id, at),
            Phase::Queued => self.enqueue(id),
            _ => {}
        }
    }

    /// When the keeper has something to do, at the earliest.
    pub(super) fn next_due(&self) -> Option<Tick> {
        self.calendar.next()
    }

    /// Whether the keeper has something to do before it would wake up. Its timer stands still while
    /// the machine sleeps, so it may be late.
    pub(super) fn needs_keeper(&self, now: Tick, rules: &Rules) -> bool {
        let wakes = self.asleep_until.max(now);
        let sooner = self.calendar.next().is_some_and(|due| due < wakes);
        sooner || (self.has_queue() && self.running < rules.limits.max_parallel)
    }

    fn has_queue(&self) -> bool {
        !self.first.is_empty() || !self.then.is_empty()
    }

    /// Looks at those whose time has come, a bounded number. `true` if there may be more.
    pub(super) fn look_at_due(
        &mut self,
        map: &Map<K>,
        now: Moment,
        rules: &Rules,
        outcome: &mut Outcome<K>,
    ) -> bool {
        let tick = rules.timeline.tick(now);
        for _ in 0..LONGEST_LOOK {
            match self.calendar.step(tick) {
                Some(Step::Due(id)) => self.look(id, map, now, rules, outcome),
                Some(Step::Sorted) => {}
                None => return false,
            }
            if outcome.forgotten.len() >= LONGEST_FAREWELL {
                break;
            }
        }
        true
    }

    /// Starts as many fetches as may run.
    pub(super) fn begin_queued(
        &mut self,
        map: &Map<K>,
        now: Moment,
        rules: &Rules,
        outcome: &mut Outcome<K>,
    ) {
        while self.running < rules.limits.max_parallel {
            let Some(id) = self.first.pop_front().or_else(|| self.then.pop_front()) else { return };
            let Some(node) = self.node(id) else { continue };
            if !matches!(node.life.phase, Phase::Queued | Phase::QueuedFirst) {
                continue; // it was in both queues
            }
            // Much may have changed while it was in the queue.
            node.life.phase = Phase::Idle;
            let (next, expired) = node.life.next(&node.tenant, now, rules);
            outcome.expired.extend(expired.map(|epoch| (node.tenant.clone(), epoch)));
            match next {
                Next::Fetch(reason) => {
                    node.life.begin(rules.timeline.tick(now));
                    outcome.begun.push((id, reason));
                    self.running += 1;
                    self.look_while_busy(id.id, now, rules);
                }
                Next::LookAgain(due) => self.schedule(id.id, due),
                Next::Forget => outcome.forgotten.extend(self.forget(id.id, map)),
            }
        }
    }

    /// Looks at a tenant and does what is to be done, except for fetching.
    pub(super) fn look(
        &mut self,
        id: u32,
        map: &Map<K>,
        now: Moment,
        rules: &Rules,
        outcome: &mut Outcome<K>,
    ) {
        let Some(node) = self.tenants.get_mut(id) else { return };
        let (next, expired) = node.life.next(&node.tenant, now, rules);
        outcome.expired.extend(expired.map(|epoch| (node.tenant.clone(), epoch)));
        let used = node.life.last_used(&node.tenant);
        match next {
            Next::Fetch(_) => {
                self.enqueue(id);
                self.look_while_busy(id, now, rules);
            }
            Next::LookAgain(due) => self.schedule(id, due),
            Next::Forget => {
                outcome.forgotten.extend(self.forget(id, map));
                return;
            }
        }
        self.note_use(id, used);
    }

    /// Has a tenant looked at again when its current token ends, should the fetch take that long.
    fn look_while_busy(&mut self, id: u32, now: Moment, rules: &Rules) {
        let Some(node) = self.tenants.get_mut(id) else { return };
        if let (Next::LookAgain(due), _) = node.life.next(&node.tenant, now, rules) {
            self.schedule(id, due);
        }
    }

    /// Puts a tenant in the queue of those whose token is to be fetched.
    fn enqueue(&mut self, id: u32) {
        let Some(node) = self.tenants.get_mut(id) else { return };
        let missed = node.life.waiting.is_some() || node.life.asked;
        let (queue, phase) = match node.life.phase {
            Phase::Idle | Phase::Queued if missed => (&mut self.first, Phase::QueuedFirst),
            Phase::Idle => (&mut self.then, Phase::Queued),
            _ => return,
        };
        node.life.phase = phase;
        queue.push_back(node.tenant.id());
    }

    fn note_use(&mut self, id: u32, second: u32) {
        if self.recency.noted(id) != second {
            self.recency.remove(id);
            self.recency.insert(id, second);
        }
    }
}

/// How many tenants are dropped before others get their turn: it takes longer than a look.
const LONGEST_FAREWELL: usize = 32;

/// How many tenants are looked at before others get their turn: some hundred microseconds.
pub(super) const LONGEST_LOOK: u32 = 256;
