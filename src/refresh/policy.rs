use std::{ops::Range, time::Duration};

use super::begun::Begun;
use crate::{
    error::{ConfigError, Error, ErrorKind},
    time::{Moment, full_jitter, spread},
    token::TokenSet,
};

/// How eagerly tokens are renewed and how patiently failures are retried.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// The lifetime of a token that came without one.
    pub(crate) default_lifetime: Duration,
    /// The part of the lifetime that is left at the refresh point; drawn once per token.
    pub(crate) margin: Range<f64>,
    /// The longest margin.
    pub(crate) max_margin: Duration,
    /// How long one fetch may take.
    pub(crate) fetch_timeout: Duration,
    /// Back-off after failures that may pass by themselves.
    pub(crate) backoff: Range<Duration>,
    /// Back-off after failures that somebody has to mend.
    pub(crate) slow_backoff: Range<Duration>,
    /// The shortest time between two rejections that are acted on.
    pub(crate) rejection_interval: Duration,
    /// How long `ready()` and `token()` wait.
    pub(crate) wait: Duration,
    /// How many callers may wait at once.
    pub(crate) max_waiting: usize,
}

/// What is planned for a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// How long it lives in all.
    pub(crate) lifetime: Duration,
    /// When it was asked for, but not before the fetch that gave it.
    pub(crate) sent: Moment,
    /// How long after that it is renewed.
    pub(crate) refresh_after: Duration,
    /// Until when it is served.
    pub(crate) expires: Moment,
}

impl Schedule {
    /// Whether less is left of a token's life than any token is served for. A source of its own gives
    /// no such token; another process may have stored it a while ago.
    pub(crate) fn is_spent(&self, now: Moment) -> bool {
        self.expires.by_boot().remaining(now).min(self.lifetime) < MIN_INTERVAL
    }

    /// Checks that a token has not expired by the time that it is there.
    pub(crate) fn check_alive(&self, now: Moment) -> Result<(), Error> {
        if !self.expires.by_boot().remaining(now).is_zero() {
            return Ok(());
        }
        let lifetime = self.lifetime.as_secs();
        let message = format!(
            "the token had expired when it arrived: nothing was left of the {lifetime} s that it lives"
        );
        Err(Error::new(ErrorKind::UnusableToken, message))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            default_lifetime: Duration::from_secs(3600),
            margin: 0.15..0.25,
            max_margin: Duration::from_secs(3600),
            fetch_timeout: Duration::from_secs(30),
            backoff: MIN_INTERVAL..Duration::from_secs(30),
            slow_backoff: Duration::from_secs(60)..Duration::from_secs(600),
            rejection_interval: Duration::from_secs(1),
            wait: Duration::from_secs(30),
            max_waiting: 10_000,
        }
    }
}

impl Policy {
    /// Sets the margin, if it is one.
    pub(crate) fn set_margin(&mut self, margin: Range<f64>) -> Result<(), ConfigError> {
        if !(FLIGHT_SHARE <= margin.start && margin.start <= margin.end && margin.end < 1.0) {
            return Err(ConfigError::Setting {
                name: "margin",
                value: format!("{margin:?}"),
                reason: "it is a part of the lifetime, from 0.05 to less than 1, such as 0.15..0.25",
            });
        }
        self.margin = margin;
        Ok(())
    }

    /// Sets the longest margin, if a renewal can be made within it.
    pub(crate) fn set_max_margin(&mut self, margin: Duration) -> Result<(), ConfigError> {
        if margin < MIN_MAX_MARGIN {
            return Err(ConfigError::Setting {
                name: "max_margin",
                value: format!("{margin:?}"),
                reason: "a renewal takes time: the longest margin is at least 10 s",
            });
        }
        self.max_margin = margin.min(FOR_EVER);
        Ok(())
    }

