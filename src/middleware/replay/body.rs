//! The request body of an attempt, which the service below polls.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, SizeHint};

use super::record::{BodyRecord, PolledFrame, ReplayPermit, Turn};
use crate::error::BoxError;

/// A body that can be sent again. See [`Buffered`](super::Buffered).
///
/// An attempt that another one has superseded ends with an error, so that no server takes what it
/// got of it for the whole body. If the caller's body fails, its error is in the source chain of
/// every attempt's error.
pub struct ReplayBody<B>(Sending<B>);

enum Sending<B> {
    /// The caller's body, which no further attempt needs.
    Alone(Pin<Box<B>>),
    /// What is recorded of the caller's body, and then the rest of it.
    Recorded {
        record: Arc<BodyRecord<B>>,
        attempt: u64,
        /// Whether the attempt has begun.
        started: bool,
        /// How many bytes the attempt has yielded.
        yielded: u64,
    },
}

impl<B> ReplayBody<B> {
    /// A body that is sent once.
    pub(super) fn passing(body: B) -> Self {
        Self(Sending::Alone(Box::pin(body)))
    }

    /// A body that is sent again, if that is possible: see [`BodyRecord::again`].
    pub(super) fn again(permit: &ReplayPermit<B>) -> Result<Option<Self>, BoxError> {
        let record = permit.record();
        Ok(record.again()?.map(|attempt| Self::attempt(record.clone(), attempt)))
    }

    fn attempt(record: Arc<BodyRecord<B>>, attempt: u64) -> Self {
        Self(Sending::Recorded { record, attempt, started: false, yielded: 0 })
    }
}

impl<B: Body> ReplayBody<B> {
    /// A body that is recorded while it is sent, up to this many bytes, until the permit to send it
    /// again is dropped.
    pub(super) fn recording(body: B, limit: usize) -> (Self, ReplayPermit<B>) {
        let record = BodyRecord::new(body, limit);
        (Self::attempt(record.clone(), 0), ReplayPermit::new(record))
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        loop {
            let (record, attempt, started, yielded) = match &mut self.0 {
                Sending::Alone(body) => return poll_bytes(body.as_mut(), cx),
                Sending::Recorded { record, attempt, started, yielded } => {
                    (record, *attempt, started, yielded)
                }
            };
            let polled = match record.turn(attempt, cx.waker()) {
                Turn::Yield(frame) => Poll::Ready(frame),
                Turn::Wait => Poll::Pending,
                Turn::Poll(body) => poll_lent(record, attempt, body, cx),
                Turn::Keep(body) => {
                    self.0 = Sending::Alone(body);
                    continue;
                }
            };
            *started |= polled.is_ready();
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                *yielded += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            return polled;
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Sending::Alone(body) => body.is_end_stream(),
            Sending::Recorded { record, started: false, .. } => record.start().ended,
            Sending::Recorded { record, attempt, .. } => record.has_ended(*attempt),
        }
    }

    // Until an attempt has sent something, this is what the first one had: a client that sends
    // chunks and trailers the first time must not send a length the second time.
    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Sending::Alone(body) => body.size_hint(),
            Sending::Recorded { record, yielded, .. } => {
                let start = &record.start().size;
                let mut hint = SizeHint::new();
                hint.set_lower(start.lower().saturating_sub(*yielded));
                if let Some(upper) = start.upper() {
                    hint.set_upper(upper.saturating_sub(*yielded));
                }
                hint
            }
        }
    }
}

fn poll_bytes<B>(body: Pin<&mut B>, cx: &mut Context<'_>) -> PolledFrame
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let frame = body.poll_frame(cx).map_err(Into::into);
    frame.map_ok(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
}

/// Polls a body that the attempt took out of the record, and gives it back.
fn poll_lent<B>(
    record: &BodyRecord<B>,
    attempt: u64,
    mut body: Pin<Box<B>>,
    cx: &mut Context<'_>,
) -> PolledFrame
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let mut panics = LostOnPanic { record, armed: true };
    let polled = poll_bytes(body.as_mut(), cx);
    let exhausted = body.is_end_stream();
    panics.armed = false;
    record.give_back(attempt, body, exhausted, polled, cx.waker())
}

/// Tells the record that its body is lost, unless it is disarmed.
struct LostOnPanic<'a, B> {
    record: &'a BodyRecord<B>,
    armed: bool,
}

impl<B> Drop for LostOnPanic<'_, B> {
    fn drop(&mut self) {
        if self.armed {
            self.record.lost();
        }
    }
}

impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        if let Sending::Recorded { record, attempt, .. } = &self.0 {
            record.leave(*attempt);
        }
    }
}

/// The default body, sent once: what a service below puts in place of a body, as when it follows a
/// redirect.
impl<B: Default> Default for ReplayBody<B> {
    fn default() -> Self {
        Self::passing(B::default())
    }
}

/// Shows nothing of the body, which is the caller's.
impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplayBody")
    }
}
