use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    HandleConfig, LayerConfig, OAuthConfig,
    build::{Built, Grant, bad, build},
};
#[cfg(feature = "mtls")]
use crate::http::ClientCertificate;
use crate::{
    error::{ConfigError, Error, ErrorKind},
    http::Transport,
    middleware::{OAuthLayer, Origins},
    observe::Observer,
    refresh::{TokenHandle, TokenHandleBuilder},
    source::{FetchContext, Replaceable, TokenSource},
    time::Clock,
    token::TokenSet,
};

/// A configuration at work: a [`TokenHandle`], the origins it is for, and the way to change how its
/// tokens are obtained.
///
/// Clones share one token. It is a handle as well: the refresher ends when the last of all is
/// dropped.
#[derive(Clone)]
pub struct OAuthClient(Arc<Inner>);

struct Inner {
    name: Option<String>,
    tokens: TokenHandle,
    origins: Origins,
    source: Replaceable,
    transport: Option<Transport>,
    active: Active,
}

/// The configuration whose grant is in use.
type Active = Arc<Mutex<Arc<Configured>>>;

struct Configured {
    config: OAuthConfig,
    built: Built,
}

/// Builds an [`OAuthClient`], with what no file can hold.
#[must_use]
pub struct OAuthClientBuilder {
    config: OAuthConfig,
    name: Option<String>,
    transport: Option<Transport>,
    set: Vec<Box<dyn FnOnce(TokenHandleBuilder) -> TokenHandleBuilder>>,
}

/// Why a configuration did not take the place of the one before. That one is still in use, as it
/// was.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReloadError {
    /// The new configuration cannot work.
    Config(ConfigError),
    /// The new configuration gave no token.
    Refused(Error),
}

impl OAuthClientBuilder {
    pub(super) fn new(config: OAuthConfig) -> Self {
        Self { config, name: None, transport: None, set: Vec::new() }
    }

    /// Sets a name, for errors of the configuration, and what the token is
    /// [called](TokenHandleBuilder::name) in logs and metrics. Default: none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the HTTP client for the authorization server, now and after a reload. Default: as the
    /// grants have it, with the certificate of the configuration if there is one.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Is told what happens. Default: nobody, beside `tracing`.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.set.push(Box::new(|handle| handle.observer(observer)));
        self
    }

    /// Tells the time. Default: this machine's clocks.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.set.push(Box::new(|handle| handle.clock(clock)));
        self
    }

    /// Checks the configuration and starts to obtain tokens. Needs a tokio runtime.
    ///
    /// Secrets are read once, to tell now that one is missing.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything that cannot work.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn build(self) -> Result<OAuthClient, ConfigError> {
        self.prepare().map(Prepared::start)
    }

    /// Checks everything and starts nothing.
    pub(super) fn prepare(self) -> Result<Prepared, ConfigError> {
        let Self { config, name, transport, set } = self;
        let prepare = || {
            config.layer.check()?;
            let origins = config.layer.origins(&config.origins)?;
            let built = build(&config, transport.as_ref(), None)?;
            let configured = Arc::new(Configured { config: config.clone(), built });
            let active = Arc::new(Mutex::new(configured.clone()));
            let source = Replaceable::new(Session { configured, active: active.clone() });
            let handle = config.handle.set(TokenHandle::builder(source.clone()))?;
            Ok((handle, origins, source, active))
        };
        let (mut handle, origins, source, active) =
            prepare().map_err(|error| named(name.as_deref(), error))?;
        if let Some(name) = &name {
            handle = handle.name(&**name);
        }
        for set in set {
            handle = set(handle);
        }
        Ok(Prepared { handle, name, origins, source, transport, active })
    }
}

/// A client that was checked.
pub(super) struct Prepared {
    handle: TokenHandleBuilder,
    name: Option<String>,
    origins: Origins,
    source: Replaceable,
    transport: Option<Transport>,
    active: Active,
}

impl Prepared {
    pub(super) fn start(self) -> OAuthClient {
        let Self { handle, name, origins, source, transport, active } = self;
        let tokens = handle.spawn();
        OAuthClient(Arc::new(Inner { name, tokens, origins, source, transport, active }))
    }
}

