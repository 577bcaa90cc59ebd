use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime},
};

/// What is known of a server's clock: by how much it is ahead of ours.
#[derive(Debug, Default)]
pub(crate) struct ServerClock {
    /// In seconds.
    ahead: AtomicI64,
}

impl ServerClock {
    /// What time the server has.
    pub(crate) fn time(&self, now: SystemTime) -> SystemTime {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let by = Duration::from_secs(ahead.unsigned_abs());
        let time = if ahead < 0 { now.checked_sub(by) } else { now.checked_add(by) };
        time.unwrap_or(now)
    }

    /// Takes the date of an answer for the server's time; `false` if our idea of it was right. Only
    /// what is signed for this very server is dated by it.
    pub(crate) fn correct(&self, date: SystemTime, now: SystemTime) -> bool {
        let (theirs, ours, believed) = (seconds(date), seconds(now), seconds(self.time(now)));
        if theirs.abs_diff(believed) <= TOLERANCE.as_secs() {
            return false;
        }
        let ahead = i64::try_from(i128::from(theirs) - i128::from(ours)).unwrap_or_default();
        let most = MAX_CORRECTION.as_secs().cast_signed();
        self.ahead.store(ahead.clamp(-most, most), Ordering::Relaxed);
        true
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// How far clocks may differ without meaning anything: a `Date` has whole seconds, and servers
/// accept what is some seconds old.
const TOLERANCE: Duration = Duration::from_secs(5);

/// A `Date` further off than this is not believed further than this.
const MAX_CORRECTION: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f54_a_clock_is_corrected_by_a_date_and_not_without_bound() {
        let at = |by: i64| {
            let seconds = 1_000_000_000_u64.saturating_add_signed(by);
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let (clock, now) = (ServerClock::default(), at(0));
        assert!(!clock.correct(at(5), now));
        assert_eq!(clock.time(now), now);
        assert!(clock.correct(at(600), now));
        assert_eq!(clock.time(now), at(600));
        assert!(!clock.correct(at(600), now), "it is right by now");
        assert!(clock.correct(at(-600), now));
        assert_eq!(clock.time(now), at(-600));
        for (by, most) in [(1_000_000, 86_400), (-1_000_000_000, -86_400)] {
            assert!(clock.correct(at(by), now));
            assert_eq!(clock.time(now), at(most));
        }
        assert_eq!(
            clock.time(SystemTime::UNIX_EPOCH).duration_since(now).unwrap_or_default(),
            Duration::ZERO
        );
    }
}
