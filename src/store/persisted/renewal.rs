use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::super::{
    Record, RecordState, Saved, TokenStore,
    fail_point::fail_point,
    record::Tokens,
    rotation::{Do, End, Entry, Heard, Rotation, Rules},
};
use super::{Persisted, State, Who, WithoutStore};
use crate::{
    error::{Error, ErrorKind},
    observe::{Event, FetchReason},
    secret::Secret,
    source::{DynTokenSource, FetchContext, KeptRefreshToken, StepUp, TokenSource},
    token::TokenSet,
};

/// Carries out one renewal.
pub(super) struct Renewal<'a, P, S: TokenStore> {
    persisted: &'a Persisted<P, S>,
    state: &'a mut State<S::Lease>,
    who: Who,
    cx: &'a FetchContext,
    wanted: Wanted,
    times: Times,
    /// What went wrong last, at the server and in the store.
    refusal: Option<Error>,
    store_error: Option<Error>,
    /// A new refresh token that came with an access token that was refused.
    kept: Option<Secret>,
}

/// Which stored token will do, so that no new one is asked for.
pub(super) struct Wanted {
    reason: FetchReason,
    /// The access token that is to be replaced.
    old: Option<Secret>,
    /// Whether that one was not stored yet, so that storing it is all there is to do.
    was_unsaved: bool,
    /// What APIs have asked for besides.
    step_up: StepUp,
}

/// How the fetch's time is divided.
struct Times {
    /// For one call of the store.
    call: Duration,
    /// Until when a lock is waited for.
    lock: Instant,
    /// Until when an answer of the server is waited for: storing it takes time too.
    answer: Instant,
}

impl<'a, P: TokenSource, S: TokenStore> Renewal<'a, P, S> {
    pub(super) fn new(
        persisted: &'a Persisted<P, S>,
        state: &'a mut State<S::Lease>,
        cx: &'a FetchContext,
    ) -> Result<Self, Error> {
        let who = state.who.clone().ok_or_else(|| store_failed("it is not known whose it is"))?;
        let wanted = Wanted { was_unsaved: state.memory.unsaved, ..Wanted::new(cx) };
        let times = Times::new(cx.deadline, persisted.settings.lock_wait);
        let (refusal, store_error, kept) = (None, None, None);
        Ok(Self { persisted, state, who, cx, wanted, times, refusal, store_error, kept })
    }

    pub(super) async fn run(mut self) -> Result<TokenSet, Error> {
        let mut heard = None;
        if !self.state.memory.unsaved && self.state.lease.is_none() {
            // Without the lock first: mostly, somebody has renewed it or nobody is about to.
            match self.load().await {
                Some(entry) if self.may_adopt(&entry) => {
                    self.state.memory.known = entry;
                    return self.end(End::Adopted);
                }
                Some(_) => {}
                // No need to wait for a lock in a store that does not answer.
                None => heard = Some(Heard::Failed),
            }
        }
        let rules = Rules {
            rotates: self.persisted.identity.rotates,
            // By what is left of the token now: a store that is away takes its time to say so.
            without_store: self.may_spend(),
            retry_dead: self.cx.reason == FetchReason::Requested,
        };
        let mut rotation = Rotation::new(self.state.memory.clone(), rules);
        let mut todo = Do::Acquire;
        loop {
            let heard = match heard.take() {
                Some(heard) => heard,
                None => match todo {
                    Do::Acquire => self.acquire().await,
                    Do::Read => self.load().await.map_or(Heard::Failed, Heard::Found),
                    Do::Save { expected, entry } => self.save(expected, entry).await,
                    Do::Send { tokens, again } => self.send(tokens, again).await,
                    Do::Finish(end) => {
                        self.persisted.release(self.state).await;
                        return self.end(end);
                    }
                    Do::FinishLocked(end) => return self.end(end),
                },
            };
            let (wanted, now) = (&self.wanted, self.cx.clock.now().wall);
            todo = rotation.next(heard, |tokens| wanted.accepts(tokens, now));
            // Before the next wait: whoever drops the fetch then must not drop the tokens.
            self.state.memory = rotation.memory.clone();
        }
    }