    /// Plans the life of a token. `draw` is uniform in 0..1.
    pub(crate) fn schedule(&self, token: &TokenSet, begun: &Begun, draw: f64) -> Schedule {
        let lifetime = token.lifetime().unwrap_or(self.default_lifetime).min(FOR_EVER);
        // RFC 6749 §5.1: "The lifetime in seconds of the access token", "from the time the response
        // was generated". That time is not known; the one when the request was sent is before it.
        let sent = token.sent_at().unwrap_or(begun.started);
        // A source may have had it for longer.
        let age = begun.started.saturating_duration_since(sent);
        let sent = begun.moment.after(sent.saturating_duration_since(begun.started));
        let refresh_after = self.refresh_after(lifetime, token.refresh_in(), draw);
        Schedule {
            lifetime,
            sent,
            refresh_after: refresh_after.saturating_sub(age),
            expires: Self::expiry(lifetime, sent, age),
        }
    }

    /// After how much of its lifetime a token is renewed. `draw` is uniform in 0..1: tokens that were
    /// obtained together are not renewed together, whatever set the time.
    fn refresh_after(&self, lifetime: Duration, hint: Option<Duration>, draw: f64) -> Duration {
        // What is left when it is renewed is counted from the end of its life; but a renewal takes time
        // before the token goes out of service.
        let latest = Self::usable_for(lifetime).saturating_sub((lifetime / 8).min(MIN_FLIGHT));
        let base = if self.max_margin < lifetime.mul_f64(self.margin.end) {
            // The lifetime of which the largest margin is the longest one that is allowed.
            self.max_margin.div_f64(self.margin.end)
        } else {
            lifetime
        };
        let before = |share: f64| lifetime.saturating_sub(base.mul_f64(share));
        let last = before(self.margin.start).min(latest);
        let mut first = before(self.margin.end);
        if first >= last && latest <= first {
            // No room is left of the margin: a tenth, within the longest one.
            first = last.mul_f64(0.9).max(lifetime.saturating_sub(self.max_margin)).min(last);
        }
        let point = match hint.filter(|hint| *hint < last) {
            Some(hint) => spread(hint..last.min(hint.saturating_add(hint / 10)), draw),
            None => spread(first..last, draw),
        };
        point.max(MIN_INTERVAL)
    }

    /// How long a token is served: its lifetime, less what a request may take to arrive. That is a
    /// twentieth of the lifetime, but a second at least, since servers cut expiry to whole seconds,
    /// and 5 s at most; and of a token that lives for less than 4 s a quarter.
    ///
    /// A shorter one than [`MIN_INTERVAL`] could not serve even the request that waited for it.
    fn usable_for(lifetime: Duration) -> Duration {
        if lifetime.is_zero() {
            return Duration::ZERO;
        }
        let flight = lifetime.mul_f64(FLIGHT_SHARE).clamp(MIN_FLIGHT, MAX_FLIGHT).min(lifetime / 4);
        lifetime.saturating_sub(flight).max(MIN_INTERVAL)
    }

    /// Until when a token is served that was asked for at `sent`, or `age` before that.
    fn expiry(lifetime: Duration, sent: Moment, age: Duration) -> Moment {
        let usable = Self::usable_for(lifetime);
        match usable.checked_sub(age) {
            Some(left) => sent.after(left),
            // In the past: not even a clock that is read a few milliseconds late takes it for good.
            None => sent.before(age.saturating_sub(usable)),
        }
    }

    /// The shortest time from the start of one fetch to the next. Where tokens live for seconds, it
    /// is a part of that: a failed renewal leaves room for another before the token expires.
    pub(crate) fn pace(&self, lifetime: Option<Duration>) -> Duration {
        let pace = self.backoff.start;
        lifetime.map_or(pace, |lifetime| pace.min(lifetime / 20).max(MIN_PACE))
    }

    /// The shortest pause after an error that needs an operator, and after a request of the server
    /// to wait, while a token is held: a second, and less for tokens that live for less than 20 s.
    pub(crate) fn shortest_pause(&self, lifetime: Option<Duration>) -> Duration {
        let pace = self.pace(lifetime);
        if lifetime.is_some_and(|lifetime| lifetime < SHORT_LIFE) { pace / 2 } else { pace * 2 }
    }

