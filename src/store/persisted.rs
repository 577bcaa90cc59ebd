use std::{fmt, future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use super::{
    Key, Record, RecordState, TokenStore,
    record::Tokens,
    rotation::{Entry, Memory},
    stamp::{Stamp, credential_digest},
};
use crate::{
    error::{Error, ErrorKind},
    observe::{Event, Observer, Sink},
    source::{FetchContext, Identified, Identity, TokenSource},
    token::TokenSet,
};

mod hint;
mod renewal;

use hint::Listener;
use renewal::Renewal;

/// A source that keeps what another one obtains in a store.
///
/// - A good access token that is stored is used without a token request, at the start and whenever
///   another process has renewed it: as soon as the store [says so](TokenStore::changed), or else
///   when the current one is due.
/// - A refresh token is sent by one process at a time, and a new one is stored before the access
///   token that came with it is used.
/// - A renewal that broke off, here or in a process that is gone, is gone on with.
/// - A new token that cannot be stored is used from memory. That is reported
///   ([`Event::NotSaved`]), and storing it is tried again every few seconds.
/// - A record that is for another client, server or key is ignored and reported
///   ([`Event::RecordIgnored`]).
///
/// Records are told apart by everything that has a say in a token. For the grant of a refresh token
/// that includes a digest of the initial refresh token: after somebody has given access again, with
/// another one, the old record does not matter any more. Where there is no initial one to be had
/// for ever, or where assertions change all the time, [name the subject](Self::subject).
///
/// The store goes around each source that has tokens of its own, inside a [`Chain`](crate::Chain).
///
/// `store` has the example, `docs::storing_tokens` what survives which failure.
pub struct Persisted<P, S: TokenStore> {
    source: P,
    store: S,
    identity: Identity,
    settings: Settings,
    sink: Sink,
    state: Mutex<State<S::Lease>>,
}

/// What happens to a refresh token that is spent by its use while the store does not work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WithoutStore {
    /// It is kept. The current access token serves until it expires; then requests fail, until the
    /// store works again. Nothing can be lost.
    #[default]
    Wait,
    /// It is used once the access token has less than a tenth of its life left, or is gone. If
    /// another process does so too, or the process ends before the store works again, the session
    /// may be lost. For processes that have a store of their own.
    Spend,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    lock_wait: Duration,
    without_store: WithoutStore,
}

/// What lives from one fetch to the next. All of it is valid wherever a fetch is dropped.
struct State<L> {
    who: Option<Who>,
    memory: Memory<Tokens>,
    lease: Option<L>,
}

/// Whose record it is.
#[derive(Clone)]
struct Who {
    stamp: Arc<Stamp>,
    key: Key,
    /// The digest of the credentials that tokens begin with, if they can be read.
    origin: Option<String>,
}

impl Who {
    /// The digest of the credentials that tokens descend from: of those that all begins with, if
    /// there are none.
    fn origin_of(&self, tokens: Option<&Tokens>) -> Option<String> {
        tokens.map_or_else(|| self.origin.clone(), |tokens| tokens.origin.clone())
    }
}

impl<P: Identified, S: TokenStore> Persisted<P, S> {
    /// Keeps what this source obtains in this store.
    pub fn new(source: P, store: S) -> Self {
        Self::identified(source.identity(), source, store)
    }
}

impl<P: TokenSource, S: TokenStore> Persisted<P, S> {
    /// Keeps what a source of your own obtains. The identity has to tell its tokens from all others
    /// in the store.
    pub fn identified(identity: Identity, source: P, store: S) -> Self {
        Self {
            source,
            store,
            identity,
            settings: Settings { lock_wait: LOCK_WAIT, without_store: WithoutStore::Wait },
            sink: Sink::one(),
            state: Mutex::new(State { who: None, memory: Memory::default(), lease: None }),
        }
    }

