//! How many fetches may be under way. Called by the ledger.

use std::{collections::BTreeMap, time::Duration};

use super::{queue::Line, rules::Limits, timeline::Tick};

/// The fetches under way, by the age that decides what they count as.
///
/// A server that never answers must not keep the permits of others, and a fetch cannot be dropped: the
/// server may have rotated the refresh token. So a fetch gives its permit up once it is slow:
///
/// - *Quick* fetches, younger than [`SLOW_AFTER`], hold one of the
///   [`max_parallel`](super::TokenPoolBuilder::max_parallel) permits.
/// - *Late* ones have just turned out to be slow. Each of them lends [`LOAN`] further permits for a
///   moment: where many hang, the limit grows by itself until the others have been asked too.
/// - *Slow* ones are bounded by [`max_slow`](super::TokenPoolBuilder::max_slow) only.
///
/// A tenant whose last fetch hung and gave no token ([`SUSPECT_AFTER`]) is a suspect: its fetches count as slow from
/// the start, and have a quarter of `max_slow` in all. Tenants that never had a token have half of it
/// at once, and beyond that an eighth, at the pace at which it becomes free again. The last eighth is
/// left to tenants that had a token.
#[derive(Debug, Default)]
pub(super) struct Permits {
    quick: BTreeMap<u64, Running>,
    late: BTreeMap<u64, Running>,
    slow: BTreeMap<u64, Running>,
    strangers: usize,
    suspects: usize,
    numbers: u64,
    /// When the next stranger may begin, beyond those that may begin at once.
    next_stranger: Option<Tick>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    started: Tick,
    line: Line,
}

impl Permits {
    /// How many fetches are under way.
    pub(super) fn running(&self) -> usize {
        self.quick.len() + self.late.len() + self.slow.len()
    }

    /// When a fetch of this line may begin, as far as time decides; [`Tick::FAR`] if another one has
    /// to end first.
    pub(super) fn opens(&self, line: Line, limits: &Limits) -> Tick {
        let slow = limits.max_slow();
        if self.running() >= limits.max_parallel.saturating_add(slow) {
            return Tick::FAR;
        }
        if line == Line::Suspect {
            return if self.suspects < (slow / 4).max(1) { Tick::NEVER } else { Tick::FAR };
        }
        let loan = LOAN.saturating_mul(self.late.len());
        let main = match self.quick.first_key_value() {
            Some((_, oldest)) if self.quick.len() >= limits.max_parallel.saturating_add(loan) => {
                oldest.started.after(SLOW_AFTER)
            }
            _ => Tick::NEVER,
        };
        let at_once = limits.max_parallel.saturating_add(slow / 2);
        if line != Line::Stranger || self.strangers < at_once {
            main
        } else if self.strangers < at_once + slow / 8 {
            main.max(self.next_stranger.unwrap_or(Tick::NEVER))
        } else {
            Tick::FAR
        }
    }

    /// Begins a fetch. Returns its number.
    pub(super) fn begin(
        &mut self,
        line: Line,
        now: Tick,
        limits: &Limits,
        fetch_timeout: Duration,
    ) -> u64 {
        self.numbers += 1;
        let age = if line == Line::Suspect { &mut self.slow } else { &mut self.quick };
        age.insert(self.numbers, Running { started: now, line });
        self.suspects += usize::from(line == Line::Suspect);
        if line == Line::Stranger {
            self.strangers += 1;
            let paced = u32::try_from(limits.max_slow() / 8).unwrap_or(u32::MAX).max(1);
            self.next_stranger = Some(now.after(fetch_timeout / paced));
        }
        self.numbers
    }

    /// Takes the permit of those fetches that have become slow.
    pub(super) fn age(&mut self, now: Tick) {
        age(&mut self.quick, &mut self.late, now, SLOW_AFTER);
        age(&mut self.late, &mut self.slow, now, LENDS_UNTIL);
    }

