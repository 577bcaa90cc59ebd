use super::*;

type Tokens = &'static str;

const ROTATING: Rules = Rules { rotates: true, without_store: false, retry_dead: false };
const SHARING: Rules = Rules { rotates: false, ..ROTATING };

fn entry(generation: u64, state: RecordState, tokens: Tokens) -> Entry<Tokens> {
    Entry { generation, state, tokens: Some(tokens) }
}

fn clean(generation: u64, tokens: Tokens) -> Entry<Tokens> {
    entry(generation, RecordState::Clean, tokens)
}

fn intent(generation: u64, tokens: Tokens) -> Entry<Tokens> {
    entry(generation, RecordState::Intent, tokens)
}

fn dead(generation: u64, tokens: Tokens) -> Entry<Tokens> {
    entry(generation, RecordState::Dead, tokens)
}

fn save(expected: u64, entry: Entry<Tokens>) -> Do<Tokens> {
    Do::Save { expected, entry }
}

fn send(tokens: Tokens, again: bool) -> Do<Tokens> {
    Do::Send { tokens: Some(tokens), again }
}

/// A renewal of "a", which is not good enough any more.
struct Run(Rotation<Tokens>);

impl Run {
    fn new(rules: Rules) -> Self {
        let memory = Memory { known: clean(1, "a"), unsaved: false, aside: None };
        Self(Rotation::new(memory, rules))
    }

    /// A process that holds "b", which it could not store.
    fn unsaved() -> Self {
        let memory = Memory { known: clean(2, "b"), unsaved: true, aside: None };
        Self(Rotation::new(memory, ROTATING))
    }

    fn hear(&mut self, heard: Heard<Tokens>) -> Do<Tokens> {
        self.0.next(heard, |tokens| *tokens != "a")
    }

    /// As far as the answer to what was sent.
    fn sent(mut self) -> Self {
        assert_eq!(self.hear(Heard::Found(clean(1, "a"))), save(1, intent(1, "a")));
        assert_eq!(self.hear(Heard::Saved), send("a", false));
        self
    }
}

#[test]
fn rfr_02_the_new_tokens_are_stored_before_they_are_used() {
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::Granted("b")), save(1, clean(2, "b")));
    assert_eq!(run.hear(Heard::Saved), Do::Finish(End::Obtained));
    assert!(!run.0.memory.unsaved);
}

#[test]
fn f87_a_refresh_token_without_an_access_token_is_stored_and_the_renewal_has_failed() {
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::Replaced("b")), save(1, clean(2, "b")));
    assert_eq!(run.hear(Heard::Saved), Do::Finish(End::Failed));
    assert_eq!(run.0.memory.known, clean(2, "b"));

    // Nor is it lost where it cannot be stored: the next renewal writes it before anything is sent.
    let mut run = Run::new(ROTATING).sent();
    run.hear(Heard::Replaced("b"));
    assert_eq!(run.hear(Heard::Failed), Do::FinishLocked(End::Failed));
    let mut run = Run(Rotation::new(run.0.memory, ROTATING));
    assert_eq!(run.hear(Heard::Found(intent(1, "a"))), save(1, clean(2, "b")));
}

#[test]
fn rfr_04_what_another_process_stored_is_adopted() {
    let mut run = Run::new(ROTATING);
    assert_eq!(run.hear(Heard::Found(clean(2, "b"))), Do::Finish(End::Adopted));
    assert_eq!(run.0.memory.known, clean(2, "b"));
}

#[test]
fn f31_a_lost_answer_is_asked_for_once_more_and_then_left_to_the_next_renewal() {
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::Unknown), send("a", true));
    assert_eq!(run.hear(Heard::Unknown), Do::Finish(End::Failed));
    // The next one finds its intent.
    let mut run = Run(Rotation::new(run.0.memory, ROTATING));
    assert_eq!(run.hear(Heard::Found(intent(1, "a"))), save(1, intent(1, "a")));
    assert_eq!(run.hear(Heard::Saved), send("a", true));
    assert_eq!(run.hear(Heard::Unknown), Do::Finish(End::Failed));
}

