//! What every service of a layer reads for each request: its settings, and which requests get no
//! token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{
    Method,
    header::{AUTHORIZATION, HOST},
};

use super::{Origins, refused_by::RefusedBy, tokens::Tokens};
use crate::{
    error::{Error, ErrorKind},
    http::{Authority, HttpRequest, Target},
    observe::{Event, EventOrigin, PassReason},
    refresh::TokenHandle,
    source::StepUp,
};

/// What to do with a request that already has an `Authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ExistingAuthorization {
    /// Send the request as it is. The caller knows better.
    #[default]
    Keep,
    /// Put the token in its place.
    Replace,
    /// Fail with [`ErrorKind::AuthorizationPresent`].
    Refuse,
}

/// What to do with a request to an origin that was not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ForeignOrigin {
    /// Send the request without the token.
    #[default]
    PassWithoutToken,
    /// Fail with [`ErrorKind::Origin`].
    Refuse,
}

/// What to do with a request that names no tenant.
#[cfg(feature = "pool")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MissingKey {
    /// Fail with [`ErrorKind::NoKey`].
    #[default]
    Refuse,
    /// Send the request without a token.
    PassWithoutToken,
}

/// What every clone of a service reads: one copy for each shard of threads.
#[derive(Debug, Clone)]
pub(super) struct Context<T = TokenHandle> {
    pub(super) tokens: T,
    pub(super) origins: Arc<Origins>,
    pub(super) options: Options,
    /// Whether a client below has followed a redirect to another origin. All services of a layer
    /// share it, so that the operator is warned once. Written at a redirect only.
    redirected: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) existing: ExistingAuthorization,
    pub(super) foreign: ForeignOrigin,
    pub(super) wait: Duration,
    pub(super) bare_401_min_age: Duration,
    pub(super) step_up: bool,
    pub(super) claims: bool,
    pub(super) refused_by: RefusedBy,
    pub(super) expose_token: bool,
    #[cfg(feature = "pool")]
    pub(super) missing_key: MissingKey,
}

impl Options {
    /// Whether a token is fetched that has what an API says is lacking.
    pub(super) fn allows(&self, step_up: &StepUp) -> bool {
        (self.step_up || step_up.scopes.is_empty()) && (self.claims || step_up.claims.is_none())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            existing: ExistingAuthorization::default(),
            foreign: ForeignOrigin::default(),
            wait: Duration::from_secs(30),
            bare_401_min_age: Duration::from_secs(10),
            step_up: false,
            claims: false,
            refused_by: RefusedBy::default(),
            expose_token: false,
            #[cfg(feature = "pool")]
            missing_key: MissingKey::default(),
        }
    }
}

/// Why a request gets no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exempt {
    /// It goes to an origin that was not allowed.
    Foreign,
    /// It has an `Authorization` header, which is not to be replaced.
    Present,
    /// Its method never carries a token.
    Method,
    /// It names no tenant.
    #[cfg(feature = "pool")]
    NoKey,
}

impl Exempt {
    fn reason(self) -> PassReason {
        match self {
            Self::Foreign => PassReason::ForeignOrigin,
            Self::Present => PassReason::AuthorizationPresent,
            Self::Method => PassReason::Method,
            #[cfg(feature = "pool")]
            Self::NoKey => PassReason::NoKey,
        }
    }
}

impl<T> Context<T> {
    pub(super) fn new(tokens: T, origins: Origins) -> Self {
        Self {
            tokens,
            origins: Arc::new(origins),
            options: Options::default(),
            redirected: Arc::default(),
        }
    }

    /// Returns why a request gets no token; `None` if it gets one, or names no tenant.
    ///
    /// The layer judges every request that passes it: a redirect follower above calls for each hop.
    #[inline]
    pub(super) fn exempt(&self, request: &impl HttpRequest) -> Option<Exempt> {
        self.exempt_at(&self.origins, request)
    }

