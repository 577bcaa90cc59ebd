use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{
    object::Object,
    pointer::Pointer,
    redactor::Redactor,
    scope,
    seconds::{Seconds, duration, time_left, time_stated, until},
};
#[cfg(feature = "dpop")]
use crate::dpop::DpopKey;
use crate::{
    error::{Error, ErrorKind, printable},
    secret::{Members, Secret},
    token::{Scopes, TokenSet, TokenType},
};

/// How a token response is read.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Whether what the standards forbid is refused even if its meaning is clear.
    pub(crate) strict: bool,
    /// Whether a token without a type is a bearer token.
    pub(crate) assume_bearer: bool,
    /// The longest lifetime that is believed.
    pub(crate) max_lifetime: Duration,
    /// Where the object with the token stands, if it is not the whole answer.
    pub(crate) token_at: Option<Pointer>,
    /// Other names of the type `Bearer`.
    pub(crate) bearer_types: Vec<String>,
    /// The token types that are of use.
    pub(crate) accepted: Accepted,
}

impl Rules {
    fn is_bearer(&self, token_type: &str) -> bool {
        token_type.eq_ignore_ascii_case("bearer")
            || self.bearer_types.iter().any(|known| known.eq_ignore_ascii_case(token_type))
    }
}

/// Which token types are of use.
#[derive(Debug, Clone)]
pub(crate) enum Accepted {
    /// Bearer tokens.
    Bearer,
    /// Tokens that are bound to this key.
    #[cfg(feature = "dpop")]
    Dpop(DpopKey),
    /// Both.
    #[cfg(feature = "dpop")]
    Either(DpopKey),
}

impl Accepted {
    /// Whether a token that anybody could use is refused.
    pub(crate) fn only_bound(&self) -> bool {
        match self {
            Self::Bearer => false,
            #[cfg(feature = "dpop")]
            Self::Dpop(_) => true,
            #[cfg(feature = "dpop")]
            Self::Either(_) => false,
        }
    }

    /// The key that tokens are to be bound to.
    #[cfg(feature = "dpop")]
    pub(crate) fn key(&self) -> Option<&DpopKey> {
        match self {
            Self::Bearer => None,
            Self::Dpop(key) | Self::Either(key) => Some(key),
        }
    }
}

/// Makes a token set of a token response ([RFC 6749 §5.1]).
///
/// `now` is what time it was for the server when the token was asked for; absolute times are judged
/// against it. `redactor` finds what was sent in secret.
///
/// [RFC 6749 §5.1]: https://www.rfc-editor.org/rfc/rfc6749#section-5.1
pub(crate) fn token_set(
    object: Object,
    rules: &Rules,
    requested: &Scopes,
    now: SystemTime,
    redactor: impl FnOnce() -> Redactor,
) -> Result<TokenSet, Error> {
    if let Some(name) = object.repeated {
        return Err(malformed(format!("the token response has two members {name}")));
    }
    let mut members = object.members;
    let access_token = access_token(&mut members, rules.strict)?;
    let token_type = members.take("token_type");
    let redactor = || redactor().and(&access_token).and_tokens_of(&members);
    let token_type = check_type(token_type, rules, redactor)?;
    let mut token = TokenSet::bearer(access_token)?;
    #[cfg(feature = "dpop")]
    if let (TokenType::Dpop, Some(key)) = (token_type, rules.accepted.key()) {
        token = token.with_dpop_key(key.clone());
    }
    #[cfg(not(feature = "dpop"))]
    let TokenType::Bearer = token_type;

    let lifetime = lifetime(&members, rules, now)?;
    if let Some(lifetime) = lifetime {
        token = token.with_time_left(lifetime);
    }
    if let Some(refresh_in) = refresh_in(&members, rules, lifetime)? {
        token = token.with_refresh_in(refresh_in);
    }
    if let Some(usable_in) = usable_in(&members, rules, now)? {
        token = token.with_usable_in(usable_in);
    }
    // One that is a string has been taken out before: it counts whatever else is wrong.
    if members.take("refresh_token").is_some() && rules.strict {
        return Err(malformed("the token response's refresh_token is not a string"));
    }

    let scope = members.get("scope");
    if rules.strict && !scope::is_strict(scope, requested) {
        return Err(malformed("the token response's scope is not a string of scope tokens"));
    }
    // RFC 6749 §5.1: scope is "OPTIONAL, if identical to the scope requested by the client;
    // otherwise, REQUIRED."
    let asked = || Some(requested.clone()).filter(|scopes| !scopes.is_empty());
    if let Some(scopes) = scope::granted(scope, requested).or_else(asked) {
        token = token.with_scopes(scopes);
    }
    Ok(token.with_members(members))
}

pub(super) fn access_token(members: &mut Members, strict: bool) -> Result<Secret, Error> {
    let token = match members.take("access_token") {
        Some(Value::String(token)) if !token.is_empty() => Secret::from(token),
        Some(Value::String(_)) => return Err(malformed("the token response's token is empty")),
        Some(_) => return Err(malformed("the token response's access_token is not a string")),
        None => return Err(malformed("the token response has no access_token")),
    };
    if strict && !is_b64token(token.expose()) {
        return Err(Error::new(
            ErrorKind::UnusableToken,
            "the access token has characters that RFC 6750 does not allow in a bearer token",
        ));
    }
    Ok(token)
}

