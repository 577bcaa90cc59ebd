//! A source around another one: it tells the ledger of each fetch, panics, and dies with its process.

use std::{
    future::{pending, poll_fn},
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tower_oauth::{Error, FetchContext, TokenSet, TokenSource};

use crate::{canary, ledger::Fetched, weather::Trouble, world::World};

/// What all tasks of a process have in common: its life.
#[derive(Clone, Default)]
pub(crate) struct Life(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    dead: bool,
    /// After so many polls of a fetch it ends: at any await of it.
    polls_left: Option<u32>,
    waker: Option<Waker>,
}

impl Life {
    /// Ends the process where it stands.
    pub(crate) fn kill(&self) {
        let waker = {
            let mut state = self.0.state.lock().unwrap();
            state.dead = true;
            state.waker.take()
        };
        self.0.ended.notify_one();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Ends the process in the next fetch, after so many polls of it.
    pub(crate) fn kill_after(&self, polls: u32) {
        self.0.state.lock().unwrap().polls_left = Some(polls);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.state.lock().unwrap().dead
    }

    /// Wakes who waits for the end.
    pub(crate) fn tell(&self) {
        self.0.ended.notify_one();
    }

    pub(crate) async fn ended(&self) {
        self.0.ended.notified().await;
    }

    /// Whether the fetch may be polled once more. In the calm nobody dies any more.
    fn lives(&self, waker: &Waker, is_calm: bool) -> bool {
        let mut state = self.0.state.lock().unwrap();
        if is_calm {
            state.polls_left = None;
        }
        if let Some(left) = &mut state.polls_left {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => state.dead = true,
            }
        }
        state.waker = Some(waker.clone());
        let dead = state.dead;
        drop(state);
        if dead {
            self.kill();
        }
        !dead
    }
}

/// See the module.
pub(crate) struct Probe<S> {
    pub(crate) source: S,
    pub(crate) world: World,
    pub(crate) instance: usize,
    pub(crate) key: usize,
    pub(crate) life: Life,
}

impl<S> Probe<S> {
    fn fetched(&self, token: &TokenSet, started: Instant) -> Fetched {
        let sent = token.sent_at();
        Fetched {
            serial: serial(token).unwrap_or_default(),
            lifetime: token.lifetime(),
            refresh_in: token.refresh_in(),
            sent: sent.map(|at| self.world.since_start(at)),
            age: sent.map_or(Duration::ZERO, |at| started.saturating_duration_since(at)),
        }
    }
}

impl<S: TokenSource> TokenSource for Probe<S> {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let started = Instant::now();
        let previous = cx.previous.as_ref().and_then(|token| serial(token));
        let deadline = self.world.since_start(cx.deadline);
        self.world.ledger().fetch_started(self.instance, cx.reason, previous, deadline);
        let mut guard = Guard { world: self.world.clone(), instance: self.instance, over: false };
        assert!(!self.world.has(Trouble::SourcePanics, self.key), "{SIMULATED}");
        let mut fetch = Box::pin(self.source.fetch(cx));
        let outcome = poll_fn(|task| {
            if self.life.lives(task.waker(), self.world.is_calm()) {
                fetch.as_mut().poll(task).map(Some)
            } else {
                Poll::Ready(None)
            }
        });
        let Some(outcome) = outcome.await else {
            // As the process does: everything is dropped where it was.
            drop(fetch);
            guard.over = true;
            self.world.ledger().crashed(self.instance);
            return Err(Error::other("the process is gone"));
        };
        let mut ledger = self.world.ledger();
        match &outcome {
            Ok(token) => {
                ledger.fetch_succeeded(self.instance, self.fetched(token, started));
            }
            Err(error) => {
                ledger.fetch_failed(self.instance, error.kind(), error.is_retryable());
            }
        }
        guard.over = true;
        drop(ledger);
        outcome
    }

    async fn renewed(&self, cx: FetchContext) -> TokenSet {
        let token = self.source.renewed(cx).await;
        if self.life.is_over() {
            pending::<()>().await;
        }
        let heard = self.fetched(&token, Instant::now());
        self.world.ledger().heard(self.instance, heard);
        token
    }
}

fn serial(token: &TokenSet) -> Option<usize> {
    canary::number_of("at", token.access_token().expose())
}

/// Tells when a fetch is dropped.
struct Guard {
    world: World,
    instance: usize,
    over: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut ledger = self.world.ledger();
        if std::thread::panicking() {
            ledger.fetch_panicked(self.instance);
        } else {
            ledger.fetch_dropped(self.instance);
        }
    }
}

/// What a panic that is meant says.
pub(crate) const SIMULATED: &str = "simulated";