    /// Revokes what is newest, whether it is stored or not, and stores that it is gone.
    pub(super) async fn revoke(mut self) -> Result<(), Error> {
        let rotates = self.persisted.identity.rotates;
        let found = match self.acquire().await {
            Heard::Found(entry) => Some(entry),
            _ => None,
        };
        let known = &self.state.memory.known;
        let newest = [found.as_ref(), Some(known)].into_iter().flatten();
        let newest = newest.filter(|entry| entry.tokens.is_some()).max_by_key(|e| e.generation);
        let tokens =
            newest.and_then(|entry| entry.tokens.as_ref()).map(|tokens| tokens.set.clone());
        let mut cx = self.cx.clone();
        cx.previous = tokens.or(cx.previous);
        cx.deadline = self.times.answer;
        let revoked = self.persisted.source.revoke(cx).await;
        let Some(stored) = found else {
            let unknown = || store_failed("it does not hold what was written");
            return revoked.and(Err(self.store_error.unwrap_or_else(unknown)));
        };
        // Nothing of it is to be used any more, also where the call failed.
        let state = if rotates { RecordState::Dead } else { RecordState::Clean };
        let generation = stored.generation.max(known.generation).saturating_add(1);
        let gone = Entry { generation, state, tokens: None };
        let saved = match self.save(stored.generation, gone).await {
            Heard::Saved => Ok(()),
            _ => Err(self.store_error.take().unwrap_or_else(ended)),
        };
        self.persisted.release(self.state).await;
        revoked.and(saved)
    }

    /// Whether a record that was read without the lock will do.
    fn may_adopt(&self, entry: &Entry<Tokens>) -> bool {
        let now = self.cx.clock.now().wall;
        self.state.memory.may_adopt(entry, self.persisted.identity.rotates)
            && entry.tokens.as_ref().is_some_and(|tokens| self.wanted.accepts(tokens, now))
    }

    /// Whether the refresh token may be spent while the store does not work.
    fn may_spend(&self) -> bool {
        if self.persisted.settings.without_store == WithoutStore::Wait {
            return false;
        }
        let now = self.cx.clock.now().wall;
        let tokens = self.state.memory.known.tokens.as_ref();
        let life = tokens.and_then(|tokens| tokens.left(now).zip(tokens.set.lifetime()));
        self.cx.reason != FetchReason::Due || life.is_none_or(|(left, whole)| left <= whole / 10)
    }

    async fn load(&mut self) -> Option<Entry<Tokens>> {
        let call = timeout(self.times.call, self.persisted.store.load(&self.who.key)).await;
        match in_time(call) {
            Ok(record) => Some(self.persisted.entry(&self.who, record)),
            Err(error) => {
                self.store_error = Some(error);
                None
            }
        }
    }

    async fn acquire(&mut self) -> Heard<Tokens> {
        if self.state.lease.is_some() {
            return self.load().await.map_or(Heard::Failed, Heard::Found);
        }
        let (key, deadline) = (&self.who.key, self.times.lock);
        // A store that is late all the same gets the time of one call more.
        let late = deadline + self.times.call;
        let started = Instant::now();
        let call = timeout_at(late, self.persisted.store.acquire(key, deadline)).await;
        let call = in_time(call);
        let (waited, obtained) = (started.elapsed(), call.is_ok());
        self.persisted.sink.emit(&Event::Leased { waited, obtained });
        match call {
            Ok((lease, record)) => {
                self.state.lease = Some(lease);
                Heard::Found(self.persisted.entry(&self.who, record))
            }
            Err(error) => {
                let busy = error.kind() == ErrorKind::Timeout;
                self.store_error = Some(error);
                if busy { Heard::Busy } else { Heard::Failed }
            }
        }
    }

    async fn save(&mut self, expected: u64, entry: Entry<Tokens>) -> Heard<Tokens> {
        let Some(lease) = &mut self.state.lease else { return Heard::Failed };
        let store = &self.persisted.store;
        let is_over = store.remaining(lease).is_some_and(|left| left.is_zero());
        if entry.state == RecordState::Intent && is_over {
            self.store_error = Some(store_failed("the lease ended before the token was renewed"));
            return Heard::Failed;
        }
        let Entry { generation, state, tokens } = entry;
        let stamp = self.who.stamp.clone();
        // That of the tokens: the credential may have been replaced since.
        let origin = self.who.origin_of(tokens.as_ref());
        let record = Record { stamp, origin, generation, state, tokens };
        let call = timeout(self.times.call, store.save(lease, expected, &record)).await;
        match in_time(call) {
            Ok(Saved::Stored) => Heard::Saved,
            Ok(Saved::Conflict(record)) => Heard::Conflict(self.persisted.entry(&self.who, record)),
            Err(error) => {
                self.store_error = Some(error);
                Heard::Failed
            }
        }
    }

