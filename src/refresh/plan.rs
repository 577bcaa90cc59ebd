use std::time::Duration;

use crate::{observe::FetchReason, time::Moment};

/// What the refresher knows of the current token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) epoch: u64,
    /// When it should be renewed.
    pub(crate) refresh: Moment,
    /// When it is taken out of service.
    pub(crate) expires: Moment,
    /// What the clocks said when they were last known to agree.
    pub(crate) baseline: Moment,
}

/// What a plan is made of, besides the clock.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) held: Option<Held>,
    /// Why there is no token, if there is none.
    pub(crate) missing: FetchReason,
    /// Whether a fetch is under way.
    pub(crate) fetching: bool,
    /// Whether `refresh()` was called.
    pub(crate) requested: bool,
    /// Whether an API asked for more than the current token has.
    pub(crate) step_up: bool,
    /// Whether a server refused the current token, which stays in service until there is another.
    pub(crate) renew: bool,
    /// The end of the pause after a failure.
    pub(crate) paused_until: Option<Moment>,
    /// Until when the authorization server asked for no requests. It counts while there is no token;
    /// while there is one, the pause is made of it.
    pub(crate) asked_until: Option<Moment>,
    /// The earliest moment for a fetch, however urgent: the pace.
    pub(crate) not_before: Option<Moment>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Take the current token out of service, then plan again.
    Expire(u64),
    /// Fetch a token.
    Fetch(FetchReason),
    /// Nothing, for at most this long.
    Sleep(Duration),
}

/// What to do next, given only facts. No clock, no I/O.
pub(crate) fn plan(now: Moment, facts: &Facts) -> Plan {
    plan_within(now, facts, HEARTBEAT)
}

/// As [`plan`], with another bound for a sleep.
pub(crate) fn plan_within(now: Moment, facts: &Facts, longest: Duration) -> Plan {
    let mut sleep = longest;
    if let Some(held) = facts.held {
        let left = held.expires.remaining(now);
        if left.is_zero() {
            return Plan::Expire(held.epoch);
        }
        sleep = sleep.min(left);
    }
    if facts.fetching {
        return Plan::Sleep(sleep);
    }

    let (reason, wait) = next_fetch(now, facts);
    if wait.is_zero() { Plan::Fetch(reason) } else { Plan::Sleep(sleep.min(wait)) }
}

/// How long it is until the next attempt; `None` while one is under way.
pub(crate) fn next_attempt(now: Moment, facts: &Facts) -> Option<Duration> {
    (!facts.fetching).then(|| next_fetch(now, facts).1)
}

/// Why a token is fetched next, and in how long.
fn next_fetch(now: Moment, facts: &Facts) -> (FetchReason, Duration) {
    let until = |moment: Option<Moment>| moment.map_or(Duration::ZERO, |m| left_by_boot(m, now));
    let (reason, due_in) = match facts.held {
        // A request to refresh ends every pause.
        _ if facts.requested => return (FetchReason::Requested, until(facts.not_before)),
        None => (facts.missing, until(facts.asked_until)),
        Some(_) if facts.renew => (FetchReason::Rejected, Duration::ZERO),
        Some(_) if facts.step_up => (FetchReason::StepUp, Duration::ZERO),
        Some(held) => (FetchReason::Due, held.refresh.remaining(now)),
    };
    (reason, due_in.max(until(facts.paused_until)).max(until(facts.not_before)))
}

impl Held {
    /// Answers a jump of the wall clock with one early refresh, spread over a few seconds: the
    /// machine may have slept, been restored, or been wrong about the time before. If there was one for
    /// a jump a short while ago, at boot time `renewed`, there is none: two programs may set the clock
    /// to and fro. Returns whether there was a jump.
    pub(crate) fn notice_jump(
        &mut self,
        now: Moment,
        draw: f64,
        renewed: &mut Option<Duration>,
    ) -> bool {
        let jumped = jumped(self.baseline, now);
        let recent = |at: Duration| now.boot.saturating_sub(at) < JUMP_QUIET;
        if jumped && !renewed.is_some_and(recent) {
            *renewed = Some(now.boot);
            // In time, whatever the draw.
            let longest = JUMP_SPREAD.min(self.expires.remaining(now) / 2);
            let early = now.after(longest.mul_f64(draw));
            if early.boot < self.refresh.boot {
                self.refresh = early;
            }
        }
        if jumped {
            self.baseline = now;
        }
        jumped
    }
}

