//! Requests: that none is lost, and with what they are sent.

use std::time::Duration;

use super::{
    Invariant::{I1, I2, I4, I7, I10, I11},
    Ledger, Outcome, Request, Serial,
    facts::{Says, Sent},
    refusals::MIN_AGE,
    renewals::IDLE,
};
use crate::canary;

/// What a request may cost, as it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// How long its caller lets it take, if the caller is impatient.
    pub(crate) patience: Option<Duration>,
    /// How long it may wait for tokens and for the service below, in all.
    pub(crate) wait: Duration,
    pub(crate) foreign: bool,
    /// How often it may be sent.
    pub(crate) sends: usize,
    /// Its body is a stream: a part that was read and not recorded is gone.
    pub(crate) streams: bool,
}

impl Ledger {
    pub(crate) fn started(&mut self, id: u64, instance: usize, terms: Terms) {
        self.count("request");
        let now = self.now;
        let request = Request {
            instance,
            deadline: terms.patience.map(|patience| now.at + patience),
            wait: if terms.foreign { Duration::ZERO } else { terms.wait },
            foreign: terms.foreign,
            most_sends: terms.sends,
            streams: terms.streams,
            called: None,
            sends: Vec::new(),
            held: None,
            body_failed: false,
            ends: None,
        };
        self.requests.insert(id, request);
        self.say(format!("request {id} of {instance} starts"));
    }

    /// The layer gets a request.
    pub(crate) fn called(&mut self, id: u64) {
        let Some(instance) = self.requests.get(&id).map(|request| request.instance) else { return };
        let held = self.good(instance).filter(|_| !self.may_be_forgotten(instance));
        let request = self.requests.get_mut(&id).expect("it is there");
        (request.called, request.held) = (Some(self.now.at), held);
    }

    /// Whether a pool may have forgotten a tenant because it was idle.
    fn may_be_forgotten(&self, instance: usize) -> bool {
        let holder = &self.instances[instance];
        holder.pooled && (holder.removed || self.now.boot - holder.last_use > IDLE)
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
        let (instance, most) = (request.instance, request.most_sends);
        let epochs = &self.instances[instance].epochs;
        let epoch = serial.and_then(|serial| epochs.get(&serial).copied());
        let at = self.now.at;
        let sent = Sent { serial, epoch, at, answered: None, status: 0, taken: false };
        request.sends.push(sent);
        let attempt = request.sends.len() - 1;
        let broken = request.streams && request.body_failed;
        self.require(I1, !broken, || format!("request {id} is sent again, and its body failed"));
        self.check_ended(id);
        if attempt == 0 {
            self.check_stall(id);
        }
        let request = &self.requests[&id];
        let as_asked = foreign == request.foreign;
        self.require(I4, as_asked, || format!("request {id} went to another origin"));
        self.require(I1, attempt < most, || format!("request {id} is sent {} times", attempt + 1));
        if foreign {
            return attempt;
        }
        self.used(instance);
        self.require(I2, serial.is_some(), || format!("request {id} is sent without a token"));
        if let Some(serial) = serial {
            let tries = self.tries(id, instance, serial);
            self.check_token(id, instance, serial, tries);
            let sends = &self.requests[&id].sends;
            // Under another epoch it is one that an API takes after all.
            let before = |sent: &Sent| sent.serial == Some(serial) && sent.epoch == epoch;
            let same = attempt > 0 && before(&sends[attempt - 1]);
            self.require(I1, !same || tries, || {
                format!("request {id} is sent again with the same token")
            });
        }
        attempt
    }

    fn check_token(&mut self, id: u64, instance: usize, serial: Serial, tries: bool) {
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
        self.require(I2, tries || !invalid, || {
            format!("request {id} has token {serial} ({epoch:?}), invalid up to {up_to}")
        });
        self.require(I2, now < expires, || {
            format!("request {id} has token {serial}, expired for {:?}", now - expires)
        });
    }

