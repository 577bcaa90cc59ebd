//! Refusals: how often they renew a token, what they take out of service, and which request tries a
//! refused token.
//!
//! The rules are those of the table of faults (F75 to F77), written down once more: the crate's own
//! code is not asked.

use std::{collections::VecDeque, time::Duration};

use super::{
    Invariant::{I1, I2, I3, I6, I7},
    Ledger, Request, Serial, Times,
    facts::Says,
};

/// What is known of the refusals of one holder's tokens.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Renewals after refusals since one of them helped, or since there was quiet.
    useless: u32,
    /// When the last one was; and boot time of those of the last hour.
    renewed: Option<Times>,
    hour: VecDeque<Duration>,
    /// The token is to be renewed in service, and the fetch for that has not ended.
    pending: bool,
    /// The next one was planned when a refused token was given again, and the source was asked.
    planned: bool,
    /// Tokio's time from which on it was quiet: that of the last refusal of the token in service. The
    /// time without a token is not quiet, as no token can be refused in it.
    quiet_since: Option<Duration>,
    /// A refused token was taken out of service, and there is no other one yet.
    pub(super) out: bool,
    /// The refused token that the source gave again.
    given: Option<Given>,
}

/// A refused token that the source gave again.
#[derive(Debug)]
struct Given {
    serial: Serial,
    again: u32,
    /// The request that tries it.
    tried_by: Option<u64>,
    accepted: bool,
    /// The source was asked since.
    asked: bool,
    /// Boot time before which the source is not asked again.
    asks_from: Duration,
}

impl Refusals {
    /// Whether the source gave a refused token again.
    pub(super) fn is_given_again(&self) -> bool {
        self.given.is_some()
    }
}

impl Ledger {
    /// An API refused the token of this epoch, or somebody rejected it.
    pub(super) fn note_refusal(&mut self, instance: usize, epoch: u64) {
        let at = self.now.at;
        let holder = &mut self.instances[instance];
        if holder.held.is_none_or(|held| held.epoch != epoch) {
            return;
        }
        let refusals = &mut holder.refusals_seen;
        let quiet = refusals.quiet_since.replace(at).map(|since| at - since);
        if quiet.is_some_and(|quiet| quiet >= spacing(refusals.useless).max(QUIET)) {
            refusals.start_anew();
        }
    }

    /// The crate renews a token because of a refusal, and takes it out of service or does not.
    pub(super) fn renews_refused(&mut self, instance: usize, takes_out: bool) {
        let now = self.now;
        let refusals = &mut self.instances[instance].refusals_seen;
        let (useless, least) = (refusals.useless, spacing(refusals.useless));
        let gap = refusals.renewed.map(|renewed| now.boot - renewed.boot);
        refusals.useless += 1;
        refusals.renewed = Some(now);
        let in_an_hour = refusals.in_an_hour(now);
        refusals.out |= takes_out;
        refusals.pending = !takes_out;
        self.require(I6, gap.is_none_or(|gap| gap + SLACK >= least), || {
            format!("{instance} renews {gap:?} after {useless} renewals in vain, not {least:?}")
        });
        self.require(I6, in_an_hour <= most_in_an_hour(), || {
            format!("{instance} renews {in_an_hour} times an hour because of refusals, in vain")
        });
        self.require(I7, !takes_out || useless == 0, || {
            format!("{instance} takes its token away, though renewal {useless} did not help")
        });
    }

    /// A token came from a source. Returns whether it is a refused one, which is not to be used.
    pub(super) fn note_given(&mut self, instance: usize, serial: Serial) -> bool {
        let now = self.now;
        let holder = &mut self.instances[instance];
        let refused = holder.rejected.contains(&serial) && holder.refusals_seen.out;
        if let Some(held) = holder.held.as_mut().filter(|held| held.serial != serial) {
            // One that was refused before is a failure for the one in service.
            held.failed |= holder.rejected.contains(&serial);
        }
        if refused {
            // Its source has not failed.
            (holder.refusals, holder.slow_until) = (0, None);
        }
        let refusals = &mut holder.refusals_seen;
        let before = refusals.given.take();
        if !refused {
            return false;
        }
        let again = before
            .as_ref()
            .filter(|given| given.serial == serial)
            .map_or(1, |given| given.again + 1);
        let asks_from = now.boot + spacing(refusals.useless);
        // The next renewal, which is planned now.
        refusals.useless += 1;
        (refusals.renewed, refusals.planned) = (Some(now), false);
        // A request that tries it goes on.
        let tried_by = before.filter(|given| given.serial == serial).and_then(|g| g.tried_by);
        refusals.given =
            Some(Given { serial, again, tried_by, accepted: false, asked: false, asks_from });
        self.count("refused token given again");
        true
    }

