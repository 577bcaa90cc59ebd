mod report;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use super::{
    queue::{Line, Place},
    recency::Worth,
    rules::Rules,
    tenant::{Tenant, Use},
    timeline::Tick,
};
use crate::{
    error::{Error, ErrorKind},
    observe::{Event, FetchReason},
    refresh::{
        Act, Begun, Claim, Facts, Held, Judgement, Pause, Plan, Refusal, Rejection, Rejections,
        Remains, Schedule, Setbacks, TrialUse, plan_within,
    },
    slot::{Entry, Validity},
    time::Moment,
    token::TokenSet,
};

/// What is known of a tenant's token and its renewal, beside the slot. Small: what only a tenant in
/// trouble or in demand has is boxed.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) phase: Phase,
    pub(super) demand: Demand,
    /// Whether the last attempt hung and gave no token.
    pub(super) suspect: bool,
    /// Why there is no token, if there is none.
    missing: FetchReason,
    /// The second of the last use.
    last_used: u32,
    /// When the token should be renewed.
    refresh: Tick,
    /// When the last attempt was made.
    started: Tick,
    /// Whether a server refused the current token, which stays in service until there is another.
    renew: bool,
    /// The last token set, whatever became of it: it carries the refresh token.
    pub(super) previous: Option<Arc<TokenSet>>,
    trouble: Option<Box<Trouble>>,
    /// Of tokens that were refused, if any was.
    rejections: Option<Box<Rejections>>,
    pub(super) waiting: Option<Box<Waiting>>,
}

/// Whether a caller without a token asked for one since the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Demand {
    /// No caller did.
    Nothing,
    /// A caller did that waits for it, or has waited in vain.
    Waits,
    /// A caller did that does not wait: the token is fetched though no caller waits for it.
    Owed,
}

/// Whether a token is being fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    /// It will be, once fewer are at the same time.
    Queued(Place),
    Fetching,
}

/// What the last attempts left behind.
#[derive(Debug)]
struct Trouble {
    setbacks: Setbacks,
    paused_until: Tick,
    /// Until when the authorization server asked for no requests: it counts while there is no token.
    asked_until: Tick,
    error: Error,
}

/// Those who wait for a token.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) changed: Arc<Notify>,
    pub(super) count: usize,
}

/// What to do with a tenant next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Fetch(FetchReason),
    LookAgain(Tick),
    Forget,
}

/// What became of a token that a source gave.
pub(super) enum GivenToken {
    /// It is in service. Its lifetime, and when it ends.
    InService(Duration, Moment),
    /// It was refused before, and stays out of service for now.
    Refused(Error, Failure),
}

/// A fetch that failed, as it is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) failures: u32,
    pub(super) retry_in: Duration,
    pub(super) holds_token: bool,
}

impl Life {
    pub(super) fn new(second: u32) -> Self {
        Self {
            phase: Phase::Idle,
            demand: Demand::Waits,
            suspect: false,
            missing: FetchReason::Initial,
            last_used: second,
            refresh: Tick::FAR,
            started: Tick::NEVER,
            renew: false,
            previous: None,
            trouble: None,
            rejections: None,
            waiting: None,
        }
    }

