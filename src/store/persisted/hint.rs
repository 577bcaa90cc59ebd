use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::super::{
    RecordState, TokenStore,
    record::Tokens,
    rotation::{Entry, Memory},
};
use super::{
    Persisted, Who,
    renewal::{MAX_CALL, Wanted},
};
use crate::{
    observe::Event,
    source::{FetchContext, TokenSource},
    token::TokenSet,
};

/// Waits for a token that another process stores.
///
/// The store's hints say when to look; what is there is judged as at a renewal, by its generation
/// first. Nothing is written and no lock is taken, and whoever never hears anything finds the token
/// when its own is due. So a hint that is lost, late, doubled or wrong costs a read at most, and
/// those in vain become rarer.
pub(super) struct Listener<'a, P, S: TokenStore> {
    persisted: &'a Persisted<P, S>,
    who: Who,
    cx: &'a FetchContext,
    wanted: Wanted,
}

impl<'a, P: TokenSource, S: TokenStore> Listener<'a, P, S> {
    pub(super) fn new(persisted: &'a Persisted<P, S>, who: Who, cx: &'a FetchContext) -> Self {
        Self { persisted, who, cx, wanted: Wanted::new(cx) }
    }

    /// Until there is one.
    pub(super) async fn adopted(self) -> TokenSet {
        let mut pause = PAUSE;
        // The highest generation that is known, used or not.
        let mut seen = self.persisted.state.lock().await.memory.known.generation;
        loop {
            self.persisted.store.changed(&self.who.key, seen).await;
            // Each at another time: the whole fleet has heard of it at once.
            sleep(self.spread().mul_f64(fastrand::f64())).await;
            if let Some(entry) = self.look().await {
                seen = seen.max(entry.generation);
                if let Some(token) = self.adopt(entry).await {
                    return token;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    async fn look(&self) -> Option<Entry<Tokens>> {
        let Persisted { store, .. } = self.persisted;
        // What goes wrong here is told by the next renewal, if it lasts.
        let call = timeout(MAX_CALL, store.load(&self.who.key)).await;
        Some(self.persisted.entry(&self.who, call.ok()?.ok()?))
    }

    async fn adopt(&self, entry: Entry<Tokens>) -> Option<TokenSet> {
        let mut state = self.persisted.state.lock().await;
        // From here to the end nothing is waited for: it is adopted, or it is not.
        let Memory { known, unsaved, .. } = &state.memory;
        let is_ours = state.who.as_ref().is_some_and(|who| who.key == self.who.key);
        // With newer tokens in memory alone, which of them live is for a renewal to find out.
        let settled = !unsaved && state.lease.is_none();
        let newer = entry.generation > known.generation && entry.state == RecordState::Clean;
        let now = self.cx.clock.now().wall;
        let tokens = entry.tokens.as_ref().filter(|tokens| self.wanted.accepts(tokens, now))?;
        if !(is_ours && settled && newer) {
            return None;
        }
        let token = tokens.adopted(now);
        self.persisted.sink.emit(&Event::Adopted { generation: entry.generation });
        state.memory.known = entry;
        Some(token)
    }

    /// Over how long the reads of a fleet are spread: less than anybody notices, for tokens that
    /// live for seconds too.
    fn spread(&self) -> Duration {
        let lifetime = self.cx.previous.as_ref().and_then(|token| token.lifetime());
        lifetime.map_or(SPREAD, |lifetime| SPREAD.min(lifetime / 20))
    }
}

const SPREAD: Duration = Duration::from_millis(500);
/// After a look in vain.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
