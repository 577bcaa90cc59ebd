//! Our layer, with each kind of tokens and each replay policy.

use std::time::Duration;

use http::{Request, Response};
use tower::{BoxError, Layer, Service, util::BoxCloneService};
use tower_oauth::{
    Buffered, CloneRequest, Idempotent, KeyedOAuthLayer, OAuthLayer, Origins, TokenHandle,
    TokenPool,
};

use crate::{
    ledger::{TENANT, number},
    story::Story,
    tap::Below,
    wire::{Answer, Svc},
};

/// Where the tokens come from.
#[derive(Clone)]
pub(crate) enum Tokens {
    Handle(TokenHandle),
    Pool(TokenPool<u32>),
}

/// A replay policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    Never,
    Clones,
    IdempotentClones,
    Buffers,
    IdempotentBuffers,
}

impl Replay {
    pub(crate) const ALL: [Self; 5] =
        [Self::Never, Self::Clones, Self::IdempotentClones, Self::Buffers, Self::IdempotentBuffers];
}

/// How long a request waits for a token.
pub(crate) const WAIT: Duration = Duration::from_secs(2);

/// Returns a policy whose bound some bodies exceed.
pub(crate) fn buffered() -> Buffered {
    Buffered::up_to(64 * 1024)
}

/// Returns the layer for one handle. Tokens are young, so a refusal without a reason counts at once.
pub(crate) fn single(tokens: &TokenHandle, origins: &Origins) -> OAuthLayer {
    OAuthLayer::new(tokens.clone(), origins.clone()).wait(WAIT).bare_401_min_age(Duration::ZERO)
}

type Key<Q> = fn(&Q) -> Option<u32>;

/// Returns the layer for a pool.
pub(crate) fn keyed<B>(
    pool: &TokenPool<u32>,
    origins: &Origins,
) -> KeyedOAuthLayer<u32, Key<Request<B>>> {
    let key: Key<Request<B>> =
        |request| number(request.headers(), TENANT).and_then(|tenant| tenant.try_into().ok());
    OAuthLayer::keyed(pool.clone(), origins.clone(), key)
        .wait(WAIT)
        .bare_401_min_age(Duration::ZERO)
}

/// Puts our layer on a service.
pub(crate) fn ours(tokens: &Tokens, replay: Replay, origins: &Origins, below: Below) -> Svc<Story> {
    macro_rules! with_each_policy {
        ($layer:expr) => {
            match replay {
                Replay::Never => build($layer, below),
                Replay::Clones => build($layer.replay(CloneRequest), below),
                Replay::IdempotentClones => build($layer.replay(Idempotent(CloneRequest)), below),
                Replay::Buffers => build($layer.replay(buffered()), below),
                Replay::IdempotentBuffers => build($layer.replay(Idempotent(buffered())), below),
            }
        };
    }
    match tokens {
        Tokens::Handle(handle) => with_each_policy!(single(handle, origins)),
        Tokens::Pool(pool) => with_each_policy!(keyed::<Story>(pool, origins)),
    }
}

fn build<L>(layer: L, below: Below) -> Svc<Story>
where
    L: Layer<Below>,
    L::Service: Service<Request<Story>, Response = Response<Answer>, Error = BoxError>
        + Clone
        + Send
        + 'static,
    <L::Service as Service<Request<Story>>>::Future: Send + 'static,
{
    BoxCloneService::new(layer.layer(below))
}
