use std::time::SystemTime;

use http::StatusCode;
use tokio::time::Instant;

use super::{
    caller::Exchanged,
    failure::{Refusal, describe, failure, is_failure},
    form::Redactor,
    object::{Object, media_type, object, without_mark},
    response::{Rules, token_set},
};
use crate::{
    error::{Error, ErrorKind},
    http::{Answer, retry_after, server_time},
    secret::Members,
    token::{Scopes, TokenSet},
};

/// What an answer is read with.
pub(crate) struct Reading<'a> {
    pub(crate) rules: &'a Rules,
    /// The scopes that were asked for.
    pub(crate) requested: &'a Scopes,
    /// How the client authenticated.
    pub(crate) method: &'static str,
    /// When the request was sent, and what time it was then.
    pub(crate) sent: (Instant, SystemTime),
    /// When the answer was there, and what time it was then.
    pub(crate) received: (Instant, SystemTime),
}

/// Makes a token set or an error of whatever a token endpoint answered.
pub(crate) fn read(
    answer: &Answer,
    reading: &Reading<'_>,
    redactor: impl Fn() -> Redactor,
) -> Result<TokenSet, Error> {
    let object = members(answer, reading, &redactor)?;
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
    let object = object(headers, body);
    let refusing = object.as_ref().ok().map(|object| &object.members);
    if !status.is_success() || refusing.is_some_and(is_failure) {
        return Err(refused(answer, refusing, reading.method, reading.received, redactor));
    }
    // 204, or a 200 that a gateway emptied.
    if without_mark(body).is_empty() {
        let message = format!("the token endpoint's answer ({status}) is empty");
        return Err(Error::new(ErrorKind::MalformedResponse, message));
    }
    let mut object = object.map_err(|problem| {
        let shape = describe(headers, body, &redactor());
        malformed(format!(
            "the token endpoint's answer ({status}) cannot be read: {problem} ({shape})"
        ))
    })?;
    if let Some(pointer) = &reading.rules.token_at {
        object = pointer.object(body).ok_or_else(|| {
            malformed(format!("the token endpoint's answer has no single object at {pointer}"))
        })?;
        if is_failure(&object.members) {
            let members = Some(&object.members);
            return Err(refused(answer, members, reading.method, reading.received, redactor));
        }
    }
    Ok(object)
}

/// Makes an error of an answer with a status that says it is one.
pub(crate) fn refusal(exchanged: &Exchanged<'_>) -> Error {
    let Exchanged { answer, method, received, .. } = exchanged;
    let object = object(answer.headers(), answer.body()).ok();
    let members = object.as_ref().map(|object| &object.members);
    refused(answer, members, method, *received, || exchanged.redactor())
}

fn refused(
    answer: &Answer,
    members: Option<&Members>,
    method: &'static str,
    (now, wall): (Instant, SystemTime),
    redactor: impl FnOnce() -> Redactor,
) -> Error {
    let (status, headers, body) = (answer.status(), answer.headers(), &**answer.body());
    let redactor = match members {
        Some(members) => redactor().and_tokens_of(members),
        None => redactor(),
    };
    let error = failure(&Refusal { status, headers, body, members, method }, &redactor);
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
