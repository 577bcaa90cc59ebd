use std::{collections::VecDeque, sync::Arc, time::Duration};

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
    /// A new token is being fetched, and the refused one stays in service until then. A renewal after
    /// an earlier refusal was made within the last 5 minutes, and no refused request was accepted
    /// after it, so the token may be good for other requests.
    Renewing,
    /// It was out of service already, or a newer one is: the report changed nothing.
    Superseded,
    /// The token stays in service: too little time has passed since the last renewal after a
    /// refusal, or since this token was obtained. See
    /// [`rejection_interval`](super::TokenHandleBuilder::rejection_interval).
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
    /// How many claims there have been.
    claims: u64,
    /// The token that stays in service while another one is fetched because of a refusal.
    renewing: Option<u64>,
}

/// A refused token, and how often the source has given it again.
#[derive(Debug)]
struct Given {
    token: Arc<TokenSet>,
    epoch: u64,
    again: u32,
    /// Another token has taken its place.
    replaced: bool,
}

/// A refused token that one request may try.
#[derive(Debug)]
struct Trial {
    entry: Arc<Entry>,
    /// The number of the claim of the request that tries it now: no other one gets it.
    claimed: Option<u64>,
    /// How many requests it was refused to, or callers have taken it by hand.
    refused: u32,
    not_before: Instant,
}

impl Trial {
    /// Ends a claim that has not brought the token back.
    fn postpone(&mut self, now: Instant, policy: &Policy) {
        self.claimed = None;
        self.refused = self.refused.saturating_add(1);
        let interval = policy.rejection_interval.max(SHORTEST_TRIAL);
        self.not_before = now + interval.saturating_mul(self.refused).min(LONGEST_TRIAL);
    }
}

/// A refused token that a request may try.
pub(crate) enum Claim {
    Now(Arc<Entry>),
    /// One was refused just now: not before this.
    At(Instant),
}

/// What the refresher has to do after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Obtain another token: the refused one is out of service.
    Replace,
    /// Obtain another token: the refused one stays in service until then.
    Renew,
    /// Tell those who wait that the refused token may be tried again soon.
    Offer,
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
        if let Some(trial) = self.trial_of(epoch) {
            // The next renewal is planned already. Another request may try the token meanwhile: the
            // one that was refused may be the only one.
            trial.postpone(now, policy);
            return (Rejection::TooSoon, Some(Act::Offer));
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
                self.refused.push_front(Given { token, epoch, again: 0, replaced: false });
                self.refused.truncate(REMEMBERED);
                self.trial = None;
                (Rejection::Accepted, Some(Act::Replace))
            }
            Step::Replace => (Rejection::Superseded, None),
        }
    }

    /// Judges a token that the source gave. `entry` prepares it for service, should one request
    /// try it.
    ///
    /// A refused token that is given again stays refused. From the second time on, one request at a
    /// time tries it: the server may have been wrong. While another token is in service, that one
    /// stays.
    pub(crate) fn judge(
        &mut self,
        slot: &Slot,
        token: &TokenSet,
        now: Instant,
        entry: impl FnOnce() -> Result<Arc<Entry>, Error>,
    ) -> Judgement {
        self.renewing = None;
        let same = |given: &&mut Given| given.token.access_token() == token.access_token();
        let Some(given) = self.refused.iter_mut().find(same) else {
            if let Some(given) = self.refused.front_mut().filter(|given| !given.replaced) {
                given.replaced = true;
                self.spacing.not_quiet(now);
            }
            self.trial = None;
            self.spacing.in_service(now);
            return Judgement::Publish;
        };
        given.again = given.again.saturating_add(1);
        let value = |trial: &Trial| trial.entry.token().access_token() == token.access_token();
        self.trial.take_if(|trial| !value(trial));
        let is_tried = self.trial.as_ref().is_some_and(|trial| trial.claimed.is_some());
        if given.again > 1 && !is_tried && slot.peek().is_none() {
            match (entry(), &mut self.trial) {
                (Ok(entry), Some(trial)) => trial.entry = entry,
                (Ok(entry), trial) => {
                    *trial = Some(Trial { entry, claimed: None, refused: 0, not_before: now });
                }
                (Err(error), _) => return Judgement::Refused(error),
            }
        }
        Judgement::Refused(Error::new(
            ErrorKind::UnusableToken,
            "the token source gave the token again that a server has refused",
        ))
    }

    /// How long to wait after the refused token was given again.
    pub(crate) fn pause(&mut self, now: Instant, policy: &Policy) -> Duration {
        self.spacing.given_again(now, policy.rejection_interval)
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

    /// Whether the source has given the token of this epoch, which was refused, again and again: then
    /// a wait for a newer one would be in vain.
    pub(crate) fn is_given_again(&self, slot: &Slot, epoch: u64) -> bool {
        let given = |given: &Given| given.epoch == epoch && given.again > 1 && !given.replaced;
        self.refused.iter().any(given) && slot.peek().is_none()
    }

    /// Claims the refused token for one request, which tries it. It has to be
    /// [released](Self::release) if the request ends without an answer.
    pub(crate) fn claim(&mut self, slot: &Slot, now: Instant) -> Option<Claim> {
        let free = |trial: &&mut Trial| trial.claimed.is_none() && slot.may_hold(&trial.entry);
        let trial = self.trial.as_mut().filter(free)?;
        if now < trial.not_before {
            return Some(Claim::At(trial.not_before));
        }
        self.claims += 1;
        trial.claimed = Some(self.claims);
        Some(Claim::Now(trial.entry.clone()))
    }

    /// Ends the claim on this token of a caller that takes it by hand: what becomes of it is not seen.
    /// Another one may try it after a while.
    pub(crate) fn taken_by_hand(&mut self, epoch: u64, now: Instant, policy: &Policy) {
        if let Some(trial) = self.trial_of(epoch) {
            trial.postpone(now, policy);
        }
    }

    /// Gives a claim back: another request may try the token. `false` if it had ended.
    pub(crate) fn release(&mut self, claim: u64) -> bool {
        let claimed = self.trial.as_mut().filter(|trial| trial.claimed == Some(claim));
        claimed.map(|trial| trial.claimed = None).is_some()
    }

    fn trial_of(&mut self, epoch: u64) -> Option<&mut Trial> {
        self.trial.as_mut().filter(|trial| trial.entry.epoch() == epoch)
    }

    /// The claim of the request that tries the token of this epoch, which has not expired.
    pub(crate) fn claim_of(&self, slot: &Slot, epoch: u64) -> Option<u64> {
        let tries = |trial: &&Trial| trial.entry.epoch() == epoch && slot.may_hold(&trial.entry);
        self.trial.as_ref().filter(tries)?.claimed
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

/// How long after a refusal another request may try a refused token: this, or the interval between
/// renewals, for each request that was refused.
const SHORTEST_TRIAL: Duration = Duration::from_millis(100);

const LONGEST_TRIAL: Duration = Duration::from_secs(30);
/// How many refused tokens are remembered. A store that could not be written may give an older one
/// again than the last.
const REMEMBERED: usize = 4;
