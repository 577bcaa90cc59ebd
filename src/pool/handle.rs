use std::{
    fmt,
    hash::Hash,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use http::HeaderMap;
use tokio::time::{Instant, timeout};

use super::{TokenPoolBuilder, ledger::Ended, shared::Shared, tenant::TenantId};
use crate::{
    error::{Error, ErrorKind},
    observe::Event,
    refresh::{Refusal, Rejection, Status, Token, TrialUse},
    source::TokenSource,
    time::{instant_in, timers},
};

/// A token for each of many tenants, kept fresh while it is used.
///
/// Clones share the tenants. The keeper ends when the last of them is dropped.
pub struct TokenPool<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    shared: Arc<Shared<K>>,
    // What is counted, so that the keeper ends: it holds `shared` itself.
    alive: Arc<Alive<K>>,
}

impl<K> TokenPool<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// A pool whose tenants have the sources that `source` makes, each when its tenant is first
    /// asked for. It is called on the task of a fetch: it may take some time, and a panic in it
    /// counts as a failure.
    ///
    /// A pool of default settings is `TokenPool::builder(…).spawn()`.
    pub fn builder<T: TokenSource>(
        source: impl Fn(&K) -> T + Send + Sync + 'static,
    ) -> TokenPoolBuilder<K> {
        TokenPoolBuilder::new(source)
    }

    pub(super) fn new(shared: Arc<Shared<K>>) -> Self {
        let alive = Arc::new(Alive(shared.clone()));
        Self { shared, alive }
    }

    /// The current token of a tenant, for whatever is not behind the layer. Waits if there is none.
    /// A tenant that is not there yet is created.
    ///
    /// # Errors
    ///
    /// Whatever kept the token from being had, as [`TokenHandle::token`](crate::TokenHandle::token)
    /// says; [`Overloaded`](ErrorKind::Overloaded) if there are too many tenants, or too many
    /// callers that wait. A [`Timeout`](ErrorKind::Timeout) has no
    /// [`retry_at`](crate::Error::retry_at) if the fetch waits for its turn, or is under way.
    ///
    /// # Cancellation
    ///
    /// Safe: dropping the future changes nothing.
    pub async fn token(&self, key: &K) -> Result<Token, Error> {
        let deadline = instant_in(self.shared.rules.policy.wait);
        let (id, entry) = self.shared.obtain(key, deadline, TrialUse::ByHand).await?;
        let token = Token(entry);
        self.shared.taken_by_hand(id, token.epoch());
        Ok(token)
    }

    /// The current token of a tenant, if there is a good one. Counts as a use of it.
    pub fn current(&self, key: &K) -> Option<Token> {
        self.current_of(key).map(|(_, token)| token)
    }

    /// As [`current`](Self::current); says too whose it is.
    pub(crate) fn current_of(&self, key: &K) -> Option<(TenantId, Token)> {
        let tenant = self.shared.find(key)?;
        let entry = tenant.slot.newer_than(0)?;
        self.shared.touch(&tenant);
        Some((tenant.id(), Token(entry)))
    }

    /// What time it is, a few milliseconds late at most.
    pub(crate) fn coarse_wall(&self) -> SystemTime {
        self.shared.clock.coarse_wall()
    }

    /// Returns the state of a tenant's token and of its renewal; `None` if there is no such tenant. Of a
    /// pool that has ended, every tenant is [`Stopped`](crate::State::Stopped), and the error is why. If
    /// the keeper does not run, the error says so.
    ///
    /// [`next_attempt`](Status::next_attempt) is `None` where no time is planned: while a fetch is under
    /// way; while one waits for its turn, which comes when others end; and while nobody has used the
    /// current token, which therefore runs out. Without a token, the attempt is made at that time if a
    /// caller asks for the token.
    pub fn status(&self, key: &K) -> Option<Status> {
        self.shared.status(key)
    }

    /// Reports that a server refused a tenant's token of this [epoch](Token::epoch). See
    /// [`TokenHandle::reject`](crate::TokenHandle::reject).
    pub fn reject(&self, key: &K, epoch: u64) -> Rejection {
        match self.shared.find(key) {
            Some(tenant) => self.shared.reject(tenant.id(), Refusal::certain(epoch)),
            None => Rejection::Superseded,
        }
    }

    /// Forgets a tenant: its token, its refresh token, and the pause after a failure. The next
    /// request starts anew, with a new source; so do those that wait. `false` if it was not there.
    ///
    /// For a tenant that has left, or whose credentials have changed. A fetch that is under way is
    /// finished, and its result dropped.
    pub fn remove(&self, key: &K) -> bool {
        self.shared.remove(key)
    }

    /// How many tenants there are.
    pub fn len(&self) -> usize {
        self.shared.ledger().len()
    }

    /// Whether there are no tenants.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the pool. From the first poll on, tokens are refused: requests fail with
    /// [`ErrorKind::Shutdown`], and so do those that wait. Returns when the fetches under way have
    /// ended, because each may store a rotated refresh token; after the
    /// [`fetch_timeout`](TokenPoolBuilder::fetch_timeout) at the latest. Outside of a tokio runtime,
    /// and on one without timers, it returns at once.
    ///
    /// # Cancellation
    ///
    /// Safe: the pool ends all the same.
    pub async fn shutdown(&self) {
        let mut stopped = self.shared.stopped.subscribe();
        self.shared.end();
        if timers().is_err() {
            return;
        }
        // Bounded, for a keeper that nobody runs.
        let ended = stopped.wait_for(|stopped| *stopped);
        let _ = timeout(self.shared.rules.policy.fetch_timeout, ended).await;
    }

    /// Puts the current token of a tenant into `headers`; returns whose it is, and its epoch.
    pub(crate) fn inject(&self, key: &K, headers: &mut HeaderMap) -> Option<(TenantId, u64)> {
        let map = self.shared.read.map.pin();
        let tenant = &map.get(key)?.0;
        let epoch = tenant.slot.inject(headers)?;
        self.shared.touch(tenant);
        Some((tenant.id(), epoch))
    }

    /// Waits for the token of a tenant.
    pub(crate) async fn obtain(
        &self,
        key: &K,
        deadline: Instant,
    ) -> Result<(TenantId, Token), Error> {
        let obtained = self.shared.obtain(key, deadline, TrialUse::Claim).await;
        obtained.map(|(id, entry)| (id, Token(entry)))
    }

    /// Waits for a token newer than `after` of this very tenant, not of one that came after it
    /// under the same key.
    pub(crate) async fn newer(
        &self,
        id: TenantId,
        after: u64,
        deadline: Instant,
    ) -> Result<Token, Error> {
        let tenant = self.shared.ledger().node(id).map(|node| node.tenant.clone());
        let entry = match tenant {
            Some(tenant) => {
                let trial = TrialUse::of_request(after);
                self.shared.newer(&tenant, after, deadline, trial).await?
            }
            None => None,
        };
        entry.map(Token).ok_or_else(|| Error::new(ErrorKind::Shutdown, "the tenant was removed"))
    }

    /// As [`reject`](Self::reject), unless the refusal is doubtful.
    pub(crate) fn report(&self, id: TenantId, refusal: Refusal) -> Rejection {
        self.shared.reject(id, refusal)
    }

    /// Notes that a server accepted a request with the token of this epoch. `refused` says whether
    /// the request had been refused with an older one.
    pub(crate) fn accepted(&self, id: TenantId, epoch: u64, refused: bool) {
        self.shared.accepted(id, epoch, refused);
    }

    /// Gives a claim back.
    pub(crate) fn release(&self, id: TenantId, claim: u64) {
        self.shared.release(id, claim);
    }

    /// The claim of the request that tries the token of this epoch, which was refused before.
    pub(crate) fn claim_of(&self, id: TenantId, epoch: u64) -> Option<u64> {
        self.shared.claim_of(id, epoch)
    }

    /// The token to use in place of one that was obtained a moment ago; `None` if there is none now.
    pub(crate) fn latest(&self, id: TenantId, token: Token) -> Option<Token> {
        let mut ledger = self.shared.ledger();
        let node = ledger.node(id)?;
        let current = node.tenant.slot.newer_than(0).map(Token);
        current.or_else(|| node.life.claim_of(&node.tenant, token.epoch()).map(|_| token))
    }

    pub(crate) fn emit(&self, id: TenantId, event: &Event<'_>) {
        let tenant = self.shared.ledger().node(id).map(|node| node.tenant.clone());
        match tenant {
            Some(tenant) => self.shared.emit(&tenant.key, event),
            None => self.shared.sink.emit(event),
        }
    }

    /// Emits an event that belongs to no tenant.
    pub(crate) fn emit_untied(&self, event: &Event<'_>) {
        self.shared.sink.emit(event);
    }
}

impl<K> Clone for TokenPool<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), alive: self.alive.clone() }
    }
}

impl<K> fmt::Debug for TokenPool<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPool").field("tenants", &self.len()).finish_non_exhaustive()
    }
}

impl<K> Shared<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.refuse(Ended::Stopped);
        self.ending.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// Lives as long as any handle does.
struct Alive<K>(Arc<Shared<K>>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static;

impl<K> Drop for Alive<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.0.end();
    }
}
