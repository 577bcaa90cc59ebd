use std::{fmt, sync::Arc, time::SystemTime};

use http::HeaderMap;
use tokio::{sync::watch, time::Instant};

use super::{
    Refresher, Refusal, Rejection, Shutdown, Status, SteppingUp, Token, TokenHandleBuilder,
    rejections::TrialUse, shared::Shared,
};
use crate::{
    error::{Error, ErrorKind},
    observe::Event,
    slot::Entry,
    source::{StepUp, TokenSource},
    time::instant_in,
};

/// A token that is kept fresh, to be shared by everything that needs it.
///
/// Clones share one token. The refresher ends when the last of them is dropped.
#[derive(Clone)]
pub struct TokenHandle {
    shared: Arc<Shared>,
    // What is counted, so that the refresher ends: it holds `shared` itself.
    #[cfg_attr(not(feature = "mtls"), expect(dead_code, reason = "it is dropped"))]
    alive: Arc<Alive>,
}

impl TokenHandle {
    /// Starts to obtain tokens from a source, on a task of its own. Needs a tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn(source: impl TokenSource) -> Self {
        Self::builder(source).spawn()
    }

    /// A handle, and the task that must run for it to have tokens.
    pub fn pair(source: impl TokenSource) -> (Self, Refresher) {
        Self::builder(source).pair()
    }

    /// A handle with settings of its own.
    pub fn builder(source: impl TokenSource) -> TokenHandleBuilder {
        TokenHandleBuilder::new(source)
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let alive = Arc::new(Alive(shared.clone()));
        Self { shared, alive }
    }

    #[cfg(feature = "mtls")]
    pub(super) fn of(alive: Arc<Alive>) -> Self {
        Self { shared: alive.0.clone(), alive }
    }

    #[cfg(feature = "mtls")]
    pub(super) fn alive(&self) -> &Arc<Alive> {
        &self.alive
    }

    /// Asks for a new token, without waiting for it.
    #[cfg(feature = "mtls")]
    pub(super) fn request_refresh(&self) {
        self.shared.request(|inbox| inbox.refresh = true);
    }

    /// Waits until there is a token: to fail at start-up, not at the first request.
    ///
    /// # Errors
    ///
    /// At once for errors that need an operator, such as a wrong client secret, and if the
    /// authorization server's `Retry-After` is longer than the wait. Other failures are waited out, up to the handle's [wait](TokenHandleBuilder::wait) (30 s): then the
    /// kind is [`Timeout`](ErrorKind::Timeout), and the last failure is its source.
    ///
    /// # Cancellation
    ///
    /// Safe: dropping the future changes nothing.
    pub async fn ready(&self) -> Result<(), Error> {
        let deadline = instant_in(self.shared.policy.wait);
        self.shared.wait(0, deadline, TrialUse::Leave).await.map(drop)
    }

    /// The current token, for whatever is not behind the layer. Waits if there is none.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    ///
    /// # Cancellation
    ///
    /// Safe: dropping the future changes nothing.
    pub async fn token(&self) -> Result<Token, Error> {
        let deadline = instant_in(self.shared.policy.wait);
        let entry = self.shared.wait(0, deadline, TrialUse::ByHand).await?;
        if self.shared.claim_of(entry.epoch()).is_some() {
            self.shared.taken_by_hand(entry.epoch());
        }
        Ok(Token(entry))
    }

    /// The current token, if there is a good one.
    pub fn current(&self) -> Option<Token> {
        self.shared.slot.newer_than(0).map(Token)
    }

    /// The state of the token and of its renewal.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// The status, as it changes. It follows the token by a moment; [`status`](Self::status) does not.
    ///
    /// A status that is borrowed from the receiver keeps the refresher from changing it: drop it before
    /// you call the handle or wait.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Fetches a token now, whatever the state of the current one, and returns it. To be called
    /// when credentials have changed.
    ///
    /// It ends a pause after a failure, also one that the authorization server asked for. Calls
    /// within a second share one fetch, or are a second apart.
    ///
    /// # Errors
    ///
    /// Whatever kept the token from being had. The current one stays in use. Callers count among
    /// those that [wait](TokenHandleBuilder::max_waiting).
    ///
    /// # Cancellation
    ///
    /// Safe: the fetch goes on.
    pub async fn refresh(&self) -> Result<Token, Error> {
        let policy = &self.shared.policy;
        // A fetch that is under way comes first, and may take all of its time.
        let fetches = policy.fetch_timeout.saturating_mul(2);
        let deadline = instant_in(fetches.saturating_add(policy.wait));
        self.shared.refreshed(deadline).await.map(Token)
    }

    /// Reports that a server refused the token of this [epoch](Token::epoch).
    ///
    /// If the answer is [`Rejection::Accepted`], the token is out of service, and a new one is fetched.
    /// It is used again only if the source gives the same token again, and then by one request at a
    /// time until a server accepts it. In every other case the report takes nothing out of service:
    /// requests carry the token until there is another one. See [`Rejection`].
    pub fn reject(&self, epoch: u64) -> Rejection {
        self.shared.reject(Refusal::certain(epoch))
    }

    /// Asks for a token with more than the one of this [epoch](Token::epoch) has, because an API
    /// said that it lacks something. The layer does so by itself if it is
    /// [told to](crate::OAuthLayer::step_up). Scopes that were had are asked for with all later
    /// tokens too; claims are sent once.
    ///
    /// # Errors
    ///
    /// Whatever kept the token from being had. The current one stays in use. An API that asks for
    /// what was had already, or again within a second, gets
    /// [`ErrorKind::Denied`](crate::ErrorKind::Denied).
    ///
    /// # Cancellation
    ///
    /// Safe: the fetch goes on.
    pub async fn step_up(&self, epoch: u64, step_up: StepUp) -> Result<Token, Error> {
        let deadline = instant_in(self.shared.policy.wait);
        let Some(stepping_up) = self.shared.step_up(epoch, step_up) else {
            // No fetch is under way for it: what failed last is why.
            let refusal = self.shared.status.borrow().error.clone();
            return Err(refusal.unwrap_or_else(|| {
                let message = "a token with more was asked for already, or cannot be had now";
                Error::new(ErrorKind::Denied, message)
            }));
        };
        self.stepped_up(stepping_up, epoch, deadline).await
    }

    /// Ends the refresher. Requests fail from the moment it is awaited, with
    /// [`ErrorKind::Shutdown`](crate::ErrorKind::Shutdown). It waits for a fetch that is under way,
    /// whose answer may have replaced the refresh token, for at most the
    /// [time of a fetch](TokenHandleBuilder::fetch_timeout); outside of a tokio runtime with timers it
    /// does not wait.
    ///
    /// Nothing ends before it is awaited; [`.revoke()`](Shutdown::revoke) revokes the tokens too.
    ///
    /// ```
    /// # use tower_oauth::{Error, TokenHandle, TokenSet, source_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let tokens = TokenHandle::spawn(source_fn(|_| async { TokenSet::bearer("abc") }));
    /// tokens.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// Safe: the refresher ends all the same.
    pub fn shutdown(&self) -> Shutdown<'_> {
        Shutdown::new(&self.shared)
    }

    /// Puts the current token into `headers` and returns its epoch.
    #[inline]
    pub(crate) fn inject(&self, headers: &mut HeaderMap) -> Option<u64> {
        self.shared.slot.inject(headers)
    }

    /// Waits for a token newer than `after`.
    pub(crate) async fn wait(&self, after: u64, deadline: Instant) -> Result<Arc<Entry>, Error> {
        self.shared.wait(after, deadline, TrialUse::of_request(after)).await
    }

    /// Gives a claim back.
    pub(crate) fn release(&self, claim: u64) {
        self.shared.release(claim);
    }

    /// Notes that a server accepted a request with the token of this epoch. `refused` says whether
    /// the request had been refused with an older one.
    pub(crate) fn accepted(&self, epoch: u64, refused: bool) {
        self.shared.accepted(epoch, refused);
    }

    /// The claim of the request that tries the token of this epoch, which was refused before.
    pub(crate) fn claim_of(&self, epoch: u64) -> Option<u64> {
        self.shared.claim_of(epoch)
    }

    /// As [`reject`](Self::reject), unless the refusal is doubtful.
    pub(crate) fn report(&self, refusal: Refusal) -> Rejection {
        self.shared.reject(refusal)
    }

    /// As [`step_up`](Self::step_up), without waiting.
    pub(crate) fn ask_step_up(&self, epoch: u64, step_up: StepUp) -> Option<SteppingUp> {
        self.shared.step_up(epoch, step_up)
    }

    /// Waits for a step-up that was asked for, and then for a token newer than this epoch.
    pub(crate) async fn stepped_up(
        &self,
        stepping_up: SteppingUp,
        epoch: u64,
        deadline: Instant,
    ) -> Result<Token, Error> {
        self.shared.stepped_up(stepping_up, epoch, deadline).await.map(Token)
    }

    /// What time it is, a few milliseconds late at most.
    pub(crate) fn coarse_wall(&self) -> SystemTime {
        self.shared.slot.coarse_wall()
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        self.shared.sink.emit(event);
    }
}

impl fmt::Debug for TokenHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenHandle").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Lives as long as any handle does.
pub(super) struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.request(|inbox| inbox.end = true);
    }
}
