//! A request body that several attempts send, one after the other. [`ReplayBody`] polls it.
//!
//! [`ReplayBody`]: super::ReplayBody

use std::{
    error::Error as StdError,
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::error::BoxError;

/// What the poll of a body returns.
pub(super) type PolledFrame = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// The caller's body, and what has been read from it.
///
/// The attempts have numbers, and only the latest one gets frames. An attempt takes the body out of
/// the record to poll it, so that no code of the body, of its data or of a waker runs under the lock.
pub(super) struct BodyRecord<B> {
    start: BodyStart,
    state: Mutex<BodyState<B>>,
}

/// What a body says about itself before it is polled. Each attempt says the same, so that all have
/// the same framing.
pub(super) struct BodyStart {
    pub(super) size: SizeHint,
    pub(super) ended: bool,
}

struct BodyState<B> {
    /// The number of the latest attempt.
    attempt: u64,
    /// Whether the latest attempt can still ask for frames.
    live: bool,
    /// Wakes the latest attempt: when another one takes over, or when the body is back.
    waker: Option<Waker>,
    source: BodySource<B>,
    /// Whether the body says that it has no more frames.
    exhausted: bool,
    /// The data read from the body. If no attempt can follow, the frames that were sent are empty.
    data: Vec<Bytes>,
    /// Which of them the latest attempt sends next.
    next: usize,
    trailers: Option<HeaderMap>,
    /// Whether the latest attempt has sent the trailers, or the body's end in place of them.
    trailers_sent: bool,
    recording: Recording,
}

/// Whether what the body yields is recorded.
#[derive(Clone, Copy, PartialEq)]
enum Recording {
    /// It is, and so many more bytes may be.
    Room(usize),
    /// The body was larger than the limit.
    Overflow,
    /// The request cannot be refused any more.
    Over,
}

enum BodySource<B> {
    Here(Pin<Box<B>>),
    /// An attempt is polling the body.
    Lent,
    /// All of the body has been read.
    Ended,
    /// The rest of the body is lost.
    Failed(Arc<dyn StdError + Send + Sync>),
}

/// What an attempt does when it is polled.
pub(super) enum Turn<B> {
    Yield(Option<Result<Frame<Bytes>, BoxError>>),
    /// It waits: the attempt before it is polling the body.
    Wait,
    /// It polls the body and gives it back with [`BodyRecord::give_back`].
    Poll(Pin<Box<B>>),
    /// It keeps the body: no attempt can follow.
    Keep(Pin<Box<B>>),
}

impl<B: Body> BodyRecord<B> {
    /// Records a body up to this many bytes.
    pub(super) fn new(body: B, limit: usize) -> Arc<Self> {
        let start = BodyStart { size: body.size_hint(), ended: body.is_end_stream() };
        let state = BodyState {
            attempt: 0,
            live: true,
            waker: None,
            source: BodySource::Here(Box::pin(body)),
            exhausted: start.ended,
            data: Vec::new(),
            next: 0,
            trailers: None,
            trailers_sent: false,
            recording: Recording::Room(limit),
        };
        Arc::new(Self { start, state: Mutex::new(state) })
    }
}

impl<B> BodyRecord<B> {
    pub(super) fn start(&self) -> &BodyStart {
        &self.start
    }

    fn state(&self) -> MutexGuard<'_, BodyState<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins another attempt and returns its number; `None` if the body was too large to be
    /// recorded. The attempt before it yields an error from now on, even if it is still being sent.
    ///
    /// # Errors
    ///
    /// The body's error, if it has failed.
    pub(super) fn again(&self) -> Result<Option<u64>, BoxError> {
        let mut state = self.state();
        if let BodySource::Failed(error) = &state.source {
            return Err(BodyFailed(error.clone()).into());
        }
        if !state.keeps() {
            return Ok(None);
        }
        state.attempt += 1;
        state.live = true;
        state.next = 0;
        state.trailers_sent = false;
        let (attempt, superseded) = (state.attempt, state.waker.take());
        drop(state);
        superseded.into_iter().for_each(Waker::wake);
        Ok(Some(attempt))
    }

    /// Returns what the attempt does next.
    pub(super) fn turn(&self, attempt: u64, waker: &Waker) -> Turn<B> {
        let mut state = self.state();
        if state.attempt != attempt {
            return Turn::Yield(Some(Err(SUPERSEDED.into())));
        }
        if let Some(data) = state.next_recorded() {
            return Turn::Yield(Some(Ok(Frame::data(data))));
        }
        match mem::replace(&mut state.source, BodySource::Lent) {
            BodySource::Here(body) if state.is_replayable() => Turn::Poll(body),
            BodySource::Here(body) => {
                state.source = BodySource::Ended;
                Turn::Keep(body)
            }
            BodySource::Lent => {
                state.wake_later(waker);
                Turn::Wait
            }
            BodySource::Ended => {
                state.source = BodySource::Ended;
                let trailers = if state.trailers_sent { None } else { state.trailers.clone() };
                state.trailers_sent = true;
                Turn::Yield(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            BodySource::Failed(error) => {
                state.source = BodySource::Failed(error.clone());
                Turn::Yield(Some(Err(BodyFailed(error).into())))
            }
        }
    }

    /// Gives the body back with what its poll returned, and returns what the attempt yields. If
    /// another attempt has begun meanwhile, the frame is for that one.
    pub(super) fn give_back(
        &self,
        attempt: u64,
        body: Pin<Box<B>>,
        exhausted: bool,
        polled: PolledFrame,
        waker: &Waker,
    ) -> PolledFrame {
        let mut spare = Spare::nothing();
        let mut state = self.state();
        let current = state.attempt == attempt;
        state.exhausted = exhausted;
        let polled = match polled {
            Poll::Pending => {
                state.source = BodySource::Here(body);
                if current {
                    state.wake_later(waker);
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                state.source = BodySource::Ended;
                state.trailers_sent = current;
                spare.body = Some(body);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let error: Arc<dyn StdError + Send + Sync> = error.into();
                state.source = BodySource::Failed(error.clone());
                spare.body = Some(body);
                Poll::Ready(Some(Err(BodyFailed(error).into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    state.source = BodySource::Here(body);
                    spare.data = state.record(data, current);
                } else {
                    // Nothing comes after trailers.
                    state.source = BodySource::Ended;
                    state.trailers = frame.trailers_ref().cloned();
                    state.trailers_sent = current;
                    spare.body = Some(body);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        };
        if !state.is_replayable() && !state.live {
            spare.add(state.discard());
        }
        let successor = if current { None } else { state.waker.take() };
        drop(state);
        successor.into_iter().for_each(Waker::wake);
        if current { polled } else { Poll::Ready(Some(Err(SUPERSEDED.into()))) }
    }

    /// Notes that the body panicked in the hands of an attempt: the rest of it is lost.
    pub(super) fn lost(&self) {
        let mut state = self.state();
        state.source = BodySource::Failed(Arc::from(BoxError::from(PANICKED)));
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Returns whether the attempt has yielded its last frame.
    pub(super) fn has_ended(&self, attempt: u64) -> bool {
        let state = self.state();
        state.attempt == attempt
            && state.next >= state.data.len()
            && match &state.source {
                BodySource::Here(_) => state.exhausted,
                BodySource::Ended => state.trailers_sent || state.trailers.is_none(),
                BodySource::Lent | BodySource::Failed(_) => false,
            }
    }

    /// Notes that the attempt's body was dropped.
    pub(super) fn leave(&self, attempt: u64) {
        let mut state = self.state();
        if state.attempt != attempt {
            return;
        }
        state.live = false;
        let waker = state.waker.take();
        // Otherwise another attempt may need the rest of it.
        let spare = if state.is_replayable() { Spare::nothing() } else { state.discard() };
        drop(state);
        drop((waker, spare));
    }

    /// Ends the recording: no attempt follows.
    fn end(&self) {
        let mut state = self.state();
        state.recording = Recording::Over;
        let spare = if state.live {
            Spare { body: None, data: state.release_sent() }
        } else {
            state.discard()
        };
        drop(state);
        drop(spare);
    }
}

impl<B> BodyState<B> {
    /// Whether what is sent has to be kept for another attempt.
    fn keeps(&self) -> bool {
        matches!(self.recording, Recording::Room(_))
    }

    /// Whether the layer may ask for another attempt.
    fn is_replayable(&self) -> bool {
        self.recording != Recording::Over
    }

    fn wake_later(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    /// Takes the data that the latest attempt sends next, if that is recorded.
    fn next_recorded(&mut self) -> Option<Bytes> {
        let keeps = self.keeps();
        let Some(data) = self.data.get_mut(self.next) else {
            if !keeps {
                (self.data, self.next) = (Vec::new(), 0);
            }
            return None;
        };
        self.next += 1;
        Some(if keeps { data.clone() } else { mem::take(data) })
    }

    /// Records what an attempt has read. Returns what does not have to be kept any more.
    fn record(&mut self, data: &Bytes, current: bool) -> Vec<Bytes> {
        // Any number of empty frames would fit.
        if data.is_empty() {
            return Vec::new();
        }
        let mut released = Vec::new();
        if let Recording::Room(room) = self.recording {
            self.recording =
                room.checked_sub(data.len()).map_or(Recording::Overflow, Recording::Room);
            if !self.keeps() {
                released = self.release_sent();
            }
        }
        // The latest attempt still has to send what the one before it has read, whatever the limit.
        if self.keeps() || !current {
            self.data.push(data.clone());
            self.next += usize::from(current);
        }
        released
    }

    /// Takes out the data that the latest attempt has sent.
    fn release_sent(&mut self) -> Vec<Bytes> {
        let rest = self.data.split_off(self.next.min(self.data.len()));
        self.next = 0;
        mem::replace(&mut self.data, rest)
    }

    /// Takes out everything: nothing will be sent any more.
    fn discard(&mut self) -> Spare<B> {
        self.next = 0;
        let body = match mem::replace(&mut self.source, BodySource::Ended) {
            BodySource::Here(body) => Some(body),
            BodySource::Lent => {
                self.source = BodySource::Lent;
                None
            }
            BodySource::Ended | BodySource::Failed(_) => None,
        };
        Spare { body, data: mem::take(&mut self.data) }
    }
}

/// What is dropped once the lock is free: to drop it may run the caller's code.
struct Spare<B> {
    body: Option<Pin<Box<B>>>,
    data: Vec<Bytes>,
}

impl<B> Spare<B> {
    fn nothing() -> Self {
        Self { body: None, data: Vec::new() }
    }

    fn add(&mut self, other: Self) {
        self.body = self.body.take().or(other.body);
        self.data.extend(other.data);
    }
}

/// The permission to begin further attempts. When it is dropped, the recording ends, and its memory
/// is freed while the last attempt is still being sent.
pub(super) struct ReplayPermit<B>(Arc<BodyRecord<B>>);

impl<B> ReplayPermit<B> {
    pub(super) fn new(record: Arc<BodyRecord<B>>) -> Self {
        Self(record)
    }

    pub(super) fn record(&self) -> &Arc<BodyRecord<B>> {
        &self.0
    }
}

impl<B> Drop for ReplayPermit<B> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The caller's body has failed. Several attempts may report it, so they share its error.
#[derive(Debug)]
struct BodyFailed(Arc<dyn StdError + Send + Sync>);

impl fmt::Display for BodyFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request body failed")
    }
}

impl StdError for BodyFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

const SUPERSEDED: &str = "the request is being sent again, so this attempt was given up";
const PANICKED: &str = "the request body panicked when it was polled";