/// RFC 6750 §2.1: `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn is_b64token(token: &str) -> bool {
    let token = token.trim_end_matches('=');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    !token.is_empty() && token.bytes().all(allowed)
}

/// RFC 6749 §7.1: "The client MUST NOT use an access token if it does not understand the token
/// type." §5.1: the "value is case insensitive."
fn check_type(
    token_type: Option<Value>,
    rules: &Rules,
    redactor: impl FnOnce() -> Redactor,
) -> Result<TokenType, Error> {
    let unusable = |message: Cow<'static, str>| Err(Error::new(ErrorKind::UnusableToken, message));
    match token_type {
        Some(Value::String(name)) if rules.is_bearer(&name) => match rules.accepted {
            // RFC 9449 §5: "the client MUST discard the response [...] if this protection is
            // deemed important for the security of the application".
            #[cfg(feature = "dpop")]
            Accepted::Dpop(_) => unusable(
                "the authorization server gave a bearer token, not one that is bound to the DPoP \
                 key: check that DPoP is enabled for the client"
                    .into(),
            ),
            _ => Ok(TokenType::Bearer),
        },
        #[cfg(feature = "dpop")]
        Some(Value::String(name)) if name.eq_ignore_ascii_case("dpop") => match rules.accepted {
            Accepted::Bearer => unusable(
                format!("the token type \"{name}\" needs a key: set one with dpop()").into(),
            ),
            Accepted::Dpop(_) | Accepted::Either(_) => Ok(TokenType::Dpop),
        },
        Some(Value::String(name)) => unusable(
            format!(
                "the token type \"{}\" is not supported; bearer_type() tells which other names \
                 mean a bearer token",
                printable(&redactor().clean(&name), TYPE_CAP)
            )
            .into(),
        ),
        Some(_) => Err(malformed("the token response's token_type is not a string")),
        None if rules.assume_bearer && matches!(rules.accepted, Accepted::Bearer) => {
            Ok(TokenType::Bearer)
        }
        None => Err(malformed(
            "the token response has no token_type; assume_bearer() takes such tokens for bearer \
             tokens",
        )),
    }
}

/// Reads how long the token lives, counted from when it was asked for. `None` if the answer does not
/// say.
///
/// An `expires_in` of zero or less and an instant that has passed say nothing: servers that send them
/// mean a token that does not expire, or have a wrong clock. A token that really has expired gets a
/// 401, which renews it; a lifetime of zero would be an outage.
///
/// `ext_expires_in` is not read: it is how long a client may continue in an outage of the authorization
/// server, and the API has to agree to it.
pub(super) fn lifetime(
    members: &Members,
    rules: &Rules,
    now: SystemTime,
) -> Result<Option<Duration>, Error> {
    let expires_in = number(members, "expires_in", rules, Seconds::read)?;
    let left = match expires_in.filter(|seconds| *seconds > 0.0) {
        Some(seconds) => time_stated(seconds, now),
        None => number(members, "expires_on", rules, Seconds::read_instant)?
            .and_then(|instant| time_left(instant, now)),
    };
    Ok(left.map(|left| duration(left, rules.max_lifetime)))
}

/// A hint, so it is worth nothing if it is not within the token's life.
fn refresh_in(
    members: &Members,
    rules: &Rules,
    lifetime: Option<Duration>,
) -> Result<Option<Duration>, Error> {
    let seconds = number(members, "refresh_in", rules, Seconds::read)?;
    let refresh_in = seconds.map(|seconds| duration(seconds, rules.max_lifetime));
    let longest = lifetime.unwrap_or(rules.max_lifetime);
    Ok(refresh_in.filter(|refresh_in| !refresh_in.is_zero() && *refresh_in <= longest))
}

fn usable_in(members: &Members, rules: &Rules, now: SystemTime) -> Result<Option<Duration>, Error> {
    let instant = number(members, "not_before", rules, Seconds::read_instant)?;
    let usable_in = instant.map(|instant| duration(until(instant, now), rules.max_lifetime));
    Ok(usable_in.filter(|usable_in| !usable_in.is_zero()))
}

/// Takes the refresh token out. Absent, `null` and empty mean the same: there is none.
pub(super) fn refresh_token(members: &mut Members) -> Option<Secret> {
    match members.take_text("refresh_token") {
        Some(token) if token.is_empty() => None,
        token => token.map(Secret::from),
    }
}

fn number(
    members: &Members,
    name: &str,
    rules: &Rules,
    read: fn(Option<&Value>) -> Seconds,
) -> Result<Option<f64>, Error> {
    match read(members.get(name)) {
        Seconds::Value(seconds) => Ok(Some(seconds)),
        Seconds::Unreadable if rules.strict => {
            Err(malformed(format!("the token response's {name} is not a number")))
        }
        Seconds::Unreadable | Seconds::Absent => Ok(None),
    }
}

pub(super) fn malformed(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::MalformedResponse, message)
}

const TYPE_CAP: usize = 40;