    /// How long to wait after the `failures`th failure in a row that may pass by itself.
    ///
    /// `lifetime` is that of the last token. `left` is what is left of the current token's life: at
    /// least one more attempt is made before it ends.
    pub(crate) fn backoff(
        &self,
        failures: u32,
        lifetime: Option<Duration>,
        left: Duration,
        draw: f64,
    ) -> Duration {
        let floor = self.pace(lifetime);
        let pause = full_jitter(failures, &(floor..self.backoff.end), draw);
        if left.is_zero() { pause } else { pause.min(left / 2).max(floor) }
    }

    /// How long to wait after the `failures`th failure in a row that somebody has to mend.
    pub(crate) fn slow_backoff(&self, failures: u32, draw: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let pause = self.slow_backoff.start.saturating_mul(1 << doublings);
        let pause = pause.min(self.slow_backoff.end);
        spread(pause.mul_f64(0.9)..pause, draw)
    }
}

/// The shortest life of a token: what keeps a server that issues tokens without one from being
/// flooded.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// A token that lives for less than this may have too little time left for a second attempt after a
/// second.
const SHORT_LIFE: Duration = Duration::from_secs(20);

/// The shortest pace, for tokens that live for seconds.
const MIN_PACE: Duration = Duration::from_millis(100);

/// The part of its lifetime for which a token is not served, since a request is under way.
const FLIGHT_SHARE: f64 = 0.05;

/// The shortest time that a request is taken to be under way, if the token lives for long enough.
const MIN_FLIGHT: Duration = Duration::from_secs(1);

/// The least that the longest margin may be: the flight, and as much for the renewal.
const MIN_MAX_MARGIN: Duration = Duration::from_secs(10);