#[test]
fn f40_an_intent_under_the_lock_is_gone_on_with() {
    let mut run = Run(Rotation::new(Memory::default(), ROTATING));
    // Although the access token would still do.
    assert_eq!(run.hear(Heard::Found(intent(4, "b"))), save(4, intent(4, "b")));
    assert_eq!(run.hear(Heard::Saved), send("b", true));
}

#[test]
fn an_answer_that_spent_nothing_takes_the_intent_back() {
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::Refused), save(1, clean(1, "a")));
    assert_eq!(run.hear(Heard::Saved), Do::Finish(End::Failed));
}

#[test]
fn rfr_05_a_refused_refresh_token_is_compared_with_the_store_first() {
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::InvalidGrant), Do::Read);
    assert_eq!(run.hear(Heard::Found(clean(2, "b"))), Do::Finish(End::Adopted));

    // Replaced behind our back, by something that counts no generations.
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::InvalidGrant), Do::Read);
    assert_eq!(run.hear(Heard::Found(clean(1, "z"))), Do::Finish(End::Adopted));
}

#[test]
fn rfr_05_a_newer_record_is_used_though_its_own_renewal_is_under_way_but_not_a_dead_one() {
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::InvalidGrant), Do::Read);
    assert_eq!(run.hear(Heard::Found(intent(2, "b"))), Do::Finish(End::Adopted));

    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::InvalidGrant), Do::Read);
    assert_eq!(run.hear(Heard::Found(dead(2, "b"))), Do::Finish(End::Ended));
}

#[test]
fn rfr_05_a_record_that_became_newer_is_not_buried() {
    let buried = || {
        let mut run = Run::new(ROTATING).sent();
        run.hear(Heard::InvalidGrant);
        assert_eq!(run.hear(Heard::Found(intent(1, "a"))), save(1, dead(1, "a")));
        run
    };
    assert_eq!(buried().hear(Heard::Conflict(clean(2, "b"))), Do::Finish(End::Adopted));
    // Of the same generation, or older: it is as dead as ours.
    assert_eq!(buried().hear(Heard::Conflict(clean(1, "b"))), Do::Finish(End::Ended));
    assert_eq!(buried().hear(Heard::Failed), Do::Finish(End::Ended));
}

#[test]
fn a_refusal_of_what_was_not_spent_changes_no_record() {
    for heard in [Heard::InvalidGrant, Heard::Refused, Heard::Unknown, Heard::GaveUp] {
        let mut run = Run::new(SHARING);
        run.hear(Heard::Found(clean(1, "a")));
        assert_eq!(run.hear(heard), Do::Finish(End::Failed));
    }
    // The intent of one that is in memory only is not in the store: there is none to take back.
    let memory = Memory { known: clean(2, "a"), unsaved: true, aside: None };
    let mut run = Run(Rotation::new(memory, ROTATING));
    assert_eq!(run.hear(Heard::Failed), send("a", false));
    assert_eq!(run.hear(Heard::Refused), Do::FinishLocked(End::Failed));
}

#[test]
fn rfr_05_only_then_is_the_grant_marked_as_ended() {
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::InvalidGrant), Do::Read);
    assert_eq!(run.hear(Heard::Found(intent(1, "a"))), save(1, dead(1, "a")));
    assert_eq!(run.hear(Heard::Saved), Do::Finish(End::Ended));
    // It stays so, without a request.
    let mut run = Run(Rotation::new(run.0.memory, ROTATING));
    assert_eq!(run.hear(Heard::Found(dead(1, "a"))), Do::Finish(End::Ended));
    // Until somebody asks for it.
    let mut run = Run(Rotation::new(run.0.memory, Rules { retry_dead: true, ..ROTATING }));
    assert_eq!(run.hear(Heard::Found(dead(1, "a"))), save(1, intent(1, "a")));
}

#[test]
fn rfr_08_a_write_that_fails_leaves_the_new_token_in_memory_and_is_tried_again() {
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::Granted("b")), save(1, clean(2, "b")));
    // The lock stays: another process would send "a" again.
    assert_eq!(run.hear(Heard::Failed), Do::FinishLocked(End::Unsaved));
    let memory = run.0.memory;
    assert!(memory.unsaved && memory.known == clean(2, "b"));
    let mut run = Run(Rotation::new(memory, ROTATING));
    assert_eq!(run.hear(Heard::Found(intent(1, "a"))), save(1, clean(2, "b")));
    assert_eq!(run.hear(Heard::Saved), Do::Finish(End::Adopted));
}