    /// What to do next, and the epoch of the token that was taken out because it has expired.
    pub(super) fn next<K>(
        &mut self,
        tenant: &Tenant<K>,
        now: Moment,
        rules: &Rules,
    ) -> (Next, Option<u64>) {
        let tick = rules.timeline.tick(now);
        let last_used = self.last_used(tenant);
        let mut expired = None;
        let due = loop {
            let facts = self.facts(tenant, rules);
            match plan_within(now, &facts, LONGEST) {
                Plan::Expire(epoch) => {
                    // Fresh | Due -> Expired: nobody renewed it in time.
                    self.missing = FetchReason::Expired;
                    expired = tenant.slot.take(epoch).then_some(epoch).or(expired);
                }
                Plan::Fetch(reason)
                    if self.renew || self.is_wanted(tenant, facts.held.is_some()) =>
                {
                    return (Next::Fetch(reason), expired);
                }
                // Nobody needs it: it may run out.
                Plan::Fetch(_) => {
                    break facts.held.map_or(LONGEST, |held| held.expires.remaining(now));
                }
                Plan::Sleep(time) => break time,
            }
        };
        let due = tick.after(due);
        let timeout = rules.limits.idle_timeout;
        let idle = Tick::from_seconds(last_used).after(SECOND).after(timeout);
        let next = if idle > tick {
            Next::LookAgain(due.min(idle))
        } else if self.is_at_rest() {
            Next::Forget
        } else {
            Next::LookAgain(due.min(tick.after(timeout.max(SECOND))))
        };
        (next, expired)
    }

    fn facts<K>(&self, tenant: &Tenant<K>, rules: &Rules) -> Facts {
        let time = rules.timeline;
        let held = tenant.slot.peek().map(|entry| {
            let expires = time.believed(entry.validity().expires);
            let refresh = time.beside(expires, self.refresh);
            Held { epoch: entry.epoch(), refresh, expires, baseline: expires }
        });
        let trouble = self.trouble.as_ref();
        Facts {
            held,
            missing: self.missing,
            fetching: self.phase != Phase::Idle,
            requested: false,
            step_up: false,
            renew: self.renew,
            paused_until: trouble.map(|trouble| time.boot_only(trouble.paused_until)),
            asked_until: trouble.map(|trouble| time.boot_only(trouble.asked_until)),
            not_before: Some(time.boot_only(self.not_before(rules))),
        }
    }

    /// The earliest time for a fetch, however urgent.
    fn not_before(&self, rules: &Rules) -> Tick {
        if self.started == Tick::NEVER {
            return Tick::NEVER;
        }
        self.started.after(rules.policy.pace(self.lifetime(rules)))
    }

    /// A token that nobody has used is not renewed, and one that is missing is fetched when somebody
    /// asks for it.
    fn is_wanted<K>(&self, tenant: &Tenant<K>, held: bool) -> bool {
        if held {
            tenant.is_used() || !tenant.rest()
        } else {
            self.demand != Demand::Nothing || self.waiting.is_some()
        }
    }

    fn lifetime(&self, rules: &Rules) -> Option<Duration> {
        let token = self.previous.as_ref()?;
        Some(token.lifetime().unwrap_or(rules.policy.default_lifetime))
    }

    /// The second of the last use, as far as it was noted.
    pub(super) fn last_used<K>(&mut self, tenant: &Tenant<K>) -> u32 {
        self.note(tenant.used())
    }

    fn note(&mut self, used: Use) -> u32 {
        if let Use::At(second) = used {
            self.last_used = self.last_used.max(second);
        }
        self.last_used
    }

    /// Notes that somebody without a token asked for one.
    pub(super) fn ask(&mut self, second: u32) {
        self.demand = self.demand.max(Demand::Waits);
        self.last_used = self.last_used.max(second);
    }

    /// What it is in the queue for.
    pub(super) fn line<K>(&self, tenant: &Tenant<K>) -> Line {
        match &self.previous {
            _ if self.suspect => Line::Suspect,
            None => Line::Stranger,
            Some(_) if tenant.slot.newer_than(0).is_some() => Line::Renewal,
            Some(_) => Line::Missed,
        }
    }

    /// What would be lost with the tenant.
    pub(super) fn worth(&self) -> Worth {
        match &self.previous {
            None => Worth::Nothing,
            Some(token) if token.refresh_token().is_none() => Worth::Token,
            Some(_) => Worth::Session,
        }
    }

    /// Whether no fetch and no caller would be disturbed if the tenant were dropped now.
    pub(super) fn is_at_rest(&self) -> bool {
        let fetched = match self.phase {
            Phase::Idle => false,
            // It is in the queue for callers that did not wait, and there may be as many of these as
            // there is room for tenants.
            Phase::Queued(place) => place.line != Line::Stranger,
            Phase::Fetching => true,
        };
        !fetched && self.waiting.is_none()
    }

