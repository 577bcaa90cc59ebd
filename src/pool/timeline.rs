use std::time::{Duration, SystemTime};

use crate::time::{Clock, Moment};

/// A moment of boot time: milliseconds, counted by a pool. Small, because every tenant has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u64);

impl Tick {
    /// Before everything: "never yet".
    pub(super) const NEVER: Self = Self(0);
    /// After everything: "not planned".
    pub(super) const FAR: Self = Self(u64::MAX);

    /// The first tick that is `by` later: not a moment too soon.
    pub(super) fn after(self, by: Duration) -> Self {
        let milliseconds = by.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(milliseconds).unwrap_or(u64::MAX)))
    }

    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub(super) fn seconds(self) -> u32 {
        u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
    }

    pub(super) fn from_seconds(seconds: u32) -> Self {
        Self(u64::from(seconds) * 1000)
    }

    pub(super) fn milliseconds(self) -> u64 {
        self.0
    }
}

/// Between ticks and moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeline {
    start: Duration,
    boot_counts_sleep: bool,
}

impl Timeline {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { start: clock.now().boot, boot_counts_sleep: clock.boot_counts_sleep() }
    }

    /// A moment as the pool's clock is to be believed.
    pub(super) fn believed(self, moment: Moment) -> Moment {
        if self.boot_counts_sleep { moment.by_boot() } else { moment }
    }

    /// The tick that has begun at a moment.
    pub(super) fn tick(self, moment: Moment) -> Tick {
        let since = (moment.boot + BEGINNING).saturating_sub(self.start);
        Tick(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn boot(self, tick: Tick) -> Duration {
        (self.start + Duration::from_millis(tick.0)).saturating_sub(BEGINNING)
    }

    /// A moment that is judged by boot time alone, as pauses are.
    pub(super) fn boot_only(self, tick: Tick) -> Moment {
        Moment { boot: self.boot(tick), wall: SystemTime::UNIX_EPOCH }
    }

    /// The moment at which `tick` comes, on both clocks as `other` has them.
    pub(super) fn beside(self, other: Moment, tick: Tick) -> Moment {
        let boot = self.boot(tick);
        let before = other.boot.saturating_sub(boot);
        Moment { boot, wall: other.wall.checked_sub(before).unwrap_or(other.wall) }
    }
}

/// What the first tick counts as, so that earlier ones can be told and none of them is "never".
const BEGINNING: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct At(u64);

    impl Clock for At {
        fn now(&self) -> Moment {
            at(self.0)
        }
    }

    fn at(boot: u64) -> Moment {
        let time = Duration::from_millis(boot);
        Moment { boot: time, wall: SystemTime::UNIX_EPOCH + time * 10 }
    }

    #[test]
    fn ticks_and_moments_agree_and_no_duration_is_cut_short() {
        let timeline = Timeline::new(&At(5000));
        let tick = timeline.tick(at(7000));
        assert_eq!(tick.since(timeline.tick(at(5000))), Duration::from_secs(2));
        assert_eq!(timeline.boot_only(tick).boot, at(7000).boot);
        let soon = tick.after(Duration::from_nanos(1));
        assert_eq!(soon.since(tick), Duration::from_millis(1));
        let expires = at(9000);
        let beside = timeline.beside(expires, tick);
        assert_eq!(beside.boot, at(7000).boot);
        assert_eq!(beside.wall, expires.wall - Duration::from_secs(2));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let timeline = Timeline::new(&At(5000));
        assert_eq!(Tick::FAR.after(Duration::MAX), Tick::FAR);
        assert!(timeline.tick(at(0)) > Tick::NEVER);
        assert_eq!(Tick::NEVER.since(Tick::FAR), Duration::ZERO);
    }
}
