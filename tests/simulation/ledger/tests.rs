//! Every check can fail: a good history passes, and one that is bad in one way does not.

use std::time::Duration;

use tower_oauth::{ErrorKind, observe::FetchReason};

use super::{
    Cause, Fetched, Instance,
    Invariant::{self, I1, I2, I3, I5, I6, I7, I8, I10, I11, I12},
    Ledger, Outcome, Says, Terms,
    refusals::most_in_an_hour,
};
use crate::canary;

const LIFE: Duration = secs(100);

const TERMS: Terms =
    Terms { patience: None, wait: secs(10), foreign: false, sends: 2, streams: true };

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A handle of key 0, with token 0 as its first.
struct Story(Ledger);

impl Story {
    fn new() -> Self {
        let mut story = Self(Ledger::new(0));
        for key in [0, 1] {
            story.0.instances.push(Instance { key, ..Instance::default() });
        }
        story.fetch(FetchReason::Initial);
        story
    }

    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.0.now.at += secs(seconds);
        self.0.now.boot += secs(seconds);
        self
    }

    fn start_fetch(&mut self, reason: FetchReason) -> &mut Self {
        let deadline = self.0.now.at + secs(30);
        self.0.fetch_started(0, reason, None, deadline);
        self
    }

    fn fetch(&mut self, reason: FetchReason) -> &mut Self {
        self.start_fetch(reason).answer(0)
    }

    /// The fetch gets a token of this key.
    fn answer(&mut self, key: usize) -> &mut Self {
        let ledger = &mut self.0;
        ledger.asked(0);
        let serial = ledger.issued(key, ledger.now.boot, LIFE, LIFE.mul_f64(0.75));
        ledger.delivered(serial, None);
        let sent = Some(ledger.now.at);
        let fetched =
            Fetched { serial, lifetime: Some(LIFE), refresh_in: None, sent, age: Duration::ZERO };
        ledger.fetch_succeeded(0, fetched);
        ledger.obtained(0, serial as u64 + 1);
        self
    }

    fn start(&mut self, id: u64) -> &mut Self {
        self.0.started(id, 0, TERMS);
        self.0.called(id);
        self
    }

    fn send(&mut self, id: u64, serial: usize) -> &mut Self {
        let authorization = format!("Bearer {}", canary::secret("at", 0, serial));
        self.0.sent(id, Some(&authorization), false);
        self
    }

    fn served(&mut self, id: u64) -> &mut Self {
        self.start(id).send(id, 0);
        self.0.taken(id, 0, true);
        self.0.answered(id, 0, 200, Says::Nothing);
        self.0.ended(id, Outcome::Answer { attempt: 0, status: 200 });
        self
    }

    /// A request is refused at its first attempt, and the crate is told.
    fn refused(&mut self, id: u64, serial: usize) -> &mut Self {
        self.start(id).send(id, serial);
        self.0.answered(id, 0, 401, Says::Refuses);
        self
    }

    /// The same, and its caller has the refusal; the token is taken out or renewed before.
    fn renewed_by(&mut self, id: u64, serial: usize, takes_out: bool) -> &mut Self {
        self.refused(id, serial);
        let epoch = serial as u64 + 1;
        if takes_out {
            self.0.rejected(0, epoch);
        } else {
            self.0.renewing(0, epoch);
        }
        self.0.ended(id, Outcome::Answer { attempt: 0, status: 401 });
        self
    }

    /// The source gives token 0 to the fetch that is under way.
    fn give_again(&mut self) -> &mut Self {
        self.start_fetch(FetchReason::Rejected).0.repeated(0, LIFE);
        let (lifetime, sent) = (Some(LIFE), Some(self.0.now.at));
        let age = Duration::ZERO;
        self.0.fetch_succeeded(0, Fetched { serial: 0, lifetime, refresh_in: None, sent, age });
        self
    }

    #[track_caller]
    fn breaks_nothing(&self) {
        assert!(self.0.report().is_none(), "{:?}", self.0.violations);
    }

    #[track_caller]
    fn breaks(&mut self, invariant: Invariant) {
        assert!(self.0.broke(invariant), "{:?}", self.0.violations);
        assert!(self.0.report().is_some_and(|report| report.contains("SIMULATION_SEED=0")));
    }
}

