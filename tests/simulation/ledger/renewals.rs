//! Renewals: how often tokens are asked for, and why.

use std::time::Duration;

use tower_oauth::{ErrorKind, observe::FetchReason};

use super::{
    Cause,
    Invariant::{I5, I6, I7, I10, I12},
    Key, Ledger, Serial, Times, Token,
    facts::{Fetching, Held},
    tokens::{shortest_pause, usable_for},
};

/// A token as a source returned it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetched {
    pub(crate) serial: Serial,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) refresh_in: Option<Duration>,
    /// Tokio's time when it was asked for; and how long that was before the fetch.
    pub(crate) sent: Option<Duration>,
    pub(crate) age: Duration,
}

impl Ledger {
    pub(crate) fn credit(&mut self, key: Key, cause: Cause) {
        self.keys.entry(key).or_default().credits.push((self.now.boot, cause));
    }

    /// The crate asks a source for a token.
    pub(crate) fn fetch_started(
        &mut self,
        instance: usize,
        reason: FetchReason,
        previous: Option<Serial>,
        deadline: Duration,
    ) {
        self.say(format!("{instance} fetches: {reason}"));
        self.count("fetch");
        let now = self.now;
        let holder = &mut self.instances[instance];
        let (key, last) = (holder.key, holder.last_start.replace(now.boot));
        let initial = reason == FetchReason::Initial;
        if holder.left && !holder.persisted {
            // It lives as long as its last request, and has a token of its own.
            self.credit(key, Cause::Started);
            self.credit(key, Cause::Left);
        }
        let holder = &mut self.instances[instance];
        let idle = now.boot - holder.last_use > IDLE;
        let forgotten = holder.pooled && (holder.removed || idle);
        let gap = last.map_or(Duration::from_secs(3600), |last| now.boot - last);
        // As it was when the last one began.
        let current = pace(holder.lifetime);
        let pace = holder.pace.replace(current).unwrap_or_default();
        // A pool reckons with the token that it has by now.
        let pace = if holder.pooled { pace.min(current) } else { pace };
        if initial && (forgotten || holder.lifetime.is_some()) {
            // A tenant that was forgotten has nothing any more, no pause either.
            (holder.refusals, holder.slow_until, holder.told_until) = (0, None, None);
            holder.told_until_with_token = None;
        }
        let slow = holder.slow_until.filter(|_| !holder.requested);
        let (told, told_with) = (holder.told_until.take(), holder.told_until_with_token.take());
        let held = holder.held;
        let told = if held.is_some() { told_with } else { told };
        let told = told.filter(|_| !holder.requested);
        let (twice, asked) = (holder.fetching.is_some(), std::mem::take(&mut holder.requested));
        holder.fetching =
            Some(Fetching { started: now, reason, deadline, jumped: false, requests: 0 });
        let restarts = initial && holder.lifetime.is_some();
        let alone = self.leaves_alone_until(instance).filter(|_| !asked);
        let holder = &mut self.instances[instance];
        let anew = restarts || (initial && forgotten);
        if restarts {
            holder.held = None;
            holder.lifetime = None;
            self.credit(key, Cause::Started);
        }
        if anew {
            self.forget_refusals(instance);
        } else if alone.is_some() {
            self.asks_once_more(instance);
        }
        let early = alone.filter(|from| !anew && now.boot + SLACK < *from);
        self.require(I6, early.is_none(), || {
            format!("{instance} asks {early:?} too soon after it was given its refused token")
        });
        self.require(I5, !restarts || forgotten, || {
            format!("{instance} starts anew, and had no reason to be forgotten")
        });
        self.require(I5, !twice, || format!("{instance} fetches twice at once"));
        self.require(I6, anew || gap + SLACK >= pace, || {
            format!("{instance} fetches {gap:?} after the last time, not {pace:?}")
        });
        self.require(I6, slow.is_none_or(|until| now.boot + SLACK >= until), || {
            format!(
                "{instance} fetches again {:?} too soon after a refusal",
                slow.map(|s| s - now.boot)
            )
        });
        self.require(I6, told.is_none_or(|until| now.boot + SLACK >= until), || {
            format!(
                "{instance} fetches {:?} before the server wants it",
                told.map(|t| t - now.boot)
            )
        });
        self.require(I5, reason != FetchReason::Requested || asked, || {
            format!("{instance} says that somebody asked for a refresh")
        });
        // Only the holder knows when it drew its refresh point; not before three quarters, though.
        if let Some(held) = held.filter(|held| reason == FetchReason::Due && !held.jumped) {
            let first = first_renewal(held.lifetime);
            let renewable = held.refresh_in.map_or(first, |hint| hint.min(first));
            let early = now.boot + SLACK < held.asked + renewable.saturating_sub(held.age);
            self.require(I5, held.failed || !early, || {
                format!("{instance} renews token {} of {:?} too early", held.serial, held.lifetime)
            });
        }
        if let Some(previous) = previous {
            let owner = self.tokens[previous].key;
            self.require(I10, owner == key, || {
                format!("{instance} of key {key} is handed a token of key {owner}")
            });
        }
    }