    /// As [`exempt`](Self::exempt), with the origins of one tenant.
    #[expect(clippy::inline_always, reason = "as a call it costs a tenth more than what it does")]
    #[inline(always)]
    pub(super) fn exempt_at(
        &self,
        origins: &Origins,
        request: &impl HttpRequest,
    ) -> Option<Exempt> {
        if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
            return Some(self.exempt_method(origins, request));
        }
        if !origins.allow_request(request) {
            return Some(Exempt::Foreign);
        }
        // `HeaderMap::entry` would search once for both, and is slower all the same.
        let kept = self.options.existing != ExistingAuthorization::Replace;
        (kept && request.headers().contains_key(AUTHORIZATION)).then_some(Exempt::Present)
    }

    /// Returns why a request gets no token, wherever it goes.
    #[cfg(feature = "pool")]
    #[cold]
    pub(super) fn exempt_anywhere(&self, request: &impl HttpRequest) -> Option<Exempt> {
        self.exempt_at(&Origins::danger_any_origin(), request).filter(|exempt| {
            // A target that names no server is judged once it is known whose it is.
            *exempt != Exempt::Foreign
        })
    }

    /// RFC 9110 §9.3.8: "A client MUST NOT generate fields in a TRACE request containing sensitive
    /// data that might be disclosed by the response." A proxy answers CONNECT, not the origin.
    ///
    /// What the settings refuse stays refused.
    #[cold]
    fn exempt_method(&self, origins: &Origins, request: &impl HttpRequest) -> Exempt {
        let present = request.headers().contains_key(AUTHORIZATION);
        if self.options.foreign == ForeignOrigin::Refuse && !origins.allow_request(request) {
            Exempt::Foreign
        } else if self.options.existing == ExistingAuthorization::Refuse && present {
            Exempt::Present
        } else {
            Exempt::Method
        }
    }

    /// Returns why a request that gets no token fails; `None` if it is sent as it is.
    pub(super) fn refusal(&self, exempt: Exempt) -> Option<Error> {
        let (refused, kind, message) = match exempt {
            Exempt::Foreign => (
                self.options.foreign == ForeignOrigin::Refuse,
                ErrorKind::Origin,
                "the request goes to an origin that the layer was not given",
            ),
            Exempt::Present => (
                self.options.existing == ExistingAuthorization::Refuse,
                ErrorKind::AuthorizationPresent,
                "the request already has an authorization header; the layer is to set it",
            ),
            Exempt::Method => return None,
            #[cfg(feature = "pool")]
            Exempt::NoKey => (
                self.options.missing_key == MissingKey::Refuse,
                ErrorKind::NoKey,
                "the request names no tenant whose token it could get",
            ),
        };
        refused.then(|| Error::new(kind, message))
    }
}

impl<T: Tokens> Context<T> {
    /// Reports a request that is sent without a token.
    #[cold]
    pub(super) fn passed(&self, exempt: Exempt, request: &impl HttpRequest) {
        let target = request.target();
        let host = || request.headers().get(HOST)?.to_str().ok().map(Authority::Text);
        let authority = target.authority.or_else(host);
        let origin = event_origin(Target { authority, ..target });
        let reason = exempt.reason();
        self.tokens.emit_untied(&Event::PassedWithoutToken { reason, origin });
    }

    /// Reports that a client below followed a redirect: the response came from `origin`, to which
    /// the layer did not send the request.
    #[cold]
    pub(super) fn redirected(&self, owner: T::Owner, origin: Target<'_>) {
        let Some(origin) = event_origin(origin) else { return };
        let first = !self.redirected.swap(true, Ordering::Relaxed);
        self.tokens.emit(owner, &Event::RedirectFollowed { origin, first });
    }
}

/// Returns what an event may show of a target: scheme, host and port.
fn event_origin(target: Target<'_>) -> Option<EventOrigin<'_>> {
    let authority = match target.authority? {
        // User information may be a password.
        Authority::Text(text) => Authority::Text(text.rsplit('@').next().unwrap_or(text)),
        parts @ Authority::Parts(..) => parts,
    };
    let (host, port) = authority.split()?;
    Some(EventOrigin { scheme: target.scheme, host, port })
}
