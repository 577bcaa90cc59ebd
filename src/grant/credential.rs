//! Credentials that a grant trades for a token, and that somebody else may replace at any time.

use std::{future::Future, time::SystemTime};

use tokio::time::timeout_at;

use crate::{
    error::{Error, ErrorKind},
    secret::{Secret, SecretSource},
    source::FetchContext,
    token::jwt_expiry,
};

/// Reads a credential within the fetch's time.
pub(super) async fn read(
    source: &SecretSource,
    what: &'static str,
    cx: &FetchContext,
) -> Result<Secret, Error> {
    timeout_at(cx.deadline, source.read()).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, format!("{what} could not be read in time")))
    })
}

/// Reads an assertion or token, and refuses one that has expired: it would be sent in vain, and
/// whatever writes it may be about to replace it.
pub(super) async fn read_live(
    source: &SecretSource,
    what: &'static str,
    cx: &FetchContext,
) -> Result<Secret, Error> {
    let secret = read(source, what, cx).await?;
    let now = cx.clock.now().wall;
    match jwt_expiry(secret.expose()) {
        Some(expiry) if expiry <= now => {
            let message = format!("{what} from {source:?} has expired {}", ago(expiry, now));
            // It is read again soon, but who waits for a token has to know.
            Err(Error::new(ErrorKind::Credential, message).without_wait())
        }
        _ => Ok(secret),
    }
}

/// Exchanges a credential for a token. If the server refuses it, it is read again, and another one
/// is tried once: it may have been replaced just then.
pub(super) async fn exchange_newest<T, F, Fut>(
    source: &SecretSource,
    what: &'static str,
    cx: &FetchContext,
    mut exchange: F,
) -> Result<T, Error>
where
    F: FnMut(Secret) -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let first = read_live(source, what, cx).await?;
    let error = match exchange(first.clone()).await {
        Err(error) if error.needs_user() => error,
        outcome => return outcome,
    };
    if !source.can_change() {
        return Err(error);
    }
    match read_live(source, what, cx).await {
        Ok(second) if second != first => exchange(second).await,
        _ => Err(error),
    }
}

fn ago(then: SystemTime, now: SystemTime) -> String {
    format!("{} s ago", now.duration_since(then).unwrap_or_default().as_secs())
}
