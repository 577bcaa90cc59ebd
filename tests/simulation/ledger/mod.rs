//! The ledger: what happened in a run, and whether the invariants held.
//!
//! It believes the world, not the crate: what a server issued, what an API was sent, and when. What
//! the crate says of itself (its events) is checked against that. Nothing here draws or waits, so a
//! bad history can be made up, and must be found; `tests` does that for every check.

mod bodies;
mod facts;
mod grants;
mod refusals;
mod renewals;
mod requests;
mod tests;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    time::Duration,
};

use facts::KeyFacts;
pub(crate) use facts::{Cause, Instance, Key, Outcome, Request, Says, Serial, Times, Token};
pub(crate) use renewals::{Fetched, first_renewal};
pub(crate) use requests::{MOST_WAITING, MOST_WAITING_FOR_TENANT, NUMBERS, Terms};

use crate::{
    history::{History, clock},
    options,
};

/// The invariants, as the table of faults has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// No request is lost.
    I1,
    /// No stale token after its invalidation.
    I2,
    /// An invalidation hits its token and no other.
    I3,
    /// No secret leaks.
    I4,
    /// One token request for each lifetime.
    I5,
    /// Token requests are bounded under failure.
    I6,
    /// A failure never displaces a good token.
    I7,
    /// The newest refresh token survives.
    I8,
    /// The refresher never stops silently.
    I9,
    /// Credentials are not mixed.
    I10,
    /// Resources are bounded.
    I11,
    /// Cancellation is safe.
    I12,
}

/// An invariant that did not hold.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    at: Duration,
    what: String,
    /// How long the history was then.
    line: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) seed: u64,
    pub(crate) now: Times,
    pub(crate) history: History,
    pub(crate) violations: Vec<Violation>,
    /// How often each kind of thing happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Those that have not ended.
    pub(crate) requests: BTreeMap<u64, Request>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) keys: BTreeMap<Key, KeyFacts>,
    pub(crate) tokens: Vec<Token>,
    /// The refresh tokens that were spent, and how.
    pub(crate) spent: BTreeMap<usize, facts::Spent>,
    /// The newest refresh token in each record.
    stored: BTreeMap<(Key, String), usize>,
    /// Boot time at the start and at the end of the last sleep.
    last_sleep: Option<(Duration, Duration)>,
    told: BTreeSet<(Invariant, String)>,
}

impl Ledger {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(crate) fn say(&mut self, line: String) {
        self.history.add(self.now.at, line);
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Checks an invariant.
    pub(crate) fn require(
        &mut self,
        invariant: Invariant,
        holds: bool,
        what: impl FnOnce() -> String,
    ) {
        let known = self.violations.iter().filter(|known| known.invariant == invariant).count();
        if holds || known >= MOST_VIOLATIONS {
            return;
        }
        let what = what();
        self.say(format!("VIOLATION of {invariant:?}: {what}"));
        if self.told.insert((invariant, what.clone())) {
            let (at, line) = (self.now.at, self.history.len());
            self.violations.push(Violation { invariant, at, what, line });
        }
    }

    /// All that went wrong, with what led to it and how to see it again; `None` if nothing did.
    pub(crate) fn report(&self) -> Option<String> {
        let first = self.violations.first()?;
        let mut text = format!("seed {}:\n", self.seed);
        for violation in &self.violations {
            let _ = writeln!(text, "  {violation}");
        }
        let _ = writeln!(text, "history before the first:");
        text.push_str(&self.history.before(first.line, TAIL));
        let _ = write!(text, "again, with all of its history:\n  {}", options::replay(self.seed));
        Some(text)
    }

    /// Whether any violation is of this invariant.
    fn broke(&self, invariant: Invariant) -> bool {
        self.violations.iter().any(|violation| violation.invariant == invariant)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", clock(self.at), self.invariant, self.what)
    }
}

/// Of each invariant.
const MOST_VIOLATIONS: usize = 3;
const TAIL: usize = 60;
