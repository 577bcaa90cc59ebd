//! Answers, and whether they arrive.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER},
};
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};
use tower_oauth::time::Clock;

use super::{Broken, fault::Way};
use crate::{ledger::Serial, world::World};

/// An answer as the server meant it.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// How long the client is to wait, as far as it can be read.
    wait: Option<Duration>,
    /// Whether a token was issued; with which refresh token, and whether it is of use.
    pub(super) issued: Option<Issued>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Issued {
    pub(super) serial: Serial,
    pub(super) refresh_token: Option<usize>,
    pub(super) useful: bool,
}

impl Reply {
    pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { status, headers, body: body.into(), wait: None, issued: None }
    }

    pub(super) fn html(status: StatusCode) -> Self {
        let mut reply =
            Self::json(status, "<html><body>The gateway is having a rest</body></html>");
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
        reply
    }

    /// How long to wait, in one of the ways that servers have.
    pub(super) fn retry_after(&mut self, world: &World, how: &'static str) {
        let now = world.clock().now().wall;
        let date = |time| HeaderValue::from_str(&httpdate::fmt_http_date(time)).unwrap();
        let minute = Duration::from_secs(60);
        let (value, wait) = match how {
            "" => return,
            "date" => (date(now + minute), Some(minute - Duration::from_secs(1))),
            "past" => (date(now - minute), Some(Duration::from_millis(500))),
            other => {
                let seconds = other.parse::<u64>().ok().map(Duration::from_secs);
                let wait = seconds.map(|wait| wait.max(Duration::from_millis(500)));
                (HeaderValue::from_static(other), wait)
            }
        };
        self.headers.insert(DATE, date(now));
        self.headers.insert(RETRY_AFTER, value);
        self.wait = wait;
    }
}

impl From<(StatusCode, &'static str)> for Reply {
    fn from((status, body): (StatusCode, &'static str)) -> Self {
        let mut reply = Self::json(status, body);
        if status.is_redirection() {
            reply.headers.insert(LOCATION, HeaderValue::from_static("https://evil.example/token"));
        }
        reply
    }
}

/// Tells the ledger what becomes of an answer.
pub(super) struct Delivery {
    world: World,
    instance: usize,
    issued: Option<Issued>,
    wait: Option<Duration>,
    read: bool,
}

impl Delivery {
    pub(super) fn new(world: &World, instance: usize, reply: &Reply) -> Self {
        let (issued, wait) = (reply.issued, reply.wait);
        Self { world: world.clone(), instance, issued, wait, read: false }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let mut ledger = self.world.ledger();
        if let Some(wait) = self.wait.filter(|_| self.read) {
            ledger.told_to_wait(self.instance, wait);
        }
        match self.issued {
            Some(Issued { serial, .. }) if !self.read => ledger.lost(serial),
            Some(Issued { serial, refresh_token, useful: false }) => {
                ledger.refused(serial, refresh_token);
            }
            Some(Issued { serial, refresh_token, .. }) => ledger.delivered(serial, refresh_token),
            None => {}
        }
    }
}

pub(super) fn respond(reply: Reply, way: Way, delivery: Delivery) -> Response<AnswerBody> {
    let mut rest = reply.body;
    if way == Way::Cut {
        rest.truncate(rest.len() / 2);
    }
    let mut response = Response::new(AnswerBody { rest, way, delivery, drop: None });
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

/// The body of an answer.
pub(crate) struct AnswerBody {
    rest: Bytes,
    way: Way,
    delivery: Delivery,
    /// Until when the next byte is waited for.
    drop: Option<Pin<Box<Sleep>>>,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            if this.way == Way::Cut {
                return Poll::Ready(Some(Err(Broken("the body breaks off"))));
            }
            this.delivery.read = true;
            return Poll::Ready(None);
        }
        if this.way == Way::Drips {
            let drop = this.drop.get_or_insert_with(|| Box::pin(sleep(Duration::from_secs(1))));
            ready!(drop.as_mut().poll(cx));
            this.drop = None;
            return Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(1)))));
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.rest)))))
    }
}
