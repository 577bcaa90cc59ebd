use std::{future::Future, time::SystemTime};

use tokio::time::Instant;

use crate::{
    error::Error,
    observe::Event,
    refresh::{Refusal, Rejection, SteppingUp, Token, TokenHandle},
    source::StepUp,
};

/// What a request needs of whatever holds its token, off its usual way: one handle, or a pool of
/// tenants.
pub trait Tokens: Clone + Send + Sync + 'static {
    /// What a token is asked for by.
    type Key: Send + Sync;
    /// Whose token a request carries: nothing where there is one only.
    type Owner: Copy + Send + Sync + 'static;

    /// Waits for a token.
    fn obtain(
        &self,
        key: &Self::Key,
        deadline: Instant,
    ) -> impl Future<Output = Result<(Self::Owner, Token), Error>> + Send;

    /// Waits for a token newer than `after`.
    fn newer(
        &self,
        owner: Self::Owner,
        after: u64,
        deadline: Instant,
    ) -> impl Future<Output = Result<Token, Error>> + Send;

    /// Reports a refused token.
    fn report(&self, owner: Self::Owner, refusal: Refusal) -> Rejection;

    /// Notes that a server accepted a request with the token of this epoch. `refused` says whether
    /// the request had been refused with an older one.
    fn accepted(&self, owner: Self::Owner, epoch: u64, refused: bool);

    /// The claim of the request that tries the token of this epoch, which was refused before.
    fn claim_of(&self, owner: Self::Owner, epoch: u64) -> Option<u64>;

    /// Gives a claim back.
    fn release(&self, owner: Self::Owner, claim: u64);

    /// The token to use in place of one that was obtained a moment ago; `None` if there is none now.
    fn latest(&self, owner: Self::Owner, token: Token) -> Option<Token>;

    /// The current token, if it is good and bound to a key.
    fn bound(&self, key: &Self::Key) -> Option<(Self::Owner, Token)>;

    /// What time it is, a few milliseconds late at most.
    fn coarse_wall(&self) -> SystemTime;

    /// Asks for a token with more than the one of this epoch has; `None` if that would be in vain.
    fn ask_step_up(&self, owner: Self::Owner, epoch: u64, step_up: StepUp) -> Option<SteppingUp>;

    /// Waits for a step-up that was asked for, and then for a token newer than this epoch.
    fn stepped_up(
        &self,
        owner: Self::Owner,
        stepping_up: SteppingUp,
        epoch: u64,
        deadline: Instant,
    ) -> impl Future<Output = Result<Token, Error>> + Send;

    /// Tells an event.
    fn emit(&self, owner: Self::Owner, event: &Event<'_>);

    /// Emits an event of a request that got no token, and so belongs to no owner.
    fn emit_untied(&self, event: &Event<'_>);
}

impl Tokens for TokenHandle {
    type Key = ();
    type Owner = ();

    async fn obtain(&self, (): &(), deadline: Instant) -> Result<((), Token), Error> {
        self.wait(0, deadline).await.map(|entry| ((), Token(entry)))
    }

    async fn newer(&self, (): (), after: u64, deadline: Instant) -> Result<Token, Error> {
        self.wait(after, deadline).await.map(Token)
    }

    fn report(&self, (): (), refusal: Refusal) -> Rejection {
        self.report(refusal)
    }

    fn accepted(&self, (): (), epoch: u64, refused: bool) {
        self.accepted(epoch, refused);
    }

    fn claim_of(&self, (): (), epoch: u64) -> Option<u64> {
        self.claim_of(epoch)
    }

    fn release(&self, (): (), claim: u64) {
        self.release(claim);
    }

    fn latest(&self, (): (), token: Token) -> Option<Token> {
        self.current().or_else(|| self.claim_of(token.epoch()).map(|_| token))
    }

    fn bound(&self, (): &()) -> Option<((), Token)> {
        self.current().filter(Token::is_bound).map(|token| ((), token))
    }

    fn coarse_wall(&self) -> SystemTime {
        self.coarse_wall()
    }

    fn ask_step_up(&self, (): (), epoch: u64, step_up: StepUp) -> Option<SteppingUp> {
        self.ask_step_up(epoch, step_up)
    }

    async fn stepped_up(
        &self,
        (): (),
        stepping_up: SteppingUp,
        epoch: u64,
        deadline: Instant,
    ) -> Result<Token, Error> {
        self.stepped_up(stepping_up, epoch, deadline).await
    }

    fn emit(&self, (): (), event: &Event<'_>) {
        self.emit(event);
    }

    fn emit_untied(&self, event: &Event<'_>) {
        self.emit(event);
    }
}
