//! An attempt that begins while the one before it is still being sent.

use super::*;

#[test]
fn f84_another_attempt_takes_over_while_the_first_is_still_held() {
    let body = scripted([data("a"), data("b"), Does::Wait, data("c")]);
    let producer = body.waker.clone();
    let (mut first, permit) = recording(body, 100);
    assert_eq!(poll(&mut first), text("a"));
    assert_eq!(poll(&mut first), text("b"));
    assert_eq!(poll(&mut first), Polled::Pending);
    let mut second = again(&permit);
    assert!(first.is_woken(), "or its connection would wait for ever");
    for _ in 0..3 {
        // Never a clean end: the server would take "ab" for the whole.
        is_superseded(&poll(&mut first));
        assert!(!first.is_end_stream());
    }
    assert_eq!(poll(&mut second), text("a"));
    assert_eq!(poll(&mut second), text("b"));
    drop(first);
    assert_eq!(poll(&mut second), text("c"));
    assert_eq!(poll(&mut second), Polled::End);
    assert!(second.is_end_stream());
    assert!(producer.lock().unwrap().is_some());
}

#[test]
fn f84_the_new_attempt_is_woken_by_the_body() {
    let body = scripted([data("a"), Does::Wait, Does::Wait, data("b")]);
    let producer = body.waker.clone();
    let (mut first, permit) = recording(body, 100);
    assert_eq!((poll(&mut first), poll(&mut first)), (text("a"), Polled::Pending));
    let mut second = again(&permit);
    assert_eq!((poll(&mut second), poll(&mut second)), (text("a"), Polled::Pending));
    producer.lock().unwrap().take().unwrap().wake();
    assert!(second.is_woken());
    assert_eq!(rest(&mut second), "b");
}

/// The connection polls the body on one thread while the layer begins anew on another: here, the
/// body itself does it, in the middle of its poll.
#[test]
fn f84_a_frame_that_the_first_attempt_was_reading_is_the_seconds() {
    for limit in [1, 2, 100] {
        let permit = Arc::new(Mutex::new(None));
        let second = Arc::new(Mutex::new(None));
        let meanwhile = {
            let (permit, second) = (permit.clone(), second.clone());
            move || {
                let mut attempt = again(permit.lock().unwrap().as_ref().unwrap());
                assert_eq!(poll(&mut attempt), text("a"));
                assert!(!attempt.is_end_stream());
                assert_eq!(poll(&mut attempt), Polled::Pending, "the body is being polled");
                *second.lock().unwrap() = Some(attempt);
            }
        };
        let script = [data("a"), Does::Run(Box::new(meanwhile)), data("b"), data("c")];
        let (mut first, kept) = recording(scripted(script), limit);
        *permit.lock().unwrap() = Some(kept);
        assert_eq!(poll(&mut first), text("a"));
        is_superseded(&poll(&mut first));
        let mut second = second.lock().unwrap().take().unwrap();
        assert!(second.is_woken());
        assert_eq!(rest(&mut second), "bc", "limit {limit}");
        // "abc" is too much for a limit of 1 or 2, and for a third attempt.
        let third = ReplayBody::again(permit.lock().unwrap().as_ref().unwrap()).unwrap();
        assert_eq!(third.is_some(), limit == 100, "limit {limit}");
    }
}

#[test]
fn f84_the_end_that_the_first_attempt_was_reading_is_the_seconds() {
    let last = [(None, "a"), (Some(Does::Yield(Frame::trailers(trailers()))), "a|")];
    for (last, all) in last {
        let permit = Arc::new(Mutex::new(None));
        let meanwhile = {
            let permit: Arc<Mutex<Option<ReplayPermit<Scripted>>>> = permit.clone();
            move || drop(again(permit.lock().unwrap().as_ref().unwrap()))
        };
        let script = [data("a"), Does::Run(Box::new(meanwhile))];
        let (mut first, kept) = recording(scripted(script.into_iter().chain(last)), 100);
        *permit.lock().unwrap() = Some(kept);
        assert_eq!(poll(&mut first), text("a"));
        is_superseded(&poll(&mut first));
        assert_eq!(rest(&mut again(permit.lock().unwrap().as_ref().unwrap())), all);
    }
}

#[test]
fn f84_a_body_can_be_begun_anew_more_than_once() {
    let body =
        scripted([data("a"), data("b"), data("c"), Does::Yield(Frame::trailers(trailers()))]);
    let (mut first, permit) = recording(body, 100);
    assert_eq!(poll(&mut first), text("a"));
    let unused = again(&permit);
    let mut third = again(&permit);
    assert_eq!((poll(&mut third), poll(&mut third)), (text("a"), text("b")));
    drop(unused);
    let mut fourth = again(&permit);
    is_superseded(&poll(&mut third));
    assert_eq!(rest(&mut fourth), "abc|");
    assert_eq!(rest(&mut again(&permit)), "abc|");
}

/// Takes over at any moment of an upload on another thread.
#[test]
fn f84_no_moment_of_a_takeover_loses_a_frame() {
    for round in 0..500_u32 {
        let pieces: Vec<_> = (0..50_u8).map(|n| Bytes::copy_from_slice(&[b'a' + n % 26])).collect();
        let whole = pieces.concat();
        let script = pieces.into_iter().map(|piece| Does::Yield(Frame::data(piece)));
        let (mut first, permit) = recording(scripted(script), 1000);
        let uploader = thread::spawn(move || {
            loop {
                match poll(&mut first) {
                    Polled::Data(_) => thread::yield_now(),
                    end => return end,
                }
            }
        });
        for _ in 0..round % 64 {
            thread::yield_now();
        }
        let mut second = again(&permit);
        let mut all = String::new();
        loop {
            match poll(&mut second) {
                Polled::Data(data) => all += std::str::from_utf8(&data).unwrap(),
                Polled::Pending => thread::yield_now(),
                Polled::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(all.as_bytes(), whole, "round {round}");
        let end = uploader.join().unwrap();
        assert!(matches!(end, Polled::End | Polled::Error(_)), "{end:?}");
    }
}
