use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    builder::{Checked, GrantBuilder, scope_set},
    credential::read,
};
#[cfg(feature = "store")]
use crate::source::KeptRefreshToken;
use crate::{
    client_auth::ClientAuth,
    discovery::EndpointSource,
    endpoint::{TokenHint, UnusableAnswer},
    error::{ConfigError, Error, ErrorKind},
    secret::{Secret, SecretSource},
    source::{FetchContext, TokenSource},
    token::{Scopes, TokenSet},
};

/// The refresh token grant ([RFC 6749 §6]): somebody gave access once, and it is renewed.
///
/// The first fetch sends the initial refresh token; later ones send what the authorization server
/// returned last. A server that rotates refresh tokens ends the grant when an old one comes back,
/// so the newest has to survive a restart.
///
/// When the grant has ended, the initial refresh token is read again. If it is one that was not
/// sent yet, because somebody gave access again, it is tried once.
///
/// A new refresh token is kept also where the rest of its answer is refused, such as for a token type
/// that is not supported: the fetch fails, and the next one sends the new one.
///
/// ```no_run
/// use tower_oauth::{ClientAuth, RefreshToken, SecretSource};
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let source = RefreshToken::builder(
///     "https://idp.example/oauth2/token",
///     ClientAuth::none("cli"),
///     SecretSource::file("/run/secrets/refresh-token"),
/// )
/// .build()?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
///
/// [RFC 6749 §6]: https://www.rfc-editor.org/rfc/rfc6749#section-6
#[derive(Clone)]
pub struct RefreshToken(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) checked: Checked,
    /// The scopes of the grant, if they are known.
    granted: Scopes,
    pub(super) initial: SecretSource,
    /// The initial refresh token that was sent last. It may be spent, and a spent one must not be
    /// sent instead of a newer one.
    presented: Mutex<Option<Secret>>,
    /// A refresh token that came with an answer whose token was refused.
    replaced: Mutex<Option<Replaced>>,
}

/// A refresh token that is spent, and the one that the server gave for it.
struct Replaced {
    /// The one that whoever asks for tokens still has.
    spent: Secret,
    newest: Secret,
}

/// What only [`RefreshToken`] has to configure.
#[derive(Debug)]
pub struct RefreshTokenOptions {
    initial: SecretSource,
    granted: Vec<String>,
}

impl RefreshToken {
    /// Starts with the token endpoint's URL, or a [`Discovery`](crate::Discovery) of it, the client, and the refresh token that was issued to
    /// it.
    pub fn builder(
        token_endpoint: impl Into<EndpointSource>,
        auth: impl Into<ClientAuth>,
        initial: impl Into<SecretSource>,
    ) -> GrantBuilder<RefreshTokenOptions> {
        let options = RefreshTokenOptions { initial: initial.into(), granted: Vec::new() };
        GrantBuilder::new(token_endpoint.into(), auth.into(), options)
    }
}

impl GrantBuilder<RefreshTokenOptions> {
    /// Tells which scopes were granted. Scopes outside of them are then refused when it is built.
    /// Default: unknown, and the authorization server refuses them.
    #[must_use]
    pub fn granted_scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.options_mut().granted.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything that cannot work.
    pub fn build(self) -> Result<RefreshToken, ConfigError> {
        let (checked, RefreshTokenOptions { initial, granted }) = self.check("refresh_token")?;
        let granted = scope_set(&granted)?;
        if !granted.is_empty() && !checked.scopes.is_subset(&granted) {
            // RFC 6749 §6: "The requested scope MUST NOT include any scope not originally granted
            // by the resource owner".
            return Err(ConfigError::Setting {
                name: "scope",
                value: checked.scopes.to_string(),
                reason: "a refresh can only narrow the scopes that were granted",
            });
        }
        let presented = Mutex::new(None);
        let replaced = Mutex::new(None);
        Ok(RefreshToken(Arc::new(Inner { checked, granted, initial, presented, replaced })))
    }
}

impl RefreshToken {
    /// Goes on where another source with the same session is, unless the initial refresh token,
    /// which is this now, is one that the other has not sent yet: then somebody gave access again.
    #[cfg(feature = "config")]
    pub(crate) fn continues(&self, other: &Self, initial: &Secret) -> bool {
        let presented = other.0.presented.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if presented.as_ref().is_some_and(|presented| presented != initial) {
            return false;
        }
        *self.0.presented.lock().unwrap_or_else(PoisonError::into_inner) = presented;
        *self.0.replaced() = other.0.replaced().take();
        true
    }
}

