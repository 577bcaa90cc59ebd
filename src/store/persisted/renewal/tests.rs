use std::time::SystemTime;

use super::*;
use crate::token::Scopes;

const LIFE: Duration = Duration::from_secs(40);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn scopes(names: &[&str]) -> Scopes {
    let mut scopes = Scopes::default();
    for name in names {
        scopes.insert(name).unwrap();
    }
    scopes
}

/// A token, of this whole life, of which as much is left.
fn token(name: &str, whole: Duration, left: Duration) -> Tokens {
    let set = TokenSet::bearer(name).unwrap().with_lifetime(whole).with_scopes(scopes(&["a"]));
    Tokens::new(set, now() - whole.saturating_sub(left))
}

fn wanted(reason: FetchReason) -> Wanted {
    Wanted {
        reason,
        old: Some(Secret::from("old")),
        was_unsaved: false,
        step_up: StepUp::default(),
    }
}

const URGENT: [FetchReason; 4] =
    [FetchReason::Initial, FetchReason::Expired, FetchReason::Rejected, FetchReason::StepUp];
const IN_TIME: [FetchReason; 2] = [FetchReason::Due, FetchReason::Renewed];

#[test]
fn a_stored_token_will_do_that_outlives_a_request() {
    let instant = Duration::from_millis(1);
    // A twentieth of its life, up to five seconds.
    let flights = [
        (LIFE, Duration::from_secs(2)),
        (Duration::from_secs(100), Duration::from_secs(5)),
        (Duration::from_secs(3600), Duration::from_secs(5)),
    ];
    for (whole, flight) in flights {
        for reason in URGENT {
            let accepts = |left| wanted(reason).accepts(&token("new", whole, left), now());
            assert!(accepts(whole) && accepts(flight + instant), "{reason:?} {whole:?}");
            assert!(!accepts(flight) && !accepts(Duration::ZERO), "{reason:?} {whole:?}");
        }
    }
}

#[test]
fn a_stored_token_will_do_in_time_that_has_a_quarter_of_its_life_left() {
    for reason in IN_TIME {
        let accepts = |left| wanted(reason).accepts(&token("new", LIFE, left), now());
        assert!(accepts(LIFE / 4), "{reason:?}");
        assert!(!accepts((LIFE / 4).saturating_sub(Duration::from_millis(1))), "{reason:?}");
    }
}

#[test]
fn nothing_stored_will_do_in_the_place_of_itself_or_for_who_asks_for_another() {
    for reason in IN_TIME.into_iter().chain(URGENT) {
        assert!(!wanted(reason).accepts(&token("old", LIFE, LIFE), now()), "{reason:?}");
        // Nobody says how long it lives.
        let unknown = Tokens::new(TokenSet::bearer("new").unwrap(), now());
        assert!(wanted(reason).accepts(&unknown, now()), "{reason:?}");
    }
    let wanted = wanted(FetchReason::Requested);
    assert!(!wanted.accepts(&token("new", LIFE, LIFE), now()));
}

#[test]
fn a_stored_token_will_do_for_a_step_up_that_has_what_is_asked_for() {
    for reason in IN_TIME.into_iter().chain(URGENT) {
        let accepts = |step_up| {
            let wanted = Wanted { step_up, ..wanted(reason) };
            wanted.accepts(&token("new", LIFE, LIFE), now())
        };
        assert!(accepts(StepUp::default()), "{reason:?}");
        assert!(accepts(StepUp::scopes(scopes(&["a"]))), "{reason:?}");
        assert!(!accepts(StepUp::scopes(scopes(&["b"]))), "{reason:?}");
        assert!(!accepts(StepUp::scopes(scopes(&["a", "b"]))), "{reason:?}");
        // Whether a token answers claims is not to be seen from it.
        assert!(!accepts(StepUp::claims("{}")), "{reason:?}");
        let both = StepUp { claims: Some("{}".to_owned()), ..StepUp::scopes(scopes(&["a"])) };
        assert!(!accepts(both), "{reason:?}");
    }
}