#[test]
fn a_good_history_breaks_nothing() {
    let mut story = Story::new();
    story.served(1).wait(80).fetch(FetchReason::Due);
    story.start(2).send(2, 1);
    story.0.answered(2, 0, 401, Says::Refuses);
    story.0.rejected(0, 2);
    story.wait(1).fetch(FetchReason::Rejected);
    story.send(2, 2);
    story.0.taken(2, 1, true);
    story.0.answered(2, 1, 200, Says::Nothing);
    story.0.ended(2, Outcome::Answer { attempt: 1, status: 200 });
    story.0.check_all_ended();
    assert!(story.0.report().is_none(), "{:?}", story.0.violations);
}

#[test]
fn i1_a_request_that_never_ends_or_ends_late_or_twice_is_found() {
    let mut story = Story::new();
    story.start(1).0.check_all_ended();
    story.breaks(I1);
    let mut story = Story::new();
    story.start(1).wait(11).0.ended(1, Outcome::Dropped);
    story.breaks(I1);
    let mut story = Story::new();
    story.served(1).0.ended(1, Outcome::Dropped);
    story.breaks(I1);
}

#[test]
fn i1_a_wrong_answer_an_untyped_error_and_a_third_sending_are_found() {
    let mut story = Story::new();
    story.start(1).send(1, 0).0.ended(1, Outcome::Answer { attempt: 0, status: 200 });
    story.breaks(I1);
    let mut story = Story::new();
    story.start(1).0.ended(1, Outcome::Unknown);
    story.breaks(I1);
    let mut story = Story::new();
    story.start(1).send(1, 0).send(1, 0);
    story.breaks(I1);
}

#[test]
fn i2_a_token_that_was_rejected_or_has_expired_or_is_none_is_found() {
    let mut story = Story::new();
    story.0.rejecting(0, 1);
    story.0.rejected(0, 1);
    story.start(1).send(1, 0).breaks(I2);
    let mut story = Story::new();
    story.wait(100).start(1).send(1, 0).breaks(I2);
    let mut story = Story::new();
    story.start(1).0.sent(1, None, false);
    story.breaks(I2);
}

#[test]
fn i2_a_rejected_token_that_comes_back_is_found() {
    let mut story = Story::new();
    story.0.rejecting(0, 1);
    story.0.rejected(0, 1);
    story.wait(1).start_fetch(FetchReason::Rejected);
    story.0.fetch_succeeded(
        0,
        Fetched {
            serial: 0,
            lifetime: Some(LIFE),
            refresh_in: None,
            sent: None,
            age: Duration::ZERO,
        },
    );
    story.0.obtained(0, 2);
    story.breaks(I2);
}

#[test]
fn i3_a_token_that_nobody_refused_and_a_newer_one_are_not_discarded() {
    let mut story = Story::new();
    story.0.rejected(0, 1);
    story.breaks(I3);
    let mut story = Story::new();
    story.wait(80).fetch(FetchReason::Due).0.rejecting(0, 1);
    story.0.rejected(0, 1);
    story.breaks(I3);
}

#[test]
fn i4_a_token_at_a_foreign_origin_is_found() {
    let mut story = Story::new();
    story.0.started(1, 0, Terms { foreign: true, ..TERMS });
    story.0.sent(1, Some("Bearer whatever"), true);
    story.breaks(Invariant::I4);
}

#[test]
fn i5_a_token_before_the_last_is_due_needs_a_reason() {
    let mut story = Story::new();
    story.wait(10).fetch(FetchReason::Due).breaks(I5);
    let mut story = Story::new();
    story.0.instances[0].requested = true;
    story.wait(10).fetch(FetchReason::Requested);
    assert!(story.0.report().is_none(), "{:?}", story.0.violations);
    // Nobody asked again.
    story.wait(10).fetch(FetchReason::Requested).breaks(I5);
    let mut story = Story::new();
    story.0.credit(0, Cause::Crashed);
    story.wait(10).fetch(FetchReason::Rejected);
    assert!(story.0.report().is_none(), "{:?}", story.0.violations);
    // The reason is used up.
    story.wait(10).fetch(FetchReason::Rejected).breaks(I5);
}

