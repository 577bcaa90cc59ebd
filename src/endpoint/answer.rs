use std::time::SystemTime;

use http::StatusCode;
use tokio::time::Instant;

use super::{
    caller::Exchanged,
    codes::ErrorCodes,
    failure::{Refusal, describe, failure, is_failure},
    object::{Object, media_type, object, without_mark},
    redactor::Redactor,
    response::{Rules, refresh_token, token_set},
};
use crate::{
    error::{Error, ErrorKind},
    http::{Answer, retry_after, server_time},
    secret::{Members, Secret},
    token::{Scopes, TokenSet},
};

/// What an answer is read with.
pub(crate) struct Reading<'a> {
    pub(crate) rules: &'a Rules,
    /// The scopes that were asked for.
    pub(crate) requested: &'a Scopes,
    /// How the client authenticated.
    pub(crate) method: &'static str,
    /// What error codes mean.
    pub(crate) codes: &'a ErrorCodes,
    /// When the request was sent, and what time it was then.
    pub(crate) sent: (Instant, SystemTime),
    /// When the answer was there, and what time it was then.
    pub(crate) received: (Instant, SystemTime),
}

/// Why an answer gives no token that can be used.
#[derive(Debug)]
pub(crate) struct UnusableAnswer {
    pub(crate) error: Error,
    /// The refresh token that came with it, if the rest of the answer is what was refused. It has
    /// replaced the one that was sent: to send that one again would end the grant.
    pub(crate) refresh_token: Option<Secret>,
}

impl From<Error> for UnusableAnswer {
    fn from(error: Error) -> Self {
        Self { error, refresh_token: None }
    }
}

impl From<UnusableAnswer> for Error {
    fn from(unusable: UnusableAnswer) -> Self {
        unusable.error
    }
}

/// Makes a token set or an error of whatever a token endpoint answered.
pub(crate) fn read(
    answer: &Answer,
    reading: &Reading<'_>,
    redactor: impl Fn() -> Redactor,
) -> Result<TokenSet, UnusableAnswer> {
    let mut object = members(answer, reading, &redactor)?;
    let refresh_token = refresh_token(&mut object.members);
    // It is not among the members any more.
    let redactor = || match &refresh_token {
        Some(refresh_token) => redactor().and(refresh_token),
        None => redactor(),
    };
    let outcome = token(answer, object, reading, redactor);
    match (outcome, refresh_token) {
        (Ok(token), Some(refresh_token)) => Ok(token.with_refresh_token(refresh_token)),
        (Ok(token), None) => Ok(token),
        (Err(error), refresh_token) => Err(UnusableAnswer { error, refresh_token }),
    }
}

/// The token of an answer that is not an error.
fn token(
    answer: &Answer,
    object: Object,
    reading: &Reading<'_>,
    redactor: impl Fn() -> Redactor,
) -> Result<TokenSet, Error> {
    // RFC 6749 §5.1: "The parameters are included in the entity-body of the HTTP response using
    // the "application/json" media type".
    if reading.rules.strict && media_type(answer.headers()).as_deref() != Some("application/json") {
        return Err(malformed(
            "the token endpoint's answer is not labelled application/json".into(),
        ));
    }
    let (sent_at, wall) = reading.sent;
    let now = server_time(answer.headers(), wall);
    let token = token_set(object, reading.rules, reading.requested, now, redactor)?;
    // RFC 6749 §5.1: the lifetime counts "from the time the response was generated". That was not
    // before the request was sent.
    Ok(token.with_sent_at(sent_at))
}

/// The members of an answer that is not an error.
pub(super) fn members(
    answer: &Answer,
    reading: &Reading<'_>,
    redactor: impl Fn() -> Redactor,
) -> Result<Object, Error> {
    let (status, headers, body) = (answer.status(), answer.headers(), &**answer.body());
    if !status.is_success() && !status.is_client_error() && !status.is_server_error() {
        return Err(unexpected("token endpoint", status));
    }
    let whole = object(headers, body);
    let refusing = whole.as_ref().ok().map(|object| &object.members);
    if !status.is_success() || refusing.is_some_and(is_failure) {
        return Err(refused(answer, refusing, reading, redactor));
    }
    // 204, or a 200 that a gateway emptied.
    if without_mark(body).is_empty() {
        let message = format!("the token endpoint's answer ({status}) is empty");
        return Err(Error::new(ErrorKind::MalformedResponse, message));
    }
    let Some(pointer) = &reading.rules.token_at else {
        return whole.map_err(|problem| {
            let shape = describe(headers, body, &redactor());
            malformed(format!(
                "the token endpoint's answer ({status}) cannot be read: {problem} ({shape})"
            ))
        });
    };
    // Before the next one is read: two at once are twice the memory.
    drop(whole);
    let found = pointer.object(body).ok_or_else(|| {
        malformed(format!("the token endpoint's answer has no single object at {pointer}"))
    })?;
    if is_failure(&found.members) {
        return Err(refused(answer, Some(&found.members), reading, redactor));
    }
    Ok(found)
}

/// Makes an error of an answer with a status that says it is one.
pub(crate) fn refusal(exchanged: &Exchanged<'_>) -> Error {
    let Exchanged { answer, method, codes, received, .. } = exchanged;
    let object = object(answer.headers(), answer.body()).ok();
    let members = object.as_ref().map(|object| &object.members);
    let refusing = Refusing { method, codes, received: *received };
    error_of(answer, members, &refusing, || exchanged.redactor())
}

/// What an error answer is read with.
struct Refusing<'a> {
    method: &'static str,
    codes: &'a ErrorCodes,
    received: (Instant, SystemTime),
}

fn refused(
    answer: &Answer,
    members: Option<&Members>,
    reading: &Reading<'_>,
    redactor: impl FnOnce() -> Redactor,
) -> Error {
    let Reading { method, codes, received, .. } = *reading;
    error_of(answer, members, &Refusing { method, codes, received }, redactor)
}

fn error_of(
    answer: &Answer,
    members: Option<&Members>,
    refusing: &Refusing<'_>,
    redactor: impl FnOnce() -> Redactor,
) -> Error {
    let (status, headers, body) = (answer.status(), answer.headers(), &**answer.body());
    let Refusing { method, codes, received: (now, wall) } = *refusing;
    let redactor = match members {
        Some(members) => redactor().and_tokens_of(members),
        None => redactor(),
    };
    let refusal = Refusal { status, headers, body, members, method, codes };
    let error = failure(&refusal, &redactor);
    let wait = retry_after(headers, server_time(headers, wall));
    match wait.and_then(|wait| now.checked_add(wait)) {
        Some(at) => error.with_retry_at(at),
        None => error,
    }
}

/// An answer that is neither a success nor a failure.
pub(crate) fn unexpected(endpoint: &str, status: StatusCode) -> Error {
    let hint = if status.is_redirection() {
        "; redirects are not followed, so configure the URL that it leads to"
    } else {
        ""
    };
    malformed(format!("the {endpoint} answered with status {}{hint}", status.as_u16()))
}

fn malformed(message: String) -> Error {
    Error::new(ErrorKind::MalformedResponse, message)
}
