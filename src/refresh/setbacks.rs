use std::time::Duration;

use tokio::time::Instant;

use super::policy::Policy;
use crate::error::Error;

/// Failures in a row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setbacks {
    failures: u32,
    /// For how many of them the pause was the long one, of errors that need an operator.
    long_pauses: u32,
}

/// What is left of a token's life when a renewal fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remains {
    /// The whole life of the last token, if there has been one.
    pub(crate) lifetime: Option<Duration>,
    /// What is left of the current one; zero if there is none.
    pub(crate) left: Duration,
}

/// How long to wait after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    /// Until the next attempt.
    pub(crate) pause: Duration,
    /// How long the authorization server asked for no requests. It counts in full once there is no
    /// token; while there is one, as much of it as the token has time for is in `pause`.
    pub(crate) asked: Duration,
}

impl Setbacks {
    /// Notes a failure, and plans the next attempt. `draw` is uniform in 0..1.
    ///
    /// While a token is held, one more attempt is always made before it expires: the error may be
    /// that of a proxy, or have passed.
    pub(crate) fn fail(
        &mut self,
        error: &Error,
        remains: Remains,
        policy: &Policy,
        draw: f64,
    ) -> Pause {
        let Remains { lifetime, left } = remains;
        self.failures = self.failures.saturating_add(1);
        let asked = error.retry_at().map_or(Duration::ZERO, |at| {
            let shortest = policy.pace(lifetime);
            at.saturating_duration_since(Instant::now()).clamp(shortest, MAX_RETRY_AFTER)
        });
        let is_long = !error.is_retryable();
        let own = if is_long {
            policy.slow_backoff(self.long_pauses.saturating_add(1), draw)
        } else {
            self.long_pauses = 0;
            policy.backoff(self.failures, lifetime, left, draw)
        };
        if left.is_zero() {
            self.long_pauses = self.long_pauses.saturating_add(u32::from(is_long));
            return Pause { pause: own, asked };
        }
        let longest = (left / 2).max(policy.shortest_pause(lifetime));
        // A pause that was cut short is no sign that the next one has to be longer.
        self.long_pauses = self.long_pauses.saturating_add(u32::from(is_long && own <= longest));
        Pause { pause: own.max(asked).min(longest), asked }
    }

    /// Notes a failure that has a pause of its own.
    pub(crate) fn note(&mut self, pause: Duration) -> Pause {
        self.failures = self.failures.saturating_add(1);
        self.long_pauses = 0;
        Pause { pause, asked: Duration::ZERO }
    }

    /// How many there are.
    pub(crate) fn count(self) -> u32 {
        self.failures
    }
}

/// Longer than this, no server can have meant.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn remains(left: u64) -> Remains {
        Remains { lifetime: Some(secs(3600)), left: secs(left) }
    }

    fn refused() -> Error {
        Error::new(ErrorKind::InvalidClient, "no")
    }

    #[tokio::test(start_paused = true)]
    async fn f67_no_pause_is_longer_than_half_of_what_is_left() {
        let policy = Policy::default();
        let asked = Error::new(ErrorKind::Throttled, "later");
        let asked = asked.with_retry_at(Instant::now() + secs(7200));
        for left in 1..900 {
            for error in [&refused(), &asked] {
                let Pause { pause, .. } =
                    Setbacks::default().fail(error, remains(left), &policy, 1.0);
                assert!(pause <= (secs(left) / 2).max(secs(1)), "{left}: {pause:?}");
                assert!(pause >= secs(1), "{left}: {pause:?}");
            }
        }
        // Without a token, what was asked for counts, up to an hour.
        let pause = Setbacks::default().fail(&asked, remains(0), &policy, 1.0);
        assert_eq!(pause.asked, secs(3600));
    }

    // A refused client in the last minute of a token had the next pause at ten minutes.
    #[test]
    fn f67_pauses_that_were_cut_short_do_not_make_the_next_one_longer() {
        let policy = Policy::default();
        let mut setbacks = Setbacks::default();
        for left in [60, 30, 15, 7, 3, 2, 1] {
            setbacks.fail(&refused(), remains(left), &policy, 1.0);
        }
        assert_eq!(setbacks.fail(&refused(), remains(0), &policy, 1.0).pause, secs(60));
        assert_eq!(setbacks.fail(&refused(), remains(0), &policy, 1.0).pause, secs(120));
        assert_eq!(setbacks.count(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn f06_a_wait_that_has_passed_is_the_shortest_one() {
        let error = Error::new(ErrorKind::Throttled, "later").with_retry_at(Instant::now());
        let policy = Policy::default();
        let pause = Setbacks::default().fail(&error, remains(0), &policy, 0.0);
        assert_eq!(pause.asked, policy.pace(None));
    }
}