#[test]
fn i5_a_tenant_that_was_in_use_is_not_forgotten() {
    let may_be_forgotten = |slept: u64, idle: u64| {
        let mut story = Story::new();
        story.0.instances[0].pooled = true;
        story.wait(40).wait(slept).0.slept(secs(slept));
        // The keeper is asleep still: it takes the use for one of before.
        story.wait(1).start(1).send(1, 0);
        story.wait(idle).fetch(FetchReason::Initial);
        !story.0.broke(I5)
    };
    assert!(may_be_forgotten(3700, 60) && may_be_forgotten(1800, 1900));
    assert!(!may_be_forgotten(1800, 60) && !may_be_forgotten(60, 1900));
}

#[test]
fn i6_fetches_that_come_too_soon_are_found() {
    let fail = |story: &mut Story, kind: ErrorKind| {
        story.wait(80).start_fetch(FetchReason::Due).0.fetch_failed(0, kind, kind.is_retryable());
    };
    let mut story = Story::new();
    fail(&mut story, ErrorKind::Server);
    story.start_fetch(FetchReason::Due).breaks(I6);
    let mut story = Story::new();
    story.0.instances[0].held = None;
    fail(&mut story, ErrorKind::InvalidClient);
    story.wait(50).start_fetch(FetchReason::Due).breaks(I6);
    let mut story = Story::new();
    story.0.instances[0].held = None;
    story.0.told_to_wait(0, secs(90));
    fail(&mut story, ErrorKind::Throttled);
    story.breaks(I6);
}

#[test]
fn i7_a_good_token_that_a_failure_takes_away_is_found() {
    let mut story = Story::new();
    story.0.failed(0, FetchReason::Due, false, secs(1));
    story.breaks(I7);
    let mut story = Story::new();
    story.start(1).0.ended(1, Outcome::Ours("server"));
    story.breaks(I7);
    let mut story = Story::new();
    story.0.expired(0, 1);
    story.breaks(I7);
    let mut story = Story::new();
    story.0.shows(0, None);
    story.breaks(I7);
}

#[test]
fn i8_a_refresh_token_that_comes_back_is_found_unless_its_answer_was_lost() {
    let mut story = Story::new();
    story.0.rotated(0, 1, 2);
    story.0.reused(0, 1);
    assert!(story.0.report().is_none(), "{:?}", story.0.violations);
    let mut story = Story::new();
    story.0.rotated(0, 1, 2);
    story.0.delivered(0, Some(2));
    story.0.reused(0, 1);
    story.breaks(I8);
    // F87: the access token was refused, and the refresh token beside it is the newest.
    let mut story = Story::new();
    story.0.rotated(0, 1, 2);
    story.0.refused(0, Some(2));
    story.0.reused(0, 1);
    story.breaks(I8);
    let mut story = Story::new();
    story.0.stored(0, "record", 2, None, Some(2));
    story.0.stored(0, "record", 3, None, Some(1));
    story.breaks(I8);
}

#[test]
fn i10_a_token_of_another_key_is_found() {
    let mut story = Story::new();
    story.wait(80).start_fetch(FetchReason::Due).answer(1).breaks(I10);
}

#[test]
fn i10_f62_a_tenant_that_waits_for_the_servers_of_others_is_found() {
    let mut story = Story::new();
    story.0.testified(1, true, secs(1));
    story.breaks_nothing();
    story.0.testified(1, true, secs(1) + Duration::from_millis(1));
    story.breaks(I10);
    let mut story = Story::new();
    story.0.testified(1, false, Duration::ZERO);
    story.breaks(I10);
}

#[test]
fn i11_a_place_that_is_refused_while_there_are_some_is_found() {
    let mut story = Story::new();
    story.wait(100).start(1).0.ended(1, Outcome::Ours("overloaded"));
    story.breaks(I11);
}

#[test]
fn i12_a_fetch_that_is_dropped_before_its_time_is_found() {
    let mut story = Story::new();
    story.wait(80).start_fetch(FetchReason::Due).wait(29).0.fetch_dropped(0);
    story.breaks(I12);
    let mut story = Story::new();
    story.wait(80).start_fetch(FetchReason::Due).wait(30).0.fetch_dropped(0);
    assert!(story.0.report().is_none(), "{:?}", story.0.violations);
}

#[test]
fn i1_a_request_that_waits_for_longer_than_its_budget_is_found() {
    // What the API takes is not counted, in both attempts.
    let waits = |first: u64, second: u64| {
        let mut story = Story::new();
        story.0.instances[0].held = None;
        story.start(1).wait(first).send(1, 0).wait(240);
        story.0.answered(1, 0, 503, Says::Nothing);
        story.wait(second).0.ended(1, Outcome::Answer { attempt: 0, status: 503 });
        story.0.broke(I1)
    };
    assert!(!waits(5, 5) && waits(5, 6) && waits(11, 0));
}

