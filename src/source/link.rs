//! A source that stands among others, and what it has given. `Chain`, `Replaceable` and `ByResource`
//! ask their sources through it.

use std::{
    future::{Future, pending, poll_fn},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{DynTokenSource, FetchContext, StepUp, TokenSource, panicked};
use crate::{
    error::{Error, ErrorKind},
    observe::in_current_span,
    token::TokenSet,
};

/// A source and its grant. Clones share both.
#[derive(Clone)]
pub(crate) struct Link {
    source: Arc<dyn DynTokenSource>,
    grant: Arc<Mutex<Grant>>,
}

/// What a server has granted. At most one fetch is under way for it: two would send the same refresh
/// token, and a server that sees one twice may end the grant.
#[derive(Default)]
struct Grant {
    /// What the source gave last.
    given: Option<Arc<TokenSet>>,
    flight: Option<Flight>,
}

/// A fetch under way, on a task of its own.
#[derive(Clone)]
pub(super) struct Flight {
    step_up: StepUp,
    outcome: watch::Receiver<Option<Result<TokenSet, Error>>>,
}

struct Begun {
    flight: Flight,
    /// Whether an earlier caller has begun it, and may have asked for something else.
    joined: bool,
}

/// What became of a source that was asked.
pub(super) enum Asked {
    Ended(Result<TokenSet, Error>),
    /// Its share of the time has ended, and the fetch has not.
    UnderWay(Flight),
}

impl Link {
    pub(crate) fn new(source: impl TokenSource) -> Self {
        Self { source: Arc::new(source), grant: Arc::default() }
    }

    /// Obtains a token until the deadline.
    pub(crate) async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        self.fetch_within(cx.deadline, cx).await
    }

    /// Obtains a token until `share`, which is the deadline that the source is given. A source that
    /// needs longer is not dropped: the answer may hold a rotated refresh token. Its fetch goes on
    /// until `cx.deadline`, as it would if the source stood alone, and the next fetch waits for it
    /// instead of starting another.
    pub(super) async fn fetch_within(
        &self,
        share: Instant,
        cx: FetchContext,
    ) -> Result<TokenSet, Error> {
        let fetch = async {
            loop {
                let Begun { flight, joined } = self.begin(cx.clone());
                let asks_the_same = flight.step_up == cx.step_up;
                match flight.ended().await {
                    outcome if !joined => return outcome,
                    Ok(token) if asks_the_same => return Ok(token),
                    _ => {}
                }
            }
        };
        timeout_at(share, fetch).await.unwrap_or_else(|_| Err(too_slow()))
    }

    /// As [`fetch_within`](Self::fetch_within), but takes no token of a fetch that another source
    /// has begun for the same grant.
    pub(super) async fn ask(&self, share: Instant, cx: FetchContext) -> Asked {
        let flight = loop {
            match self.begin(cx.clone()) {
                Begun { flight, joined: false } => break flight,
                Begun { flight, .. } => {
                    if timeout_at(share, flight.ended()).await.is_err() {
                        return Asked::Ended(Err(too_slow()));
                    }
                }
            }
        };
        match timeout_at(share, flight.clone().ended()).await {
            Ok(outcome) => Asked::Ended(outcome),
            Err(_) => Asked::UnderWay(flight),
        }
    }

    /// Begins a fetch on a task of its own, or joins the one that is under way.
    fn begin(&self, mut cx: FetchContext) -> Begun {
        let (sender, outcome) = watch::channel(None);
        let mut grant = self.grant();
        if let Some(flight) = grant.flight.clone().filter(Flight::is_under_way) {
            return Begun { flight, joined: true };
        }
        let flight = Flight { step_up: cx.step_up.clone(), outcome };
        grant.flight = Some(flight.clone());
        // Not what another source gave: its refresh token is another server's.
        cx.previous.clone_from(&grant.given);
        drop(grant);
        // The source gets the whole time: cut at its share, it would drop the exchange under way, and
        // with it a rotated refresh token.
        let end = cx.deadline;
        let this = self.clone();
        spawn(async move {
            let fetched = timeout_at(end, this.source.fetch(cx)).await;
            let fetched = fetched.unwrap_or_else(|_| Err(too_slow()));
            let mut grant = this.grant();
            if let Ok(token) = &fetched {
                grant.given = Some(Arc::new(token.clone()));
            }
            // Under way -> ended. Only who waits for it keeps the outcome.
            grant.flight = None;
            drop(grant);
            sender.send_replace(Some(fetched));
        });
        Begun { flight, joined: false }
    }

    pub(crate) async fn revoke(&self, mut cx: FetchContext) -> Result<(), Error> {
        // What a fetch under way gives has to be revoked, too.
        let flight = self.grant().flight.clone();
        if let Some(flight) = flight {
            let _ = timeout_at(share(cx.deadline, 2), flight.ended()).await;
        }
        cx.previous = self.grant().given.take();
        self.source.revoke(cx).await
    }

    /// Waits for a token in place of the one that this source gave last.
    pub(crate) async fn renewed(&self, mut cx: FetchContext) -> TokenSet {
        // Of what another source gave, this one knows nothing newer.
        let given = self.grant().given.clone();
        let [ours, current] =
            [&given, &cx.previous].map(|token| token.as_ref().map(|token| token.access_token()));
        if ours != current {
            return pending().await;
        }
        cx.previous = given;
        let token = self.source.renewed(cx).await;
        self.grant().given = Some(Arc::new(token.clone()));
        token
    }

    /// Continues the grant of another source, from what that one gave last. Both share it from here
    /// on, so that neither sends a refresh token that the other one has spent.
    pub(super) fn inherit(&mut self, other: &Self) {
        self.grant = other.grant.clone();
    }

    fn grant(&self) -> MutexGuard<'_, Grant> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// A task that panicked, or whose runtime has ended, has dropped its sender.
    fn is_under_way(&self) -> bool {
        self.outcome.has_changed().is_ok() && self.outcome.borrow().is_none()
    }

    pub(super) async fn ended(mut self) -> Result<TokenSet, Error> {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(panicked()))
    }
}

/// Waits for the first of several sources that hears of a token.
pub(crate) async fn first_of<'a>(
    links: impl Iterator<Item = &'a Link>,
    cx: &FetchContext,
) -> TokenSet {
    let mut all: Vec<_> = links.map(|link| Box::pin(link.renewed(cx.clone()))).collect();
    poll_fn(|task| {
        let ready = all.iter_mut().find_map(|renewed| match renewed.as_mut().poll(task) {
            Poll::Ready(token) => Some(token),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Returns the end of an equal share of the time that is left.
pub(super) fn share(deadline: Instant, sharers: usize) -> Instant {
    let now = Instant::now();
    let sharers = u32::try_from(sharers.max(1)).unwrap_or(u32::MAX);
    now + deadline.saturating_duration_since(now) / sharers
}

#[expect(clippy::disallowed_methods, reason = "a fetch is owned by nobody who can drop it")]
pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(in_current_span(task));
}

fn too_slow() -> Error {
    Error::new(ErrorKind::Timeout, "the source gave no token within its share of the time")
}
