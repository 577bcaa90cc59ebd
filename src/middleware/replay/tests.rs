//! Bodies that are recorded and sent again, polled by hand.

mod any_order;
mod failure;
mod framing;
mod memory;
mod takeover;

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::{ReplayBody, record::ReplayPermit};
use crate::error::BoxError;

/// What a poll of the test body does.
enum Does {
    Yield(Frame<Bytes>),
    Fail,
    Panic,
    Wait,
    /// Runs this in the poll, and goes on.
    Run(Box<dyn FnOnce() + Send>),
}

/// A body that follows a script, and counts who holds it.
struct Scripted {
    script: VecDeque<Does>,
    hint: SizeHint,
    /// Whether the body says when it has ended, before it is polled for that.
    tells_end: bool,
    /// How many frames of data are left.
    left: Arc<AtomicUsize>,
    alive: Arc<()>,
    waker: Arc<Mutex<Option<Waker>>>,
}

fn scripted(script: impl IntoIterator<Item = Does>) -> Scripted {
    let script: VecDeque<_> = script.into_iter().collect();
    let is_data = |does: &&Does| matches!(does, Does::Yield(frame) if frame.is_data());
    Scripted {
        left: Arc::new(AtomicUsize::new(script.iter().filter(is_data).count())),
        script,
        hint: SizeHint::new(),
        tells_end: false,
        alive: Arc::default(),
        waker: Arc::default(),
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            return match self.script.pop_front() {
                None => Poll::Ready(None),
                Some(Does::Yield(frame)) => {
                    if frame.is_data() {
                        self.left.fetch_sub(1, Ordering::Relaxed);
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
                Some(Does::Fail) => Poll::Ready(Some(Err(io::Error::other("the disk is gone")))),
                Some(Does::Panic) => panic!("the body's own"),
                Some(Does::Wait) => {
                    *self.waker.lock().unwrap() = Some(cx.waker().clone());
                    Poll::Pending
                }
                Some(Does::Run(run)) => {
                    run();
                    continue;
                }
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.tells_end && self.script.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

fn data(text: &'static str) -> Does {
    Does::Yield(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("end"))])
}

/// What a poll of an attempt returned.
#[derive(Debug, PartialEq)]
enum Polled {
    Data(Bytes),
    Trailers,
    End,
    Pending,
    /// The messages of the error and its sources.
    Error(String),
}

type Attempt = tokio_test::task::Spawn<ReplayBody<Scripted>>;

fn recording(body: Scripted, limit: usize) -> (Attempt, ReplayPermit<Scripted>) {
    let (body, permit) = ReplayBody::recording(body, limit);
    (tokio_test::task::spawn(body), permit)
}

fn again(permit: &ReplayPermit<Scripted>) -> Attempt {
    let body = ReplayBody::again(permit).expect("the body has not failed");
    tokio_test::task::spawn(body.expect("the body was recorded"))
}

fn poll(attempt: &mut Attempt) -> Polled {
    match attempt.enter(|cx, body| body.poll_frame(cx)) {
        Poll::Pending => Polled::Pending,
        Poll::Ready(None) => Polled::End,
        Poll::Ready(Some(Err(error))) => Polled::Error(chain(&error)),
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) => Polled::Data(data),
            Err(_) => Polled::Trailers,
        },
    }
}

fn chain(error: &BoxError) -> String {
    let mut all = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        all.push(error.to_string());
        source = error.source();
    }
    all.join(": ")
}

fn text(text: &'static str) -> Polled {
    Polled::Data(Bytes::from_static(text.as_bytes()))
}

/// All that an attempt yields, up to its end.
fn rest(attempt: &mut Attempt) -> String {
    let mut all = String::new();
    loop {
        match poll(attempt) {
            Polled::Data(data) => all += std::str::from_utf8(&data).unwrap(),
            Polled::Trailers => all += "|",
            Polled::End => return all,
            other => panic!("{other:?} after {all}"),
        }
    }
}

#[track_caller]
fn is_superseded(polled: &Polled) {
    assert!(matches!(polled, Polled::Error(error) if error.contains("sent again")), "{polled:?}");
}

const DISK: &str = "the request body failed: the disk is gone";

#[test]
fn a_body_that_is_its_default_is_sent_as_that() {
    let mut body = ReplayBody::<http_body_util::Full<Bytes>>::default();
    assert!(body.is_end_stream());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(None)));
}