    /// A fetch has ended.
    pub(super) fn renewal_ended(&mut self, instance: usize) {
        self.instances[instance].refusals_seen.pending = false;
    }

    /// A source is asked again that gave the refused token.
    pub(super) fn asks_once_more(&mut self, instance: usize) {
        let now = self.now;
        let refusals = &mut self.instances[instance].refusals_seen;
        let Some(given) = refusals.given.as_mut().filter(|given| !given.asked) else { return };
        given.asked = true;
        refusals.planned = true;
        // It was counted when it was planned.
        let in_an_hour = refusals.in_an_hour(now);
        self.require(I6, in_an_hour <= most_in_an_hour(), || {
            format!("{instance} asks {in_an_hour} times an hour after its refused token was given")
        });
    }

    /// Before when (in boot time) a source that gave a refused token again is left alone.
    pub(super) fn leaves_alone_until(&self, instance: usize) -> Option<Duration> {
        let given = self.instances[instance].refusals_seen.given.as_ref()?;
        (!given.accepted).then_some(given.asks_from)
    }

    /// A request is sent. Returns whether it tries a refused token, or uses one that was tried with
    /// success a moment ago.
    pub(super) fn tries(&mut self, id: u64, instance: usize, serial: Serial) -> bool {
        let refusals = &mut self.instances[instance].refusals_seen;
        let Some(given) = refusals.given.as_mut().filter(|given| given.serial == serial) else {
            return false;
        };
        if given.accepted {
            return true;
        }
        let (again, before) = (given.again, given.tried_by.replace(id));
        self.count("trial");
        self.require(I2, before.is_none(), || {
            format!("request {id} tries token {serial}, which {before:?} tries already")
        });
        self.require(I2, again > 1, || {
            format!("request {id} tries token {serial}, which was given again only once")
        });
        true
    }

    /// An answer shows that the API takes a token. `again`: its request had been refused before.
    pub(super) fn note_acceptance(
        &mut self,
        id: u64,
        instance: usize,
        serial: Serial,
        again: bool,
    ) {
        let holder = &mut self.instances[instance];
        let key = holder.key;
        let refusals = &mut holder.refusals_seen;
        let tries = |given: &&mut Given| given.serial == serial && given.tried_by == Some(id);
        let Some(given) = refusals.given.as_mut().filter(tries) else {
            if again {
                refusals.start_anew();
            }
            return;
        };
        // It belongs into service again, and may be refused again. That no renewal has helped stays
        // true.
        given.accepted = true;
        holder.rejected.remove(&serial);
        self.keys.entry(key).or_default().rejected.remove(&serial);
        self.say(format!("{instance} may use token {serial} again, which request {id} has tried"));
        self.count("trial accepted");
    }

    /// A request has its answer, or has ended without one: another one may try the token.
    pub(super) fn note_end_of_trial(&mut self, id: u64, instance: usize) {
        let given = self.instances[instance].refusals_seen.given.as_mut();
        if let Some(given) = given.filter(|given| given.tried_by == Some(id) && !given.accepted) {
            given.tried_by = None;
        }
    }

    /// A token is in service: the time from here on counts as quiet.
    pub(super) fn note_service(&mut self, instance: usize) {
        let (now, at) = (self.now, self.now.at);
        let refusals = &mut self.instances[instance].refusals_seen;
        refusals.given = None;
        if std::mem::take(&mut refusals.planned) {
            refusals.renewed = Some(now);
        }
        if std::mem::take(&mut refusals.out) && refusals.quiet_since.is_some() {
            refusals.quiet_since = Some(at);
        }
    }

    /// A server says of the token of this epoch, to the first attempt of a request, what must end its
    /// service: it is good as far as its holder knows, and neither refusals nor renewals were near.
    pub(super) fn must_end(&self, instance: usize, epoch: u64, says: Says) -> bool {
        let holder = &self.instances[instance];
        let (refusals, at) = (&holder.refusals_seen, self.now.at);
        let long_ago = |since: Option<Duration>| since.is_none_or(|since| at - since > LONGEST);
        says == Says::Refuses
            && !refusals.pending
            && holder.held.is_some_and(|held| held.epoch == epoch)
            && self.good(instance).is_some()
            && long_ago(refusals.quiet_since)
            && long_ago(refusals.renewed.map(|renewed| renewed.at))
    }

