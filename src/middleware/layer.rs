use std::time::Duration;

use tower_layer::Layer;

use super::{
    ExistingAuthorization, FailFast, ForeignOrigin, NoReplay, OAuth, Origins, ResponseHead,
    context::Context,
};
use crate::{refresh::TokenHandle, slot::Sharded};

/// Puts a token on every request to the allowed origins.
///
/// A redirect follower above the layer passes each hop through it, and the layer judges each hop. A
/// client below the layer that follows redirects takes the token along, and must not follow them to
/// other origins: build a reqwest client with [`Origins::redirect_policy`]. See [the order of
/// layers](crate::docs::layer_order#redirects).
///
/// `R` says what happens to a request whose token is refused: by default the caller gets the
/// refusal, and the next request a fresh token. See [`replay`](Self::replay).
#[derive(Debug, Clone)]
#[must_use]
pub struct OAuthLayer<R = NoReplay> {
    context: Context,
    replay: R,
}

impl OAuthLayer {
    /// Tokens from this handle, to these origins.
    pub fn new(tokens: TokenHandle, origins: Origins) -> Self {
        Self { context: Context::new(tokens, origins), replay: NoReplay }
    }
}

impl<R> OAuthLayer<R> {
    /// Sends a request once more, with a newer token, when its token was refused. Default:
    /// [`NoReplay`].
    ///
    /// [`CloneRequest`](super::CloneRequest) does so for requests that can be cloned,
    /// [`Idempotent`](super::Idempotent) only for methods that may be repeated,
    /// [`Buffered`](super::Buffered) for streaming bodies.
    pub fn replay<P>(self, policy: P) -> OAuthLayer<P> {
        OAuthLayer { context: self.context, replay: policy }
    }

    /// Fails a request at once when no token is at hand, and sends no request twice. A service below
    /// that is not `Clone` (tower's `RateLimit`, `SpawnReady`, `Balance`, `Reconnect`, `BoxService`)
    /// can be used only so, as a request that waits needs a second one.
    ///
    /// The request fails with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout), or with the error
    /// that prevented the token; a retry above the layer may wait in its place. A token that is
    /// at hand is renewed before it expires, so this is rare after
    /// [`ready()`](crate::TokenHandle::ready).
    pub fn fail_fast(self) -> OAuthLayer<FailFast> {
        self.replay(FailFast)
    }

    /// How long a request may wait in all, for tokens and for the service below to become ready.
    /// What the API takes to answer is not counted. Default: 30 s.
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

    /// Obtains a token with the scopes that an API says are lacking (`insufficient_scope`,
    /// [RFC 6750 §3.1]), besides those that it has, and sends the request again if the replay policy
    /// has kept it. Later tokens have them too. Default: the refusal is the caller's.
    ///
    /// The API decides what the client asks for, so turn it on for APIs that are trusted to.
    ///
    /// [RFC 6750 §3.1]: https://www.rfc-editor.org/rfc/rfc6750#section-3.1
    pub fn step_up(mut self) -> Self {
        self.context.options.step_up = true;
        self
    }

    /// Obtains another token with the claims that a Microsoft API asks for
    /// (`insufficient_claims`, [continuous access evaluation]), once, and sends the request again if
    /// the replay policy has kept it. The client has to say that it can, by asking for the
    /// capability `cp1`. Default: the refusal is the caller's.
    ///
    /// [continuous access evaluation]: https://learn.microsoft.com/entra/identity-platform/app-resilience-continuous-access-evaluation
    pub fn claims_challenges(mut self) -> Self {
        self.context.options.claims = true;
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

    /// The age at which a token is taken to be dead after a refusal without a reason, such as a
    /// bare 401 or gRPC's `UNAUTHENTICATED`. A younger one stays, unless the answer's `Date` is after
    /// its end: then it was our clocks that stood still, as those of a snapshot do. Default: 10 s.
    pub fn bare_401_min_age(mut self, age: Duration) -> Self {
        self.context.options.bare_401_min_age = age;
        self
    }
}

#[cfg(feature = "reqwest-middleware")]
impl<R> OAuthLayer<R> {
    pub(super) fn parts(&self) -> (&Context, &R) {
        (&self.context, &self.replay)
    }
}

impl<S, R: Clone> Layer<S> for OAuthLayer<R> {
    type Service = OAuth<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        OAuth::new(inner, Sharded::new(|| self.context.clone()), self.replay.clone())
    }
}