#[test]
fn f34_while_nothing_can_be_written_a_good_token_is_not_renewed() {
    let mut run = Run::unsaved();
    assert_eq!(run.hear(Heard::Found(intent(1, "a"))), save(1, clean(2, "b")));
    assert_eq!(run.hear(Heard::Failed), Do::FinishLocked(End::NoStore));
}

#[test]
fn f34_one_that_is_in_memory_only_is_renewed_there_when_it_must() {
    let memory = Memory { known: clean(2, "a"), unsaved: true, aside: None };
    let mut run = Run(Rotation::new(memory, ROTATING));
    assert_eq!(run.hear(Heard::Failed), send("a", false));
    assert_eq!(run.hear(Heard::Granted("b")), save(2, clean(3, "b")));
    assert_eq!(run.hear(Heard::Failed), Do::FinishLocked(End::Unsaved));
}

/// Whatever else fails: while the newest tokens are here alone, nobody else gets the lock.
#[test]
fn f34_the_lock_is_kept_as_long_as_the_newest_tokens_are_in_memory_only() {
    let memory = Memory { known: clean(2, "a"), unsaved: true, aside: None };
    let mut run = Run(Rotation::new(memory, ROTATING));
    run.hear(Heard::Failed);
    assert_eq!(run.hear(Heard::Unknown), send("a", true));
    assert_eq!(run.hear(Heard::Unknown), Do::FinishLocked(End::Failed));
}

#[test]
fn f36_a_lock_that_is_not_given_back_is_not_broken() {
    for rules in [ROTATING, Rules { without_store: true, ..ROTATING }] {
        let mut run = Run::new(rules);
        assert_eq!(run.hear(Heard::Busy), Do::Finish(End::NoStore));
    }
    let mut run = Run::new(SHARING);
    assert_eq!(run.hear(Heard::Busy), send("a", false));
}

#[test]
fn f43_what_was_never_read_is_not_spent_without_the_store() {
    let mut run = Run(Rotation::new(Memory::default(), Rules { without_store: true, ..ROTATING }));
    assert_eq!(run.hear(Heard::Failed), Do::Finish(End::NoStore));
}

#[test]
fn f43_without_the_store_nothing_is_spent_unless_that_is_allowed() {
    let mut run = Run::new(ROTATING);
    assert_eq!(run.hear(Heard::Failed), Do::Finish(End::NoStore));
    let mut run = Run::new(ROTATING);
    run.hear(Heard::Found(clean(1, "a")));
    assert_eq!(run.hear(Heard::Failed), Do::Finish(End::NoStore));
    let mut run = Run::new(Rules { without_store: true, ..ROTATING });
    assert_eq!(run.hear(Heard::Failed), send("a", false));
}

#[test]
fn f43_what_is_not_spent_is_fetched_without_the_store() {
    let mut run = Run::new(SHARING);
    assert_eq!(run.hear(Heard::Failed), send("a", false));
    assert_eq!(run.hear(Heard::Granted("b")), save(1, clean(2, "b")));
    assert_eq!(run.hear(Heard::Failed), Do::Finish(End::Unsaved));
    assert!(!run.0.memory.unsaved, "it need not be stored later");
}

/// Each token that could not be stored once counted as a generation. After an outage of the store,
/// a process then wrote its own token over a newer one of another process, and asked for a third.
#[test]
fn f43_i5_what_could_not_be_stored_gives_way_to_what_others_store_later() {
    let mut memory = Run::new(SHARING).0.memory;
    for tokens in ["b", "c"] {
        let mut run = Run(Rotation::new(memory, SHARING));
        assert!(matches!(run.hear(Heard::Failed), Do::Send { .. }));
        assert!(matches!(run.hear(Heard::Granted(tokens)), Do::Save { .. }));
        assert_eq!(run.hear(Heard::Failed), Do::Finish(End::Unsaved));
        assert_eq!(run.0.memory.known.tokens, Some(tokens));
        memory = run.0.memory;
    }
    let mut run = Run(Rotation::new(memory, SHARING));
    assert_eq!(run.hear(Heard::Found(clean(2, "d"))), Do::Finish(End::Adopted));
    assert_eq!(run.0.memory.known, clean(2, "d"));
}

