//! The bodies of requests: whole or broken, at once or bit by bit.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::world::World;

/// The body of a request. A clone starts at the beginning.
pub(crate) struct Upload {
    world: World,
    id: u64,
    plan: Plan,
    sent: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

/// How a body is sent.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// How many bytes at once.
    chunk: usize,
    /// How long before each but the first.
    gap: Duration,
    /// After how many bytes it fails.
    fails_after: Option<usize>,
    tells_length: bool,
}

/// The failure of a caller's body.
#[derive(Debug)]
pub(crate) struct Torn;

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the caller's body is torn")
    }
}

impl std::error::Error for Torn {}

impl Upload {
    /// The body of a request, in one of many ways.
    pub(crate) fn draw(world: &World, id: u64) -> Self {
        let (dice, length) = (world.dice(), content(id).len());
        let plan = if world.is_calm() || dice.chance(0.6) {
            Plan { chunk: length, gap: Duration::ZERO, fails_after: None, tells_length: true }
        } else {
            Plan {
                chunk: 1 + length / (1 + dice.below(8)),
                gap: dice.pick(&[Duration::ZERO, dice.seconds(0.01, LONGEST_GAP)]),
                fails_after: dice.chance(0.3).then(|| dice.below(length)),
                tells_length: dice.chance(0.5),
            }
        };
        Self { world: world.clone(), id, plan, sent: 0, pause: None }
    }
}

impl Clone for Upload {
    fn clone(&self) -> Self {
        Self { world: self.world.clone(), id: self.id, plan: self.plan, sent: 0, pause: None }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        let content = content(self.id);
        let Plan { chunk, gap, fails_after, .. } = self.plan;
        let end = fails_after.unwrap_or(content.len());
        if self.sent >= end && fails_after.is_none() {
            return Poll::Ready(None);
        }
        if self.sent > 0 && !gap.is_zero() {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(gap)));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        if self.sent >= end {
            self.world.ledger().body_failed(self.id);
            return Poll::Ready(Some(Err(Torn)));
        }
        let next = (self.sent + chunk).min(end);
        let data = Bytes::copy_from_slice(&content.as_bytes()[self.sent..next]);
        self.sent = next;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.plan.tells_length {
            SizeHint::with_exact((content(self.id).len() - self.sent) as u64)
        } else {
            SizeHint::new()
        }
    }
}

/// What the body of a request says. Every eighth is larger than what is recorded of a stream.
pub(crate) fn content(id: u64) -> String {
    format!("the body of request {id}, ").repeat(if id % 8 == 7 { 60 } else { 3 })
}

/// In seconds.
const LONGEST_GAP: f64 = 3.0;
