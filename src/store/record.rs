use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tokio::time::Instant;

use super::stamp::Stamp;
use crate::{
    error::{Error, ErrorKind},
    secret::{Members, Secret},
    source::Identity,
    token::{Scopes, TokenSet, TokenType},
};

/// What a store keeps of one credential: its newest tokens, what they are for, and how far their
/// renewal has come.
///
/// It is written out only on purpose, by [`to_json`](Self::to_json): that text holds tokens, and a
/// store that leaves the process has to seal it. Its `Debug` shows no token.
#[derive(Clone)]
pub struct Record {
    pub(super) stamp: Arc<Stamp>,
    /// The digest of the credential that the tokens descend from.
    pub(super) origin: Option<String>,
    pub(super) generation: u64,
    pub(super) state: RecordState,
    pub(super) tokens: Option<Tokens>,
}

/// How far the renewal of a stored token has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordState {
    /// The refresh token has not been sent since it was stored.
    Clean,
    /// The refresh token may have been sent, and spent; the answer is not stored.
    Intent,
    /// The authorization server has refused the refresh token. The record is kept, to say so.
    Dead,
}

/// The tokens of a record, with an expiry that holds on every machine.
#[derive(Clone)]
pub(super) struct Tokens {
    pub(super) set: Arc<TokenSet>,
    /// When they were asked for. Records of earlier versions do not say.
    pub(super) obtained_at: Option<SystemTime>,
    pub(super) expires_at: Option<SystemTime>,
    /// The token is bound to the key of the stamp's thumbprint. The set has the key only once
    /// whoever uses it has given it.
    pub(super) is_bound: bool,
    /// The access token is bound to a client certificate, which another process, or this one after
    /// the next rotation, does not have: only the refresh token is of use there.
    pub(super) needs_certificate: bool,
    /// The digest of the credential that they descend from. In a record it stands beside them.
    pub(super) origin: Option<String>,
}

impl Record {
    /// The record's number: one more with each renewal, wherever it happened.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How far the renewal has come.
    pub fn state(&self) -> RecordState {
        self.state
    }

    /// The record as JSON text, for a store to keep. It holds the tokens.
    pub fn to_json(&self) -> Secret {
        let mut out = Members::default();
        let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
        put("version", VERSION.into());
        put("generation", self.generation.into());
        put("state", self.state.as_str().into());
        put("for", self.stamp.to_value());
        put("origin", self.origin.clone().into());
        if let Some(tokens) = &self.tokens {
            let Tokens { set, obtained_at, expires_at, is_bound, needs_certificate, .. } = tokens;
            if tokens.has_access() {
                put("access_token", set.access_token().expose().into());
            }
            put("token_type", if *is_bound { BOUND } else { UNBOUND }.into());
            put("refresh_token", set.refresh_token().map(Secret::expose).into());
            put("scope", set.scopes().map(Scopes::to_string).into());
            put("obtained_at_ms", obtained_at.map(milliseconds_of).into());
            put("expires_at_ms", expires_at.map(milliseconds_of).into());
            put("lifetime_ms", set.lifetime().map(milliseconds).into());
            put("refresh_in_ms", set.refresh_in().map(milliseconds).into());
            put("usable_in_ms", set.usable_in().map(milliseconds).into());
            put("members", set.members().to_value());
            put("needs_certificate", (*needs_certificate).into());
        }
        out.to_json()
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] when it is something else, or from a version of this crate that writes
    /// records of another kind. Such a record must not be overwritten.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let value = serde_json::from_str(text).map_err(|_| unreadable("it is not JSON"))?;
        let mut members =
            Members::from_value(value).ok_or_else(|| unreadable("it is no object"))?;
        match members.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(_) => {
                return Err(unreadable("it is of a newer version; bring this program up to date"));
            }
            None => return Err(unreadable("it has no version")),
        }
        let number = |name| members.get(name).and_then(Value::as_u64);
        let text = |name| members.get(name).and_then(Value::as_str);
        let state = text("state").and_then(RecordState::parse);
        let generation = number("generation");
        let stamp = members.get("for").and_then(Stamp::from_value);
        let (Some(state), Some(generation), Some(stamp)) = (state, generation, stamp) else {
            return Err(unreadable("it says not what it is for"));
        };
        let origin = text("origin").map(str::to_owned);
        let duration = |name| number(name).map(Duration::from_millis);
        let time =
            |name| duration(name).and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        let (obtained_at, expires_at) = (time("obtained_at_ms"), time("expires_at_ms"));
        let mut tokens = None;
        let refresh_token = text("refresh_token");
        if text("access_token").is_some() || refresh_token.is_some() {
            let is_bound = match text("token_type") {
                Some(UNBOUND) => false,
                Some(BOUND) => true,
                _ => return Err(unreadable("its token is of an unknown type")),
            };
            let mut set = match (text("access_token"), refresh_token) {
                (Some(access_token), None) => TokenSet::bearer(access_token)?,
                (Some(access_token), Some(refresh_token)) => {
                    TokenSet::bearer(access_token)?.with_refresh_token(refresh_token)
                }
                (None, refresh_token) => {
                    TokenSet::without_access(refresh_token.unwrap_or_default().into())
                }
            };
            if let Some(scope) = text("scope") {
                let mut scopes = Scopes::default();
                let mut each = scope.split(' ').filter(|scope| !scope.is_empty());
                each.try_for_each(|scope| scopes.insert(scope))
                    .map_err(|error| unreadable("its scopes are none").with_source(error))?;
                set = set.with_scopes(scopes);
            }
            if let Some(lifetime) = duration("lifetime_ms") {
                set = set.with_time_left(lifetime);
            }
            if let Some(refresh_in) = duration("refresh_in_ms") {
                set = set.with_refresh_in(refresh_in);
            }
            if let Some(usable_in) = duration("usable_in_ms") {
                set = set.with_usable_in(usable_in);
            }
            if let Some(others) = members.take("members").and_then(Members::from_value) {
                set = set.with_members(others);
            }
            let needs_certificate =
                members.get("needs_certificate").and_then(Value::as_bool).unwrap_or(false);
            let (set, origin) = (Arc::new(set), origin.clone());
            tokens =
                Some(Tokens { set, obtained_at, expires_at, is_bound, needs_certificate, origin });
        }
        Ok(Self { stamp: Arc::new(stamp), origin, generation, state, tokens })
    }
}