impl OAuthClient {
    /// The handle.
    pub fn tokens(&self) -> &TokenHandle {
        &self.0.tokens
    }

    /// Where the token may go.
    pub fn origins(&self) -> &Origins {
        &self.0.origins
    }

    /// A layer with the settings of the configuration. Its
    /// [replay](OAuthLayer::replay) is yours to choose: it depends on the requests' bodies.
    pub fn layer(&self) -> OAuthLayer {
        let active = self.configured();
        let layer = OAuthLayer::new(self.0.tokens.clone(), self.0.origins.clone());
        active.config.layer.set(layer, &active.config.handle)
    }

    /// The client's certificate, for a
    /// [`MutualTlsClient`](crate::MutualTlsClient) that calls the API; `None` if the configuration
    /// has none.
    #[cfg(feature = "mtls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "mtls")))]
    pub fn certificate(&self) -> Option<ClientCertificate> {
        self.configured().built.certificate.clone()
    }

    /// The configuration that is in use.
    pub fn config(&self) -> OAuthConfig {
        self.configured().config.clone()
    }

    /// Puts another configuration in place of the one in use, once it has given a token. Until then,
    /// and if it gives none, everything stays as it is; no request fails or waits because of it.
    ///
    /// What the old configuration obtained is not shown to the new one's server, unless both have
    /// the same refresh token of the same client at the same server. Then the newest one is
    /// continued with.
    ///
    /// Layers keep the origins they have, and handles their settings, so neither can change here: a
    /// token for the new API would go to the old one's origin. Build another client for that, and
    /// let go of this one when its requests have ended.
    ///
    /// # Errors
    ///
    /// [`ReloadError::Config`] when the new configuration cannot work, or changes `origins`,
    /// `handle` or `layer`; [`ReloadError::Refused`] when it gave no token, or was not asked because
    /// the server before it has asked for a pause (`Retry-After`) that is not over.
    ///
    /// # Cancellation
    ///
    /// Safe: either configuration is in use as a whole. The new one is, if its server was asked
    /// already and gives a token.
    pub async fn reload(&self, config: &OAuthConfig) -> Result<(), ReloadError> {
        let Inner { name, tokens, source, transport, active, .. } = &*self.0;
        let before = self.configured();
        let renew = || {
            before.config.check_kept(config)?;
            let same = before.config.is_same_session(config);
            build(config, transport.as_ref(), Some(&before.built).filter(|_| same))
        };
        let built = renew().map_err(|error| ReloadError::Config(named(name.as_deref(), error)))?;
        let configured = Arc::new(Configured { config: config.clone(), built });
        let session = Session { configured: configured.clone(), active: active.clone() };
        // Asked when the source is tried: another reload may have ended in between.
        let current = active.clone();
        let offer = source.offer_if(session, move || configured.continues(&lock(&current)));
        let refreshed = tokens.refresh().await;
        match (offer.settled().await, refreshed) {
            (Some(Ok(())), _) => Ok(()),
            (Some(Err(error)), _) | (None, Err(error)) => Err(ReloadError::Refused(error)),
            (None, Ok(_)) => {
                let message = "the new configuration was not tried";
                Err(ReloadError::Refused(Error::new(ErrorKind::Configuration, message)))
            }
        }
    }

    fn configured(&self) -> Arc<Configured> {
        lock(&self.0.active).clone()
    }
}

/// A grant that is the active one once it has given a token.
struct Session {
    configured: Arc<Configured>,
    active: Active,
}

impl TokenSource for Session {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let token = self.configured.built.grant.fetch(cx).await?;
        let replaced = std::mem::replace(&mut *lock(&self.active), self.configured.clone());
        drop(replaced);
        Ok(token)
    }

    async fn renewed(&self, cx: FetchContext) -> TokenSet {
        self.configured.built.grant.renewed(cx).await
    }

    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        self.configured.built.grant.revoke(cx).await
    }
}

