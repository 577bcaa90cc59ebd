//! What holds for any body, whatever happens to its attempts and in which order.

use std::task::Wake;

use proptest::prelude::*;

use super::*;

/// What happens to the attempts.
#[derive(Debug, Clone)]
enum Event {
    /// An attempt is polled; the largest number stands for the latest one.
    Poll(usize),
    Begin,
    Drop(usize),
    EndRecording,
}

#[derive(Debug, Clone, Copy)]
enum Piece {
    Data(usize),
    Wait,
    Trailers,
    Fail,
    Panic,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        20 => (0..4_usize).prop_map(|back| Event::Poll(back / 2)),
        3 => Just(Event::Begin),
        1 => (0..2_usize).prop_map(Event::Drop),
        1 => Just(Event::EndRecording),
    ];
    proptest::collection::vec(event, 0..60)
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = prop_oneof![4 => (0..4_usize).prop_map(Piece::Data), 1 => Just(Piece::Wait)];
    let last = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Piece::Trailers)),
        1 => Just(Some(Piece::Fail)),
        1 => Just(Some(Piece::Panic)),
    ];
    (proptest::collection::vec(piece, 0..12), last)
        .prop_map(|(pieces, last)| pieces.into_iter().chain(last).collect())
}

/// An attempt, and what it has yielded.
struct Tracked {
    attempt: Option<Attempt>,
    sent: String,
}

impl Tracked {
    fn new(attempt: Attempt) -> Self {
        Self { attempt: Some(attempt), sent: String::new() }
    }

    /// Polls the attempt, if it is there, and checks what it yields against the whole body.
    fn poll(&mut self, whole: &str, latest: bool) {
        let Some(attempt) = &mut self.attempt else { return };
        let says_end = attempt.is_end_stream();
        let polled = catch_unwind(AssertUnwindSafe(|| poll(attempt)));
        match polled.unwrap_or(Polled::Error("panicked".into())) {
            Polled::Data(data) => {
                assert!(!says_end && latest, "it yields {data:?}");
                self.sent += std::str::from_utf8(&data).unwrap();
            }
            Polled::Trailers => {
                assert!(!says_end && latest);
                self.sent += "|";
            }
            Polled::End => {
                assert_eq!(self.sent, whole, "a part of it looks like the whole");
            }
            Polled::Pending => assert!(latest && !says_end),
            Polled::Error(error) => {
                let known = ["sent again", "disk", "panicked"];
                assert!(!says_end || whole.is_empty());
                assert!(known.iter().any(|known| error.contains(known)), "{error}");
                // The caller's own error: the body is no longer recorded, and not polled any more.
                if error.starts_with("the disk") || error == "panicked" {
                    self.attempt = None;
                }
            }
        }
        assert!(whole.starts_with(&self.sent), "{} of {whole}", self.sent);
    }
}

proptest! {
    #[test]
    fn f83_f84_f85_no_order_of_events_makes_a_part_look_like_the_whole(
        pieces in pieces(),
        events in events(),
        limit in 0..20_usize,
        tells_end: bool,
    ) {
        const TEXT: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
        let mut whole = String::new();
        let mut frames = Vec::new();
        let script: Vec<_> = pieces.iter().map(|piece| match piece {
            Piece::Data(len) => {
                let (does, frame) = memory::counted(&TEXT[whole.len()..whole.len() + len]);
                frames.push((*len, frame));
                whole += &TEXT[whole.len()..whole.len() + len];
                does
            }
            Piece::Wait => Does::Wait,
            Piece::Trailers => {
                whole += "|";
                Does::Yield(Frame::trailers(trailers()))
            }
            Piece::Fail => {
                whole += "never";
                Does::Fail
            }
            Piece::Panic => {
                whole += "never";
                Does::Panic
            }
        }).collect();
        let mut body = scripted(script);
        body.tells_end = tells_end;
        let (alive, left) = (Arc::downgrade(&body.alive), body.left.clone());
        let (first, permit) = recording(body, limit);
        let mut permit = Some(permit);
        let mut attempts = vec![Tracked::new(first)];
        for event in events {
            match event {
                Event::Poll(back) => {
                    let last = attempts.len() - 1;
                    let number = last.saturating_sub(back);
                    attempts[number].poll(&whole, number == last);
                }
                Event::Begin => {
                    if let Some(body) = permit.as_ref().and_then(|permit| ReplayBody::again(permit).ok()?) {
                        attempts.push(Tracked::new(tokio_test::task::spawn(body)));
                    }
                }
                Event::Drop(back) => {
                    let number = (attempts.len() - 1).saturating_sub(back);
                    attempts[number].attempt = None;
                }
                Event::EndRecording => permit = None,
            }
            // Frames that the body has given out and that somebody still holds.
            let given = frames.len() - left.load(Ordering::Relaxed);
            let held: usize = frames[..given]
                .iter()
                .filter(|(_, frame)| frame.strong_count() > 0)
                .map(|(len, _)| len)
                .sum();
            prop_assert!(held <= limit, "{held} bytes of {limit}");
            let latest = attempts.last().unwrap();
            if permit.is_none() && latest.attempt.is_none() {
                prop_assert_eq!((held, alive.strong_count()), (0, 0));
            }
        }
        drop((attempts, permit));
        prop_assert_eq!(alive.strong_count(), 0);
    }
}

