//! What happens to a token, told as it happens.
//!
//! Every [`Event`] goes to the [`Observer`] that was set, and with the feature `tracing` also to
//! `tracing`, under the target `tower_oauth`. No event holds a secret.
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
mod sink;

pub use event::{Event, FetchReason, Observer};
pub(crate) use sink::{Sink, metadata_failed};
