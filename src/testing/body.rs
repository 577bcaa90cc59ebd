use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::{
    answer::End,
    fault::{ConnectionError, Kind},
    switch::Outage,
};

/// The body of an answer of a [`TestService`](super::TestService).
pub struct ReplyBody {
    chunks: VecDeque<(Duration, Bytes)>,
    end: End,
    size: Option<usize>,
    /// The pause before the first of the chunks, once it has begun.
    pause: Option<Pin<Box<Sleep>>>,
    outage: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl ReplyBody {
    pub(super) fn new(
        chunks: Vec<(Duration, Bytes)>,
        end: End,
        size: Option<usize>,
        outage: Outage,
    ) -> Self {
        Self { chunks: chunks.into(), end, size, pause: None, outage: Box::pin(outage.begins()) }
    }

    fn fail(&mut self, kind: Kind) -> Poll<Option<Result<Frame<Bytes>, ConnectionError>>> {
        self.chunks.clear();
        self.end = End::Complete;
        Poll::Ready(Some(Err(ConnectionError::new(kind))))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = ConnectionError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionError>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        if self.outage.as_mut().poll(cx).is_ready() {
            return self.fail(Kind::Reset);
        }
        while let Some(&(after, _)) = self.chunks.front() {
            if !after.is_zero() {
                ready!(self.pause.get_or_insert_with(|| Box::pin(sleep(after))).as_mut().poll(cx));
                self.pause = None;
            }
            if let Some((_, data)) = self.chunks.pop_front()
                && !data.is_empty()
            {
                self.size = self.size.map(|size| size.saturating_sub(data.len()));
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        match self.end {
            End::Complete => Poll::Ready(None),
            End::Close => self.fail(Kind::Incomplete),
            End::Reset => self.fail(Kind::Reset),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.end == End::Complete
    }

    fn size_hint(&self) -> SizeHint {
        match self.size.and_then(|size| u64::try_from(size).ok()) {
            Some(size) => SizeHint::with_exact(size),
            None => SizeHint::default(),
        }
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyBody").field("chunks", &self.chunks.len()).finish_non_exhaustive()
    }
}