    async fn send(&mut self, tokens: Option<Tokens>, again: bool) -> Heard<Tokens> {
        fail_point("intent-written");
        let (now, wall) = (Instant::now(), self.cx.clock.now().wall);
        let mut deadline = self.times.answer;
        let rotates = self.persisted.identity.rotates;
        if let Some(lease) = self.state.lease.as_ref().filter(|_| rotates)
            && let Some(left) = self.persisted.store.remaining(lease)
        {
            // The answer has to be here before the lease ends: after that, another process sends
            // the same refresh token.
            deadline = deadline.min(now + left.saturating_sub(LEASE_MARGIN));
        }
        let time = deadline.saturating_duration_since(now);
        if time < MIN_EXCHANGE.min(self.times.call) {
            self.refusal.get_or_insert_with(|| {
                Error::new(ErrorKind::Timeout, "too little time was left to send the refresh token")
            });
            return Heard::GaveUp;
        }
        if again {
            let generation = self.state.memory.known.generation;
            self.persisted.sink.emit(&Event::Resending { generation });
        }
        let descends =
            tokens.as_ref().filter(|tokens| rotates && tokens.set.refresh_token().is_some());
        let origin = self.who.origin_of(descends);
        let cx = FetchContext {
            previous: tokens.as_ref().map(|tokens| tokens.set.clone()),
            deadline,
            stored: rotates,
            ..self.cx.clone()
        };
        let asks_for_more = self.wanted.asks_for_more_than(tokens.as_ref());
        fail_point("sending");
        // Not by `P` itself: a panic when its future is dropped would take the answer along.
        let fetch = DynTokenSource::fetch(&self.persisted.source, cx);
        let outcome = timeout_at(deadline, fetch).await;
        let outcome = outcome.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "no token was fetched in time"))
        });
        match outcome {
            Ok(set) => {
                fail_point("answered");
                let asked = set.sent_at().unwrap_or(now);
                // By what the clock said before, and by what it says now: it may have been set, or
                // the machine may have slept. The earlier one makes no life longer.
                let then = wall.checked_sub(now.saturating_duration_since(asked)).unwrap_or(wall);
                let wall = self.cx.clock.now().wall;
                let asked_at = wall.checked_sub(asked.elapsed()).unwrap_or(wall).min(then);
                let tokens = Tokens::new(set, asked_at);
                Heard::Granted(tokens.with_origin(origin))
            }
            Err(error) => {
                if let Some(newest) = KeptRefreshToken::take(&error) {
                    self.refusal = Some(error);
                    self.kept = Some(newest.clone());
                    let tokens = Tokens::with_refresh_token(tokens, newest, wall);
                    return Heard::Replaced(tokens.with_origin(origin));
                }
                // A grant that refuses a step-up by itself has sent nothing.
                let unsent = !self.cx.step_up.is_empty() && error.oauth().is_none();
                // The server refuses a request that asked for more than the session has. If the
                // refresh token is dead, the next renewal finds out.
                let heard = match meaning(error.kind()) {
                    Heard::InvalidGrant if unsent || asks_for_more => Heard::Refused,
                    heard => heard,
                };
                self.refusal = Some(error);
                heard
            }
        }
    }

    /// Tells how it ended. The memory is as the machine left it.
    fn end(self, end: End) -> Result<TokenSet, Error> {
        let Self { persisted, state, cx, wanted, refusal, store_error, kept, .. } = self;
        let Entry { generation, ref tokens, .. } = state.memory.known;
        let emit = |event: Event<'_>| persisted.sink.emit(&event);
        let store_error =
            store_error.unwrap_or_else(|| store_failed("it does not hold what was written"));
        let refusal = || refusal.unwrap_or_else(ended);
        match (end, tokens) {
            // What another process has stored may be a refresh token alone.
            (End::Adopted, Some(tokens)) if tokens.has_access() => {
                if wanted.was_unsaved {
                    emit(Event::Saved { generation });
                } else {
                    emit(Event::Adopted { generation });
                }
                Ok(tokens.adopted(cx.clock.now().wall))
            }
            (End::Obtained, Some(tokens)) => {
                fail_point("stored");
                emit(Event::Saved { generation });
                Ok(TokenSet::clone(&tokens.set))
            }
            (End::Unsaved, Some(tokens)) if persisted.identity.rotates => {
                emit(Event::NotSaved { generation, error: &store_error });
                let set = TokenSet::clone(&tokens.set);
                let age = set.sent_at().map(|at| at.elapsed()).unwrap_or_default();
                // The refresher comes back soon, and storing it is tried again.
                Ok(set.with_refresh_in(age + SAVE_AGAIN))
            }
            (End::Unsaved, Some(tokens)) => {
                emit(Event::StoreFailed { error: &store_error });
                Ok(TokenSet::clone(&tokens.set))
            }
            (End::Failed, known) => {
                // Unless another process was faster to store what it got.
                let newest = known.as_ref().and_then(|tokens| tokens.set.refresh_token());
                if kept.is_some() && kept.as_ref() == newest {
                    if state.memory.unsaved {
                        emit(Event::NotSaved { generation, error: &store_error });
                    } else {
                        emit(Event::Saved { generation });
                    }
                }
                Err(refusal())
            }
            (End::Ended, _) => {
                emit(Event::Ended { generation });
                Err(refusal())
            }
            (End::NoStore, _) => {
                emit(Event::StoreFailed { error: &store_error });
                Err(store_error)
            }
            // The machine obtains nothing but tokens.
            (End::Adopted | End::Obtained | End::Unsaved, _) => Err(store_error),
        }
    }
}

