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
/// A tenant whose last fetch hung and gave no token ([`SUSPECT_AFTER`]) is a suspect: its fetches count as
/// slow from the start, and have a quarter of `max_slow` at most.
///
/// Tenants that had a token, tenants that never had one and suspects each have a share of `max_slow` that
/// is left free for them ([`most`](Self::most)), and take what the others leave. The last eighth of what
/// is there for tenants that never had a token is lent at the pace at which it becomes free again.
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
        let most = self.most(line, limits);
        let running = match line {
            Line::Suspect => self.suspects,
            Line::Stranger => self.strangers,
            Line::Missed | Line::Renewal => self.regulars(),
        };
        if running >= most {
            return Tick::FAR;
        }
        if line == Line::Suspect {
            return Tick::NEVER;
        }
        let loan = LOAN.saturating_mul(self.late.len());
        let main = match self.quick.first_key_value() {
            Some((_, oldest)) if self.quick.len() >= limits.max_parallel.saturating_add(loan) => {
                oldest.started.after(SLOW_AFTER)
            }
            _ => Tick::NEVER,
        };
        let paced = line == Line::Stranger && running >= most.saturating_sub(limits.max_slow() / 8);
        let next = self.next_stranger.filter(|_| paced);
        main.max(next.unwrap_or(Tick::NEVER))
    }

    /// How many of a line may be under way. What others have, and the shares that are kept for them, is
    /// not theirs: however many fetches of one line hang, those of the others begin.
    fn most(&self, line: Line, limits: &Limits) -> usize {
        let slow = limits.max_slow();
        let regulars = self.regulars().max(slow / 8);
        let strangers = self.strangers.max(slow / 4);
        let suspects = self.suspects.max(slow / 64);
        let (others, most) = match line {
            Line::Missed | Line::Renewal => (strangers + suspects, usize::MAX),
            Line::Stranger => (regulars + suspects, usize::MAX),
            Line::Suspect => (regulars + strangers, (slow / 4).max(1)),
        };
        limits.max_parallel.saturating_add(slow).saturating_sub(others).min(most)
    }

    /// How many fetches of tenants that had a token are under way.
    fn regulars(&self) -> usize {
        self.running() - self.strangers - self.suspects
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
        assert_eq!(fill(&mut permits, Line::Stranger, at(800), &limits), 32 + 5 * 224);
        // No more than the shares of the others leave, less an eighth.
        assert_eq!(fill(&mut permits, Line::Stranger, at(1200), &limits), 1536 - 1376);
        // Then one every 117 ms: what an eighth, of 256, allows for in 30 s.
        let begun: usize =
            (1200..30_000).map(|now| fill(&mut permits, Line::Stranger, at(now), &limits)).sum();
        assert!((240..=256).contains(&begun), "{begun}");
        let suspects = fill(&mut permits, Line::Suspect, at(30_000), &limits);
        assert!((32..=64).contains(&suspects), "{suspects}");
        assert!(fill(&mut permits, Line::Missed, at(30_000), &limits) >= 32, "of their eighth");
        assert!(permits.running() <= 32 + limits.max_slow());
    }

    #[test]
    fn f62_whatever_hangs_leaves_the_shares_of_the_others() {
        for parallel in [1, 2, 8, 32] {
            let limits = Limits { max_parallel: parallel, ..Limits::default() };
            let slow = limits.max_slow();
            let shares =
                [(Line::Renewal, slow / 8), (Line::Stranger, slow / 4), (Line::Suspect, slow / 64)];
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let mut permits = Permits::default();
                for (round, (line, share)) in (0..).zip(order.map(|at| shares[at])) {
                    let seconds = round * 3_600_000..round * 3_600_000 + 200_000;
                    let begun: usize = seconds
                        .step_by(100)
                        .map(|now| fill(&mut permits, line, at(now), &limits))
                        .sum();
                    assert!(begun >= share, "{parallel}, {order:?}: {line:?} has {begun}");
                }
                assert_eq!(permits.running(), parallel + slow);
            }
        }
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