/// A waker that polls at once, where it is called: it would lock what its caller has locked.
#[test]
fn f84_wakers_are_called_outside_of_the_lock() {
    struct PollsAtOnce(Arc<Mutex<Option<ReplayBody<Scripted>>>>, Arc<Mutex<Vec<bool>>>);
    impl Wake for PollsAtOnce {
        fn wake(self: Arc<Self>) {
            let mut body = self.0.lock().unwrap();
            let mut cx = Context::from_waker(Waker::noop());
            let polled = Pin::new(body.as_mut().unwrap()).poll_frame(&mut cx);
            self.1.lock().unwrap().push(matches!(polled, Poll::Ready(Some(Ok(_)))));
        }
    }
    let log = Arc::default();
    let start = |body: ReplayBody<Scripted>| {
        let body = Arc::new(Mutex::new(Some(body)));
        let waker = Waker::from(Arc::new(PollsAtOnce(body.clone(), Arc::clone(&log))));
        (body, waker)
    };
    let poll = |body: &Mutex<Option<ReplayBody<Scripted>>>, waker: &Waker| {
        let mut cx = Context::from_waker(waker);
        Pin::new(body.lock().unwrap().as_mut().unwrap()).poll_frame(&mut cx)
    };
    let slot: Arc<Mutex<Option<ReplayPermit<Scripted>>>> = Arc::default();
    let meanwhile = {
        let slot = slot.clone();
        let log: Arc<Mutex<Vec<bool>>> = Arc::clone(&log);
        move || {
            let second =
                ReplayBody::again(slot.lock().unwrap().as_ref().unwrap()).unwrap().unwrap();
            let second = Arc::new(Mutex::new(Some(second)));
            let waker = Waker::from(Arc::new(PollsAtOnce(second.clone(), log)));
            let mut cx = Context::from_waker(&waker);
            let polled = Pin::new(second.lock().unwrap().as_mut().unwrap()).poll_frame(&mut cx);
            assert!(polled.is_pending());
        }
    };
    // The first attempt reads a frame while the second one begins, which then gets it by its waker.
    let body = scripted([Does::Run(Box::new(meanwhile)), data("a"), Does::Wait]);
    let (first, permit) = ReplayBody::recording(body, 100);
    *slot.lock().unwrap() = Some(permit);
    let (first, waker) = start(first);
    assert!(matches!(poll(&first, &waker), Poll::Ready(Some(Err(_)))));
    assert_eq!(*log.lock().unwrap(), [true]);
    // A third one waits for the body, and is woken by the beginning of the fourth.
    let third = ReplayBody::again(slot.lock().unwrap().as_ref().unwrap()).unwrap().unwrap();
    let (third, waker) = start(third);
    assert!(poll(&third, &waker).is_ready());
    assert!(poll(&third, &waker).is_pending());
    let fourth = ReplayBody::again(slot.lock().unwrap().as_ref().unwrap()).unwrap();
    assert!(fourth.is_some());
    assert_eq!(*log.lock().unwrap(), [true, false], "an attempt that was given up");
}
