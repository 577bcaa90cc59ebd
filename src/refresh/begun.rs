use tokio::time::Instant;

use crate::{
    observe::FetchReason,
    time::{Clock, Moment},
};

/// A fetch that has begun, or a token that was heard of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) reason: FetchReason,
    /// What the clocks said then.
    pub(crate) moment: Moment,
    pub(crate) started: Instant,
}

impl Begun {
    pub(crate) fn now(reason: FetchReason, clock: &dyn Clock) -> Self {
        Self { reason, moment: clock.now(), started: Instant::now() }
    }
}