    /// Brings the renewal of a token that is in use forward.
    pub(super) fn renew_at<K>(&mut self, tenant: &Tenant<K>, tick: Tick) -> bool {
        let earlier = tick < self.refresh && tenant.is_used();
        if earlier {
            self.refresh = tick;
        }
        earlier
    }

    pub(super) fn begin(&mut self, tick: Tick) {
        self.phase = Phase::Fetching;
        self.demand = Demand::Nothing;
        self.renew = false;
        self.started = tick;
    }

    // Any -> Fresh, unless it is the token that was refused. The pair is the token's epoch and
    // when it was obtained first.
    pub(super) fn publish<K>(
        &mut self,
        tenant: &Tenant<K>,
        (epoch, obtained): (u64, Instant),
        token: TokenSet,
        begun: &Begun,
        now: Moment,
        rules: &Rules,
    ) -> Result<GivenToken, Error> {
        let schedule = rules.policy.schedule(&token, begun, fastrand::f64());
        let Schedule { lifetime, sent, refresh_after, expires } = schedule;

        let token = Arc::new(token);
        // Kept even if it cannot be published: the refresh token in it may be the only live one.
        self.previous = Some(token.clone());
        schedule.check_alive(now)?;
        let validity = Validity { obtained, expires };
        let entry = || tenant.slot.slim_entry(epoch, token.clone(), validity);
        let instant = Instant::now();
        if let Some(rejections) = &mut self.rejections
            && let Judgement::Refused(error) =
                rejections.judge(&tenant.slot, &token, instant, entry)
        {
            // Rejected -> Rejected: compared by value, it is the refused one. If it is accepted after
            // all, it is renewed in time; another one in service keeps its own time.
            if tenant.slot.peek().is_none() {
                self.refresh = rules.timeline.tick(sent).after(refresh_after);
            }
            let pause = rejections.pause(instant, &rules.policy);
            let failure = self.fail(tenant, &error, now, rules, Some(pause));
            return Ok(GivenToken::Refused(error, failure));
        }
        let entry = entry()?;
        self.put(tenant, entry);
        self.refresh = rules.timeline.tick(sent).after(refresh_after);
        self.settle();
        Ok(GivenToken::InService(lifetime, expires))
    }

    /// Puts a token into service.
    fn put<K>(&mut self, tenant: &Tenant<K>, entry: Arc<Entry>) {
        // Before it can be used.
        self.note(tenant.renew());
        tenant.slot.put(entry);
    }

    /// Notes that a token is in service.
    fn settle(&mut self) {
        self.missing = FetchReason::Expired;
        self.demand = Demand::Nothing;
        self.trouble = None;
    }

    /// Notes a failure, and plans the next attempt: after `pause`, or else after a back-off.
    pub(super) fn fail<K>(
        &mut self,
        tenant: &Tenant<K>,
        error: &Error,
        now: Moment,
        rules: &Rules,
        pause: Option<Duration>,
    ) -> Failure {
        if let Some(rejections) = &mut self.rejections {
            rejections.fetch_ended();
        }
        let tick = rules.timeline.tick(now);
        let mut setbacks =
            self.trouble.as_ref().map_or_else(Setbacks::default, |trouble| trouble.setbacks);
        let left = tenant.slot.peek().map_or(Duration::ZERO, |entry| {
            rules.timeline.believed(entry.validity().expires).remaining(now)
        });
        let remains = Remains { lifetime: self.lifetime(rules), left };
        let Pause { pause, asked } = match pause {
            Some(pause) => setbacks.note(pause),
            None => setbacks.fail(error, remains, &rules.policy, fastrand::f64()),
        };
        self.trouble = Some(Box::new(Trouble {
            setbacks,
            paused_until: tick.after(pause),
            asked_until: if asked.is_zero() { Tick::NEVER } else { tick.after(asked) },
            error: error.clone(),
        }));
        let failures = setbacks.count();
        let retry_in = if left.is_zero() { pause.max(asked) } else { pause };
        Failure { failures, retry_in, holds_token: !left.is_zero() }
    }