    /// A source has returned a token.
    pub(crate) fn fetch_succeeded(&mut self, instance: usize, fetched: Fetched) {
        let Fetched { serial, lifetime, sent, .. } = fetched;
        self.say(format!("{instance} fetched token {serial} for {lifetime:?}"));
        let holder = &mut self.instances[instance];
        let Some(fetching) = holder.fetching.take() else { return };
        let Times { at, boot: started } = fetching.started;
        let asked = started + sent.unwrap_or(at).saturating_sub(at);
        self.renewal_ended(instance);
        self.brought(instance, fetched, asked, fetching.jumped);
        self.note_given(instance, serial);
    }

    /// A source was told of a token that another process had stored.
    pub(crate) fn heard(&mut self, instance: usize, heard: Fetched) {
        let Fetched { serial, lifetime, .. } = heard;
        self.say(format!("{instance} hears of token {serial} for {lifetime:?}"));
        self.count("heard");
        self.brought(instance, heard, self.now.boot, false);
    }

    fn brought(&mut self, instance: usize, fetched: Fetched, asked: Duration, jumped: bool) {
        let Fetched { serial, lifetime, refresh_in, age, .. } = fetched;
        let owner = self.tokens[serial].key;
        let holder = &mut self.instances[instance];
        let key = holder.key;
        holder.fetched = Some(Held {
            serial,
            epoch: 0,
            asked,
            age,
            lifetime: lifetime.unwrap_or(DEFAULT_LIFETIME),
            refresh_in,
            came: self.now.at,
            jumped,
            failed: false,
        });
        self.require(I10, owner == key, || {
            format!("{instance} of key {key} fetched a token of key {owner}")
        });
    }

    /// A source has failed.
    pub(crate) fn fetch_failed(&mut self, instance: usize, kind: ErrorKind, retryable: bool) {
        self.say(format!("{instance} fetched nothing: {}", kind.as_str()));
        self.count("failed fetch");
        let boot = self.now.boot;
        let holder = &mut self.instances[instance];
        let Some(fetching) = holder.fetching.take() else { return };
        if let Some(held) = &mut holder.held {
            held.failed = true;
        }
        self.renewal_ended(instance);
        let (left, now) = (self.time_left(instance), self.now);
        let holder = &mut self.instances[instance];
        let key = holder.key;
        if retryable {
            holder.refusals = 0;
            holder.slow_until = None;
        } else if fetching.reason != FetchReason::StepUp {
            let pause = 54.0 * 2_f64.powi(i32::try_from(holder.refusals.min(4)).unwrap_or(4));
            let pause = Duration::from_secs_f64(pause.min(540.0));
            let longest =
                if left.is_zero() { Duration::MAX } else { longest_pause(left, holder.lifetime) };
            holder.slow_until = Some(boot + pause.min(longest));
            // The draw decides whether the pause was cut short.
            holder.refusals += u32::from(pause.mul_f64(1.0 / 0.9) <= longest);
        }
        if fetching.reason != FetchReason::StepUp {
            holder.last_failure = Some(now);
        }
        if fetching.reason == FetchReason::Requested {
            self.credit(key, Cause::Unrefreshed);
        }
    }