/// The record that a token was obtained for, and could not be stored over, once counted as one of
/// another process. A process took its older token back, which an API might have refused.
#[test]
fn f43_i2_what_could_not_be_stored_does_not_give_way_to_what_it_replaced() {
    let mut run = Run::new(SHARING);
    assert_eq!(run.hear(Heard::Found(clean(1, "a"))), send("a", false));
    assert_eq!(run.hear(Heard::Granted("b")), save(1, clean(2, "b")));
    assert_eq!(run.hear(Heard::Failed), Do::Finish(End::Unsaved));
    let mut memory = run.0.memory;
    // "b" is not good enough any more; "a" would seem to be.
    for tokens in ["c", "d"] {
        assert!(!memory.may_adopt(&clean(1, "a"), SHARING.rotates));
        let mut run = Rotation::new(memory, SHARING);
        let known = run.memory.known.tokens.unwrap();
        let found = Heard::Found(clean(1, "a"));
        assert_eq!(run.next(found, |tokens| *tokens != known), send(known, false));
        assert_eq!(run.next(Heard::Granted(tokens), |_| true), save(1, clean(2, tokens)));
        assert_eq!(run.next(Heard::Failed, |_| true), Do::Finish(End::Unsaved));
        memory = run.memory;
    }
    assert!(memory.may_adopt(&clean(2, "e"), SHARING.rotates));
}

#[test]
fn a_grant_that_spends_nothing_writes_no_intent() {
    let mut run = Run::new(SHARING);
    assert_eq!(run.hear(Heard::Found(clean(1, "a"))), send("a", false));
    assert_eq!(run.hear(Heard::Granted("b")), save(1, clean(2, "b")));
    assert_eq!(run.hear(Heard::Saved), Do::Finish(End::Obtained));
}

#[test]
fn f42_a_result_that_comes_late_is_judged_by_its_generation() {
    // The lock is long lost, but nobody has stored anything: the result is the newest.
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::Granted("b")), save(1, clean(2, "b")));
    // Somebody has: theirs is used, and ours kept.
    assert_eq!(run.hear(Heard::Conflict(clean(2, "c"))), Do::Finish(End::Adopted));
    let memory = run.0.memory;
    assert_eq!((memory.known.tokens, memory.aside), (Some("c"), Some("b")));
}

#[test]
fn f42_what_was_kept_aside_is_tried_when_the_newer_one_does_not_work() {
    let kept = || Memory { known: clean(2, "a"), unsaved: false, aside: Some("b") };
    let mut run = Run(Rotation::new(kept(), ROTATING));
    run.hear(Heard::Found(clean(2, "a")));
    run.hear(Heard::Saved);
    assert_eq!(run.hear(Heard::InvalidGrant), Do::Read);
    assert_eq!(run.hear(Heard::Found(intent(2, "a"))), send("b", false));
    assert_eq!(run.hear(Heard::Granted("d")), save(2, clean(3, "d")));

    // And forgotten when it does.
    let mut run = Run(Rotation::new(kept(), ROTATING));
    run.hear(Heard::Found(clean(2, "a")));
    run.hear(Heard::Saved);
    run.hear(Heard::Granted("d"));
    assert_eq!(run.0.memory.aside, None);
}

/// The newer one was given up, here or in another process: ours may be the one that lives.
#[test]
fn f42_what_was_kept_aside_is_tried_when_the_newer_one_was_given_up() {
    let memory = Memory { known: clean(2, "a"), unsaved: false, aside: Some("b") };
    let mut run = Run(Rotation::new(memory, ROTATING));
    assert_eq!(run.hear(Heard::Found(dead(2, "a"))), send("b", false));
    assert_eq!(run.hear(Heard::Granted("d")), save(2, clean(3, "d")));
    assert_eq!(run.hear(Heard::Saved), Do::Finish(End::Obtained));
}

