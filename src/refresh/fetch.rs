use std::sync::Arc;

use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until, timeout_at},
};

use super::begun::Begun;
#[cfg(feature = "pool")]
use crate::task::Contained;
use crate::{
    error::{Error, ErrorKind},
    observe::Sink,
    source::{DynTokenSource, FetchContext, panicked},
    token::TokenSet,
};

/// A fetch under way.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) begun: Begun,
    task: JoinHandle<Result<TokenSet, Error>>,
}

impl Fetch {
    /// Starts a fetch on a task of its own.
    ///
    /// It is a transaction: the server may have rotated the refresh token by the time anybody loses
    /// interest, so it goes on to its end even if the refresher does not.
    #[expect(clippy::disallowed_methods, reason = "a fetch is owned by nobody who can drop it")]
    pub(super) fn start(sink: &Sink, source: Arc<dyn DynTokenSource>, cx: FetchContext) -> Self {
        let begun = Begun::now(cx.reason, &*cx.clock);
        let fetch = sink.spanned(begun.reason, run(source, cx, begun.started));
        Self { begun, task: tokio::spawn(fetch) }
    }

    /// Waits for the end. May be dropped and called again, but not after it has returned.
    pub(super) async fn ended(&mut self) -> Result<TokenSet, Error> {
        (&mut self.task).await.unwrap_or_else(|failure| Err(ended(&failure)))
    }
}

/// Revokes tokens, on a task of its own as a fetch is.
#[expect(clippy::disallowed_methods, reason = "a panic in a user's source ends nothing else")]
pub(super) async fn revoke(source: Arc<dyn DynTokenSource>, cx: FetchContext) -> Result<(), Error> {
    let task = tokio::spawn(async move {
        let deadline = cx.deadline;
        timeout_at(deadline, source.revoke(cx)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the tokens were not revoked in time"))
        })
    });
    task.await.unwrap_or_else(|failure| Err(ended(&failure)))
}

/// Runs a fetch on a task of its own, as [`Fetch::start`] does, and hands the outcome to `done`
/// there.
#[cfg(feature = "pool")]
#[expect(clippy::disallowed_methods, reason = "a fetch is owned by nobody who can drop it")]
pub(crate) fn fetch_then(
    sink: &Sink,
    source: Arc<dyn DynTokenSource>,
    cx: FetchContext,
    done: impl FnOnce(Result<TokenSet, Error>) + Send + 'static,
) {
    let fetch = Contained::new(sink.spanned(cx.reason, run(source, cx, Instant::now())));
    tokio::spawn(async move { done(fetch.await.unwrap_or_else(|| Err(panicked()))) });
}

pub(super) fn ended(failure: &JoinError) -> Error {
    if failure.is_panic() {
        return panicked();
    }
    Error::new(ErrorKind::Shutdown, "the runtime ended while the token source was at work")
}

async fn run(
    source: Arc<dyn DynTokenSource>,
    cx: FetchContext,
    started: Instant,
) -> Result<TokenSet, Error> {
    let deadline = cx.deadline;
    let token = timeout_at(deadline, source.fetch(cx))
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no token was fetched in time")))?;
    until_usable(&token, started).await;
    Ok(token)
}

/// Waits until a token is good. Without a time of its own, it was asked for at `started`.
pub(super) async fn until_usable(token: &TokenSet, started: Instant) {
    if let Some(usable_in) = token.usable_in() {
        let usable_at = token.sent_at().unwrap_or(started) + usable_in.min(MAX_NOT_BEFORE);
        sleep_until(usable_at).await;
    }
}

/// A token that is not usable for longer than this is used all the same: the clocks disagree.
const MAX_NOT_BEFORE: std::time::Duration = std::time::Duration::from_secs(300);
