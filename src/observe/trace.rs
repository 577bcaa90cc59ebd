//! Events as `tracing` events. Their names and fields are stable; `docs/operating.md` lists them.

use std::future::Future;

use tracing::{
    Span, debug,
    field::{self, Empty},
    info, info_span, warn,
};

use super::{Event, FetchReason, span::ContainedSpan};
use crate::error::Error;

pub(super) fn event(client: &str, event: &Event<'_>) {
    match *event {
        Event::Fetching { reason } => debug!(
            name: "tower_oauth.fetching", target: TARGET, client, %reason, "fetching a token"
        ),
        Event::Obtained { epoch, reason, lifetime, expires_in, took } => info!(
            name: "tower_oauth.obtained", target: TARGET, client, epoch, %reason,
            lifetime_s = lifetime.as_secs_f64(), expires_in_s = expires_in.as_secs_f64(),
            took_s = took.as_secs_f64(), "token obtained"
        ),
        Event::Failed { reason, error, failures, retry_in, holds_token, took } => warn!(
            name: "tower_oauth.failed", target: TARGET, client, %reason,
            error.type = error.kind().as_str(), %error, failures,
            retry_in_s = retry_in.as_secs_f64(), holds_token, took_s = took.as_secs_f64(),
            "token fetch failed"
        ),
        Event::Expired { epoch } => warn!(
            name: "tower_oauth.expired", target: TARGET, client, epoch, "token expired unrenewed"
        ),
        Event::Rejected { epoch } => info!(
            name: "tower_oauth.rejected", target: TARGET, client, epoch,
            "token refused by a server"
        ),
        Event::Renewing { epoch } => info!(
            name: "tower_oauth.renewing", target: TARGET, client, epoch,
            "token refused by a server; it stays in service while it is renewed"
        ),
        // The end of the wait says it all.
        Event::Waiting => {}
        Event::Waited { waited, obtained } => debug!(
            name: "tower_oauth.waited", target: TARGET, client,
            waited_s = waited.as_secs_f64(), obtained, "request waited for a token"
        ),
        Event::Replayed { status } => debug!(
            name: "tower_oauth.replayed", target: TARGET, client,
            http.response.status_code = status, "request sent again"
        ),
        Event::ReplayFailed => debug!(
            name: "tower_oauth.replay_failed", target: TARGET, client,
            "request sent again after a refusal; the second attempt failed"
        ),
        Event::PassedWithoutToken { reason, origin } => debug!(
            name: "tower_oauth.passed", target: TARGET, client, %reason,
            origin = origin.map(field::display), "request sent without a token"
        ),
        Event::RedirectFollowed { origin, first: true } => warn!(
            name: "tower_oauth.redirected", target: TARGET, client, %origin,
            "a client below the layer followed a redirect to another origin, which may have got the \
             token; give that client `Origins::redirect_policy`, or let it follow none"
        ),
        Event::RedirectFollowed { origin, first: false } => debug!(
            name: "tower_oauth.redirected", target: TARGET, client, %origin,
            "a client below the layer followed a redirect to another origin"
        ),
        Event::Leased { waited, obtained } => debug!(
            name: "tower_oauth.leased", target: TARGET, client,
            waited_s = waited.as_secs_f64(), obtained, "waited for the right to renew"
        ),
        Event::Adopted { generation } => info!(
            name: "tower_oauth.adopted", target: TARGET, client, generation,
            "token taken from the store"
        ),
        Event::Saved { generation } => debug!(
            name: "tower_oauth.saved", target: TARGET, client, generation, "token stored"
        ),
        Event::NotSaved { generation, error } => warn!(
            name: "tower_oauth.not_saved", target: TARGET, client, generation,
            error.type = error.kind().as_str(), %error,
            "token not stored: it would be lost if the process ended now"
        ),
        Event::RecordIgnored { what } => warn!(
            name: "tower_oauth.record_ignored", target: TARGET, client, what,
            "stored record ignored"
        ),
        Event::StoreFailed { error } => warn!(
            name: "tower_oauth.store_failed", target: TARGET, client,
            error.type = error.kind().as_str(), %error, "token store failed"
        ),
        Event::NotListening { error } => warn!(
            name: "tower_oauth.not_listening", target: TARGET, client,
            error.type = error.kind().as_str(), %error,
            "tokens that others obtain are not heard of"
        ),
        Event::Resending { generation } => warn!(
            name: "tower_oauth.resending", target: TARGET, client, generation,
            "an answer was lost; sending the refresh token again"
        ),
        Event::Ended { generation } => warn!(
            name: "tower_oauth.ended", target: TARGET, client, generation,
            "the grant has ended; access has to be given again"
        ),
        Event::Stopped => debug!(
            name: "tower_oauth.stopped", target: TARGET, client, "refresher stopped"
        ),
    }
}

/// A span around a fetch: what the source's client tells is told within it.
pub(super) fn fetch<T, F>(
    client: &str,
    reason: FetchReason,
    fetch: F,
) -> impl Future<Output = F::Output> + use<T, F>
where
    F: Future<Output = Result<T, Error>>,
{
    let span = ContainedSpan::new(
        || info_span!(target: TARGET, "tower_oauth.fetch", client, %reason, error.type = Empty),
    );
    async move {
        let outcome = span.around(fetch).await;
        if let Err(error) = &outcome {
            span.record("error.type", error.kind().as_str());
        }
        outcome
    }
}

/// Keeps a task within the span in which it is started.
pub(super) fn in_current_span<F: Future>(task: F) -> impl Future<Output = F::Output> {
    let span = ContainedSpan::new(Span::current);
    async move { span.around(task).await }
}

pub(super) fn metadata_failed(error: &Error, holds_copy: bool) {
    warn!(
        name: "tower_oauth.metadata_failed", target: TARGET,
        holds_copy, error.type = error.kind().as_str(), %error, "metadata could not be had"
    );
}

const TARGET: &str = "tower_oauth";
