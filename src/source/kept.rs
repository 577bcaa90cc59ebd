use std::{
    error::Error as StdError,
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::{error::Error, secret::Secret};

/// Says that the answer whose token was refused had a new refresh token in it, which is kept. On its
/// way to the store it holds that token, which whoever stores it takes out.
pub(crate) struct KeptRefreshToken(Mutex<Option<Secret>>);

impl KeptRefreshToken {
    /// The same error, with the refresh token that came with the refused answer.
    pub(crate) fn with(error: Error, refresh_token: Secret) -> Error {
        error.with_source(Self(Mutex::new(Some(refresh_token))))
    }

    /// Takes the refresh token out of an error.
    pub(crate) fn take(error: &Error) -> Option<Secret> {
        let mut next = StdError::source(error);
        while let Some(cause) = next {
            if let Some(Self(kept)) = cause.downcast_ref() {
                return kept.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            next = cause.source();
        }
        None
    }
}

impl fmt::Display for KeptRefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the new refresh token of the same answer was kept")
    }
}

impl fmt::Debug for KeptRefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptRefreshToken(..)")
    }
}

impl StdError for KeptRefreshToken {}