    /// The first answer to a request has reached the layer: what it must end has ended.
    pub(super) fn check_ended(&mut self, id: u64) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let (Some(epoch), instance) = (request.ends.take(), request.instance) else { return };
        let holder = &self.instances[instance];
        let ended = holder.gone || holder.invalid_up_to >= epoch;
        self.count("refusal that must be believed");
        self.require(I3, ended, || {
            format!("{instance} goes on with {epoch}, which the answer to request {id} refused")
        });
    }

    /// A request was given to the layer, and is sent. With a good token it does not wait.
    pub(super) fn check_stall(&mut self, id: u64) {
        let request = &self.requests[&id];
        let Some((called, held)) = request.called.zip(request.held) else { return };
        let waited = self.now.at.saturating_sub(called);
        self.require(I7, waited <= SLACK, || {
            format!("request {id} waited {waited:?}, and token {held} was good")
        });
    }

    /// A request ends: all its waits together are within its budget.
    pub(super) fn check_budget(&mut self, request: &Request, id: u64) {
        let Some(called) = request.called else { return };
        let now = self.now.at;
        let answering = request.sends.iter().map(|sent| sent.answered.unwrap_or(now) - sent.at);
        let waited = (now - called).saturating_sub(answering.sum());
        let wait = request.wait;
        self.require(I1, waited <= wait + SLACK, || {
            format!("request {id} waited {waited:?} in all, not {wait:?}")
        });
    }

    /// All is well, and a holder was asked that had a good token, or none. However often the token
    /// was refused before, it serves at once.
    pub(crate) fn served_in_calm(
        &mut self,
        instance: usize,
        good: Option<Serial>,
        status: Option<u16>,
        took: Duration,
    ) {
        let served = status == Some(200) && took <= ANSWER;
        self.require(I7, good.is_none() || served, || {
            format!("{instance} has {status:?} after {took:?}, and token {good:?} is good")
        });
    }

    /// What a holder takes with it when it is forgotten.
    pub(super) fn forget_refusals(&mut self, instance: usize) {
        let holder = &mut self.instances[instance];
        holder.refusals_seen = Refusals::default();
        holder.rejected.clear();
    }

    /// How old a token is by its holder's reckoning, in Tokio's time.
    pub(super) fn age(&self, instance: usize, epoch: u64) -> Duration {
        let since = self.instances[instance].since.get(&epoch);
        since.map_or(Duration::ZERO, |since| self.now.at - *since)
    }
}

impl Refusals {
    fn start_anew(&mut self) {
        self.useless = 0;
        self.hour.clear();
    }

    /// Notes a renewal; returns how many there were in an hour.
    fn in_an_hour(&mut self, now: Times) -> usize {
        self.hour.push_back(now.boot);
        while self.hour.front().is_some_and(|first| *first + HOUR <= now.boot) {
            self.hour.pop_front();
        }
        self.hour.len()
    }
}

/// The least time from one renewal because of refusals to the next, after so many in vain.
pub(super) fn spacing(useless: u32) -> Duration {
    match useless {
        0 => INTERVAL,
        useless => INTERVAL.saturating_mul(1 << useless.min(16)).min(LONGEST),
    }
}

/// How many renewals fit into an hour, if none of them helps.
pub(super) fn most_in_an_hour() -> usize {
    let (mut at, mut renewals) = (Duration::ZERO, 0);
    while at < HOUR {
        renewals += 1;
        at += spacing(renewals);
    }
    renewals as usize
}

/// The shortest time between two renewals, and the longest spacing.
const INTERVAL: Duration = Duration::from_secs(1);
pub(super) const LONGEST: Duration = Duration::from_secs(300);
/// How long no refusal arrives at least, for the spacing to start anew.
const QUIET: Duration = Duration::from_secs(30);
/// How old a token is for which a refusal without a reason counts.
pub(super) const MIN_AGE: Duration = Duration::from_secs(10);
/// What a healthy API takes to answer at most.
const ANSWER: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const SLACK: Duration = Duration::from_millis(20);
