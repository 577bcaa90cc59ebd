use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    super::{
        ExistingAuthorization, FailFast, ForeignOrigin, MissingKey, NoReplay, OAuthLayer, Origins,
        ResponseHead, context::Context,
    },
    KeyedOAuth, OriginsOf,
};
use crate::{pool::TokenPool, slot::Sharded};

/// Puts the token of its tenant on every request to the allowed origins. Made by
/// [`OAuthLayer::keyed`]. It does not step up: see [`OAuthLayer::step_up`] for a single handle.
#[must_use]
pub struct KeyedOAuthLayer<K, F, R = NoReplay>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    context: Context<TokenPool<K>>,
    key: F,
    origins: Option<Arc<OriginsOf<K>>>,
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
        let context = Context::new(pool, origins);
        KeyedOAuthLayer { context, key, origins: None, replay: NoReplay }
    }

    /// As [`keyed`](Self::keyed), for tenants whose APIs are at hosts of their own: each tenant's
    /// token goes to that tenant's origins and to no other tenant's. A tenant for which `origins`
    /// returns `None` has none.
    ///
    /// `origins` is called for each request, so it should look the answer up: keep the [`Origins`]
    /// in a map and return clones of their [`Arc`].
    ///
    /// ```
    /// use std::{collections::HashMap, sync::Arc};
    /// use tower_oauth::{FixedToken, OAuthLayer, Origins, TokenPool, TokenSet};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_oauth::BoxError> {
    /// let pool = TokenPool::builder(|tenant: &u32| {
    ///     FixedToken::new(TokenSet::bearer(format!("token-of-{tenant}")).expect("it is a token"))
    /// })
    /// .spawn();
    /// let hosts: HashMap<u32, Arc<Origins>> = HashMap::from([
    ///     (1, Arc::new("https://one.api.example".parse()?)),
    ///     (2, Arc::new("https://two.api.example".parse()?)),
    /// ]);
    /// let layer = OAuthLayer::keyed_with_origins(
    ///     pool,
    ///     move |tenant: &u32| hosts.get(tenant).cloned(),
    ///     |request: &http::Request<String>| request.extensions().get::<u32>().copied(),
    /// );
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    pub fn keyed_with_origins<K, F, Q>(
        pool: TokenPool<K>,
        origins: impl Fn(&K) -> Option<Arc<Origins>> + Send + Sync + 'static,
        key: F,
    ) -> KeyedOAuthLayer<K, F>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        F: Fn(&Q) -> Option<K>,
    {
        let context = Context::new(pool, Origins::none());
        KeyedOAuthLayer { context, key, origins: Some(Arc::new(origins)), replay: NoReplay }
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
        KeyedOAuthLayer {
            context: self.context,
            key: self.key,
            origins: self.origins,
            replay: policy,
        }
    }

    /// Fails a request at once when no token is at hand. See [`OAuthLayer::fail_fast`].
    pub fn fail_fast(self) -> KeyedOAuthLayer<K, F, FailFast> {
        self.replay(FailFast)
    }

    /// How long a request may wait in all, for tokens and for the service below to become ready.
    /// Default: 30 s.
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

    /// Counts responses with these statuses as refusals of the token, as a 401 with `invalid_token`
    /// is one: for servers that answer a dead token with 403, 419 or 498. A challenge whose error code
    /// says that the token is good counts for more: a 403 with `insufficient_scope` is no refusal.
    /// Statuses below 400 are ignored. Default: none.
    pub fn refused_statuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.context.options.refused_by.set_statuses(statuses);
        self
    }

    /// Counts responses for which `refused` returns `true` as refusals of the token, besides those
    /// that the layer knows, whatever their challenges say. It is called for every response, so it
    /// must be quick; if it panics, the response is no refusal. Default: none.
    ///
    /// It sees the head of the response. For an API that refuses in the body of a 200, let a service
    /// below the layer read the body and note what it found in the response's extensions.
    pub fn refused_if(
        mut self,
        refused: impl Fn(ResponseHead<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.context.options.refused_by.set_classifier(refused);
        self
    }

    /// Puts a [`UsedToken`](crate::middleware::UsedToken) into the extensions of every response, so
    /// that the caller can report a refusal that the layer cannot see. Default: off, as it allocates.
    pub fn expose_token(mut self) -> Self {
        self.context.options.expose_token = true;
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
        let (key, origins) = (self.key.clone(), self.origins.clone());
        KeyedOAuth::new(inner, context, key, origins, self.replay.clone())
    }
}

impl<K, F, R> Clone for KeyedOAuthLayer<K, F, R>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Clone,
    R: Clone,
{
    fn clone(&self) -> Self {
        Self {
            context: self.context.clone(),
            key: self.key.clone(),
            origins: self.origins.clone(),
            replay: self.replay.clone(),
        }
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
