use std::time::Duration;

use tokio::time::Instant;

/// How far apart the renewals are that refusals cause.
///
/// The first refusal renews the token at once. A refusal that comes after such a renewal is a sign
/// that it did not help, so each further renewal waits twice as long as the one before it. An API
/// that refuses every token, or each new token for a while, must not flood the authorization server.
///
/// The spacing starts anew when a renewal has helped, or when no refusal came for a while. A refused
/// token leaves service only if no renewal of late was in vain: an API that refuses now and then what
/// others accept must not take the token from them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spacing {
    /// Renewals since the spacing started.
    renewals: u32,
    /// When the last of them started.
    renewed: Option<Instant>,
    /// Whether a renewal may have been in vain: nothing shows that it has helped.
    in_vain: bool,
    /// Whether the next renewal is planned already, because the last one was in vain.
    planned: bool,
    /// Since when no refusal has arrived: the last one, or a later moment before which no token could
    /// be refused.
    quiet_since: Option<Instant>,
}

/// What a refusal leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Take the token out of service and obtain another one.
    Replace,
    /// Obtain another token. The last renewal did not help, so the token may be good elsewhere: it
    /// stays in service meanwhile.
    Renew,
    /// Nothing: too little time has passed since the last renewal.
    Wait,
}

impl Spacing {
    /// Notes a refusal, and decides what it leads to. `doubtful` refusals are only noted.
    ///
    /// `interval` is the shortest time between two renewals. `base` is what is doubled for each
    /// renewal that did not help.
    pub(crate) fn refused(
        &mut self,
        now: Instant,
        doubtful: bool,
        interval: Duration,
        base: Duration,
    ) -> Step {
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let (quiet, elapsed) = (since(self.quiet_since), since(self.renewed));
        self.quiet_since = Some(now);
        let spacing = self.spacing(interval, base);
        if quiet.is_some_and(|quiet| quiet >= spacing.max(QUIET)) {
            self.renewals = 0;
        }
        self.in_vain &= quiet.is_none_or(|quiet| quiet < LONGEST);
        if doubtful || elapsed.is_some_and(|elapsed| elapsed < self.spacing(interval, base)) {
            return Step::Wait;
        }
        self.renewed = Some(now);
        self.renewals = self.renewals.saturating_add(1);
        if std::mem::replace(&mut self.in_vain, true) { Step::Renew } else { Step::Replace }
    }

    /// Notes a renewal that gave the refused token again. Returns how long to wait for the next.
    pub(crate) fn given_again(&mut self, now: Instant, interval: Duration) -> Duration {
        (self.renewed, self.planned) = (Some(now), true);
        let pause = self.spacing(interval, interval);
        self.renewals = self.renewals.saturating_add(1);
        self.in_vain = true;
        pause
    }

    /// Notes a moment up to which the time was not quiet: a refusal arrived while its token is being
    /// renewed, or a token is in service again. Without a token in service there are no refusals.
    pub(crate) fn not_quiet(&mut self, now: Instant) {
        self.quiet_since = self.quiet_since.map(|_| now);
    }

    /// Notes that a token is in service. If a renewal was planned for that, the next one is counted
    /// from here.
    pub(crate) fn in_service(&mut self, now: Instant) {
        if std::mem::take(&mut self.planned) {
            self.renewed = Some(now);
        }
    }

    /// Notes that a request that had been refused was accepted with a newer token.
    pub(crate) fn helped(&mut self) {
        self.renewals = 0;
        self.in_vain = false;
    }

    fn spacing(&self, interval: Duration, base: Duration) -> Duration {
        match self.renewals {
            0 => interval,
            renewals => {
                let doubled = base.max(SHORTEST).saturating_mul(1 << renewals.min(16)).min(LONGEST);
                doubled.max(interval)
            }
        }
    }
}

/// The shortest spacing, whatever the settings say.
const SHORTEST: Duration = Duration::from_millis(100);

/// The longest spacing.
const LONGEST: Duration = Duration::from_secs(300);