#[test]
fn i1_a_body_that_is_taken_in_part_or_sent_after_its_failure_is_found() {
    let mut story = Story::new();
    story.start(1).send(1, 0).0.taken(1, 0, false);
    story.breaks(I1);
    let mut story = Story::new();
    story.start(1).send(1, 0).0.announced(1, 0, Some(3), 4);
    story.breaks(I1);
    let mut story = Story::new();
    story.refused(1, 0).0.rejected(0, 1);
    story.wait(1).fetch(FetchReason::Rejected).0.body_failed(1);
    story.send(1, 1).breaks(I1);
}

#[test]
fn i1_a_success_for_a_body_that_failed_or_was_not_taken_is_found() {
    let ends = |fails: bool, taken: bool, outcome: Outcome| {
        let mut story = Story::new();
        story.start(1).send(1, 0);
        if taken {
            story.0.taken(1, 0, true);
        }
        if fails {
            story.0.body_failed(1);
        }
        story.0.answered(1, 0, 200, Says::Nothing);
        story.0.ended(1, outcome);
        !story.0.broke(I1)
    };
    let success = Outcome::Answer { attempt: 0, status: 200 };
    assert!(ends(false, true, success));
    assert!(!ends(false, false, success) && !ends(true, true, success));
    assert!(ends(true, false, Outcome::Body) && !ends(false, true, Outcome::Body));
}

#[test]
fn i1_the_refusal_is_the_answer_only_if_the_second_attempt_breaks() {
    for (status, is_right) in [(0, true), (200, false), (401, false)] {
        let mut story = Story::new();
        story.refused(1, 0).0.rejected(0, 1);
        story.wait(1).fetch(FetchReason::Rejected).send(1, 1);
        story.0.answered(1, 1, status, Says::Nothing);
        story.0.ended(1, Outcome::Answer { attempt: 0, status: 401 });
        assert_eq!(story.0.broke(I1), !is_right, "{status}");
    }
}

#[test]
fn i2_a_refused_token_is_tried_by_one_request_for_each_time_that_it_is_given_again() {
    let given_again = |times: u64| {
        let mut story = Story::new();
        story.renewed_by(1, 0, true);
        for n in 1..=times {
            story.wait(1 << n).give_again();
        }
        story
    };
    let mut story = given_again(1);
    story.start(2).send(2, 0).breaks(I2);
    let mut story = given_again(2);
    story.start(2).send(2, 0).breaks_nothing();
    story.start(3).send(3, 0).breaks(I2);
    // Once the API takes it, it serves all, and may be refused again.
    let mut story = given_again(2);
    story.start(2).send(2, 0).0.answered(2, 0, 404, Says::Nothing);
    story.0.obtained(0, 2);
    story.start(3).send(3, 0).breaks_nothing();
    story.0.answered(3, 0, 401, Says::Refuses);
    story.wait(30).0.renewing(0, 2);
    story.breaks_nothing();
    // It comes back without that.
    let mut story = given_again(2);
    story.0.obtained(0, 2);
    story.breaks(I2);
}

#[test]
fn i3_a_refusal_that_must_be_believed_is_found_to_be_ignored() {
    let ignored = |before: u64, says: Says| {
        let mut story = Story::new();
        story.wait(before).start(1).send(1, 0);
        story.0.answered(1, 0, 401, says);
        story.0.ended(1, Outcome::Answer { attempt: 0, status: 401 });
        story.0.broke(I3)
    };
    assert!(ignored(1, Says::Refuses) && ignored(10, Says::Doubts));
    assert!(!ignored(9, Says::Doubts) && !ignored(10, Says::Nothing));
}

#[test]
fn i3_an_answer_that_does_not_refuse_a_token_does_not_end_it() {
    let ended = |before: u64, says: Says| {
        let mut story = Story::new();
        story.wait(before).start(1).send(1, 0);
        story.0.answered(1, 0, 401, says);
        story.0.rejected(0, 1);
        story.0.broke(I3)
    };
    assert!(!ended(1, Says::Refuses) && !ended(10, Says::Doubts));
    assert!(ended(9, Says::Doubts) && ended(10, Says::Nothing));
}

