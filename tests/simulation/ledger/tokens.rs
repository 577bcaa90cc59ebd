//! Tokens at their holders: that only bad ones are taken out.

use std::time::Duration;

use super::{
    Cause,
    Invariant::{I2, I3, I7},
    Key, Ledger, Serial, Times,
    facts::Held,
    renewals::pace,
};

impl Ledger {
    /// The token that a holder can use for sure; `None` if there is none, or it cannot be told.
    pub(crate) fn good(&self, instance: usize) -> Option<Serial> {
        let holder = &self.instances[instance];
        // A store tells the age of a token by the wall clock.
        let unknown = |held: &Held| (held.jumped && holder.persisted) || holder.gone;
        let held = holder.held.filter(|held| !unknown(held))?;
        (self.now.boot + SLACK < held.expires()).then_some(held.serial)
    }

    /// How much of its time the token of a holder has left.
    pub(super) fn time_left(&self, instance: usize) -> Duration {
        let held = self.instances[instance].held;
        held.map_or(Duration::ZERO, |held| held.expires().saturating_sub(self.now.boot))
    }

    pub(crate) fn obtained(&mut self, instance: usize, epoch: u64) {
        let holder = &mut self.instances[instance];
        let Some(fetched) = holder.fetched.take() else {
            let what = || format!("{instance} has token {epoch} from nowhere");
            return self.require(I2, false, what);
        };
        holder.epochs.insert(fetched.serial, epoch);
        holder.since.entry(epoch).or_insert(fetched.came);
        holder.held = Some(Held { epoch, ..fetched });
        holder.removed = false;
        holder.lifetime = Some(fetched.lifetime);
        holder.refusals = 0;
        holder.slow_until = None;
        (holder.told_until, holder.told_until_with_token) = (None, None);
        holder.last_failure = None;
        let up_to = holder.invalid_up_to;
        let back = holder.rejected.contains(&fetched.serial);
        self.note_service(instance);
        self.require(I2, !back, || {
            format!("{instance} has token {} again, which it has rejected", fetched.serial)
        });
        self.require(I3, epoch > up_to, || format!("{instance} has token {epoch} after {up_to}"));
        self.say(format!("{instance} has token {} as {epoch}", fetched.serial));
    }

    /// When (in boot time) the last token of a holder was issued.
    pub(crate) fn newest_issued(&self, instance: usize) -> Duration {
        let newest = self.instances[instance].epochs.iter().max_by_key(|(_, epoch)| **epoch);
        newest.map_or(Duration::ZERO, |(serial, _)| self.tokens[*serial].issued)
    }

    /// The crate took a refused token out.
    pub(crate) fn rejected(&mut self, instance: usize, epoch: u64) {
        self.say(format!("{instance} rejects {epoch}"));
        self.count("rejected");
        let holder = &mut self.instances[instance];
        let was_refused = holder.refused.contains(&epoch);
        holder.invalid_up_to = holder.invalid_up_to.max(epoch);
        let current = holder.held.map(|held| held.epoch);
        let serial = holder.epochs.iter().find(|(_, known)| **known == epoch).map(|(s, _)| *s);
        let key = holder.key;
        holder.rejected.extend(serial);
        if current == Some(epoch) {
            holder.held = None;
            // A pause that was meant for a renewal, while there was a token.
            holder.slow_until = None;
        }
        self.require(I3, was_refused, || format!("{instance} discards {epoch}, refused by nobody"));
        self.require(I3, current.is_none_or(|current| current == epoch), || {
            format!("{instance} discards {epoch}, but its token is {current:?}")
        });
        self.credit_rejection(key, serial);
        self.renews_refused(instance, true);
    }

    /// The crate renews a refused token, which stays in service meanwhile.
    pub(crate) fn renewing(&mut self, instance: usize, epoch: u64) {
        self.say(format!("{instance} renews {epoch}, which was refused"));
        self.count("renewing");
        let holder = &self.instances[instance];
        let was_refused = holder.refused.contains(&epoch);
        let current = holder.held.map(|held| held.epoch);
        let serial = holder.epochs.iter().find(|(_, known)| **known == epoch).map(|(s, _)| *s);
        let key = holder.key;
        self.require(I3, was_refused, || format!("{instance} renews {epoch}, refused by nobody"));
        self.require(I3, current.is_none_or(|current| current == epoch), || {
            format!("{instance} renews {epoch}, but its token is {current:?}")
        });
        self.credit_rejection(key, serial);
        self.renews_refused(instance, false);
    }

