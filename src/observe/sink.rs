use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{Event, Observer};
use crate::error::Error;

/// Where events go: to `tracing`, and to the user's observer.
#[derive(Clone, Default)]
pub(crate) struct Sink(Option<Arc<dyn Observer>>);

impl Sink {
    pub(crate) fn new(observer: impl Observer) -> Self {
        Self(Some(Arc::new(observer)))
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        #[cfg(feature = "tracing")]
        trace(event);
        if let Some(observer) = &self.0 {
            // An observer only looks on: whatever happens to it, tokens go on.
            let _ = catch_unwind(AssertUnwindSafe(|| observer.event(event)));
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

/// Tells that metadata could not be had. It belongs to no handle, so no observer is told.
pub(crate) fn metadata_failed(error: &Error, holds_copy: bool) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET, kind = %error.kind(), %error, holds_copy, "metadata could not be had"
    );
    let _ = (error, holds_copy);
}

#[cfg(feature = "tracing")]
fn trace(event: &Event<'_>) {
    use tracing::{debug, info, warn};

    match *event {
        Event::Fetching { reason } => debug!(target: TARGET, %reason, "fetching a token"),
        Event::Obtained { epoch, reason, lifetime, took } => {
            info!(target: TARGET, epoch, %reason, ?lifetime, ?took, "token obtained");
        }
        Event::Failed { reason, error, failures, retry_in, holds_token } => warn!(
            target: TARGET, %reason, kind = %error.kind(), %error, failures, ?retry_in, holds_token,
            "token fetch failed"
        ),
        Event::Expired { epoch } => warn!(target: TARGET, epoch, "token expired unrenewed"),
        Event::Rejected { epoch } => info!(target: TARGET, epoch, "token refused by a server"),
        Event::Waited { waited, obtained } => {
            debug!(target: TARGET, ?waited, obtained, "request waited for a token");
        }
        Event::Replayed { status } => debug!(target: TARGET, status, "request sent again"),
        Event::Adopted { generation } => {
            info!(target: TARGET, generation, "token taken from the store");
        }
        Event::Saved { generation } => debug!(target: TARGET, generation, "token stored"),
        Event::NotSaved { generation, error } => warn!(
            target: TARGET, generation, kind = %error.kind(), %error,
            "token not stored: it would be lost if the process ended now"
        ),
        Event::RecordIgnored { what } => warn!(target: TARGET, what, "stored record ignored"),
        Event::StoreFailed { error } => {
            warn!(target: TARGET, kind = %error.kind(), %error, "token store failed");
        }
        Event::Resending { generation } => {
            warn!(target: TARGET, generation, "an answer was lost; sending the refresh token again");
        }
        Event::Ended { generation } => {
            warn!(target: TARGET, generation, "the grant has ended; access has to be given again");
        }
        Event::Stopped => debug!(target: TARGET, "refresher stopped"),
    }
}

#[cfg(feature = "tracing")]
const TARGET: &str = "tower_oauth";
