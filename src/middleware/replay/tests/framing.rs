//! What each attempt says of its length and its end.

use super::*;

fn shape(body: &Attempt) -> (bool, u64, Option<u64>) {
    let hint = body.size_hint();
    (body.is_end_stream(), hint.lower(), hint.upper())
}

#[test]
fn f106_each_attempt_begins_with_the_same_length_and_end() {
    let scripts: [fn() -> Vec<Does>; 4] = [
        Vec::new,
        || vec![data("ab"), data("c")],
        || vec![data("ab"), data("c"), Does::Yield(Frame::trailers(trailers()))],
        || vec![Does::Yield(Frame::trailers(trailers()))],
    ];
    for script in scripts {
        let mut bounds = SizeHint::new();
        bounds.set_upper(7);
        bounds.set_lower(3);
        for hint in [SizeHint::new(), SizeHint::with_exact(3), bounds] {
            let mut body = scripted(script());
            body.hint = hint;
            let (mut first, permit) = recording(body, 100);
            let expected = shape(&first);
            assert!(!expected.0);
            let all = rest(&mut first);
            for read in 0..4 {
                let mut attempt = again(&permit);
                assert_eq!(shape(&attempt), expected, "{all}");
                if read > 0 {
                    assert_eq!(rest(&mut attempt), all);
                    assert!(attempt.is_end_stream());
                }
            }
        }
    }
}

#[test]
fn f106_the_length_shrinks_by_what_was_sent() {
    let mut body = scripted([data("ab"), data("c")]);
    body.hint = SizeHint::with_exact(3);
    let (mut first, permit) = recording(body, 100);
    let shrinks = |attempt: &mut Attempt| {
        for left in [3, 1, 0] {
            assert_eq!(attempt.size_hint().exact(), Some(left));
            poll(attempt);
        }
    };
    shrinks(&mut first);
    shrinks(&mut again(&permit));
}

#[test]
fn f106_an_attempt_that_has_trailers_left_has_not_ended() {
    let (mut first, permit) =
        recording(scripted([data("a"), Does::Yield(Frame::trailers(trailers()))]), 100);
    assert_eq!(rest(&mut first), "a|");
    let mut second = again(&permit);
    assert_eq!(poll(&mut second), text("a"));
    assert!(!second.is_end_stream());
    assert_eq!(poll(&mut second), Polled::Trailers);
    assert!(second.is_end_stream());
    assert_eq!(poll(&mut second), Polled::End);
}
