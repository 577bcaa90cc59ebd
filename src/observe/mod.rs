//! What happens to a token, told as it happens.
//!
//! Every [`Event`] goes to the [`Observer`] that was set; with the feature `tracing` also to
//! `tracing`, under the target `tower_oauth`; and with the feature `metrics` to the recorder of the
//! crate `metrics`. No event holds a secret. A panic of any of the three is contained: tokens go on.
//! [`docs::operating`](crate::docs::operating) lists the
//! names and fields of both, and says what to alert on.
//!
//! ```
//! use tower_oauth::observe::{Event, Observer};
//!
//! struct Count(std::sync::atomic::AtomicU64);
//!
//! impl Observer for Count {
//!     fn event(&self, event: &Event<'_>) {
//!         if let Event::Obtained { .. } = event {
//!             self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
//!         }
//!     }
//! }
//! ```

mod event;
#[cfg(feature = "metrics")]
mod live;
#[cfg(feature = "metrics")]
mod measure;
mod sink;
#[cfg(feature = "tracing")]
mod span;
#[cfg(feature = "tracing")]
mod trace;
mod wait;

pub use event::{Event, EventOrigin, FetchReason, Observer, PassReason};
pub(crate) use sink::{Sink, metadata_failed};
pub(crate) use wait::Wait;

/// Keeps a task within the span of the fetch that it is part of, if there is `tracing`.
pub(crate) fn in_current_span<F: Future>(task: F) -> impl Future<Output = F::Output> {
    #[cfg(feature = "tracing")]
    let task = trace::in_current_span(task);
    task
}