    /// Names whose tokens these are, in place of the digest of the credential that the grant starts
    /// with. Names of different users must differ. Default: the digest.
    #[must_use]
    pub fn subject(mut self, name: impl Into<String>) -> Self {
        self.identity = self.identity.subject(name);
        self
    }

    /// Sets how long a renewal waits for another process that is at it; never more than half of
    /// the fetch's time. Default: 10 s.
    #[must_use]
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.settings.lock_wait = wait;
        self
    }

    /// Sets what happens to a rotating refresh token while the store does not work. Default:
    /// [`WithoutStore::Wait`].
    #[must_use]
    pub fn without_store(mut self, without_store: WithoutStore) -> Self {
        self.settings.without_store = without_store;
        self
    }

    /// What the stored token is called in logs and metrics, as `client`: the handle's
    /// [name](crate::refresh::TokenHandleBuilder::name). Default: `default`.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.sink.set_name(name);
        self
    }

    /// Is told what happens with the store. Default: nobody, beside `tracing`.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.sink.set_observer(observer);
        self
    }

    /// Finds out whose record it is. It is asked each time: the credential that a grant starts with
    /// may have been replaced, and then all starts over.
    async fn identify(&self, state: &mut State<S::Lease>, cx: &FetchContext) -> Result<(), Error> {
        let named = self.identity.subject.is_some();
        let origin = match self.read_credentials(cx).await {
            Ok(digest) => digest,
            Err(_) if named || state.who.is_some() => None,
            Err(error) => return Err(error),
        };
        if origin.is_none() && state.who.is_some() {
            return Ok(()); // as it was
        }
        let digest = origin.as_deref().unwrap_or_default();
        let stamp = Stamp::new(&self.identity, digest);
        let key = stamp.key();
        if state.who.as_ref().is_none_or(|who| who.key != key) {
            // Nothing of one subject may reach another.
            state.memory = Memory::default();
            self.release(state).await;
        }
        state.who = Some(Who { stamp: Arc::new(stamp), key, origin });
        Ok(())
    }

    /// The digests of all credentials; `None` if there are none.
    async fn read_credentials(&self, cx: &FetchContext) -> Result<Option<String>, Error> {
        let mut digests = Vec::new();
        for credential in &self.identity.credentials {
            let secret = timeout_at(cx.deadline, credential.read()).await.map_err(|_| {
                Error::new(ErrorKind::Timeout, "the grant's credential could not be read in time")
            })??;
            digests.push(credential_digest(&secret));
        }
        Ok(Some(digests.join(" ")).filter(|digests| !digests.is_empty()))
    }

    async fn release(&self, state: &mut State<S::Lease>) {
        if let Some(lease) = state.lease.take() {
            self.store.release(lease).await;
        }
    }

    /// A stored record, as far as it may be used: one for somebody else counts as one without
    /// tokens, to be replaced.
    fn entry(&self, who: &Who, record: Option<Record>) -> Entry<Tokens> {
        let Some(record) = record else { return Memory::default().known };
        let Record { stamp, origin, generation, state, tokens } = record;
        let ignored = Entry { generation, state: RecordState::Clean, tokens: None };
        if let Some(what) = who.stamp.difference(&stamp) {
            self.sink.emit(&Event::RecordIgnored { what });
            return ignored;
        }
        // Somebody gave access again, after it had ended.
        if state == RecordState::Dead && who.origin.is_some() && origin != who.origin {
            return ignored;
        }
        let Some(tokens) = tokens else { return Entry { generation, state, tokens: None } };
        if let Some(tokens) = tokens.with_key_of(&self.identity) {
            return Entry { generation, state, tokens: Some(tokens) };
        }
        self.sink.emit(&Event::RecordIgnored { what: "key" });
        ignored
    }
}

