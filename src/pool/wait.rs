use std::{hash::Hash, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Instant, timeout_at},
};

use super::{
    ledger::{Ledger, Outcome, Room},
    life::{Demand, Life, Waiting},
    shared::Shared,
    tenant::{Tenant, TenantId},
    timeline::Tick,
};
use crate::{
    error::{Error, ErrorKind},
    observe::{Event, Wait},
    refresh::{Claim, TrialUse, can_wait, kept},
    slot::{Entry, Slot},
};

impl<K> Shared<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Waits for the token of a tenant, which is created if need be.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing for anybody else: fetches are not this one's.
    pub(super) async fn obtain(
        &self,
        key: &K,
        deadline: Instant,
        trial: TrialUse,
    ) -> Result<(TenantId, Arc<Entry>), Error> {
        loop {
            let tenant = match self.find(key) {
                Some(tenant) => tenant,
                None => self.create(key).await?,
            };
            // Gone again? Then it was removed, and starts anew.
            if let Some(entry) = self.newer(&tenant, 0, deadline, trial).await? {
                return Ok((tenant.id(), entry));
            }
        }
    }

    /// Waits for a token of this very tenant that is newer than `after`. `None` if the tenant is
    /// gone.
    pub(super) async fn newer(
        &self,
        tenant: &Arc<Tenant<K>>,
        after: u64,
        deadline: Instant,
        trial: TrialUse,
    ) -> Result<Option<Arc<Entry>>, Error> {
        let found = tenant.slot.find(after);
        if let Some((_, true)) = found {
            // The wall clock was set: tokens are renewed for it.
            self.wake.notify_one();
        }
        let mut found = found.map(|(entry, _)| entry);
        if found.is_none() {
            can_wait()?;
            let wait = Wait::begin(|event: &Event<'_>| self.emit(&tenant.key, event));
            let outcome = self.wait(tenant, after, deadline, trial).await;
            wait.end(matches!(outcome, Ok(Some(_))));
            found = outcome?;
        }
        if found.is_some() {
            self.touch(tenant);
        }
        Ok(found)
    }

    async fn wait(
        &self,
        tenant: &Arc<Tenant<K>>,
        after: u64,
        deadline: Instant,
        trial: TrialUse,
    ) -> Result<Option<Arc<Entry>>, Error> {
        let Some(place) = self.take_place(tenant, deadline)? else { return Ok(None) };
        loop {
            // Before looking: whatever changes from here on wakes it.
            let changed = place.changed.notified();
            let mut until = deadline;
            {
                let tick = self.tick();
                let mut ledger = self.ledger();
                if let Some(why) = ledger.ended {
                    return Err(Self::ended(why));
                }
                let Some(node) = ledger.node(tenant.id()) else { return Ok(None) };
                if let Some(entry) = tenant.slot.newer_than(after) {
                    return Ok(Some(entry));
                }
                if let Some(error) = node.life.refusal(tick, deadline, &self.rules) {
                    return Err(error);
                }
                match node.life.claim(tenant, trial) {
                    Some(Claim::Now(entry)) => return Ok(Some(entry)),
                    Some(Claim::At(at)) => until = until.min(at),
                    None => {}
                }
                if after > 0 && node.life.keeps(tenant, after) {
                    return Err(kept());
                }
            }
            if timeout_at(until, changed).await.is_err() && Instant::now() >= deadline {
                let error = Error::new(ErrorKind::Timeout, "no token was obtained in time");
                let mut ledger = self.ledger();
                let unkept = (!ledger.keeper_runs()).then(Self::not_kept);
                let tick = self.tick();
                let life = ledger.node(tenant.id()).map(|node| &node.life);
                let next = life.and_then(|life| life.next_attempt(tick, &self.rules));
                let cause = unkept.or_else(|| life.and_then(Life::error).cloned());
                let error = match cause {
                    Some(cause) => error.with_source(cause),
                    None => error,
                };
                return Err(next.into_iter().fold(error, Error::until));
            }
        }
    }

    /// Joins those who wait for a tenant's token, and sees to it that it is fetched. `None` if the
    /// tenant is gone.
    fn take_place(
        &self,
        tenant: &Arc<Tenant<K>>,
        deadline: Instant,
    ) -> Result<Option<Place<'_, K>>, Error> {
        let (tick, id) = (self.tick(), tenant.id());
        let mut ledger = self.ledger();
        if let Some(why) = ledger.ended {
            return Err(Self::ended(why));
        }
        let Some(node) = ledger.node(id) else { return Ok(None) };
        node.life.ask(tick.seconds());
        let joined = self.join(&mut ledger, id, tick, deadline);
        // Whether or not there is a place: the token is wanted. And the keeper may not know yet that the
        // last one is gone, since timers stand still while a machine sleeps.
        ledger.hurry(id.id, tick, &self.rules);
        self.unlock(ledger, tick);
        let place = |changed| Place { shared: self, id, changed, since: Instant::now() };
        joined.map(|changed| changed.map(place))
    }

    /// Counts a caller in that waits for a tenant's token.
    fn join(
        &self,
        ledger: &mut Ledger<K>,
        id: TenantId,
        tick: Tick,
        deadline: Instant,
    ) -> Result<Option<Arc<Notify>>, Error> {
        let full = ledger.waiting >= self.rules.policy.max_waiting;
        let Some(node) = ledger.node(id) else { return Ok(None) };
        let life = &mut node.life;
        if let Some(error) = life.refusal(tick, deadline, &self.rules) {
            return Err(error);
        }
        let count = life.waiting.as_ref().map_or(0, |waiting| waiting.count);
        if full || count >= self.rules.limits.max_waiting_per_tenant {
            life.demand = Demand::Owed;
            return Err(Error::new(ErrorKind::Overloaded, "too many requests wait for a token"));
        }
        let waiting = life.waiting.get_or_insert_with(|| {
            Box::new(Waiting { changed: Arc::new(Notify::new()), count: 0 })
        });
        waiting.count += 1;
        let changed = waiting.changed.clone();
        ledger.waiting += 1;
        Ok(Some(changed))
    }

    async fn create(&self, key: &K) -> Result<Arc<Tenant<K>>, Error> {
        loop {
            let mut outcome = Outcome::new();
            let (room, tenant) = {
                let tick = self.tick();
                let map = &self.read.map;
                let mut ledger = self.ledger();
                if let Some(why) = ledger.ended {
                    return Err(Self::ended(why));
                }
                // Under the lock nobody else creates it.
                if let Some(tenant) = self.find(key) {
                    return Ok(tenant);
                }
                self.end_second(&mut ledger, tick);
                let room = ledger.make_room(map, tick, &self.rules, &mut outcome);
                let tenant = matches!(room, Room::Yes).then(|| {
                    ledger.add(map, tick, |id| {
                        Arc::new(Tenant::new(key.clone(), id, Slot::new(self.clock.clone())))
                    })
                });
                self.unlock(ledger, tick);
                (room, tenant)
            };
            self.settle(outcome);
            match (room, tenant) {
                (_, Some(tenant)) => return Ok(tenant),
                (Room::No, None) => {
                    return Err(Error::new(
                        ErrorKind::Overloaded,
                        "as many tenants as allowed are in use",
                    ));
                }
                _ => yield_now().await,
            }
        }
    }
}

/// A place among those that wait for a tenant's token, given back on drop.
struct Place<'a, K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    shared: &'a Shared<K>,
    id: TenantId,
    changed: Arc<Notify>,
    since: Instant,
}

impl<K> Drop for Place<'_, K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        let mut ledger = self.shared.ledger();
        ledger.waiting -= 1;
        ledger.leave(self.id, self.since.elapsed() < BRIEF);
    }
}

/// A caller that waits for less than this does not wait: by then the fetch may not have begun.
const BRIEF: Duration = Duration::from_secs(1);
