use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{
    answer::Reading,
    object::Object,
    response::{access_token, lifetime, malformed},
    scope,
};
use crate::{
    error::Error,
    secret::{Members, Secret},
    token::Scopes,
};

/// A token that a token exchange gave, of whatever type ([RFC 8693 §2.2.1]).
///
/// It is for the caller who asked for it, such as an identity assertion grant (`id-jag`) that is
/// traded for a token elsewhere, or a SAML assertion. No layer ever puts it on a request.
///
/// [RFC 8693 §2.2.1]: https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
#[derive(Clone)]
pub struct IssuedToken {
    token: Secret,
    /// `issued_token_type`.
    kind: String,
    token_type: String,
    lifetime: Option<Duration>,
    scopes: Option<Scopes>,
    members: Members,
}

impl IssuedToken {
    /// Returns the token.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// Returns what the token is (`issued_token_type`), such as
    /// [`TokenExchange::ID_JAG`](crate::TokenExchange::ID_JAG). It is as the server wrote it.
    pub fn issued_token_type(&self) -> &str {
        &self.kind
    }

    /// Returns how the token is used (`token_type`): `N_A` for one that is not an access token. It is
    /// as the server wrote it.
    pub fn token_type(&self) -> &str {
        &self.token_type
    }

    /// Returns how long the token lives, counted from when it was asked for; `None` if unknown.
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Returns the scopes of the token; `None` if the server did not say and none were asked for.
    pub fn scopes(&self) -> Option<&Scopes> {
        self.scopes.as_ref()
    }

    /// Returns another member of the answer.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }
}

/// Reads the answer to a token exchange, whatever the type of its token. `now` is what time it was
/// for the server when the token was asked for.
pub(super) fn issued_token(
    object: Object,
    reading: &Reading<'_>,
    now: SystemTime,
) -> Result<IssuedToken, Error> {
    if let Some(name) = object.repeated {
        return Err(malformed(format!("the token response has two members {name}")));
    }
    let mut members = object.members;
    let token = access_token(&mut members, false)?;
    // RFC 8693 §2.2.1: both are REQUIRED.
    let mut required = |name: &str| {
        let text = members.take_text(name).filter(|text| !text.is_empty());
        text.ok_or_else(|| malformed(format!("the token response has no {name}")))
    };
    let kind = required("issued_token_type")?;
    let token_type = required("token_type")?;
    let lifetime = lifetime(&members, reading.rules, now)?;
    let asked = || Some(reading.requested.clone()).filter(|scopes| !scopes.is_empty());
    let scopes = scope::granted(members.get("scope"), reading.requested).or_else(asked);
    Ok(IssuedToken { token, kind, token_type, lifetime, scopes, members })
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}