/// How long no refusal may arrive, at least, for the spacing to start anew. An API that is asked
/// every few seconds and refuses each time is not quiet.
const QUIET: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The seconds at which a refusal every `period` renews, and how.
    fn renewals(
        spacing: &mut Spacing,
        start: Instant,
        period: u32,
        seconds: u32,
        base: Duration,
    ) -> Vec<u32> {
        (0..seconds)
            .step_by(period as usize)
            .filter(|second| {
                let now = start + SECOND * *second;
                spacing.refused(now, false, SECOND, base) != Step::Wait
            })
            .collect()
    }

    #[test]
    fn f75_renewals_that_do_not_help_are_ever_further_apart() {
        let renewals = renewals(&mut Spacing::default(), Instant::now(), 1, 3600, SECOND);
        assert_eq!(renewals[..10], [0, 2, 6, 14, 30, 62, 126, 254, 510, 810]);
        assert_eq!(renewals.len(), 19);
    }

    #[test]
    fn f75_refusals_that_come_within_half_a_minute_cause_few_renewals() {
        for period in [1, 2, 3, 5, 10, 20, 29] {
            let renewals = renewals(&mut Spacing::default(), Instant::now(), period, 3600, SECOND);
            assert!(renewals.len() <= 20, "every {period} s: {}", renewals.len());
        }
    }

    #[test]
    fn f75_a_path_that_is_refused_once_a_minute_takes_the_token_from_nobody() {
        let (mut spacing, now) = (Spacing::default(), Instant::now());
        let mut at = |minutes| spacing.refused(now + SECOND * 60 * minutes, false, SECOND, SECOND);
        assert_eq!(at(0), Step::Replace);
        assert!((1..60).all(|minute| at(minute) == Step::Renew));
        // After five minutes without one, a refusal is believed again.
        assert_eq!(at(65), Step::Replace);
    }

    #[test]
    fn f75_only_the_first_renewal_takes_the_token_out_of_service() {
        let (mut spacing, now) = (Spacing::default(), Instant::now());
        let mut at = |seconds| spacing.refused(now + SECOND * seconds, false, SECOND, SECOND);
        assert_eq!(at(0), Step::Replace);
        assert_eq!(at(1), Step::Wait);
        assert_eq!(at(2), Step::Renew);
        assert_eq!(at(5), Step::Wait);
        assert_eq!(at(6), Step::Renew);
    }

    #[test]
    fn f75_a_renewal_that_helped_or_a_quiet_time_ends_the_spacing() {
        let (mut spacing, now) = (Spacing::default(), Instant::now());
        let last = *renewals(&mut spacing, now, 1, 100, SECOND).last().unwrap();
        let mut helped = spacing;
        helped.helped();
        let soon = now + SECOND * 100;
        assert!(last < 99);
        assert_eq!(helped.refused(soon, false, SECOND, SECOND), Step::Replace);
        assert_eq!(helped.refused(soon, false, SECOND, SECOND), Step::Wait, "one a second at most");
        assert_eq!(spacing.refused(soon, false, SECOND, SECOND), Step::Wait);
        let later = soon + LONGEST;
        assert_eq!(spacing.refused(later, false, SECOND, SECOND), Step::Replace);
    }

    #[test]
    fn f75_a_renewal_that_was_planned_counts_when_its_token_comes() {
        let (mut spacing, now) = (Spacing::default(), Instant::now());
        assert_eq!(spacing.refused(now, false, SECOND, SECOND), Step::Replace);
        let pause = spacing.given_again(now, SECOND);
        spacing.in_service(now + pause);
        let mut at = |seconds| spacing.refused(now + SECOND * seconds, false, SECOND, SECOND);
        assert_eq!((at(5), at(6)), (Step::Wait, Step::Renew));
        // One that was not planned does not count.
        spacing.helped();
        spacing.in_service(now + SECOND * 20);
        let at = now + SECOND * 20;
        assert_eq!(spacing.refused(at, false, SECOND, SECOND), Step::Replace);
    }

    // A token that was out of service for a minute was refused again at once, and was taken out of
    // service again, as if the minute had been quiet.
    #[test]
    fn f75_time_in_which_no_token_could_be_refused_is_not_quiet() {
        let (mut spacing, now) = (Spacing::default(), Instant::now());
        assert_eq!(spacing.refused(now, false, SECOND, SECOND), Step::Replace);
        spacing.not_quiet(now + SECOND * 60);
        assert_eq!(spacing.refused(now + SECOND * 61, false, SECOND, SECOND), Step::Renew);
        spacing.not_quiet(now + SECOND * 100);
        assert_eq!(spacing.refused(now + SECOND * 130, false, SECOND, SECOND), Step::Renew);
        assert_eq!(spacing.refused(now + SECOND * 430, false, SECOND, SECOND), Step::Replace);
    }

    #[test]
    fn f76_refusals_of_young_tokens_are_noted_and_change_nothing() {
        let (mut spacing, now) = (Spacing::default(), Instant::now());
        for tenth in 0..100 {
            let now = now + SECOND / 10 * tenth;
            assert_eq!(spacing.refused(now, true, SECOND, SECOND), Step::Wait);
        }
        assert_eq!(spacing.refused(now + SECOND * 10, false, SECOND, SECOND * 10), Step::Replace);
        // Without a reason, and every second: the next renewal is twice the minimum age later.
        let mut at = |seconds: u32| {
            let now = now + SECOND * (10 + seconds);
            spacing.refused(now, seconds < 10, SECOND, SECOND * 10)
        };
        assert!((1..20).all(|second| at(second) == Step::Wait));
        assert_eq!(at(20), Step::Renew);
    }
}
