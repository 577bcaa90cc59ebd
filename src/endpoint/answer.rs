use std::time::SystemTime;

use http::StatusCode;
use tokio::time::Instant;

use super::{
    caller::Exchanged,
    codes::ErrorCodes,
    failure::{Refusal, describe, failure, is_failure},
    object::{Object, media_type, object_of, without_mark},
    pointer::Pointer,
    redactor::Redactor,
    response::{Rules, refresh_token, token_set},
    salvage::{Salvaged, salvage},
};
use crate::{
    error::{Error, ErrorKind},
    http::{Answer, body_limit, retry_after, server_time},
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
    /// The refresh token that came with it, whatever was refused. It has replaced the one that was
    /// sent: to send that one again would end the grant.
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
    let mut object = members(answer, reading, &redactor).map_err(|error| UnusableAnswer {
        error,
        refresh_token: refresh_token_of_refused(answer, reading.rules),
    })?;
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
    let whole = object_of(answer);
    let path = reading.rules.token_at.as_ref().map(Pointer::names).unwrap_or_default();
    let salvaged = if whole.is_err() { salvaged_error(body, path) } else { None };
    let refusing = whole.as_ref().ok().or(salvaged.as_ref());
    let is_refusal = refusing.is_some_and(|object| is_failure(&object.members));
    let Some(pointer) = reading.rules.token_at.as_ref().filter(|_| !is_refusal) else {
        if is_refusal || !status.is_success() {
            return Err(refused(answer, refusing, reading, redactor));
        }
        // 204, or a 200 that a gateway emptied.
        if without_mark(body).is_empty() {
            return Err(empty(status));
        }
        return whole.map_err(|problem| {
            let shape = describe(headers, body, &redactor());
            malformed(format!(
                "the token endpoint's answer ({status}) cannot be read: {problem} ({shape})"
            ))
        });
    };
    // Before the next one is read: two at once are twice the memory.
    drop(whole);
    match pointer.object(body, body_limit(answer)) {
        Some(found) if is_failure(&found.members) => {
            Err(refused(answer, Some(&found), reading, redactor))
        }
        Some(found) if status.is_success() => Ok(found),
        _ if !status.is_success() => {
            Err(refused(answer, object_of(answer).ok().as_ref(), reading, redactor))
        }
        _ if without_mark(body).is_empty() => Err(empty(status)),
        _ => {
            Err(malformed(format!("the token endpoint's answer has no single object at {pointer}")))
        }
    }
}

fn empty(status: StatusCode) -> Error {
    malformed(format!("the token endpoint's answer ({status}) is empty"))
}

/// The refresh token of an answer that was refused as a whole: it is broken, or an error.
///
/// An error that only repeats what was sent to it has granted nothing, so that counts only beside an
/// access token.
fn refresh_token_of_refused(answer: &Answer, rules: &Rules) -> Option<Secret> {
    let path = rules.token_at.as_ref().map(Pointer::names).unwrap_or_default();
    let Salvaged { access_token, refresh_token, error } = salvage(answer.body(), path);
    let is_error = !answer.status().is_success() || error.is_some();
    refresh_token.filter(|_| access_token.is_some() || !is_error)
}

/// The error code of an answer that cannot be read throughout, with the tokens that must not be
/// shown. It stands at the top, or where the token would.
fn salvaged_error(body: &[u8], path: &[String]) -> Option<Object> {
    let at = |path| Some(salvage(body, path)).filter(|found| found.error.is_some());
    let Salvaged { access_token, refresh_token, error } = at(&[]).or_else(|| at(path))?;
    let mut members = Members::default();
    members.insert("error".to_owned(), error?.into());
    for (name, token) in [("access_token", access_token), ("refresh_token", refresh_token)] {
        if let Some(token) = token {
            members.insert(name.to_owned(), token.expose().into());
        }
    }
    Some(Object { members, ..Object::default() })
}

/// Makes an error of an answer with a status that says it is one.
pub(crate) fn refusal(exchanged: &Exchanged<'_>) -> Error {
    let Exchanged { answer, method, codes, received, .. } = exchanged;
    let object = object_of(answer).ok().or_else(|| salvaged_error(answer.body(), &[]));
    let refusing = Refusing { method, codes, received: *received };
    error_of(answer, object.as_ref(), &refusing, || exchanged.redactor())
}

/// What an error answer is read with.
struct Refusing<'a> {
    method: &'static str,
    codes: &'a ErrorCodes,
    received: (Instant, SystemTime),
}

fn refused(
    answer: &Answer,
    object: Option<&Object>,
    reading: &Reading<'_>,
    redactor: impl FnOnce() -> Redactor,
) -> Error {
    let Reading { method, codes, received, .. } = *reading;
    error_of(answer, object, &Refusing { method, codes, received }, redactor)
}

fn error_of(
    answer: &Answer,
    object: Option<&Object>,
    refusing: &Refusing<'_>,
    redactor: impl FnOnce() -> Redactor,
) -> Error {
    let (status, headers, body) = (answer.status(), answer.headers(), &**answer.body());
    let Refusing { method, codes, received: (now, wall) } = *refusing;
    let members = object.map(|object| &object.members);
    let redactor = match members {
        Some(members) => redactor().and_tokens_of(members),
        None => redactor(),
    };
    // RFC 6749 §3.2: parameters "MUST NOT be included more than once".
    let is_twice = object.is_some_and(|object| object.repeated == Some("error"));
    let members = members.filter(|_| !is_twice);
    let refusal = Refusal { status, headers, body, members, method, codes };
    // What the status alone says still counts.
    let by_status = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let error = if is_twice && !by_status {
        malformed(format!("the error answer ({status}) has two members error"))
    } else {
        failure(&refusal, &redactor)
    };
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
