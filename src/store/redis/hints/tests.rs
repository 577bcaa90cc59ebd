use super::*;

fn hints() -> Hints {
    Hints::new(Client::open("redis://127.0.0.1:1").unwrap())
}

#[test]
fn f46_a_hint_that_was_wrong_is_taken_back_unless_more_was_said_meanwhile() {
    // What is said now, what was said before the look, what was found, what is believed then.
    let cases = [
        (9, Some(9), 2, 2),
        (9, Some(9), 9, 9),
        // It is older than what was said: to be said is for the one that stored it.
        (5, Some(5), 7, 5),
        (9, Some(5), 2, 9),
        (9, None, 2, 9),
    ];
    for (now, before, stored, believed) in cases {
        let hints = hints();
        let said = hints.ask("c".to_owned());
        hints.channels()["c"].send_replace(now);
        hints.correct("c", before, stored);
        assert_eq!(*said.borrow(), believed, "{now} {before:?} {stored}");
        assert_eq!(hints.said("c"), Some(believed));
        hints.correct("another", Some(now), 0);
        assert_eq!(hints.said("another"), None);
    }
}
