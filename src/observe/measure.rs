//! Events as metrics. Their names and labels are stable; `docs/operating.md` lists them.
//!
//! No label has a value that a server or a caller chooses, but for the status code of a replay.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::{
    SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::{Event, FetchReason, live::Life};
use crate::time::{Clock, SystemClock};

/// Counts an event. Of many tenants' tokens there is no one that expires next, or is there or not:
/// gauges of that kind are for a single token.
pub(super) fn event(name: &Arc<str>, life: &Life, many: bool, event: &Event<'_>) {
    describe();
    let client = SharedString::from_shared(name.clone());
    let token = Single { client: (!many).then(|| client.clone()) };
    let stored = |what| {
        counter!(STORE, "client" => client.clone(), "event" => what).increment(1);
    };
    match *event {
        Event::Fetching { reason } => {
            if !many {
                // The refresher runs, and so it will tell its end.
                life.begin(name);
            }
            // There has been no token: without a series, nothing would alert.
            if reason == FetchReason::Initial {
                token.ready(false);
                token.expiry(0.0);
            }
        }
        Event::Obtained { reason, lifetime, expires_in, took, .. } => {
            let labels = || {
                [
                    ("client", client.clone()),
                    ("reason", SharedString::const_str(reason.as_str())),
                    ("outcome", SharedString::const_str("success")),
                ]
            };
            if reason != FetchReason::Renewed {
                counter!(FETCHES, &labels()).increment(1);
                histogram!(FETCH_DURATION, &labels()).record(took);
            }
            gauge!(LAST_SUCCESS, "client" => client.clone()).set(in_seconds(Duration::ZERO));
            gauge!(LIFETIME, "client" => client.clone()).set(lifetime);
            token.ready(true);
            token.expiry(in_seconds(expires_in));
            token.failures(0);
        }
        Event::Failed { reason, error, failures, holds_token, took, .. } => {
            let labels = [
                ("client", client.clone()),
                ("reason", SharedString::const_str(reason.as_str())),
                ("outcome", SharedString::const_str("failure")),
                ("error_type", SharedString::const_str(error.kind().as_str())),
            ];
            counter!(FETCHES, &labels).increment(1);
            histogram!(FETCH_DURATION, &labels).record(took);
            if !holds_token {
                token.ready(false);
            }
            token.failures(failures);
        }
        Event::Expired { .. } => {
            counter!(EXPIRIES, "client" => client.clone()).increment(1);
            token.gone();
        }
        Event::Rejected { .. } => {
            counter!(REJECTIONS, "client" => client.clone()).increment(1);
            token.gone();
        }
        Event::Renewing { .. } => {
            counter!(REJECTIONS, "client" => client).increment(1);
        }
        Event::Waiting => gauge!(WAITING, "client" => client).increment(1),
        Event::Waited { waited, obtained } => {
            gauge!(WAITING, "client" => client.clone()).decrement(1);
            let outcome = if obtained { "success" } else { "failure" };
            histogram!(WAIT_DURATION, "client" => client, "outcome" => outcome).record(waited);
        }
        Event::Replayed { status } => {
            let status = status.to_string();
            counter!(REPLAYS, "client" => client, "http_response_status_code" => status)
                .increment(1);
        }
        Event::ReplayFailed => {
            counter!(REPLAYS, "client" => client, "http_response_status_code" => "none")
                .increment(1);
        }
        Event::PassedWithoutToken { reason, .. } => {
            counter!(PASSED, "client" => client, "reason" => reason.as_str()).increment(1);
        }
        Event::RedirectFollowed { .. } => {
            counter!(REDIRECTS, "client" => client).increment(1);
        }
        Event::Leased { waited, obtained } => {
            let outcome = if obtained { "success" } else { "failure" };
            histogram!(LEASE_WAIT_DURATION, "client" => client, "outcome" => outcome)
                .record(waited);
        }
        Event::Adopted { .. } => stored("adopted"),
        Event::Saved { .. } => stored("saved"),
        Event::NotSaved { .. } => stored("not_saved"),
        Event::RecordIgnored { .. } => stored("record_ignored"),
        Event::StoreFailed { .. } => stored("store_failed"),
        Event::NotListening { .. } => stored("not_listening"),
        Event::Resending { .. } => stored("resending"),
        Event::Ended { .. } => stored("ended"),
        // The series belongs to another handle by now.
        Event::Stopped if life.end(name) => {}
        Event::Stopped => token.gone(),
    }
}