    /// The API has answered an attempt, or broken the connection.
    pub(crate) fn answered(&mut self, id: u64, attempt: usize, status: u16, says: Says) {
        self.say(format!("attempt {attempt} of request {id} is answered with {status}"));
        let now = self.now.at;
        let Some(request) = self.requests.get_mut(&id) else { return };
        let Some(sent) = request.sends.get_mut(attempt) else { return };
        (sent.answered, sent.status) = (Some(now), status);
        let (serial, epoch, instance) = (sent.serial, sent.epoch, request.instance);
        if let Some(epoch) = epoch.filter(|_| says != Says::Nothing) {
            let says = match says {
                Says::Doubts if self.age(instance, epoch) >= MIN_AGE => Says::Refuses,
                says => says,
            };
            let held = self.instances[instance].held;
            if held.is_some_and(|held| held.epoch > epoch) {
                self.count("late refusal");
            }
            let ends = attempt == 0 && self.must_end(instance, epoch, says);
            self.note_refusal(instance, epoch);
            if says == Says::Refuses {
                self.instances[instance].refused.insert(epoch);
            }
            if let Some(request) = self.requests.get_mut(&id).filter(|_| ends) {
                request.ends = Some(epoch);
            }
        }
        let accepts = !matches!(status, 0 | 400 | 401 | 403 | 407 | 408 | 425 | 429 | 500..);
        if let Some(serial) = serial.filter(|_| accepts) {
            self.note_acceptance(id, instance, serial, attempt > 0);
        }
        self.note_end_of_trial(id, instance);
    }

    pub(crate) fn ended(&mut self, id: u64, outcome: Outcome) {
        self.say(format!("request {id} ends: {outcome:?}"));
        if let Outcome::Answer { .. } = outcome {
            self.check_ended(id);
        }
        let Some(request) = self.requests.remove(&id) else {
            // It ended in the moment in which its process did.
            let instance = usize::try_from(id / NUMBERS).unwrap_or_default();
            if self.instances.get(instance).is_some_and(|holder| holder.gone) {
                return;
            }
            return self.require(I1, false, || format!("request {id} ends twice"));
        };
        let now = self.now;
        self.note_end_of_trial(id, request.instance);
        if let Outcome::Ours(_) = outcome {
            self.used(request.instance);
        }
        let late = request.deadline.map_or(Duration::ZERO, |end| now.at.saturating_sub(end));
        self.require(I1, late <= SLACK, || format!("request {id} ends {late:?} too late"));
        self.check_budget(&request, id);
        let last = request.sends.len().checked_sub(1);
        match outcome {
            Outcome::Answer { attempt, status } => {
                self.count("answer");
                // The refusal stays the answer if the connection breaks when it is sent again.
                let broke = |last: usize| attempt + 1 == last && request.sends[last].is_broken();
                let right = last.is_some_and(|last| attempt == last || broke(last));
                let sent = request.sends.get(attempt);
                let answered = sent.is_some_and(|sent| sent.answered.is_some());
                self.require(I1, right && answered, || {
                    format!(
                        "request {id} has the answer {status} to attempt {attempt}, not {last:?}"
                    )
                });
                let stored = sent.is_some_and(|sent| sent.taken) && !request.body_failed;
                self.require(I1, status != 200 || stored, || {
                    format!("request {id} has the answer 200, and its body was not taken")
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
            Outcome::Body => {
                self.count("error of the body");
                self.require(I1, request.body_failed, || {
                    format!("request {id} has the error of its body, which has not failed")
                });
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

impl Sent {
    fn is_broken(&self) -> bool {
        self.answered.is_some() && self.status == 0
    }
}

/// What timers may be late by.
const SLACK: Duration = Duration::from_millis(20);
/// How long a pool may take the time before a sleep for the time of now.
const KEEPER_WAKES: Duration = Duration::from_secs(2);
/// The numbers of an instance's requests begin with its own.
pub(crate) const NUMBERS: u64 = 1_000_000;
/// How many may wait at one handle.
pub(crate) const MOST_WAITING: usize = 20;
/// For one tenant of a pool. More than come at once: one that is refused is a use, and the ledger
/// would take it for one of before the tenant was forgotten.
pub(crate) const MOST_WAITING_FOR_TENANT: usize = 60;
