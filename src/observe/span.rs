//! Spans that no panic of a subscriber gets out of.

use std::{
    future::{Future, poll_fn},
    pin::pin,
};

use tracing::{Span, Value};

use crate::task::contain;

/// A span of which every use is contained, its end included. Without one, the subscriber panicked
/// when the span was made.
pub(super) struct ContainedSpan(Option<Span>);

impl ContainedSpan {
    pub(super) fn new(make: impl FnOnce() -> Span) -> Self {
        Self(contain(make))
    }

    pub(super) fn record(&self, field: &str, value: impl Value) {
        contain(|| self.0.as_ref().map(|span| span.record(field, value)));
    }

    /// Polls a future within the span.
    pub(super) async fn around<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let _entered = Entered::new(self.0.as_ref());
            future.as_mut().poll(cx)
        })
        .await
    }
}

impl Drop for ContainedSpan {
    fn drop(&mut self) {
        let span = self.0.take();
        contain(|| drop(span));
    }
}

/// `tracing` has a guard of its own, but whose `Drop` may panic, and which is not there if entering
/// panicked half-way.
struct Entered<'a>(Option<&'a Span>);

impl<'a> Entered<'a> {
    fn new(span: Option<&'a Span>) -> Self {
        contain(|| {
            span.map(|span| span.with_subscriber(|(id, subscriber)| subscriber.enter(id)));
        });
        Self(span)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        contain(|| {
            self.0.map(|span| span.with_subscriber(|(id, subscriber)| subscriber.exit(id)));
        });
    }
}
