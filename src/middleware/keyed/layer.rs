use std::{fmt, hash::Hash, time::Duration};

use tower_layer::Layer;

use super::{
    super::{
        ExistingAuthorization, ForeignOrigin, MissingKey, NoReplay, OAuthLayer, Origins,
        context::Context,
    },
    KeyedOAuth,
};
use crate::{pool::TokenPool, slot::Sharded};

/// Puts the token of its tenant on every request to the allowed origins. Made by
/// [`OAuthLayer::keyed`].
#[must_use]
pub struct KeyedOAuthLayer<K, F, R = NoReplay>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    context: Context<TokenPool<K>>,
    key: F,
    replay: R,
}

impl OAuthLayer {
    /// Tokens from this pool, to these origins; `key` says which tenant's a request gets.
    ///
    /// `key` is called for each request that may get a token. It should be quick, and a key cheap
    /// to make: a number or an `Arc<str>` rather than a `String`. It must rely on nothing that
    /// somebody else can choose: whoever chooses the key chooses the token.
    pub fn keyed<K, F, Q>(pool: TokenPool<K>, origins: Origins, key: F) -> KeyedOAuthLayer<K, F>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        F: Fn(&Q) -> Option<K>,
    {
        KeyedOAuthLayer { context: Context::new(pool, origins), key, replay: NoReplay }
    }
}

impl<K, F, R> KeyedOAuthLayer<K, F, R>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// What to do with a request that names no tenant. Default: refuse it.
    pub fn missing_key(mut self, missing: MissingKey) -> Self {
        self.context.options.missing_key = missing;
        self
    }

    /// Sends a request once more, with a newer token, when its token was refused. See
    /// [`OAuthLayer::replay`]. Default: [`NoReplay`].
    pub fn replay<P>(self, policy: P) -> KeyedOAuthLayer<K, F, P> {
        KeyedOAuthLayer { context: self.context, key: self.key, replay: policy }
    }

    /// How long a request waits for a token when there is none. Default: 30 s.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.context.options.wait = wait;
        self
    }

    /// What to do with a request that already has an `Authorization` header. Default: keep it.
    pub fn existing_authorization(mut self, existing: ExistingAuthorization) -> Self {
        self.context.options.existing = existing;
        self
    }

    /// What to do with a request to an origin that was not allowed. Default: send it without the
    /// token.
    pub fn foreign_origin(mut self, foreign: ForeignOrigin) -> Self {
        self.context.options.foreign = foreign;
        self
    }

    /// The age at which a token is taken to be dead after a refusal without a reason. See
    /// [`OAuthLayer::bare_401_min_age`]. Default: 10 s.
    pub fn bare_401_min_age(mut self, age: Duration) -> Self {
        self.context.options.bare_401_min_age = age;
        self
    }
}

impl<S, K, F, R> Layer<S> for KeyedOAuthLayer<K, F, R>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Clone,
    R: Clone,
{
    type Service = KeyedOAuth<S, K, F, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let context = Sharded::new(|| self.context.clone());
        KeyedOAuth::new(inner, context, self.key.clone(), self.replay.clone())
    }
}

impl<K, F, R> Clone for KeyedOAuthLayer<K, F, R>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Clone,
    R: Clone,
{
    fn clone(&self) -> Self {
        Self { context: self.context.clone(), key: self.key.clone(), replay: self.replay.clone() }
    }
}

impl<K, F, R> fmt::Debug for KeyedOAuthLayer<K, F, R>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    R: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedOAuthLayer")
            .field("context", &self.context)
            .field("replay", &self.replay)
            .finish_non_exhaustive()
    }
}