    /// Ends a fetch.
    pub(super) fn end(&mut self, number: u64) {
        let ages = [&mut self.quick, &mut self.late, &mut self.slow];
        let Some(ended) = ages.into_iter().find_map(|age| age.remove(&number)) else { return };
        self.strangers -= usize::from(ended.line == Line::Stranger);
        self.suspects -= usize::from(ended.line == Line::Suspect);
    }
}

fn age(
    from: &mut BTreeMap<u64, Running>,
    to: &mut BTreeMap<u64, Running>,
    now: Tick,
    limit: Duration,
) {
    while let Some(first) =
        from.first_entry().filter(|first| first.get().started.after(limit) <= now)
    {
        let (number, running) = first.remove_entry();
        to.insert(number, running);
    }
}

/// From which age on a fetch is slow: more than a token endpoint takes that is in order, new
/// connection included, and little enough for a caller who waits in the queue.
const SLOW_AFTER: Duration = Duration::from_millis(400);

/// From which age on a fetch that fails makes its tenant a suspect, if it was not given up before: its
/// server hangs, or nearly so.
pub(super) const SUSPECT_AFTER: Duration = Duration::from_secs(5);

/// Until which age a slow fetch lends permits.
const LENDS_UNTIL: Duration = Duration::from_millis(1200);

/// How many permits a fetch lends that has become slow: with 32 to begin with, a thousand tenants
/// have been asked after twice [`SLOW_AFTER`].
const LOAN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn at(milliseconds: u64) -> Tick {
        Tick::from_seconds(1000).after(Duration::from_millis(milliseconds))
    }

    /// How many of a line begin now.
    fn fill(permits: &mut Permits, line: Line, now: Tick, limits: &Limits) -> usize {
        permits.age(now);
        let mut begun = 0;
        while permits.opens(line, limits) <= now {
            permits.begin(line, now, limits, TIMEOUT);
            begun += 1;
        }
        begun
    }

    #[test]
    fn f62_where_fetches_hang_the_limit_grows() {
        let (mut permits, limits) = (Permits::default(), Limits::default());
        assert_eq!(fill(&mut permits, Line::Stranger, at(0), &limits), 32);
        assert_eq!(permits.opens(Line::Renewal, &limits), at(400));
        assert_eq!(fill(&mut permits, Line::Stranger, at(399), &limits), 0);
        assert_eq!(fill(&mut permits, Line::Stranger, at(400), &limits), 32 + 5 * 32);
        // Of them all, no more than half of what may be slow.
        assert_eq!(fill(&mut permits, Line::Stranger, at(800), &limits), 1056 - 224);
        // Then one every 117 ms: what an eighth, of 256, allows for in 30 s.
        let begun: usize =
            (800..30_000).map(|now| fill(&mut permits, Line::Stranger, at(now), &limits)).sum();
        assert!((240..=256).contains(&begun), "{begun}");
        assert_eq!(fill(&mut permits, Line::Suspect, at(30_000), &limits), 512);
        assert!(fill(&mut permits, Line::Missed, at(30_000), &limits) >= 32, "of the last eighth");
        assert!(permits.running() <= 32 + limits.max_slow());
    }

    #[test]
    fn whatever_ends_gives_its_permit_back_whatever_its_age() {
        let (mut permits, limits) = (Permits::default(), Limits::default());
        for round in 0..100 {
            let now = at(round * 700);
            permits.age(now);
            for line in [Line::Missed, Line::Renewal, Line::Stranger, Line::Suspect] {
                permits.begin(line, now, &limits, TIMEOUT);
            }
        }
        for number in 0..=500 {
            permits.end(number);
        }
        assert_eq!((permits.running(), permits.strangers, permits.suspects), (0, 0, 0));
    }

    #[test]
    fn without_slow_fetches_the_limit_is_a_hard_one() {
        let limits = Limits { max_parallel: 2, max_slow: Some(0), ..Limits::default() };
        let mut permits = Permits::default();
        let mut begun = 0;
        for second in 0..10 {
            begun += fill(&mut permits, Line::Missed, at(second * 1000), &limits);
        }
        assert_eq!((begun, permits.opens(Line::Missed, &limits)), (2, Tick::FAR));
    }
}
