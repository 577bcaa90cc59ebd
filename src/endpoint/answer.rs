use std::time::SystemTime;

use http::StatusCode;
use tokio::time::Instant;

use super::{
    failure::{Refusal, describe, failure, is_failure},
    form::Redactor,
    object::{Object, media_type, object, without_mark},
    response::{Rules, token_set},
    retry_after::{retry_after, server_time},
};
use crate::{
    error::{Error, ErrorKind},
    http::Answer,
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
        return Err(unexpected(status));
    }
    let object = object(headers, body);
    let refused = || object.as_ref().ok().is_some_and(|object| is_failure(&object.members));
    if !status.is_success() || refused() {
        return Err(refusal(answer, object.as_ref().ok(), reading, redactor()));
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
            return Err(refusal(answer, Some(&object), reading, redactor()));
        }
    }
    Ok(object)
}

/// An answer that is an error, and when to come back.
fn refusal(
    answer: &Answer,
    object: Option<&Object>,
    reading: &Reading<'_>,
    redactor: Redactor,
) -> Error {
    let (status, headers, body) = (answer.status(), answer.headers(), &**answer.body());
    let members = object.map(|object| &object.members);
    let redactor = match members {
        Some(members) => redactor.and_tokens_of(members),
        None => redactor,
    };
    let method = reading.method;
    let error = failure(&Refusal { status, headers, body, members, method }, &redactor);
    let (now, wall) = reading.received;
    let wait = retry_after(headers, server_time(headers, wall));
    match wait.and_then(|wait| now.checked_add(wait)) {
        Some(at) => error.with_retry_at(at),
        None => error,
    }
}

fn unexpected(status: StatusCode) -> Error {
    let hint = if status.is_redirection() {
        "; redirects are not followed, so configure the URL that it leads to"
    } else {
        ""
    };
    malformed(format!("the token endpoint answered with status {}{hint}", status.as_u16()))
}

fn malformed(message: String) -> Error {
    Error::new(ErrorKind::MalformedResponse, message)
}
