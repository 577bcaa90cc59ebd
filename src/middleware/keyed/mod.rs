//! The layer for many tenants: the key of each request says whose token it gets.

mod layer;
mod service;

use std::{hash::Hash, sync::Arc, time::SystemTime};

use tokio::time::Instant;

pub use layer::KeyedOAuthLayer;
pub use service::KeyedOAuth;

use super::{Origins, tokens::Tokens};
use crate::{
    error::Error,
    observe::Event,
    pool::{TenantId, TokenPool},
    refresh::{Refusal, Rejection, SteppingUp, Token},
    source::StepUp,
};

/// Where the token of each tenant may go.
type OriginsOf<K> = dyn Fn(&K) -> Option<Arc<Origins>> + Send + Sync;

impl<K> Tokens for TokenPool<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    type Key = K;
    type Owner = TenantId;

    async fn obtain(&self, key: &K, deadline: Instant) -> Result<(TenantId, Token), Error> {
        self.obtain(key, deadline).await
    }

    async fn newer(&self, id: TenantId, after: u64, deadline: Instant) -> Result<Token, Error> {
        self.newer(id, after, deadline).await
    }

    fn report(&self, id: TenantId, refusal: Refusal) -> Rejection {
        self.report(id, refusal)
    }

    fn accepted(&self, id: TenantId, epoch: u64, refused: bool) {
        self.accepted(id, epoch, refused);
    }

    fn claim_of(&self, id: TenantId, epoch: u64) -> Option<u64> {
        self.claim_of(id, epoch)
    }

    fn release(&self, id: TenantId, claim: u64) {
        self.release(id, claim);
    }

    fn latest(&self, id: TenantId, token: Token) -> Option<Token> {
        self.latest(id, token)
    }

    fn bound(&self, key: &K) -> Option<(TenantId, Token)> {
        self.current_of(key).filter(|(_, token)| token.is_bound())
    }

    fn coarse_wall(&self) -> SystemTime {
        self.coarse_wall()
    }

    async fn stepped_up(
        &self,
        owner: TenantId,
        stepping_up: SteppingUp,
        epoch: u64,
        deadline: Instant,
    ) -> Result<Token, Error> {
        stepping_up.ended(deadline).await?;
        self.newer(owner, epoch, deadline).await
    }

    /// The keeper renews the tokens of many, each by the same rules.
    fn ask_step_up(&self, _: TenantId, _: u64, _: StepUp) -> Option<SteppingUp> {
        None
    }

    fn emit(&self, id: TenantId, event: &Event<'_>) {
        self.emit(id, event);
    }

    fn emit_untied(&self, event: &Event<'_>) {
        self.emit_untied(event);
    }
}