impl Wanted {
    pub(super) fn new(cx: &FetchContext) -> Self {
        Self {
            reason: cx.reason,
            old: cx.previous.as_ref().map(|token| token.access_token().clone()),
            was_unsaved: false,
            step_up: cx.step_up.clone(),
        }
    }

    /// Whether the request asks for scopes that these tokens do not have, or for claims.
    fn asks_for_more_than(&self, tokens: Option<&Tokens>) -> bool {
        let held = tokens.and_then(|tokens| tokens.set.scopes());
        let wider = &self.step_up.scopes;
        let has_all = wider.is_empty() || held.is_some_and(|held| wider.is_subset(held));
        self.step_up.claims.is_some() || !has_all
    }

    pub(super) fn accepts(&self, tokens: &Tokens, now: std::time::SystemTime) -> bool {
        if tokens.lacks_certificate() || !tokens.has_access() {
            return false;
        }
        let is_old = self.old.as_ref() == Some(tokens.set.access_token());
        let life = tokens.left(now).zip(tokens.set.lifetime());
        let wider = &self.step_up.scopes;
        let covers = tokens.set.scopes().is_some_and(|granted| wider.is_subset(granted));
        if self.step_up.claims.is_some() || !(wider.is_empty() || covers) {
            return false;
        }
        match self.reason {
            FetchReason::Requested => false,
            FetchReason::Due | FetchReason::Renewed => {
                // One that is as good as due would be renewed in a moment.
                let lives = life.is_none_or(|(left, whole)| left >= whole / 4);
                lives && (!is_old || self.was_unsaved)
            }
            FetchReason::Initial
            | FetchReason::Expired
            | FetchReason::Rejected
            | FetchReason::StepUp => {
                let lives = life.is_none_or(|(left, whole)| left > (whole / 20).min(MAX_FLIGHT));
                lives && !is_old
            }
        }
    }
}

impl Times {
    fn new(deadline: Instant, lock_wait: Duration) -> Self {
        let now = Instant::now();
        let whole = deadline.saturating_duration_since(now);
        Self {
            call: MAX_CALL.min(whole / 6),
            lock: now + lock_wait.min(whole / 2),
            answer: deadline.checked_sub(MAX_STORING.min(whole / 4)).unwrap_or(deadline),
        }
    }
}

/// What an error says about the refresh token that was sent.
fn meaning(kind: ErrorKind) -> Heard<Tokens> {
    match kind {
        ErrorKind::InvalidGrant => Heard::InvalidGrant,
        // The connection broke, or nobody answered: it may have been spent.
        ErrorKind::Transport | ErrorKind::Timeout => Heard::Unknown,
        // It was not looked at, or not sent at all.
        ErrorKind::Throttled
        | ErrorKind::InvalidClient
        | ErrorKind::InvalidRequest
        | ErrorKind::Denied
        | ErrorKind::Configuration
        | ErrorKind::Credential => Heard::Refused,
        // It may have been spent, but to ask again at once would not help.
        _ => Heard::GaveUp,
    }
}

fn in_time<T, E>(call: Result<Result<T, Error>, E>) -> Result<T, Error> {
    call.unwrap_or_else(|_| Err(store_failed("it does not answer in time")))
}

fn store_failed(problem: &'static str) -> Error {
    Error::new(ErrorKind::Store, format!("the token store failed: {problem}"))
}

fn ended() -> Error {
    let message = "the grant has ended, as the store says: its refresh token was refused. \
                   Somebody has to give access again";
    Error::new(ErrorKind::InvalidGrant, message)
}

pub(super) const MAX_CALL: Duration = Duration::from_secs(4);
const MAX_STORING: Duration = Duration::from_secs(5);
/// What the clocks of a lease and of its holder may differ by.
const LEASE_MARGIN: Duration = Duration::from_secs(1);
const MIN_EXCHANGE: Duration = Duration::from_secs(1);
const SAVE_AGAIN: Duration = Duration::from_secs(5);
/// The longest time that a request is taken to be under way.
const MAX_FLIGHT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
