mod room;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub(super) use room::Room;

use super::{
    calendar::{Calendar, Step},
    life::{Demand, Life, Next, Phase},
    overruns::Overruns,
    permits::Permits,
    queue::{Line, Queue},
    recency::{Recency, Worth},
    rules::Rules,
    shared::Map,
    slab::Slab,
    tenant::{ByKey, Tenant, TenantId},
    timeline::Tick,
};
use crate::{
    observe::FetchReason,
    source::DynTokenSource,
    time::{Moment, NoTimers},
};

/// What is known of all tenants beside what requests read. Under one lock, which requests with a
/// token at hand never take, and which is held for short and bounded times only. No code of a user
/// runs under it but the key's `Hash` and `Eq`.
pub(super) struct Ledger<K> {
    tenants: Slab<Node<K>>,
    calendar: Calendar,
    recency: Recency,
    /// Those whose fetch is put off.
    queue: Queue,
    /// The fetches under way.
    pub(super) permits: Permits,
    pub(super) waiting: usize,
    /// Uses that were later than noted.
    pub(super) overruns: Overruns,
    /// The last epoch of all: each token has one of its own, so that one which was refused is never
    /// mistaken for another.
    epochs: u64,
    /// When a tenant that was in use, and never had a token, last made room for another one.
    made_room: Tick,
    /// Until when the keeper sleeps.
    pub(super) asleep_until: Tick,
    /// The same by its timer, which stands still while the machine sleeps.
    pub(super) next_turn: Instant,
    /// Why no token is given any more, if none is.
    pub(super) ended: Option<Ended>,
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
    pub(super) begun: Vec<Started>,
}

/// A fetch that the ledger has begun.
pub(super) struct Started {
    pub(super) tenant: TenantId,
    pub(super) reason: FetchReason,
    /// That of its permit.
    pub(super) number: u64,
}

