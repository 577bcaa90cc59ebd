use tokio::time::Instant;

use super::{
    super::{rules::Rules, tenant::Tenant, timeline::Tick},
    Life, Phase,
};
use crate::{
    error::Error,
    observe::FetchReason,
    refresh::{State, Status},
    time::instant_in,
};

impl Life {
    /// When an attempt may be made, at the earliest. `held` says whether there is a token.
    pub(in super::super) fn attempt_at(&self, held: bool, rules: &Rules) -> Tick {
        let paused = self.trouble.as_ref().map_or(Tick::NEVER, |trouble| {
            let asked = if held { Tick::NEVER } else { trouble.asked_until };
            trouble.paused_until.max(asked)
        });
        self.not_before(rules).max(paused)
    }

    /// The error that a request without a token gets at once, if it should not wait.
    pub(in super::super) fn refusal(
        &self,
        tick: Tick,
        deadline: Instant,
        rules: &Rules,
    ) -> Option<Error> {
        let error = &self.trouble.as_ref()?.error;
        // As `Status::refusal` does for a single handle.
        let hopeless = error.fails_at_once() || error.retry_at().is_some_and(|at| at > deadline);
        let refuse = hopeless && self.phase == Phase::Idle && tick < self.attempt_at(false, rules);
        let next = self.next_attempt(tick, rules).into_iter();
        refuse.then(|| next.fold(error.clone(), Error::until))
    }

    /// When the next attempt is made for those who wait, if none is under way.
    pub(in super::super) fn next_attempt(&self, tick: Tick, rules: &Rules) -> Option<Instant> {
        let at = self.attempt_at(false, rules);
        (self.phase == Phase::Idle).then(|| instant_in(at.since(tick)))
    }

    /// Why the last attempt failed.
    pub(in super::super) fn error(&self) -> Option<&Error> {
        self.trouble.as_ref().map(|trouble| &trouble.error)
    }

    pub(in super::super) fn status<K>(
        &self,
        tenant: &Tenant<K>,
        tick: Tick,
        rules: &Rules,
    ) -> Status {
        let entry = tenant.slot.newer_than(0);
        let mut status = Status::new();
        status.state = match &entry {
            Some(_) if tick >= self.refresh => State::Due,
            Some(_) => State::Fresh,
            None if self.error().is_some_and(Error::fails_at_once) => State::Failed,
            // Nobody took it out of service yet.
            None if tenant.slot.peek().is_some() => State::Expired,
            None => match self.missing {
                FetchReason::Initial => State::Empty,
                FetchReason::Rejected => State::Rejected,
                _ => State::Expired,
            },
        };
        status.epoch = tenant.slot.last_epoch();
        status.obtained_at = entry.as_ref().map(|entry| entry.validity().obtained);
        status.expires_at = entry.map(|entry| {
            let expires = entry.validity().expires;
            instant_in(rules.timeline.tick(expires).since(tick))
        });
        status.fetching = self.phase == Phase::Fetching;
        let attempt = if status.expires_at.is_some() {
            self.attempt_at(true, rules).max(self.refresh)
        } else {
            self.attempt_at(false, rules)
        };
        // A token that nobody uses runs out; and what is in the queue begins when others end.
        let planned = status.expires_at.is_none() || self.renew || tenant.is_used();
        let planned = planned && self.phase == Phase::Idle;
        status.next_attempt = planned.then(|| instant_in(attempt.since(tick)));
        if let Some(trouble) = &self.trouble {
            status.failures = trouble.setbacks.count();
            status.error = Some(trouble.error.clone());
        }
        status
    }
}
