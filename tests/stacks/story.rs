//! Bodies that follow a plan, for requests and for answers.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tower::BoxError;

/// The trailer that ends a body with trailers. Its value is the digest of the body.
pub(crate) const TRAILER: &str = "x-end";

/// What a body consists of.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    pub(crate) chunks: Vec<Bytes>,
    /// Whether the length is known in advance.
    pub(crate) exact: bool,
    /// The pause before each chunk.
    pub(crate) pause: Duration,
    pub(crate) trailers: bool,
    /// The chunk in whose place the body fails.
    pub(crate) fails_at: Option<usize>,
}

impl Plan {
    /// A body of one piece.
    pub(crate) fn whole(number: u64, length: usize) -> Self {
        Self { chunks: cut(&content(number, length), 1), exact: true, ..Self::default() }
    }

    /// The length and a hash of all chunks, also of those that are never sent.
    pub(crate) fn digest(&self) -> String {
        digest(self.chunks.iter().flat_map(|chunk| chunk.iter().copied()))
    }

    fn length(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B in {} chunks", self.length(), self.chunks.len())?;
        f.write_str(if self.exact { ", length known" } else { ", length unknown" })?;
        if !self.pause.is_zero() {
            write!(f, ", {:?} apart", self.pause)?;
        }
        if self.trailers {
            f.write_str(", with trailers")?;
        }
        match self.fails_at {
            Some(chunk) => write!(f, ", fails at chunk {chunk}"),
            None => Ok(()),
        }
    }
}

/// Returns bytes that depend on a number, so that two bodies are never alike.
pub(crate) fn content(number: u64, length: usize) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(number);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

/// Cuts a body into chunks of nearly the same size.
pub(crate) fn cut(whole: &Bytes, chunks: usize) -> Vec<Bytes> {
    let size = whole.len().div_ceil(chunks.max(1)).max(1);
    (0..whole.len())
        .step_by(size)
        .map(|start| whole.slice(start..whole.len().min(start + size)))
        .collect()
}

/// Returns the length and a hash (FNV-1a) of a body.
pub(crate) fn digest(bytes: impl Iterator<Item = u8>) -> String {
    let (mut length, mut hash) = (0_u64, 0xcbf2_9ce4_8422_2325_u64);
    for byte in bytes {
        length += 1;
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{length}-{hash:016x}")
}

/// A body that follows a plan. A clone starts where the original stands.
#[derive(Default)]
pub(crate) struct Story {
    plan: Arc<Plan>,
    at: usize,
    pause: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Story {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self { plan, ..Self::default() }
    }

    /// The first half of a body, as if it were whole: for a layer that is broken on purpose.
    pub(crate) fn halved(&self) -> Self {
        let mut plan = Plan::clone(&self.plan);
        plan.chunks = cut(&plan.chunks.concat().into(), 2);
        plan.chunks.truncate(1);
        Self::new(Arc::new(plan))
    }

    /// The bytes of a body that is not a stream.
    pub(crate) fn at_hand(&self) -> Option<Bytes> {
        let plan = &*self.plan;
        let streams = plan.trailers || plan.fails_at.is_some() || !plan.pause.is_zero();
        match &*plan.chunks {
            _ if streams || !plan.exact || self.at > 0 => None,
            [] => Some(Bytes::new()),
            [chunk] => Some(chunk.clone()),
            _ => None,
        }
    }
}

impl Clone for Story {
    fn clone(&self) -> Self {
        Self { plan: self.plan.clone(), at: self.at, pause: None, ended: self.ended }
    }
}

impl fmt::Debug for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}

impl Body for Story {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let plan = this.plan.clone();
        if this.at < plan.chunks.len() && !plan.pause.is_zero() {
            let pause = this.pause.get_or_insert_with(|| Box::pin(sleep(plan.pause)));
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        if plan.fails_at == Some(this.at) {
            this.ended = true;
            return Poll::Ready(Some(Err(BROKEN.into())));
        }
        if let Some(chunk) = plan.chunks.get(this.at) {
            this.at += 1;
            this.ended = this.at == plan.chunks.len() && !plan.trailers;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        this.ended = true;
        if !plan.trailers {
            return Poll::Ready(None);
        }
        let digest = HeaderValue::from_str(&plan.digest()).expect("a digest is plain text");
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static(TRAILER), digest)]);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.plan.chunks.is_empty() && !self.plan.trailers)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.plan.chunks.iter().skip(self.at).map(Bytes::len).sum::<usize>() as u64;
        if self.plan.exact { SizeHint::with_exact(rest) } else { SizeHint::default() }
    }
}

/// The error of a body that fails.
pub(crate) const BROKEN: &str = "the body broke off";