    /// A source has panicked.
    pub(crate) fn fetch_panicked(&mut self, instance: usize) {
        self.count("panic");
        // As a failure that may pass: nobody can know.
        self.fetch_failed(instance, ErrorKind::Panic, true);
    }

    /// The future of a fetch was dropped.
    pub(crate) fn fetch_dropped(&mut self, instance: usize) {
        self.say(format!("the fetch of {instance} is dropped"));
        let now = self.now.at;
        let holder = &mut self.instances[instance];
        let Some(fetching) = holder.fetching.take() else { return };
        let allowed = holder.gone || now >= fetching.deadline;
        self.require(I12, allowed, || format!("the fetch of {instance} is dropped by somebody"));
    }

    /// The crate says that a fetch has failed.
    pub(crate) fn failed(
        &mut self,
        instance: usize,
        reason: FetchReason,
        holds_token: bool,
        retry_in: Duration,
    ) {
        self.say(format!("{instance} failed, again in {retry_in:?}, holds one: {holds_token}"));
        let good = self.good(instance);
        self.require(I7, holds_token || good.is_none(), || {
            format!("{instance} gave up token {good:?}, which is good, after a failure")
        });
        let most = Duration::from_secs(3601);
        // A step-up is not tried again; and with a token the renewal comes when it is due.
        let bounded = reason == FetchReason::StepUp || holds_token || retry_in <= most;
        self.require(I6, bounded, || format!("{instance} tries again in {retry_in:?}"));
    }

    /// Until when (in boot time) an instance may wait, for what it was told.
    pub(crate) fn pending_until(&self, instance: usize) -> Duration {
        let holder = &self.instances[instance];
        // The least pause after a refusal is nine tenths of the longest.
        let slow = holder.slow_until.map(|until| until + Duration::from_secs(60));
        // A refused token that the source gave again is tried after the next renewal.
        let alone = self.leaves_alone_until(instance);
        slow.max(holder.told_until).max(alone).unwrap_or_default()
    }

    /// A token request has arrived.
    pub(crate) fn asked(&mut self, instance: usize) {
        self.count("token request");
        let now = self.now.boot;
        let holder = &mut self.instances[instance];
        let told = holder.told_until;
        let requests = holder.fetching.as_mut().map_or(0, |fetching| {
            fetching.requests += 1;
            fetching.requests
        });
        let gone = holder.gone;
        self.say(format!("{instance} asks for a token"));
        self.require(I6, gone || told.is_none_or(|until| now + SLACK >= until), || {
            format!("{instance} asks {:?} before the server wants it", told.map(|t| t - now))
        });
        self.require(I6, requests <= MOST_REQUESTS, || {
            format!("{instance} sends {requests} token requests in one fetch")
        });
    }

    /// The server told a client to wait; with a complete answer.
    pub(crate) fn told_to_wait(&mut self, instance: usize, wait: Duration) {
        self.say(format!("{instance} is told to wait {wait:?}"));
        let wait = wait.min(Duration::from_secs(3600));
        let (left, boot) = (self.time_left(instance), self.now.boot);
        let holder = &mut self.instances[instance];
        holder.told_until = Some(boot + wait);
        holder.told_until_with_token = Some(boot + wait.min(longest_pause(left, holder.lifetime)));
    }