#[test]
fn f42_a_late_result_revives_a_record_that_was_given_up() {
    let mut run = Run::new(ROTATING).sent();
    run.hear(Heard::Granted("b"));
    assert_eq!(run.hear(Heard::Conflict(dead(2, "c"))), save(2, clean(3, "b")));
    assert_eq!(run.hear(Heard::Saved), Do::Finish(End::Obtained));
}

#[test]
fn f38_f44_an_older_record_is_not_adopted_but_replaced() {
    let memory = || Memory { known: clean(5, "b"), unsaved: false, aside: None };
    for stored in
        [clean(3, "old"), Entry { generation: 0, state: RecordState::Clean, tokens: None }]
    {
        let mut run = Run(Rotation::new(memory(), ROTATING));
        assert_eq!(run.hear(Heard::Found(stored.clone())), save(stored.generation, clean(5, "b")));
        assert_eq!(run.hear(Heard::Saved), Do::Finish(End::Adopted));
    }
}

#[test]
fn f38_f44_what_is_written_back_says_what_is_known_of_it() {
    for (known, written) in [(intent(5, "b"), clean(5, "b")), (dead(5, "b"), dead(5, "b"))] {
        let mut run = Run(Rotation::new(Memory { known, unsaved: false, aside: None }, ROTATING));
        assert_eq!(run.hear(Heard::Found(clean(3, "old"))), save(3, written));
    }
}

#[test]
fn f44_a_store_that_is_emptied_during_the_exchange_gets_the_result() {
    let mut run = Run::new(ROTATING).sent();
    run.hear(Heard::Granted("b"));
    let empty = Entry { generation: 0, state: RecordState::Clean, tokens: None };
    assert_eq!(run.hear(Heard::Conflict(empty)), save(0, clean(2, "b")));
}

#[test]
fn f41_too_little_time_sends_nothing() {
    let mut run = Run::new(ROTATING).sent();
    assert_eq!(run.hear(Heard::GaveUp), Do::Finish(End::Failed));
}

/// No store makes a renewal go on without end.
#[test]
fn a_store_that_never_holds_still_is_given_up() {
    let mut run = Run::new(ROTATING);
    let mut todo = run.hear(Heard::Found(clean(1, "a")));
    for generation in 2..20 {
        if let Do::Finish(_) | Do::FinishLocked(_) = todo {
            return;
        }
        todo = run.hear(Heard::Conflict(clean(generation, "a")));
    }
    panic!("{todo:?}");
}

proptest::proptest! {
    /// Whatever is heard, in whatever order: it ends, and nothing is sent before the intent is
    /// stored unless that was allowed.
    #[test]
    fn whatever_is_heard_a_renewal_ends(heard in proptest::collection::vec(0u8..9, 40), rotates: bool) {
        let mut run = Run::new(Rules { rotates, ..ROTATING });
        let mut todo = Do::Acquire;
        let mut sent = 0;
        for (i, heard) in heard.iter().enumerate() {
            todo = match (&todo, heard % 5) {
                (Do::Finish(_) | Do::FinishLocked(_), _) => break,
                (Do::Acquire | Do::Read, 0) | (Do::Save { .. }, 3) => run.hear(Heard::Failed),
                (Do::Acquire | Do::Read, n) => run.hear(Heard::Found(clean(u64::from(n), "a"))),
                (Do::Save { .. }, 0..=2) => run.hear(Heard::Saved),
                (Do::Save { .. }, _) => run.hear(Heard::Conflict(clean(i as u64, "a"))),
                (Do::Send { .. }, 0) => run.hear(Heard::Granted("b")),
                (Do::Send { .. }, 1) => run.hear(Heard::Unknown),
                (Do::Send { .. }, 2) => run.hear(Heard::Refused),
                (Do::Send { .. }, 3) => run.hear(Heard::InvalidGrant),
                (Do::Send { .. }, _) => run.hear(Heard::GaveUp),
            };
            sent += u32::from(matches!(todo, Do::Send { .. }));
        }
        let ended = matches!(todo, Do::Finish(_) | Do::FinishLocked(_));
        proptest::prop_assert!(ended, "{:?}", todo);
        proptest::prop_assert!(sent <= 6, "{}", sent);
    }
}