    /// For each token once, however many processes have it.
    fn credit_rejection(&mut self, key: Key, serial: Option<Serial>) {
        let facts = self.keys.entry(key).or_default();
        if serial.is_some_and(|serial| facts.rejected.insert(serial)) {
            self.credit(key, Cause::Rejected);
        }
    }

    /// Somebody is about to reject a token.
    pub(crate) fn rejecting(&mut self, instance: usize, epoch: u64) {
        self.say(format!("somebody rejects {epoch} at {instance}"));
        self.instances[instance].refused.insert(epoch);
        self.note_refusal(instance, epoch);
    }

    /// The crate took an expired token out.
    pub(crate) fn expired(&mut self, instance: usize, epoch: u64) {
        self.say(format!("{instance}: {epoch} has expired"));
        self.count("expired");
        let good = self.good(instance);
        self.check_tried(instance);
        let holder = &mut self.instances[instance];
        if holder.held.is_some_and(|held| held.epoch == epoch) {
            holder.held = None;
        }
        self.require(I7, good.is_none(), || format!("{instance} drops {good:?} before its end"));
    }

    /// Whatever was said, one attempt is made before a token expires.
    fn check_tried(&mut self, instance: usize) {
        let holder = &self.instances[instance];
        let Some((failed, held)) = holder.last_failure.zip(holder.held) else { return };
        let since = Times { at: self.now.at - failed.at, boot: self.now.boot - failed.boot };
        // Timers stand still while the machine sleeps, and a pool lets tokens run out that nobody
        // uses. A token that was given again has a pause of its own.
        let slept = since.boot > since.at + SLACK;
        let alone = holder.refusals_seen.is_given_again() || held.jumped;
        if slept || alone || holder.pooled || holder.fetching.is_some() {
            return;
        }
        let most = shortest_pause(held.lifetime) + SLACK;
        self.require(I7, since.at <= most, || {
            format!("{instance} was last tried {:?} before its token expired", since.at)
        });
    }

    /// What a holder shows, against what it should have.
    pub(crate) fn shows(&mut self, instance: usize, epoch: Option<u64>) {
        let Some(serial) = self.good(instance) else { return };
        let should = self.instances[instance].epochs.get(&serial).copied();
        self.require(I7, epoch == should, || {
            format!("{instance} shows {epoch:?} instead of {should:?}, which is good")
        });
    }

    /// The machine was asleep for so long.
    pub(crate) fn slept(&mut self, time: Duration) {
        self.say(format!("the machine has slept for {time:?}"));
        self.count("suspend");
        let end = self.now.boot;
        let start = self.as_used(end.saturating_sub(time));
        self.last_sleep = Some((start, end));
        self.tokens.iter_mut().for_each(|token| token.slept = true);
        // And for each fetch under way: whatever it brings is as old as the sleep.
        for key in self.keys.keys().copied().chain(self.fetching()).collect::<Vec<_>>() {
            self.credit(key, Cause::Slept);
        }
    }

    /// The key of each fetch that is under way.
    fn fetching(&self) -> impl Iterator<Item = Key> {
        self.instances.iter().filter(|holder| holder.fetching.is_some()).map(|holder| holder.key)
    }

    /// The wall clock was set, at all holders.
    pub(crate) fn wall_jumped(&mut self, seconds: i64) {
        self.say(format!("the wall clock is set by {seconds} s"));
        self.count("wall clock set");
        for holder in &mut self.instances {
            if let Some(fetching) = &mut holder.fetching {
                fetching.jumped = true;
            }
            for held in [&mut holder.held, &mut holder.fetched].into_iter().flatten() {
                held.jumped = true;
            }
        }
        // And for each fetch under way, whose token seems to be as old as the jump.
        for key in self.keys.keys().copied().chain(self.fetching()).collect::<Vec<_>>() {
            self.credit(key, Cause::WallJump);
        }
        if seconds < 0 {
            for token in &mut self.tokens {
                token.set_back += Duration::from_secs(seconds.unsigned_abs());
            }
        }
    }
}

/// How long a token is served at least: its lifetime, less what a request may take to arrive.
pub(super) fn usable_for(lifetime: Duration) -> Duration {
    let second = Duration::from_secs(1);
    lifetime - (lifetime / 20).clamp(second, second * 5).min(lifetime / 4)
}

/// The shortest pause after an error that needs an operator, while there is a token.
pub(super) fn shortest_pause(lifetime: Duration) -> Duration {
    pace(Some(lifetime)) * 2
}

impl Held {
    /// Boot time until which it is served.
    pub(super) fn expires(&self) -> Duration {
        (self.asked + usable_for(self.lifetime)).saturating_sub(self.age)
    }
}

/// What timers may be late by.
const SLACK: Duration = Duration::from_millis(20);
