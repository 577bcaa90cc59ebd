//! Requests: that none is lost, and with what they are sent.

use std::time::Duration;

use super::{
    Invariant::{I1, I2, I4, I7, I10, I11},
    Ledger, Outcome, Request, Serial,
    facts::Sent,
};
use crate::canary;

/// What a request may cost, as it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// How long it may take in all.
    pub(crate) within: Duration,
    pub(crate) foreign: bool,
    /// How often it may be sent.
    pub(crate) sends: usize,
}

impl Ledger {
    pub(crate) fn started(&mut self, id: u64, instance: usize, terms: Terms) {
        self.count("request");
        let now = self.now;
        let held = self.good(instance);
        let request = Request {
            instance,
            deadline: now.at + terms.within,
            foreign: terms.foreign,
            most_sends: terms.sends,
            sends: Vec::new(),
            held,
        };
        self.requests.insert(id, request);
        self.say(format!("request {id} of {instance} starts"));
    }

    fn used(&mut self, instance: usize) {
        let at = self.as_used(self.now.boot);
        let last_use = &mut self.instances[instance].last_use;
        *last_use = at.max(*last_use);
    }

    /// A pool takes a use right after a sleep for one of before it, until its keeper wakes up.
    pub(super) fn as_used(&self, at: Duration) -> Duration {
        let slept = self.last_sleep.filter(|(_, end)| at < *end + KEEPER_WAKES);
        slept.map_or(at, |(start, _)| start)
    }

    /// A request left through the layer. Returns which attempt it is.
    pub(crate) fn sent(&mut self, id: u64, authorization: Option<&str>, foreign: bool) -> usize {
        let serial = authorization
            .and_then(|value| value.strip_prefix("Bearer "))
            .and_then(|token| canary::number_of("at", token));
        self.say(format!("request {id} is sent with {serial:?}"));
        let leaks = foreign && authorization.is_some();
        self.require(I4, !leaks, || format!("request {id} took a token to a foreign origin"));
        let Some(request) = self.requests.get_mut(&id) else {
            self.require(I1, false, || format!("request {id} is sent after its end"));
            return 0;
        };
        request.sends.push(Sent { serial, answered: false });
        let (attempt, most, instance) =
            (request.sends.len() - 1, request.most_sends, request.instance);
        let as_asked = foreign == request.foreign;
        self.require(I4, as_asked, || format!("request {id} went to another origin"));
        self.require(I1, attempt < most, || format!("request {id} is sent {} times", attempt + 1));
        if foreign {
            return attempt;
        }
        self.used(instance);
        self.require(I2, serial.is_some(), || format!("request {id} is sent without a token"));
        if let Some(serial) = serial {
            self.check_token(id, instance, serial);
            let sends = &self.requests[&id].sends;
            let same = attempt > 0 && sends[attempt - 1].serial == Some(serial);
            self.require(I1, !same, || format!("request {id} is sent again with the same token"));
        }
        attempt
    }

    fn check_token(&mut self, id: u64, instance: usize, serial: Serial) {
        let (holder, token, now) = (&self.instances[instance], &self.tokens[serial], self.now.boot);
        let (key, other) = (holder.key, token.key);
        let epoch = holder.epochs.get(&serial).copied();
        let invalid = epoch.is_none_or(|epoch| epoch <= holder.invalid_up_to);
        let up_to = holder.invalid_up_to;
        let unknown = if holder.persisted || token.slept { token.set_back } else { Duration::ZERO };
        let expires = token.issued + token.lifetime + unknown;
        self.require(I10, key == other, || {
            format!("request {id} of key {key} has a token of key {other}")
        });
        self.require(I2, !invalid, || {
            format!("request {id} has token {serial} ({epoch:?}), invalid up to {up_to}")
        });
        self.require(I2, now < expires, || {
            format!("request {id} has token {serial}, expired for {:?}", now - expires)
        });
    }

    /// The API has answered an attempt, or broken the connection.
    pub(crate) fn answered(&mut self, id: u64, attempt: usize, status: u16, refuses: bool) {
        self.say(format!("attempt {attempt} of request {id} is answered with {status}"));
        let Some(request) = self.requests.get_mut(&id) else { return };
        let Some(sent) = request.sends.get_mut(attempt) else { return };
        sent.answered = true;
        let (serial, holder) = (sent.serial, &mut self.instances[request.instance]);
        if refuses && let Some(epoch) = serial.and_then(|serial| holder.epochs.get(&serial)) {
            holder.refused.insert(*epoch);
        }
    }

    pub(crate) fn ended(&mut self, id: u64, outcome: Outcome) {
        self.say(format!("request {id} ends: {outcome:?}"));
        let Some(request) = self.requests.remove(&id) else {
            // It ended in the moment in which its process did.
            let instance = usize::try_from(id / NUMBERS).unwrap_or_default();
            if self.instances.get(instance).is_some_and(|holder| holder.gone) {
                return;
            }
            return self.require(I1, false, || format!("request {id} ends twice"));
        };
        let now = self.now;
        if let Outcome::Ours(_) = outcome {
            self.used(request.instance);
        }
        let late = now.at.saturating_sub(request.deadline);
        self.require(I1, late.is_zero(), || format!("request {id} ends {late:?} too late"));
        let last = request.sends.len().checked_sub(1);
        match outcome {
            Outcome::Answer { attempt, status } => {
                self.count("answer");
                let right = Some(attempt) == last && request.sends[attempt].answered;
                self.require(I1, right, || {
                    format!(
                        "request {id} has the answer {status} to attempt {attempt}, not {last:?}"
                    )
                });
            }
            Outcome::Ours(kind) => {
                self.count("typed error");
                // Whatever the reason: the token it began with is as good as it was.
                let good = request.held.filter(|_| self.good(request.instance) == request.held);
                self.require(I7, good.is_none(), || {
                    format!("request {id} fails with {kind}, but token {good:?} is good")
                });
                let waiting = self.waiting(request.instance);
                let pooled = self.instances[request.instance].pooled;
                let most = if pooled { MOST_WAITING_FOR_TENANT } else { MOST_WAITING };
                let full = kind != "overloaded" || waiting >= most;
                self.require(I11, full, || {
                    format!("request {id} is refused a place, but {waiting} wait at most")
                });
            }
            Outcome::Below(attempt) => {
                self.count("error below");
                let right = attempt.is_none() || attempt == last;
                self.require(I1, right, || format!("request {id} has the error of {attempt:?}"));
            }
            Outcome::Unknown => {
                self.require(I1, false, || format!("request {id} ends with an untyped error"));
            }
            Outcome::Dropped => self.count("dropped"),
        }
    }

    fn waiting(&self, instance: usize) -> usize {
        self.requests.values().filter(|request| request.instance == instance).count() + 1
    }

    /// No request is left open.
    pub(crate) fn check_all_ended(&mut self) {
        let open: Vec<_> = self.requests.keys().copied().take(5).collect();
        self.require(I1, open.is_empty(), || format!("requests {open:?} never ended"));
    }
}

/// The heartbeat of a pool's keeper.
const KEEPER_WAKES: Duration = Duration::from_secs(31);
/// The numbers of an instance's requests begin with its own.
pub(crate) const NUMBERS: u64 = 1_000_000;
/// How many may wait at one handle.
pub(crate) const MOST_WAITING: usize = 20;
/// For one tenant of a pool. More than come at once: one that is refused is a use, and the ledger
/// would take it for one of before the tenant was forgotten.
pub(crate) const MOST_WAITING_FOR_TENANT: usize = 60;