/// Why a pool has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    /// It was shut down, or its keeper was dropped.
    Stopped,
    /// Its keeper cannot run where it is.
    NoTimers(NoTimers),
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
            queue: Queue::default(),
            permits: Permits::default(),
            waiting: 0,
            overruns: Overruns::default(),
            epochs: 0,
            made_room: Tick::NEVER,
            asleep_until: Tick::NEVER,
            next_turn: Instant::now(),
            ended: None,
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
        self.overruns.correct(&node.tenant);
        (node.tenant.id() == id).then_some(node)
    }

    pub(super) fn node_at(&mut self, id: u32) -> Option<&mut Node<K>> {
        self.tenants.get_mut(id)
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
        self.recency.insert(id, second, Worth::Nothing);
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
        if let Phase::Queued(place) = node.life.phase {
            self.queue.remove(place);
        }
        map.pin().remove(&*node.tenant.key);
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
        self.queue.clear();
        nodes
    }

    /// Has a tenant looked at when `due` has come, and not before; at [`Tick::NEVER`] at once.
    pub(super) fn schedule(&mut self, id: u32, due: Tick) {
        self.calendar.insert(id, due);
    }

    /// Has a tenant looked at as soon as an attempt may be made, or put into the line of those whose
    /// token is missed.
    pub(super) fn hurry(&mut self, id: u32, now: Tick, rules: &Rules) {
        let Some(node) = self.tenants.get_mut(id) else { return };
        let held = node.tenant.slot.peek().is_some();
        let at = node.life.attempt_at(held, rules);
        let at = if at <= now { Tick::NEVER } else { at };
        match node.life.phase {
            Phase::Idle if at < self.calendar.due(id) => self.schedule(id, at),
            Phase::Queued(_) => self.enqueue(id),
            _ => {}
        }
    }

    /// Notes that a caller no longer waits for a tenant's token; `owed` says whether it did not wait to
    /// speak of, so that the token is fetched all the same.
    pub(super) fn leave(&mut self, id: TenantId, owed: bool) {
        let Some(node) = self.node(id) else { return };
        let life = &mut node.life;
        if owed && life.demand == Demand::Waits {
            life.demand = Demand::Owed;
        }
        let Some(waiting) = &mut life.waiting else { return };
        waiting.count -= 1;
        if waiting.count > 0 {
            return;
        }
        life.waiting = None;
        // A fetch for a caller who has gone would be at the cost of one who has not. The place is that of
        // its creation, so a caller who comes back loses nothing.
        if let Phase::Queued(place) = life.phase
            && place.line == Line::Stranger
            && life.demand != Demand::Owed
        {
            (life.phase, life.demand) = (Phase::Idle, Demand::Nothing);
            self.queue.remove(place);
        }
    }

    /// When the keeper has something to do, at the earliest.
    pub(super) fn next_due(&self, rules: &Rules) -> Option<Tick> {
        let start = Some(self.next_start(rules)).filter(|start| *start < Tick::FAR);
        self.calendar.next().into_iter().chain(start).min()
    }

    /// When one of those in the queue may begin, as far as time decides.
    fn next_start(&self, rules: &Rules) -> Tick {
        let opens = |line| self.permits.opens(line, &rules.limits);
        self.queue.occupied().map(opens).min().unwrap_or(Tick::FAR)
    }

    /// Whether the keeper had its turn when it should have, or but a little later.
    pub(super) fn keeper_runs(&self) -> bool {
        Instant::now() <= self.next_turn + LATE
    }

    /// Whether the keeper has something to do before it would wake up. Its timer stands still while
    /// the machine sleeps, so it may be late.
    pub(super) fn needs_keeper(&self, now: Tick, rules: &Rules) -> bool {
        let wakes = self.asleep_until.max(now);
        let sooner = self.calendar.next().is_some_and(|due| due < wakes);
        sooner || self.next_start(rules) < wakes
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

    /// Starts as many fetches as may run, but a bounded number. `true` if there may be more.
    pub(super) fn begin_queued(
        &mut self,
        map: &Map<K>,
        now: Moment,
        rules: &Rules,
        outcome: &mut Outcome<K>,
    ) -> bool {
        let (tick, limits) = (rules.timeline.tick(now), &rules.limits);
        self.permits.age(tick);
        for _ in 0..LONGEST_LOOK {
            let open = |line| self.permits.opens(line, limits) <= tick;
            let Some((id, line)) = self.queue.pop(open) else { return false };
            let Some(node) = self.tenants.get_mut(id) else { continue };
            // Much may have changed while it was in the queue.
            self.overruns.correct(&node.tenant);
            node.life.phase = Phase::Idle;
            let (next, expired) = node.life.next(&node.tenant, now, rules);
            outcome.expired.extend(expired.map(|epoch| (node.tenant.clone(), epoch)));
            match next {
                Next::Fetch(reason) => {
                    node.life.begin(tick);
                    let tenant = node.tenant.id();
                    let number = self.permits.begin(line, tick, limits, rules.policy.fetch_timeout);
                    outcome.begun.push(Started { tenant, reason, number });
                    self.look_while_busy(id, now, rules);
                }
                Next::LookAgain(due) => self.schedule(id, due),
                Next::Forget => outcome.forgotten.extend(self.forget(id, map)),
            }
        }
        true
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
        self.overruns.correct(&node.tenant);
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

    /// Puts a tenant in the queue of those whose token is to be fetched, in the line where it belongs
    /// now.
    fn enqueue(&mut self, id: u32) {
        let Some(node) = self.tenants.get_mut(id) else { return };
        let line = node.life.line(&node.tenant);
        match node.life.phase {
            Phase::Idle => {}
            Phase::Queued(place) if place.line != line => self.queue.remove(place),
            Phase::Queued(_) | Phase::Fetching => return,
        }
        node.life.phase = Phase::Queued(self.queue.push(line, id, node.tenant.id().number));
    }

    fn note_use(&mut self, id: u32, second: u32) {
        let Some(node) = self.tenants.get_mut(id) else { return };
        self.recency.note(id, second, node.life.worth());
    }
}

/// How late the keeper may be.
const LATE: Duration = Duration::from_secs(5);

/// How many tenants are dropped before others get their turn: it takes longer than a look.
const LONGEST_FAREWELL: usize = 32;

/// How many tenants are looked at before others get their turn: some hundred microseconds.
pub(super) const LONGEST_LOOK: u32 = 256;
