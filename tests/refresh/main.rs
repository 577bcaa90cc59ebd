//! The refresher: when it fetches, what requests see meanwhile, and that it never stops.
//!
//! Most of it in paused time: an hour of a token's life takes no time at all.
#![cfg(test)]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

use log_watch as _;

#[path = "../common/mod.rs"]
mod common;
mod ending;
mod life;
mod pauses;
mod runtime;
mod status;
mod time;

use std::time::Duration;

use tower_oauth::TokenHandle;

const HOUR: Duration = Duration::from_secs(3600);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Lets every task run that can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn value(tokens: &TokenHandle) -> String {
    tokens.token().await.unwrap().access_token().expose().to_owned()
}

/// Whether there is a token that a request would get without waiting.
fn served(tokens: &TokenHandle) -> bool {
    tokens.current().is_some()
}
