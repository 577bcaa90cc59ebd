//! What is held of a body, and how long.

use super::*;

/// A frame, and a way to see whether its memory is still held.
pub(super) fn counted(text: &'static str) -> (Does, Weak<()>) {
    struct Counted(&'static str, #[expect(dead_code, reason = "it is counted")] Arc<()>);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    let held = Arc::new(());
    let weak = Arc::downgrade(&held);
    (Does::Yield(Frame::data(Bytes::from_owner(Counted(text, held)))), weak)
}

fn held(frames: &[Weak<()>]) -> Vec<bool> {
    frames.iter().map(|frame| frame.strong_count() > 0).collect()
}

#[test]
fn f85_once_the_request_is_accepted_its_record_is_freed_and_the_stream_goes_on() {
    let (script, held_by): (Vec<_>, Vec<_>) = ["a", "b", "c", "d"].map(counted).into_iter().unzip();
    let (mut body, permit) = recording(scripted(script), 100);
    assert_eq!((poll(&mut body), poll(&mut body)), (text("a"), text("b")));
    assert_eq!(held(&held_by), [true; 4]);
    drop(permit);
    assert_eq!(held(&held_by), [false, false, true, true]);
    assert_eq!(poll(&mut body), text("c"));
    assert_eq!(held(&held_by), [false, false, false, true]);
    assert_eq!(rest(&mut body), "d");
}

#[test]
fn f85_a_second_attempt_that_is_accepted_frees_what_it_has_sent() {
    let (script, held_by): (Vec<_>, Vec<_>) = ["a", "b", "c", "d"].map(counted).into_iter().unzip();
    let (mut first, permit) = recording(scripted(script), 100);
    assert_eq!(
        (poll(&mut first), poll(&mut first), poll(&mut first)),
        (text("a"), text("b"), text("c"))
    );
    let mut second = again(&permit);
    assert_eq!(poll(&mut second), text("a"));
    drop(permit);
    assert_eq!(held(&held_by), [false, true, true, true]);
    assert_eq!(poll(&mut second), text("b"));
    assert_eq!(held(&held_by), [false, false, true, true]);
    assert!(!second.is_end_stream());
    assert_eq!(rest(&mut second), "cd");
    assert_eq!(held(&held_by), [false; 4]);
    is_superseded(&poll(&mut first));
}

#[test]
fn f85_beyond_the_limit_everything_is_freed() {
    let (script, held_by): (Vec<_>, Vec<_>) =
        ["ab", "cd", "e", "f"].map(counted).into_iter().unzip();
    let (mut body, permit) = recording(scripted(script), 4);
    assert_eq!((poll(&mut body), poll(&mut body)), (text("ab"), text("cd")));
    assert_eq!(held(&held_by), [true; 4], "exactly at the limit");
    assert_eq!(poll(&mut body), text("e"));
    assert_eq!(held(&held_by), [false, false, false, true]);
    assert_eq!(rest(&mut body), "f");
    assert!(ReplayBody::again(&permit).unwrap().is_none());
}

#[test]
fn f85_a_second_attempt_beyond_the_limit_is_still_sent_in_full() {
    let (script, held_by): (Vec<_>, Vec<_>) =
        ["ab", "cd", "e", "f"].map(counted).into_iter().unzip();
    let (mut first, permit) = recording(scripted(script), 4);
    assert_eq!((poll(&mut first), poll(&mut first)), (text("ab"), text("cd")));
    let mut second = again(&permit);
    assert_eq!(rest(&mut second), "abcdef");
    assert_eq!(held(&held_by), [false; 4]);
    assert!(ReplayBody::again(&permit).unwrap().is_none());
}

#[test]
fn f85_the_body_is_dropped_as_soon_as_no_attempt_needs_it() {
    let start = || {
        let body = scripted([data("a"), Does::Wait]);
        let alive = Arc::downgrade(&body.alive);
        let (mut first, permit) = recording(body, 100);
        assert_eq!((poll(&mut first), poll(&mut first)), (text("a"), Polled::Pending));
        (first, permit, alive)
    };
    // The connection breaks, and the answer is not awaited any more; in either order.
    let (first, permit, alive) = start();
    drop(first);
    assert!(alive.upgrade().is_some(), "it may be sent again");
    drop(permit);
    assert!(alive.upgrade().is_none());
    let (first, permit, alive) = start();
    drop(permit);
    drop(first);
    assert!(alive.upgrade().is_none());
    // A connection that is stuck holds an attempt which was given up.
    for permit_first in [true, false] {
        let (first, permit, alive) = start();
        let second = again(&permit);
        if permit_first {
            drop(permit);
            drop(second);
        } else {
            drop(second);
            drop(permit);
        }
        assert!(alive.upgrade().is_none());
        drop(first);
    }
    // The end of the body is the end of it.
    let body = scripted([data("a")]);
    let alive = Arc::downgrade(&body.alive);
    let (mut first, permit) = recording(body, 100);
    assert_eq!(rest(&mut first), "a");
    assert!(alive.upgrade().is_none());
    assert_eq!(rest(&mut again(&permit)), "a");
}

#[test]
fn f85_empty_frames_take_no_memory() {
    let empty = (0..10_000).map(|_| data(""));
    let (mut first, permit) = recording(scripted(empty.chain([data("a")])), 1);
    assert_eq!(rest(&mut first), "a");
    let mut second = again(&permit);
    assert_eq!((poll(&mut second), poll(&mut second)), (text("a"), Polled::End));
}

#[test]
fn f85_a_body_that_comes_back_when_nobody_needs_it_is_dropped() {
    let permit = Arc::new(Mutex::new(None));
    let meanwhile = {
        let permit: Arc<Mutex<Option<ReplayPermit<Scripted>>>> = permit.clone();
        move || {
            let permit = permit.lock().unwrap().take().unwrap();
            drop(again(&permit));
        }
    };
    let (frame, held_by) = counted("a");
    let body = scripted([Does::Run(Box::new(meanwhile)), frame, data("b")]);
    let alive = Arc::downgrade(&body.alive);
    let (mut first, kept) = recording(body, 100);
    *permit.lock().unwrap() = Some(kept);
    is_superseded(&poll(&mut first));
    assert_eq!((held(&[held_by]), alive.strong_count()), (vec![false], 0));
}