/// No token lives for longer.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The longest time that a request is taken to be under way.
const MAX_FLIGHT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn f71_a_margin_is_a_part_of_the_lifetime_that_leaves_time_for_a_renewal() {
        let mut policy = Policy::default();
        for margin in [0.05..0.05, 0.1..0.2, 0.5..0.999] {
            policy.set_margin(margin.clone()).unwrap();
            assert_eq!(policy.margin, margin);
        }
        for margin in [0.0..0.0, 0.0..0.2, -0.1..0.2, 0.2..0.1, 0.5..1.0, 0.1..f64::NAN] {
            assert!(policy.set_margin(margin.clone()).is_err(), "{margin:?}");
        }
        assert!(policy.set_margin(f64::NAN..0.1).is_err());
        assert_eq!(policy.margin, 0.5..0.999);
        assert!(policy.set_max_margin(secs(9)).is_err());
        policy.set_max_margin(secs(10)).unwrap();
        assert_eq!(policy.max_margin, secs(10));
    }

    #[test]
    fn a_token_is_renewed_between_three_and_four_fifths_of_its_life() {
        let policy = Policy::default();
        let point = |lifetime, draw| policy.refresh_after(secs(lifetime), None, draw);
        assert_eq!((point(1000, 0.0), point(1000, 1.0)), (secs(750), secs(850)));
        // The margin is at most an hour.
        assert_eq!(point(100 * 3600, 0.0), secs(99 * 3600));
        assert_eq!(point(100 * 3600, 1.0), secs(99 * 3600 + 24 * 60));
    }

    // The margin lay inside the allowance for the flight: the token expired unrenewed.
    #[test]
    fn f71_every_token_is_renewed_before_it_goes_out_of_service() {
        let mut policy = Policy::default();
        for margin in [0.05..0.05, 0.15..0.25, 0.9..0.99] {
            policy.set_margin(margin).unwrap();
            for max_margin in [10, 60, 3600] {
                policy.set_max_margin(secs(max_margin)).unwrap();
                for lifetime in [1, 2, 3, 4, 5, 10, 20, 60, 300, 3600, 100 * 3600] {
                    let lifetime = secs(lifetime);
                    for hint in [None, Some(secs(1)), Some(lifetime / 2), Some(lifetime)] {
                        for draw in [0.0, 0.5, 1.0] {
                            let point = policy.refresh_after(lifetime, hint, draw);
                            let left = Policy::usable_for(lifetime).checked_sub(point);
                            let before = lifetime.saturating_sub(point);
                            let early = hint.is_none() && before > secs(max_margin);
                            assert!(!early, "{lifetime:?} {draw}: {point:?}");
                            let least = (lifetime / 8).min(secs(1));
                            assert!(
                                left.is_some_and(|left| left >= least) || point == MIN_INTERVAL,
                                "{lifetime:?} {hint:?} {draw}: {point:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn trs_08_the_servers_hint_is_the_earliest_refresh_point() {
        let policy = Policy::default();
        assert_eq!(policy.refresh_after(secs(1000), Some(secs(400)), 0.0), secs(400));
        assert_eq!(policy.refresh_after(secs(1000), Some(secs(400)), 1.0), secs(440));
        assert_eq!(policy.refresh_after(secs(1000), Some(secs(800)), 1.0), secs(850));
        assert_eq!(policy.refresh_after(secs(1000), Some(secs(1000)), 1.0), secs(850));
    }

    #[test]
    fn trs_06_the_flight_allowance_is_a_part_of_the_lifetime_and_a_second_at_least() {
        assert_eq!(Policy::usable_for(secs(3600)), secs(3595));
        assert_eq!(Policy::usable_for(secs(40)), secs(38));
        assert_eq!(Policy::usable_for(secs(10)), secs(9));
        assert_eq!(Policy::usable_for(secs(4)), secs(3));
        assert_eq!(Policy::usable_for(secs(2)), Duration::from_millis(1500));
        assert_eq!(Policy::usable_for(Duration::from_nanos(1)), MIN_INTERVAL);
        assert_eq!(Policy::usable_for(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn f53_a_token_that_was_asked_for_long_ago_has_expired_and_does_not_expire_now() {
        let now = Moment { boot: secs(5000), wall: SystemTime::UNIX_EPOCH + secs(9000) };
        let left = |age| Policy::expiry(secs(100), now, secs(age)).remaining(now);
        assert_eq!((left(0), left(60), left(95)), (secs(95), secs(35), secs(0)));
        let past = Policy::expiry(secs(100), now, secs(105));
        assert_eq!((past.boot, past.wall), (secs(4990), SystemTime::UNIX_EPOCH + secs(8990)));
        assert_eq!(Policy::expiry(secs(100), now, Duration::MAX).boot, Duration::ZERO);
    }

    #[test]
    fn one_more_attempt_is_made_before_the_token_expires() {
        let policy = Policy::default();
        for left in [2, 10, 60] {
            let pause = policy.backoff(10, Some(secs(3600)), secs(left), 1.0);
            assert!(pause <= secs(left) / 2, "{left}: {pause:?}");
        }
        assert_eq!(policy.backoff(10, Some(secs(3600)), Duration::ZERO, 1.0), secs(30));
    }

    #[test]
    fn a_refusal_is_retried_after_a_minute_and_then_ever_more_slowly() {
        let policy = Policy::default();
        let pauses: Vec<_> =
            [1, 2, 3, 4, 5, 99].map(|failures| policy.slow_backoff(failures, 1.0).as_secs()).into();
        assert_eq!(pauses, [60, 120, 240, 480, 600, 600]);
    }

    /// A thousand replicas that start together do not refresh together, whatever sets the time.
    #[test]
    fn f30_refreshes_of_many_replicas_are_spread() {
        let policy = Policy::default();
        // The window is a tenth of the lifetime, or of the one of which an hour is the margin, or of
        // the server's hint.
        for (lifetime, hint, window) in [
            (3600, None, 360.0),
            (3600, Some(1800), 180.0),
            (24 * 3600, Some(12 * 3600), 4320.0),
            (24 * 3600, None, 1440.0),
        ] {
            let mut random = fastrand::Rng::with_seed(30);
            let mut per_second = std::collections::HashMap::new();
            for _ in 0..1000 {
                let point = policy.refresh_after(secs(lifetime), hint.map(secs), random.f64());
                *per_second.entry(point.as_secs()).or_insert(0) += 1;
            }
            let mean: f64 = 1000.0 / window;
            let peak = per_second.values().max().copied().unwrap_or_default();
            assert!(
                f64::from(peak) <= (4.0 * mean).max(6.0),
                "{lifetime}: {peak}, {mean} on average"
            );
        }
    }
}