#[test]
fn i6_renewals_that_do_not_help_and_are_not_spaced_out_are_found() {
    let renew = |gaps: &[u64]| {
        let mut story = Story::new();
        story.wait(1).renewed_by(0, 0, true);
        story.fetch(FetchReason::Rejected);
        for (n, gap) in gaps.iter().enumerate() {
            story.wait(*gap).renewed_by(n as u64 + 1, n + 1, false);
            story.fetch(FetchReason::Rejected);
        }
        !story.0.broke(I6)
    };
    assert!(renew(&[2, 4, 8, 16]));
    assert!(!renew(&[1]) && !renew(&[2, 3]) && !renew(&[2, 4, 7]));
    // After half a minute without a refusal it starts anew.
    assert!(renew(&[2, 4, 8, 30, 2]) && !renew(&[2, 4, 8, 29, 31]));
}

#[test]
fn i6_twenty_renewals_an_hour_are_the_most_if_none_helps() {
    assert!(most_in_an_hour() <= 20, "{}", most_in_an_hour());
    let mut story = Story::new();
    let mut helps = Story::new();
    for n in 0..=20 {
        for story in [&mut story, &mut helps] {
            // The spacing is another check.
            story.0.violations.clear();
            story.wait(29).refused(3 * n, 0).wait(29).renewed_by(3 * n + 1, 0, false);
        }
        helps.start(3 * n + 2).send(3 * n + 2, 0);
        helps.0.note_acceptance(3 * n + 2, 0, 0, true);
    }
    let found = |story: &Story| story.0.violations.iter().any(|v| v.what.contains("an hour"));
    assert!(found(&story) && !found(&helps));
}

#[test]
fn i6_a_source_that_gave_a_refused_token_again_and_is_asked_too_soon_is_found() {
    let mut story = Story::new();
    story.wait(1).renewed_by(1, 0, true).give_again().wait(2).give_again().wait(4).give_again();
    story.breaks_nothing();
    story.wait(7).give_again().breaks(I6);
}

#[test]
fn i7_a_token_that_is_taken_away_after_a_renewal_in_vain_is_found() {
    let mut story = Story::new();
    story.wait(1).renewed_by(1, 0, true).fetch(FetchReason::Rejected);
    story.wait(2).renewed_by(2, 1, true).breaks(I7);
    // The time without a token is not quiet.
    let mut story = Story::new();
    story.renewed_by(1, 0, true).wait(60).fetch(FetchReason::Rejected);
    story.wait(2).renewed_by(2, 1, true).breaks(I7);
    let mut story = Story::new();
    story.wait(1).renewed_by(1, 0, true).fetch(FetchReason::Rejected);
    story.wait(30).renewed_by(2, 1, true).breaks_nothing();
}

#[test]
fn i7_a_request_that_waits_while_its_token_is_good_is_found() {
    let mut story = Story::new();
    story.start(1).wait(1).send(1, 0).breaks(I7);
    let mut story = Story::new();
    story.0.served_in_calm(0, Some(0), Some(200), secs(1));
    story.breaks_nothing();
    story.0.served_in_calm(0, Some(0), Some(200), secs(2));
    story.breaks(I7);
    let mut story = Story::new();
    story.0.served_in_calm(0, Some(0), Some(401), secs(1));
    story.breaks(I7);
}

#[test]
fn f67_a_pause_that_is_longer_than_the_token_has_time_for_is_found() {
    let fail = |story: &mut Story| {
        story.0.told_to_wait(0, secs(3600));
        let kind = ErrorKind::Throttled;
        story.0.fetch_failed(0, kind, kind.is_retryable());
    };
    // 15 s are left: half of them may pass, and the last attempt is made in the last second.
    let mut story = Story::new();
    fail(story.wait(80).start_fetch(FetchReason::Due));
    story.wait(7).start_fetch(FetchReason::Due).breaks(I6);
    let mut story = Story::new();
    fail(story.wait(80).start_fetch(FetchReason::Due));
    story.wait(15).0.expired(0, 1);
    story.breaks(I7);
    let mut story = Story::new();
    fail(story.wait(80).start_fetch(FetchReason::Due));
    fail(story.wait(14).start_fetch(FetchReason::Due));
    story.wait(1).0.expired(0, 1);
    story.breaks_nothing();
}
