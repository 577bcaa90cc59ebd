use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::slot::Validity;

/// The report that a server refused a token.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// The token's number.
    pub(crate) epoch: u64,
    /// A younger token stays: that it is over cannot be why it was refused.
    pub(crate) min_age: Duration,
    /// The time of the server that refused it, if it said so. It may know better: a machine that is
    /// restored from a snapshot does not know for how long its clocks stood still.
    pub(crate) server_time: Option<SystemTime>,
}

impl Refusal {
    /// One that leaves no doubt, however young the token is.
    pub(crate) fn certain(epoch: u64) -> Self {
        Self { epoch, min_age: Duration::ZERO, server_time: None }
    }

    /// Whether the token is too young for it, and not over by the server's time either.
    pub(crate) fn is_doubtful(&self, token: Validity, now: Instant) -> bool {
        let is_young = now.saturating_duration_since(token.obtained) < self.min_age;
        is_young && self.server_time.is_none_or(|time| time < token.expires.wall)
    }
}