impl RecordState {
    /// A stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Intent => "intent",
            Self::Dead => "dead",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Clean, Self::Intent, Self::Dead].into_iter().find(|state| state.as_str() == name)
    }
}

impl Tokens {
    /// Tokens that were asked for at this wall-clock time.
    pub(super) fn new(set: TokenSet, asked_at: SystemTime) -> Self {
        let expires_at = set.lifetime().and_then(|lifetime| asked_at.checked_add(lifetime));
        let is_bound = set.token_type() != TokenType::Bearer;
        #[cfg(feature = "mtls")]
        let needs_certificate = set.certificate_thumbprint().is_some();
        #[cfg(not(feature = "mtls"))]
        let needs_certificate = false;
        Self {
            set: Arc::new(set),
            obtained_at: Some(asked_at),
            expires_at,
            is_bound,
            needs_certificate,
            origin: None,
        }
    }

    /// These tokens with another refresh token, which came with an access token that was refused. The
    /// old access token stays, if there was one; it is as good as it was.
    pub(super) fn with_refresh_token(
        tokens: Option<Self>,
        refresh_token: Secret,
        asked_at: SystemTime,
    ) -> Self {
        let Some(tokens) = tokens else {
            return Self::new(TokenSet::without_access(refresh_token), asked_at);
        };
        let set = TokenSet::clone(&tokens.set).with_refresh_token(refresh_token);
        Self { set: Arc::new(set), ..tokens }
    }

    /// Whether there is an access token, and not a refresh token alone.
    pub(super) fn has_access(&self) -> bool {
        self.set.has_access()
    }

    /// Tokens that descend from the credential with this digest.
    pub(super) fn with_origin(self, origin: Option<String>) -> Self {
        Self { origin, ..self }
    }

    /// Whether the access token was stored by a process that had a certificate for it.
    pub(super) fn lacks_certificate(&self) -> bool {
        #[cfg(feature = "mtls")]
        let has_it = self.set.certificate_thumbprint().is_some();
        #[cfg(not(feature = "mtls"))]
        let has_it = false;
        self.needs_certificate && !has_it
    }

    /// The tokens with the key that they are bound to, if it is among what the identity has.
    pub(super) fn with_key_of(self, identity: &Identity) -> Option<Self> {
        if !self.is_bound {
            return Some(self);
        }
        #[cfg(feature = "dpop")]
        if let Some(key) = &identity.dpop_key {
            let set = Arc::unwrap_or_clone(self.set).with_dpop_key(key.clone());
            return Some(Self { set: Arc::new(set), ..self });
        }
        let _ = identity;
        None
    }

    /// What is left of the life of the access token; `None` if nobody said.
    ///
    /// Never more than its whole lifetime: the clock that wrote the expiry may have been wrong.
    pub(super) fn left(&self, now: SystemTime) -> Option<Duration> {
        let (expires_at, lifetime) = (self.expires_at?, self.set.lifetime()?);
        Some(expires_at.duration_since(now).unwrap_or_default().min(lifetime))
    }

    /// The token set as it is to be used from now on: it was asked for as long ago as the record says.
    pub(super) fn adopted(&self, now: SystemTime) -> TokenSet {
        let (set, instant) = (TokenSet::clone(&self.set), Instant::now());
        let age = match self.left(now).zip(set.lifetime()) {
            Some((left, lifetime)) => lifetime.saturating_sub(left),
            // Whoever assumes a lifetime counts it from when the token was asked for.
            None => self.obtained_at.and_then(|at| now.duration_since(at).ok()).unwrap_or_default(),
        };
        if let Some(sent_at) = instant.checked_sub(age) {
            return set.with_sent_at(sent_at);
        }
        // The machine has not been up for as long.
        let refresh_in = set.refresh_in().map(|hint| hint.saturating_sub(age));
        let left = set.lifetime().map(|lifetime| lifetime.saturating_sub(age));
        let usable_in = set.usable_in().map(|usable_in| usable_in.saturating_sub(age));
        let set = set.with_sent_at(instant);
        let set = usable_in.into_iter().fold(set, TokenSet::with_usable_in);
        let set = left.into_iter().fold(set, TokenSet::with_time_left);
        refresh_in.into_iter().fold(set, TokenSet::with_refresh_in)
    }
}

/// Whether they are the same tokens, whatever is known of them.
impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        self.set.access_token() == other.set.access_token()
            && self.set.refresh_token() == other.set.refresh_token()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("generation", &self.generation)
            .field("state", &self.state)
            .field("tokens", &self.tokens.as_ref().map(|tokens| &tokens.set))
            .finish_non_exhaustive()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn milliseconds_of(time: SystemTime) -> u64 {
    milliseconds(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn unreadable(problem: &'static str) -> Error {
    Error::new(ErrorKind::Store, format!("the stored record cannot be read: {problem}"))
}

const VERSION: u64 = 1;
const UNBOUND: &str = "Bearer";
const BOUND: &str = "DPoP";

#[cfg(test)]
mod tests;
