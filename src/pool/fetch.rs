use std::{
    hash::Hash,
    sync::{Arc, OnceLock},
};

use tokio::time::Instant;

use super::{
    ledger::{Outcome, Started},
    life::{GivenToken, Phase},
    permits::SUSPECT_AFTER,
    shared::Shared,
    source::Unmade,
    tenant::Tenant,
    timeline::Tick,
};
use crate::{
    error::{Error, ErrorKind},
    observe::Event,
    refresh::{Begun, fetch_then},
    source::{DynTokenSource, FetchContext, StepUp},
    time::instant_in,
    token::TokenSet,
};

impl<K> Shared<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Starts a fetch that the ledger has begun. It is owned by nobody who can drop it.
    pub(super) fn start(self: &Arc<Self>, started: &Started) {
        let reason = started.reason;
        let permit = Permit { shared: self.clone(), number: started.number };
        let (tenant, source, previous) = {
            let mut ledger = self.ledger();
            // Without a node the tenant was removed just now; the permit is given back.
            let Some(node) = ledger.node(started.tenant) else {
                drop(ledger);
                return drop(permit);
            };
            (node.tenant.clone(), node.source.clone(), node.life.previous.clone())
        };
        let begun = Begun::now(reason, &*self.clock);
        let fetch = Fetch { tenant: tenant.clone(), begun, permit, ended: false };
        let cx = FetchContext {
            step_up: StepUp::default(),
            previous,
            reason,
            deadline: instant_in(self.rules.policy.fetch_timeout),
            clock: self.clock.clone(),
            stored: false,
        };
        self.emit(&tenant.key, &Event::Fetching { reason });
        let made = Arc::new(OnceLock::new());
        let source = source.unwrap_or_else(|| {
            Arc::new(Unmade { tenant: tenant.clone(), make: self.make.clone(), made: made.clone() })
        });
        fetch_then(&self.sink, source, cx, move |outcome| fetch.end(made.get().cloned(), outcome));
    }

    fn finish(
        &self,
        tenant: &Arc<Tenant<K>>,
        begun: Begun,
        made: Option<Arc<dyn DynTokenSource>>,
        outcome: Result<TokenSet, Error>,
    ) {
        let now = self.clock.now();
        let rules = &self.rules;
        let id = tenant.id();
        let took = begun.started.elapsed();
        let mut seen = Outcome::new();
        let tick = rules.timeline.tick(now);
        let mut ledger = self.ledger();
        self.end_second(&mut ledger, tick);
        // As in `refresh`, a token that is given again keeps its epoch.
        let same = outcome.as_ref().ok().and_then(|token| tenant.slot.holding(token));
        let (epoch, obtained) = same.unwrap_or_else(|| (ledger.next_epoch(), Instant::now()));
        // A tenant that was removed meanwhile takes nothing back.
        let Some(node) = ledger.node(id) else { return };
        let life = &mut node.life;
        life.phase = Phase::Idle;
        // Wiped, or dropped, after the lock is given back.
        let replaced = (life.previous.clone(), life.error().cloned());
        let published = outcome
            .and_then(|token| life.publish(tenant, (epoch, obtained), token, &begun, now, rules));
        let result = match published {
            Ok(GivenToken::InService(lifetime, expires)) => Ok((lifetime, expires)),
            Ok(GivenToken::Refused(error, failure)) => Err((failure, error)),
            Err(error) => Err((life.fail(tenant, &error, now, rules, None), error)),
        };
        life.suspect = result.is_err() && took >= SUSPECT_AFTER.min(rules.policy.fetch_timeout);
        let waiting = life.waiting.as_ref().map(|waiting| waiting.changed.clone());
        if made.is_some() {
            node.source = made;
        }
        ledger.look(id.id, &self.read.map, now, rules, &mut seen);
        self.unlock(ledger, tick);
        drop(replaced);

        // After the lock: a thousand may wake up.
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
        match result {
            Ok((lifetime, expires)) => self.emit(
                &tenant.key,
                &Event::Obtained {
                    epoch,
                    reason: begun.reason,
                    lifetime,
                    expires_in: expires.remaining(now),
                    took,
                },
            ),
            Err((failure, error)) => self.emit(
                &tenant.key,
                &Event::Failed {
                    reason: begun.reason,
                    error: &error,
                    failures: failure.failures,
                    retry_in: failure.retry_in,
                    holds_token: failure.holds_token,
                    took,
                },
            ),
        }
        self.settle(seen);
    }

    /// Notes the end of a fetch whose task was dropped, or panicked. Nothing is told of it: this may run
    /// while the thread unwinds.
    fn abandon(&self, tenant: &Tenant<K>) {
        let now = self.clock.now();
        let error = Error::new(
            ErrorKind::Panic,
            "the fetch of the token was dropped: its source panicked, or its runtime has ended",
        );
        let mut ledger = self.ledger();
        let Some(node) = ledger.node(tenant.id()) else { return };
        node.life.phase = Phase::Idle;
        // Dropped after the lock.
        let replaced = node.life.error().cloned();
        node.life.fail(tenant, &error, now, &self.rules, None);
        let waiting = node.life.waiting.as_ref().map(|waiting| waiting.changed.clone());
        ledger.schedule(tenant.id().id, Tick::NEVER);
        self.unlock(ledger, self.rules.timeline.tick(now));
        drop(replaced);
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
    }
}

/// A fetch under way. However it ends, its tenant is told, or it would never be fetched for again.
struct Fetch<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    tenant: Arc<Tenant<K>>,
    begun: Begun,
    permit: Permit<K>,
    ended: bool,
}

impl<K> Fetch<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    fn end(mut self, made: Option<Arc<dyn DynTokenSource>>, outcome: Result<TokenSet, Error>) {
        self.permit.shared.finish(&self.tenant, self.begun, made, outcome);
        self.ended = true;
    }
}

impl<K> Drop for Fetch<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.ended {
            self.permit.shared.abandon(&self.tenant);
        }
    }
}

/// The right to fetch, given back on drop: also when the runtime drops the fetch.
struct Permit<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    shared: Arc<Shared<K>>,
    number: u64,
}

impl<K> Drop for Permit<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        let tick = self.shared.tick();
        let mut ledger = self.shared.ledger();
        ledger.permits.end(self.number);
        self.shared.unlock(ledger, tick);
        if self.shared.is_ending() {
            self.shared.wake.notify_one();
        }
    }
}