/// The gauges of a single token; none if there are many.
struct Single {
    client: Option<SharedString>,
}

impl Single {
    fn ready(&self, ready: bool) {
        if let Some(client) = self.client.clone() {
            gauge!(READY, "client" => client).set(f64::from(u8::from(ready)));
        }
    }

    /// When the token ends, as Unix time.
    fn expiry(&self, at: f64) {
        if let Some(client) = self.client.clone() {
            gauge!(EXPIRY, "client" => client).set(at);
        }
    }

    fn failures(&self, failures: u32) {
        if let Some(client) = self.client.clone() {
            gauge!(FAILURES, "client" => client).set(failures);
        }
    }

    /// There was a token, and it is in service no more.
    fn gone(&self) {
        self.ready(false);
        self.expiry(in_seconds(Duration::ZERO));
    }
}

/// A moment as Unix time, in seconds.
fn in_seconds(from_now: Duration) -> f64 {
    let now: SystemTime = SystemClock::new().coarse_wall();
    (now.duration_since(UNIX_EPOCH).unwrap_or_default() + from_now).as_secs_f64()
}

/// Says what the metrics are, once. Whoever wants that known installs a recorder before the first
/// token. Nobody waits for it: a recorder may ask for a token in it, or hang.
fn describe() {
    static DESCRIBED: AtomicBool = AtomicBool::new(false);
    if !DESCRIBED.load(Ordering::Relaxed) && !DESCRIBED.swap(true, Ordering::Relaxed) {
        describe_counter!(FETCHES, Unit::Count, "Token fetches that ended");
        describe_histogram!(FETCH_DURATION, Unit::Seconds, "How long token fetches took");
        describe_gauge!(READY, Unit::Count, "Whether there is a token to send, 1 or 0");
        describe_gauge!(EXPIRY, Unit::Seconds, "When the current token ends, as Unix time");
        describe_gauge!(LIFETIME, Unit::Seconds, "How long the last token lives in all");
        describe_gauge!(LAST_SUCCESS, Unit::Seconds, "When the last fetch succeeded, as Unix time");
        describe_gauge!(FAILURES, Unit::Count, "Token fetches that have failed in a row");
        describe_counter!(EXPIRIES, Unit::Count, "Tokens that expired before they were renewed");
        describe_counter!(REJECTIONS, Unit::Count, "Tokens that a server refused");
        describe_gauge!(WAITING, Unit::Count, "Requests that wait for a token now");
        describe_histogram!(WAIT_DURATION, Unit::Seconds, "How long requests waited for a token");
        describe_histogram!(
            LEASE_WAIT_DURATION,
            Unit::Seconds,
            "How long the right to renew a stored token was waited for"
        );
        describe_counter!(STORE, Unit::Count, "What happened with stored tokens");
        describe_counter!(REPLAYS, Unit::Count, "Requests that were sent again");
        describe_counter!(PASSED, Unit::Count, "Requests that were sent without a token");
        describe_counter!(
            REDIRECTS,
            Unit::Count,
            "Redirects to other origins that a client below followed"
        );
    }
}

const FETCHES: &str = "tower_oauth_fetches_total";
const FETCH_DURATION: &str = "tower_oauth_fetch_duration_seconds";
const READY: &str = "tower_oauth_token_ready";
const EXPIRY: &str = "tower_oauth_token_expiry_timestamp_seconds";
const LIFETIME: &str = "tower_oauth_token_lifetime_seconds";
const LAST_SUCCESS: &str = "tower_oauth_last_success_timestamp_seconds";
const FAILURES: &str = "tower_oauth_consecutive_failures";
const EXPIRIES: &str = "tower_oauth_expiries_total";
const REJECTIONS: &str = "tower_oauth_rejections_total";
const WAITING: &str = "tower_oauth_waiting_requests";
const WAIT_DURATION: &str = "tower_oauth_wait_duration_seconds";
const LEASE_WAIT_DURATION: &str = "tower_oauth_lease_wait_duration_seconds";
const STORE: &str = "tower_oauth_store_events_total";
const REPLAYS: &str = "tower_oauth_replays_total";
const PASSED: &str = "tower_oauth_passed_requests_total";
const REDIRECTS: &str = "tower_oauth_followed_redirects_total";
