use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::fetch::{ended, until_usable};
use crate::{
    error::Error,
    source::{DynTokenSource, FetchContext},
    token::TokenSet,
};

/// Whether the source is listened to, for tokens that somebody else obtains.
#[derive(Debug, Default)]
pub(super) enum Listening {
    /// Not now. It may be.
    #[default]
    Idle,
    /// On a task of its own, so that whatever a source does there ends nothing else.
    On(Listener),
    /// Not before the next fetch: it panicked.
    Off,
}

#[derive(Debug)]
pub(super) struct Listener(JoinHandle<TokenSet>);

impl Listening {
    /// Listens from this moment on.
    #[expect(clippy::disallowed_methods, reason = "a panic in a user's source ends nothing else")]
    pub(super) fn start(
        &mut self,
        source: Arc<dyn DynTokenSource>,
        cx: FetchContext,
        from: Instant,
    ) {
        *self = Self::On(Listener(tokio::spawn(async move {
            sleep_until(from).await;
            let token = source.renewed(cx).await;
            until_usable(&token, Instant::now()).await;
            token
        })));
    }

    /// Stops, unless it panicked.
    pub(super) fn pause(&mut self) {
        if let Self::On(_) = self {
            *self = Self::Idle;
        }
    }

    /// A token, or why there will be none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<TokenSet, Error>> {
        let Self::On(Listener(task)) = self else { return Poll::Pending };
        let outcome = ready!(Pin::new(task).poll(cx));
        *self = if outcome.is_ok() { Self::Idle } else { Self::Off };
        Poll::Ready(outcome.map_err(|failure| ended(&failure)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}