impl Configured {
    /// Whether this goes on with the session of another one.
    fn continues(&self, other: &Self) -> bool {
        match (&self.built.grant, &other.built.grant) {
            (Grant::RefreshToken(grant, initial), Grant::RefreshToken(before, _)) => {
                self.config.is_same_session(&other.config) && grant.continues(before, initial)
            }
            _ => false,
        }
    }
}

impl OAuthConfig {
    /// What handles and layers were made with stays.
    fn check_kept(&self, new: &Self) -> Result<(), ConfigError> {
        let changed = match () {
            () if self.origins != new.origins => "origins",
            () if self.handle != new.handle => "handle",
            () if self.layer != new.layer => "layer",
            () => return Ok(()),
        };
        Err(bad(
            changed,
            "it cannot change while it runs: build another client in place of this one",
        ))
    }
}

impl HandleConfig {
    fn set(&self, mut handle: TokenHandleBuilder) -> Result<TokenHandleBuilder, ConfigError> {
        if let Some(lifetime) = self.default_lifetime {
            handle = handle.default_lifetime(lifetime);
        }
        if let Some([from, to]) = self.margin {
            handle = handle.margin(from..to)?;
        }
        if let Some(margin) = self.max_margin {
            handle = handle.max_margin(margin)?;
        }
        if let Some(timeout) = self.fetch_timeout {
            handle = handle.fetch_timeout(timeout);
        }
        if let Some(wait) = self.wait {
            handle = handle.wait(wait);
        }
        if let Some(waiting) = self.max_waiting {
            handle = handle.max_waiting(usize::try_from(waiting).unwrap_or(usize::MAX));
        }
        if let Some(interval) = self.rejection_interval {
            handle = handle.rejection_interval(interval);
        }
        Ok(handle)
    }
}

impl LayerConfig {
    /// Checks what only this says, and no type.
    fn check(&self) -> Result<(), ConfigError> {
        match self.refused_statuses.iter().find(|status| !(400..=599).contains(*status)) {
            Some(status) => Err(ConfigError::Setting {
                name: "layer.refused_statuses",
                value: status.to_string(),
                reason: "a refusal has a status from 400 to 599",
            }),
            None => Ok(()),
        }
    }

    fn origins(&self, origins: &[String]) -> Result<Origins, ConfigError> {
        match (self.danger_any_origin, origins) {
            (true, []) => Ok(Origins::danger_any_origin()),
            (true, _) => Err(bad("layer.danger_any_origin", "there are origins too")),
            (false, []) => Err(bad("origins", "it has to say where the token may go")),
            (false, _) if self.danger_allow_http => Origins::danger_allow_http(origins),
            (false, _) => Origins::new(origins),
        }
    }

    fn set(&self, mut layer: OAuthLayer, handle: &HandleConfig) -> OAuthLayer {
        if let Some(wait) = handle.wait {
            layer = layer.wait(wait);
        }
        if let Some(existing) = self.existing_authorization {
            layer = layer.existing_authorization(existing.into());
        }
        if let Some(foreign) = self.foreign_origin {
            layer = layer.foreign_origin(foreign.into());
        }
        if let Some(age) = self.bare_401_min_age {
            layer = layer.bare_401_min_age(age);
        }
        if !self.refused_statuses.is_empty() {
            layer = layer.refused_statuses(self.refused_statuses.iter().copied());
        }
        if self.step_up {
            layer = layer.step_up();
        }
        if self.claims_challenges {
            layer = layer.claims_challenges();
        }
        layer
    }
}

fn named(name: Option<&str>, error: ConfigError) -> ConfigError {
    match name {
        Some(name) => ConfigError::Client { name: name.to_owned(), error: Box::new(error) },
        None => error,
    }
}

fn lock(active: &Mutex<Arc<Configured>>) -> MutexGuard<'_, Arc<Configured>> {
    // Nothing panics while it is held.
    active.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl StdError for ReloadError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // It speaks for itself above.
        match self {
            Self::Config(error) => error.source(),
            Self::Refused(error) => error.source(),
        }
    }
}

impl fmt::Debug for OAuthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthClient")
            .field("name", &self.0.name)
            .field("tokens", &self.0.tokens)
            .field("origins", &self.0.origins)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for OAuthClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthClientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