impl<P: TokenSource, S: TokenStore> Persisted<P, S> {
    /// Removes the stored record, and all that is remembered of it here: for a user who has logged
    /// out, or a record that does not open any more. The next fetch begins with what the grant
    /// begins with.
    ///
    /// It revokes nothing, and it does not end handles: one that still has the tokens would write
    /// them back, here and in every other process. So they are ended first, and an [`Arc`] keeps the
    /// source within reach:
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tower_oauth::{ClientAuth, RefreshToken, TokenHandle, store::{MemoryStore, Persisted}};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_oauth::BoxError> {
    /// # let issuer = tower_oauth::testing::AuthorizationServer::start().await?;
    /// # let initial = issuer.issue_refresh_token("cli");
    /// # let grant = RefreshToken::builder(issuer.token_endpoint(), ClientAuth::none("cli"), &*initial)
    /// #     .revocation_endpoint(format!("{}/revoke", issuer.url()))
    /// #     .build()?;
    /// # let store = MemoryStore::new();
    /// let source = Arc::new(Persisted::new(grant, store));
    /// let tokens = TokenHandle::spawn(source.clone());
    /// # tokens.ready().await?;
    /// // Later, when the user logs out:
    /// tokens.shutdown().revoke().await?;
    /// source.forget().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] when another process renews the token just now, and
    /// [`ErrorKind::Store`] when the store does not work: then it may still be there. Without a
    /// [subject](Self::subject), also when the credential that the grant begins with cannot be read
    /// any more: its digest is a part of the record's name.
    ///
    /// # Cancellation
    ///
    /// What is dropped may have been done. It can be called again.
    pub async fn forget(&self) -> Result<(), Error> {
        let mut cx = FetchContext::first();
        cx.deadline = Instant::now() + self.settings.lock_wait.saturating_mul(2);
        let mut state = timeout_at(cx.deadline, self.state.lock()).await.map_err(|_| busy())?;
        self.identify(&mut state, &cx).await?;
        state.memory = Memory::default();
        // Not to wait for ourselves.
        self.release(&mut state).await;
        let Some(Who { key, .. }) = &state.who else { return Ok(()) };
        self.store.remove(key, Instant::now() + self.settings.lock_wait).await
    }
}

impl<P: TokenSource, S: TokenStore> TokenSource for Persisted<P, S> {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let mut state = timeout_at(cx.deadline, self.state.lock()).await.map_err(|_| busy())?;
        self.identify(&mut state, &cx).await?;
        let outcome = Renewal::new(self, &mut state, &cx)?.run().await;
        let Err(error) = &outcome else { return outcome };
        if error.kind() != ErrorKind::InvalidGrant {
            return outcome;
        }
        // The grant has ended. If somebody has given access again meanwhile, or before the end was
        // noticed, it goes on with that.
        let of_tokens = state.memory.known.tokens.as_ref().filter(|_| self.identity.rotates);
        let ended = state.who.as_ref().and_then(|who| who.origin_of(of_tokens));
        self.identify(&mut state, &cx).await?;
        if state.who.as_ref().is_none_or(|who| who.origin == ended) {
            return outcome;
        }
        Renewal::new(self, &mut state, &cx)?.run().await
    }

    /// Waits for a token that another process stored.
    async fn renewed(&self, cx: FetchContext) -> TokenSet {
        let who = self.state.lock().await.who.clone();
        match who {
            Some(who) => Listener::new(self, who, &cx).adopted().await,
            // There was no fetch, which finds whose record it is.
            None => pending().await,
        }
    }

    /// Revokes the newest tokens, and marks the record, so that no other process uses them. All who
    /// share the record lose them.
    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        let mut state = timeout_at(cx.deadline, self.state.lock()).await.map_err(|_| busy())?;
        self.identify(&mut state, &cx).await?;
        let outcome = Renewal::new(self, &mut state, &cx)?.revoke().await;
        state.memory = Memory::default();
        outcome
    }
}

impl<P: fmt::Debug, S: TokenStore + fmt::Debug> fmt::Debug for Persisted<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Persisted")
            .field("source", &self.source)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

fn busy() -> Error {
    Error::new(ErrorKind::Timeout, "another fetch of the same source took all the time")
}

const LOCK_WAIT: Duration = Duration::from_secs(10);
