use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::{
    policy::Policy,
    refusal::Refusal,
    spacing::{Spacing, Step},
};
use crate::{
    error::{Error, ErrorKind},
    slot::{Entry, Slot},
    token::TokenSet,
};

/// What became of the report that a server refused a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The token is out of service; a new one is being fetched.
    Accepted,
    /// A new token is being fetched, and the refused one stays in service until then: the last
    /// renewal after a refusal did not help, so the token may be good for other requests.
    Renewing,
    /// It was out of service already, or a newer one is: the report changed nothing.
    Superseded,
    /// The token stays in service: too little time has passed since the last renewal after a
    /// refusal, or since this token was obtained. Renewals that do not help are spaced out, from
    /// twice the [interval](super::TokenHandleBuilder::rejection_interval) to 5 minutes, until one
    /// helps.
    TooSoon,
}

/// What is known of the refusals of one slot's tokens. A handle keeps it under its lock, a pool under
/// its own, so that of many reports one is acted on.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    spacing: Spacing,
    /// The tokens that were refused and taken out of service, the last one first.
    refused: VecDeque<Given>,
    trial: Option<Trial>,
    /// The token that stays in service while another one is fetched because of a refusal.
    renewing: Option<u64>,
}

/// A refused token, and how often the source has given it again.
#[derive(Debug)]
struct Given {
    token: Arc<TokenSet>,
    again: u32,
    /// Another token has taken its place.
    replaced: bool,
}

/// A refused token that one request may try.
#[derive(Debug)]
struct Trial {
    entry: Arc<Entry>,
    claimed: bool,
}

/// What the refresher has to do after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Obtain another token: the refused one is out of service.
    Replace,
    /// Obtain another token: the refused one stays in service until then.
    Renew,
}

/// What becomes of a token that a source gave.
pub(crate) enum Judgement {
    /// It is put into service.
    Publish,
    /// It is the refused one, and stays out of service. The next attempt is made after this pause.
    Refused(Error),
}

impl Rejections {
    /// Takes a refused token out of service, or decides to renew it, or neither. Returns what became
    /// of the report, and what the refresher has to do.
    ///
    /// While the refresher backs off after a failure, a renewal is left to it, and no request waits.
    pub(crate) fn reject(
        &mut self,
        slot: &Slot,
        refusal: Refusal,
        now: Instant,
        policy: &Policy,
        backing_off: bool,
    ) -> (Rejection, Option<Act>) {
        let epoch = refusal.epoch;
        if self.trial.take_if(|trial| trial.entry.epoch() == epoch).is_some() {
            // The next renewal is planned already.
            return (Rejection::TooSoon, None);
        }
        let Some(entry) = slot.peek().filter(|entry| entry.epoch() == epoch) else {
            return (Rejection::Superseded, None);
        };
        if self.renewing == Some(epoch) {
            self.spacing.not_quiet(now);
            return (Rejection::Renewing, None);
        }
        let interval = policy.rejection_interval;
        let doubtful = refusal.is_doubtful(entry.validity(), now);
        let base = interval.max(refusal.min_age);
        match self.spacing.refused(now, doubtful, interval, base) {
            Step::Wait => (Rejection::TooSoon, None),
            Step::Renew if backing_off => (Rejection::TooSoon, Some(Act::Renew)),
            Step::Renew => {
                self.renewing = Some(epoch);
                (Rejection::Renewing, Some(Act::Renew))
            }
            Step::Replace if slot.take(epoch) => {
                let token = entry.token().clone();
                self.refused.push_front(Given { token, again: 0, replaced: false });
                self.refused.truncate(REMEMBERED);
                (Rejection::Accepted, Some(Act::Replace))
            }
            Step::Replace => (Rejection::Superseded, None),
        }
    }

    /// Judges a token that the source gave. `entry` prepares it for service, should one request
    /// try it.
    ///
    /// A refused token that is given again stays refused. From the second time on, one request tries
    /// it: the server may have been wrong. While another token is in service, that one stays.
    pub(crate) fn judge(
        &mut self,
        slot: &Slot,
        token: &TokenSet,
        now: Instant,
        entry: impl FnOnce() -> Result<Arc<Entry>, Error>,
    ) -> Judgement {
        self.renewing = None;
        self.trial = None;
        let same = |given: &&mut Given| given.token.access_token() == token.access_token();
        let Some(given) = self.refused.iter_mut().find(same) else {
            if let Some(given) = self.refused.front_mut().filter(|given| !given.replaced) {
                given.replaced = true;
                self.spacing.not_quiet(now);
            }
            self.spacing.in_service(now);
            return Judgement::Publish;
        };
        given.again = given.again.saturating_add(1);
        if given.again > 1 && slot.peek().is_none() {
            match entry() {
                Ok(entry) => self.trial = Some(Trial { entry, claimed: false }),
                Err(error) => return Judgement::Refused(error),
            }
        }
        Judgement::Refused(Error::new(
            ErrorKind::UnusableToken,
            "the token source gave the token again that a server has refused",
        ))
    }

    /// How long to wait after the refused token was given again.
    pub(crate) fn pause(&mut self, now: Instant, policy: &Policy) -> std::time::Duration {
        self.spacing.in_vain(now, policy.rejection_interval)
    }

    /// Notes the end of a fetch, however it ended.
    pub(crate) fn fetch_ended(&mut self) {
        self.renewing = None;
    }

    /// Whether the token of this epoch stays in service and no other one is being fetched because
    /// of a refusal: then a wait for a newer one would be in vain.
    pub(crate) fn keeps(&self, slot: &Slot, epoch: u64) -> bool {
        self.renewing != Some(epoch) && slot.peek().is_some_and(|entry| entry.epoch() == epoch)
    }

    /// The refused token that one request may try: nobody else gets it.
    pub(crate) fn claim(&mut self, slot: &Slot, after: u64) -> Option<Arc<Entry>> {
        let free = |trial: &&mut Trial| {
            !trial.claimed && trial.entry.epoch() > after && slot.may_hold(&trial.entry)
        };
        let trial = self.trial.as_mut().filter(free)?;
        trial.claimed = true;
        Some(trial.entry.clone())
    }

    /// Whether a request tries the token of this epoch, which has not expired.
    pub(crate) fn is_on_trial(&self, slot: &Slot, epoch: u64) -> bool {
        let tries = |trial: &Trial| {
            trial.claimed && trial.entry.epoch() == epoch && slot.may_hold(&trial.entry)
        };
        self.trial.as_ref().is_some_and(tries)
    }

    /// Notes that a server accepted a request with the token of this epoch. `refused` says whether
    /// the request had been refused with an older one. Returns the token if it was on trial: it
    /// belongs into service now.
    pub(crate) fn accepted(
        &mut self,
        epoch: u64,
        refused: bool,
        now: Instant,
    ) -> Option<Arc<Entry>> {
        let Some(trial) = self.trial.take_if(|trial| trial.entry.epoch() == epoch) else {
            if refused {
                self.spacing.helped();
            }
            return None;
        };
        // It is the token that was refused, so no renewal has helped. If one path refuses it, and
        // another accepts it, the next refusal must not take it out of service again.
        let token = trial.entry.token().access_token();
        self.refused.retain(|given| given.token.access_token() != token);
        self.spacing.not_quiet(now);
        self.spacing.in_service(now);
        Some(trial.entry)
    }
}

/// How many refused tokens are remembered. A store that could not be written may give an older one
/// again than the last.
const REMEMBERED: usize = 4;