    /// The server issues a token to a request that came at `arrived`; from `due` after that on it
    /// may be renewed. Returns its number.
    pub(crate) fn issued(
        &mut self,
        key: Key,
        arrived: Duration,
        lifetime: Duration,
        due: Duration,
    ) -> Serial {
        let serial = self.tokens.len();
        let now = self.now.boot;
        self.say(format!("token {serial} is issued to key {key} for {lifetime:?}"));
        self.count("issued");
        let facts = self.keys.entry(key).or_default();
        let early = facts.due.saturating_sub(arrived + SLACK);
        let asked_for = self.instances.iter().any(|holder| {
            let fetching = holder.fetching.filter(|_| holder.key == key);
            fetching.is_some_and(|fetching| fetching.reason == FetchReason::Requested)
        });
        let excused = early.is_zero() || asked_for || !facts.credits.is_empty();
        self.tokens.push(Token {
            key,
            issued: now,
            lifetime,
            revoked: false,
            arrived,
            early: !early.is_zero() && !asked_for,
            due: arrived + due,
            set_back: Duration::ZERO,
            slept: false,
        });
        self.require(I5, excused, || {
            format!("token {serial} is issued to key {key} {early:?} before the last is due")
        });
        serial
    }

    /// The server gives a token that it has issued before. Its holder knows only how long it lives
    /// from now on, and may renew it from `due` after now on.
    pub(crate) fn repeated(&mut self, serial: Serial, due: Duration) {
        self.say(format!("token {serial} is given once more"));
        self.count("given once more");
        let token = &mut self.tokens[serial];
        token.due = token.due.min(self.now.boot + due);
        let (key, due) = (token.key, token.due);
        let facts = self.keys.entry(key).or_default();
        if facts.last == Some(serial) {
            facts.due = facts.due.min(due);
        }
    }

    /// All who should know a token do: there is no reason for another one before it is due.
    pub(super) fn arrived(&mut self, serial: Serial) {
        let Token { key, arrived, early, due, .. } = self.tokens[serial];
        let facts = self.keys.entry(key).or_default();
        if facts.last.is_some_and(|last| last >= serial) {
            return;
        }
        facts.last = Some(serial);
        facts.due = due;
        // One token for all that happened before it was asked for; but each process may have met the
        // trouble of a store, a step-up waits for the fetch that is under way, and a token that was
        // asked for while a clock was moved is judged by what it said before.
        let lasts = |cause| {
            use Cause::{Slept, StepUp, StoreTrouble, WallJump};
            matches!(cause, Slept | StepUp | StoreTrouble | WallJump)
        };
        if early {
            let credit = facts.credits.iter().position(|credit| !lasts(credit.1));
            let credit = credit.or((!facts.credits.is_empty()).then_some(0));
            credit.map(|credit| facts.credits.remove(credit));
        }
        facts.credits.retain(|(at, cause)| {
            let stays = matches!(cause, Cause::Unrefreshed | Cause::Left);
            stays || *at > arrived || (lasts(*cause) && *at + TROUBLE_LASTS > arrived)
        });
    }
}

/// After how much of its life a token is renewed, at the earliest.
pub(crate) fn first_renewal(lifetime: Duration) -> Duration {
    let latest = usable_for(lifetime).saturating_sub((lifetime / 8).min(Duration::from_secs(1)));
    lifetime.mul_f64(0.75).min(latest.mul_f64(0.9)).min(latest)
}

/// The longest pause while a token has so much of its time left.
fn longest_pause(left: Duration, lifetime: Option<Duration>) -> Duration {
    (left / 2).max(shortest_pause(lifetime.unwrap_or(DEFAULT_LIFETIME)))
}

/// The shortest time between two fetches.
pub(super) fn pace(lifetime: Option<Duration>) -> Duration {
    let (least, most) = (Duration::from_millis(100), Duration::from_millis(500));
    lifetime.map_or(most, |lifetime| (lifetime / 20).clamp(least, most))
}

/// In one fetch: the first, one more for an answer that was lost or a secret that was replaced, and
/// the same for a grant that somebody gave again.
const MOST_REQUESTS: u32 = 4;
/// After how long without use a pool may forget a tenant.
pub(super) const IDLE: Duration = Duration::from_secs(3600);
/// How long such a thing may lead to a fetch.
const TROUBLE_LASTS: Duration = Duration::from_secs(120);
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
const SLACK: Duration = Duration::from_millis(20);