/// Whether the wall clock was moved between two moments by more than it may be corrected.
pub(crate) fn jumped(baseline: Moment, now: Moment) -> bool {
    baseline.wall_jump(now) > JUMP
}

/// Pauses are judged by boot time alone: a wall clock that jumps must not end them all at once.
fn left_by_boot(moment: Moment, now: Moment) -> Duration {
    moment.boot.saturating_sub(now.boot)
}

/// How often the clocks are compared, whatever else there is to do.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(30);

/// How far a wall clock may drift, or be corrected, without meaning anything.
const JUMP: Duration = Duration::from_secs(30);

/// How far apart early renewals for jumps are at least.
const JUMP_QUIET: Duration = Duration::from_secs(600);

/// Over how long the refreshes after a jump are spread.
pub(crate) const JUMP_SPREAD: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Boot and wall time, both in seconds.
    fn at(boot: u64, wall: u64) -> Moment {
        Moment { boot: secs(boot), wall: SystemTime::UNIX_EPOCH + secs(wall) }
    }

    fn held() -> Held {
        let obtained = at(1000, 1000);
        Held {
            epoch: 1,
            refresh: obtained.after(secs(80)),
            expires: obtained.after(secs(95)),
            baseline: obtained,
        }
    }

    fn facts(held: Option<Held>) -> Facts {
        Facts {
            held,
            missing: FetchReason::Initial,
            fetching: false,
            requested: false,
            step_up: false,
            renew: false,
            paused_until: None,
            asked_until: None,
            not_before: None,
        }
    }

    #[test]
    fn a_token_is_left_alone_until_its_refresh_point() {
        let facts = facts(Some(held()));
        assert_eq!(plan(at(1000, 1000), &facts), Plan::Sleep(HEARTBEAT));
        assert_eq!(plan(at(1070, 1070), &facts), Plan::Sleep(secs(10)));
        assert_eq!(plan(at(1080, 1080), &facts), Plan::Fetch(FetchReason::Due));
        assert_eq!(plan(at(1095, 1095), &facts), Plan::Expire(1));
    }

    #[test]
    fn an_empty_slot_is_filled() {
        assert_eq!(plan(at(1, 1), &facts(None)), Plan::Fetch(FetchReason::Initial));
    }

    #[test]
    fn f29_nothing_is_fetched_twice_at_once_but_an_expired_token_is_taken_out() {
        let mut facts = facts(Some(held()));
        facts.fetching = true;
        facts.requested = true;
        assert_eq!(plan(at(1090, 1090), &facts), Plan::Sleep(secs(5)));
        assert_eq!(plan(at(1095, 1095), &facts), Plan::Expire(1));
        facts.held = None;
        assert_eq!(plan(at(1095, 1095), &facts), Plan::Sleep(HEARTBEAT));
    }

    #[test]
    fn a_pause_is_kept_and_ended_by_a_request_to_refresh() {
        let mut facts = facts(None);
        facts.paused_until = Some(at(1010, 1010));
        assert_eq!(plan(at(1000, 1000), &facts), Plan::Sleep(secs(10)));
        facts.requested = true;
        assert_eq!(plan(at(1000, 1000), &facts), Plan::Fetch(FetchReason::Requested));
    }

    #[test]
    fn rty_01_what_the_server_asked_for_is_kept_while_there_is_no_token() {
        let mut facts = facts(None);
        facts.asked_until = Some(at(1010, 1010));
        assert_eq!(plan(at(1000, 1000), &facts), Plan::Sleep(secs(10)));
        // Not even a jump of the wall clock ends it.
        assert_eq!(plan(at(1001, 9000), &facts), Plan::Sleep(secs(9)));
        assert_eq!(plan(at(1010, 9000), &facts), Plan::Fetch(FetchReason::Initial));
        // A token is renewed in time whatever the server asked for.
        facts.held = Some(held());
        facts.asked_until = Some(at(9000, 9000));
        assert_eq!(plan(at(1080, 1080), &facts), Plan::Fetch(FetchReason::Due));
    }

    #[test]
    fn f67_a_request_to_refresh_ends_every_pause_but_not_the_pace() {
        let mut facts = facts(None);
        facts.asked_until = Some(at(4600, 4600));
        facts.paused_until = Some(at(4600, 4600));
        facts.not_before = Some(at(1001, 1001));
        facts.requested = true;
        assert_eq!(plan(at(1000, 1000), &facts), Plan::Sleep(secs(1)));
        assert_eq!(plan(at(1001, 1001), &facts), Plan::Fetch(FetchReason::Requested));
    }

    #[test]
    fn f70_the_next_attempt_is_not_the_next_look() {
        let mut facts = facts(Some(held()));
        assert_eq!(next_attempt(at(1000, 1000), &facts), Some(secs(80)));
        facts.paused_until = Some(at(1090, 1090));
        assert_eq!(next_attempt(at(1000, 1000), &facts), Some(secs(90)));
        facts.held = None;
        facts.asked_until = Some(at(2800, 2800));
        assert_eq!(next_attempt(at(1000, 1000), &facts), Some(secs(1800)));
        assert_eq!(plan(at(1000, 1000), &facts), Plan::Sleep(HEARTBEAT));
        facts.fetching = true;
        assert_eq!(next_attempt(at(1000, 1000), &facts), None);
    }

    #[test]
    fn f49_the_clock_that_went_on_while_the_machine_slept_expires_the_token() {
        let facts = facts(Some(held()));
        assert_eq!(plan(at(1001, 1100), &facts), Plan::Expire(1));
        assert_eq!(plan(at(1100, 1001), &facts), Plan::Expire(1));
    }

    #[test]
    fn f50_a_wall_clock_set_back_causes_one_refresh_and_no_longer_life() {
        let mut held = held();
        held.expires = at(1000, 1000).after(secs(3595));
        held.refresh = at(1000, 1000).after(secs(3000));
        let mut renewed = None;
        held.notice_jump(at(1010, 700), 0.5, &mut renewed);
        let mut facts = facts(Some(held));
        // Within seconds, and only because of the jump.
        assert_eq!(plan(at(1010, 700), &facts), Plan::Sleep(JUMP_SPREAD / 2));
        assert_eq!(plan(at(1015, 705), &facts), Plan::Fetch(FetchReason::Due));
        // Noticed once: the next look changes nothing.
        let before = held.refresh;
        held.notice_jump(at(1016, 706), 0.0, &mut renewed);
        assert_eq!(held.refresh, before);
        // Nor does another jump within ten minutes.
        assert!(held.notice_jump(at(1100, 5000), 0.0, &mut renewed));
        assert_eq!(held.refresh, before);
        // Boot time still ends the token.
        facts.held = Some(held);
        assert_eq!(plan(at(4595, 4285), &facts), Plan::Expire(1));
    }

    #[test]
    fn f50_a_wall_clock_that_is_corrected_by_as_much_as_it_may_has_not_jumped() {
        let (baseline, now) = (at(1000, 5000), at(1010, 5010));
        let moved = |by: Duration| {
            let ahead = Moment { wall: now.wall + by, ..now };
            let behind = Moment { wall: now.wall - by, ..now };
            (jumped(baseline, ahead), jumped(baseline, behind))
        };
        assert_eq!(moved(JUMP), (false, false));
        assert_eq!(moved(JUMP + Duration::from_nanos(1)), (true, true));
    }

    proptest::proptest! {
        #[test]
        fn f50_no_clock_makes_a_plan_panic_or_a_life_longer(
            boot in 0u64..1 << 40, wall in 0u64..1 << 40, draw in 0.0..1.0f64,
        ) {
            let now = at(boot, wall);
            let mut held = held();
            held.notice_jump(now, draw, &mut None);
            let plan = plan(now, &facts(Some(held)));
            if boot >= 1095 || wall >= 1095 {
                proptest::prop_assert_eq!(plan, Plan::Expire(1));
            }
        }
    }
}