    /// Takes a refused token out of service, or has it renewed, unless that is doubtful. Returns
    /// also whether the report is acted on.
    pub(super) fn reject<K>(
        &mut self,
        tenant: &Tenant<K>,
        refusal: Refusal,
        rules: &Rules,
    ) -> (Rejection, Option<Act>) {
        let rejections = self.rejections.get_or_insert_default();
        let backing_off = self.trouble.is_some();
        let now = Instant::now();
        let (outcome, act) =
            rejections.reject(&tenant.slot, refusal, now, &rules.policy, backing_off);
        match act {
            Some(Act::Replace) => {
                self.missing = FetchReason::Rejected;
                self.demand = self.demand.max(Demand::Waits);
                if let Some(trouble) = &mut self.trouble
                    && trouble.error.kind() != ErrorKind::InvalidGrant
                {
                    // It was meant for a renewal, while there was a token.
                    trouble.paused_until = Tick::NEVER;
                }
            }
            // Not while a fetch is under way, which renews it as well.
            Some(Act::Renew) => self.renew |= self.phase != Phase::Fetching,
            Some(Act::Offer) | None => {}
        }
        (outcome, act)
    }

    /// Claims the refused token for one request, which tries it.
    pub(super) fn claim<K>(&mut self, tenant: &Tenant<K>, trial: TrialUse) -> Option<Claim> {
        self.rejections.as_mut()?.claim(&tenant.slot, Instant::now(), trial)
    }

    /// Ends the claim of a caller that takes a token by hand.
    pub(super) fn taken_by_hand(&mut self, epoch: u64, rules: &Rules) {
        if let Some(rejections) = &mut self.rejections {
            rejections.taken_by_hand(epoch, Instant::now(), &rules.policy);
        }
    }

    /// Gives a claim back. `true` if there was one.
    pub(super) fn release(&mut self, claim: u64) -> bool {
        self.rejections.as_mut().is_some_and(|rejections| rejections.release(claim))
    }

    /// The claim of the request that tries the token of this epoch, which was refused before.
    pub(super) fn claim_of<K>(&self, tenant: &Tenant<K>, epoch: u64) -> Option<u64> {
        self.rejections.as_ref()?.claim_of(&tenant.slot, epoch)
    }

    /// Whether a wait for a token newer than this would be in vain.
    pub(super) fn keeps<K>(&self, tenant: &Tenant<K>, epoch: u64) -> bool {
        let slot = &tenant.slot;
        self.rejections.as_ref().is_some_and(|rejections| {
            rejections.keeps(slot, epoch) || rejections.is_given_again(slot, epoch)
        })
    }

    /// Notes that a server accepted a request with the token of this epoch. If that put the token
    /// into service again, returns what is to be told of it.
    pub(super) fn accepted<K>(
        &mut self,
        tenant: &Tenant<K>,
        epoch: u64,
        refused: bool,
        now: Moment,
        rules: &Rules,
    ) -> Option<Event<'static>> {
        let entry = self.rejections.as_mut()?.accepted(epoch, refused, Instant::now())?;
        let (epoch, expires) = (entry.epoch(), entry.validity().expires);
        // Trial -> Fresh: the server was wrong about it, or has changed its mind.
        self.put(tenant, entry);
        let reason = self.missing;
        self.settle();
        Some(Event::Obtained {
            epoch,
            reason,
            lifetime: self.lifetime(rules).unwrap_or(rules.policy.default_lifetime),
            expires_in: expires.remaining(now),
            took: rules.timeline.tick(now).since(self.started),
        })
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// The longest time without a look: the clocks are compared for all tenants at once.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
