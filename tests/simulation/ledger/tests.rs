//! Every check can fail: a good history passes, and one that is bad in one way does not.

use std::time::Duration;

use tower_oauth::{ErrorKind, observe::FetchReason};

use super::{
    Cause, Fetched, Instance,
    Invariant::{self, I1, I2, I3, I5, I6, I7, I8, I10, I11, I12},
    Ledger, Outcome, Terms,
};
use crate::canary;

const LIFE: Duration = secs(100);

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
        self.0.started(id, 0, Terms { within: secs(10), foreign: false, sends: 2 });
        self
    }

    fn send(&mut self, id: u64, serial: usize) -> &mut Self {
        let authorization = format!("Bearer {}", canary::secret("at", 0, serial));
        self.0.sent(id, Some(&authorization), false);
        self
    }

    fn served(&mut self, id: u64) -> &mut Self {
        self.start(id).send(id, 0);
        self.0.answered(id, 0, 200, false);
        self.0.ended(id, Outcome::Answer { attempt: 0, status: 200 });
        self
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
    story.0.answered(2, 0, 401, true);
    story.0.rejected(0, 2);
    story.wait(1).fetch(FetchReason::Rejected);
    story.send(2, 2);
    story.0.answered(2, 1, 200, false);
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
    story.0.started(1, 0, Terms { within: LIFE, foreign: true, sends: 1 });
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
        story.wait(8).start(1).send(1, 0);
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
    fail(&mut story, ErrorKind::InvalidClient);
    story.wait(50).start_fetch(FetchReason::Due).breaks(I6);
    let mut story = Story::new();
    story.0.told_to_wait(0, secs(90));
    fail(&mut story, ErrorKind::Throttled);
    story.breaks(I6);
}

#[test]
fn i7_a_good_token_that_a_failure_takes_away_is_found() {
    let mut story = Story::new();
    story.0.failed(0, false, secs(1));
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
