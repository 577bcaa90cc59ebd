use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// A body that can be sent again. See [`Buffered`](super::Buffered).
pub struct ReplayBody<B> {
    /// What earlier attempts have sent, and is sent again.
    again: Vec<Bytes>,
    again_at: usize,
    source: Source<B>,
    record: Option<Arc<Record<B>>>,
}

/// Where the frames come from.
enum Source<B> {
    Body(Pin<Box<B>>),
    /// The body has ended; its trailers, if it had any, are still to be sent.
    Trailers(Option<HeaderMap>),
}

/// What an attempt leaves for the next one.
pub(super) struct Record<B>(Mutex<Kept<B>>);

/// What a replay needs. Complete once the last attempt has given its source back.
struct Kept<B> {
    sent: Vec<Bytes>,
    room: usize,
    trailers: Option<HeaderMap>,
    rest: Option<Source<B>>,
    overflow: bool,
}

impl<B> ReplayBody<B> {
    /// A body that is sent once.
    pub(super) fn passing(body: B) -> Self {
        Self::new(body, None)
    }

    /// A body that is recorded while it is sent.
    pub(super) fn recording(body: B, record: Arc<Record<B>>) -> Self {
        Self::new(body, Some(record))
    }

    fn new(body: B, record: Option<Arc<Record<B>>>) -> Self {
        let source = Source::Body(Box::pin(body));
        Self { again: Vec::new(), again_at: 0, source, record }
    }

    /// The body once more, recorded further. `None` if it was too large, or if the connection still
    /// holds the last attempt's body.
    pub(super) fn again(record: &Arc<Record<B>>) -> Option<Self> {
        let mut kept = record.kept();
        if kept.overflow {
            return None;
        }
        let source = kept.rest.take()?;
        Some(Self { again: kept.sent.clone(), again_at: 0, source, record: Some(record.clone()) })
    }
}

impl<B> Record<B> {
    pub(super) fn new(limit: usize) -> Self {
        Self(Mutex::new(Kept {
            sent: Vec::new(),
            room: limit,
            trailers: None,
            rest: None,
            overflow: false,
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Kept<B> {
    fn keep(&mut self, data: &Bytes) {
        match self.room.checked_sub(data.len()) {
            Some(room) if !self.overflow => {
                self.room = room;
                self.sent.push(data.clone());
            }
            _ => {
                self.overflow = true;
                self.sent = Vec::new();
            }
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if let Some(data) = this.again.get_mut(this.again_at).map(mem::take) {
            this.again_at += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let frame = match &mut this.source {
            Source::Body(body) => {
                let Some(frame) = ready!(body.as_mut().poll_frame(cx)) else {
                    this.end();
                    return Poll::Ready(None);
                };
                frame?
            }
            Source::Trailers(trailers) => {
                return Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
        };
        let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
        if let Some(record) = &this.record {
            let mut kept = record.kept();
            if let Some(data) = frame.data_ref() {
                kept.keep(data);
            } else if let Some(trailers) = frame.trailers_ref() {
                kept.trailers = Some(trailers.clone());
            }
        }
        if frame.is_trailers() {
            this.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.again_at >= self.again.len()
            && match &self.source {
                Source::Body(body) => body.is_end_stream(),
                Source::Trailers(trailers) => trailers.is_none(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let again: u64 = self.again.iter().map(|data| data.len() as u64).sum();
        let rest = match &self.source {
            Source::Body(body) => body.size_hint(),
            Source::Trailers(_) => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(again.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(again.saturating_add(upper));
        }
        hint
    }
}

impl<B> ReplayBody<B> {
    fn end(&mut self) {
        self.source = Source::Trailers(None);
        self.give_back();
    }

    /// Leaves what has not been sent to another attempt.
    fn give_back(&mut self) {
        let Some(record) = self.record.take() else { return };
        let mut kept = record.kept();
        let source = mem::replace(&mut self.source, Source::Trailers(None));
        kept.rest = Some(match source {
            Source::Trailers(_) => Source::Trailers(kept.trailers.clone()),
            body @ Source::Body(_) => body,
        });
    }
}

impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Nothing of the body: it is the caller's.
impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplayBody")
    }
}