impl TokenSource for RefreshToken {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let inner = &*self.0;
        inner.check_step_up(&cx)?;
        let previous = cx.previous.as_ref().and_then(|token| token.refresh_token());
        let current = match previous {
            Some(newest) => newest.clone(),
            None => read(&inner.initial, "the refresh token", &cx).await?,
        };
        inner.present(&current, previous.is_none());
        let error = match inner.exchange(&cx, &current).await {
            Err(error) if error.kind() == ErrorKind::InvalidGrant => error,
            outcome => return outcome,
        };
        if cx.stored && previous.is_some() {
            // The initial token is an ancestor of what was stored. To send it would be taken for
            // theft; if it was replaced, the store's keeper starts over with it.
            return Err(error);
        }
        match read(&inner.initial, "the refresh token", &cx).await {
            Ok(other) if other != current && !inner.is_presented(&other) => {
                inner.present(&other, true);
                inner.exchange(&cx, &other).await
            }
            _ => Err(error),
        }
    }

    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        self.0.revoke(&cx).await
    }
}

impl Inner {
    /// Trades the refresh token that the caller knows, or the one that has replaced it.
    async fn exchange(&self, cx: &FetchContext, known: &Secret) -> Result<TokenSet, Error> {
        let Checked { endpoint, scopes, form, .. } = &self.checked;
        let current = &self.newest(known);
        let mut form = form.clone();
        form.set_secret("refresh_token", current.clone());
        // RFC 6749 §6: the scope, "if omitted is treated as equal to the scope originally granted
        // by the resource owner."
        let requested = if scopes.is_empty() { &self.granted } else { scopes };
        let outcome = endpoint.request(cx, &form, requested).await;
        let mut token = outcome.map_err(|unusable| self.keep(cx, known, current, unusable))?;
        *self.replaced() = None;
        // RFC 6749 §6: "The authorization server MAY issue a new refresh token, in which case the
        // client MUST discard the old refresh token and replace it with the new refresh token."
        if token.refresh_token().is_none() {
            token = token.with_refresh_token(current.clone());
        }
        match cx.previous.as_ref().and_then(|previous| previous.scopes()) {
            Some(known) if token.scopes().is_none() => Ok(token.with_scopes(known.clone())),
            _ => Ok(token),
        }
    }

    /// Keeps the refresh token of an answer whose token was refused: what was sent for it is spent,
    /// and sent again it would end the grant. A store hears of it with the error.
    fn keep(
        &self,
        cx: &FetchContext,
        known: &Secret,
        current: &Secret,
        unusable: UnusableAnswer,
    ) -> Error {
        let UnusableAnswer { error, refresh_token } = unusable;
        let Some(newest) = refresh_token.filter(|newest| newest != current) else { return error };
        *self.replaced() = Some(Replaced { spent: known.clone(), newest: newest.clone() });
        #[cfg(feature = "store")]
        if cx.stored {
            return KeptRefreshToken::with(error, newest);
        }
        #[cfg(not(feature = "store"))]
        let _ = cx;
        error
    }

    /// The refresh token that has replaced this one, or this one itself.
    fn newest(&self, known: &Secret) -> Secret {
        let replaced = self.replaced();
        let newest = replaced.as_ref().filter(|replaced| replaced.spent == *known);
        newest.map_or_else(|| known.clone(), |replaced| replaced.newest.clone())
    }

    fn replaced(&self) -> MutexGuard<'_, Option<Replaced>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Revokes what was given last; before there was anything, what was given to begin with.
    async fn revoke(&self, cx: &FetchContext) -> Result<(), Error> {
        let revoker = self.checked.revoker.as_ref().filter(|_| cx.previous.is_none());
        if let Some(revoker) = revoker {
            let initial = read(&self.initial, "the refresh token", cx).await?;
            return revoker.revoke(&self.newest(&initial), TokenHint::Refresh, cx).await;
        }
        let newest = |token: &Arc<TokenSet>| match token.refresh_token() {
            Some(known) => {
                let token = TokenSet::clone(token);
                Arc::new(token.with_refresh_token(self.newest(known)))
            }
            None => token.clone(),
        };
        let previous = cx.previous.as_ref().map(newest);
        self.checked.revoke(&FetchContext { previous, ..cx.clone() }).await
    }

    /// RFC 6749 §6: "The requested scope MUST NOT include any scope not originally granted by the
    /// resource owner".
    fn check_step_up(&self, cx: &FetchContext) -> Result<(), Error> {
        let wanted = &cx.step_up.scopes;
        if wanted.is_empty() || self.granted.is_empty() || wanted.is_subset(&self.granted) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidGrant,
            format!(
                "an API asks for the scopes \"{wanted}\", which were not granted: somebody has to give access again"
            ),
        ))
    }

    fn present(&self, token: &Secret, is_initial: bool) {
        if is_initial {
            *self.presented.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        }
    }

    fn is_presented(&self, token: &Secret) -> bool {
        self.presented.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(token)
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checked { endpoint, scopes, .. } = &self.0.checked;
        f.debug_struct("RefreshToken")
            .field("token_endpoint", &endpoint.caller.location)
            .field("auth", &endpoint.caller.auth)
            .field("initial", &self.0.initial)
            .field("scopes", scopes)
            .finish_non_exhaustive()
    }
}
