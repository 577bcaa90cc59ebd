use std::{borrow::Cow, fmt, sync::Arc};

use tokio::time::Instant;

use super::{BoxError, ErrorKind, OAuthError};

/// Why a token could not be had, or a request could not be sent.
///
/// Cloning is cheap: one failed fetch is delivered to every request that waits for it. No error
/// holds a token, a client secret or any other credential.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    oauth: Option<OAuthError>,
    retry_at: Option<Instant>,
    source: Option<BoxError>,
}

impl Error {
    /// An error of a kind, with a message that says what was wrong and what to do.
    ///
    /// The message is printed and logged: it must not contain a secret.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            oauth: None,
            retry_at: None,
            source: None,
        }))
    }

    /// A failure of a user's own [`TokenSource`](crate::TokenSource).
    pub fn other(source: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Source, "the token source failed").with_source(source)
    }

    /// The same error with a cause, which [`source()`](std::error::Error::source) returns.
    #[must_use]
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        self.change(|inner| inner.source = Some(source))
    }

    /// The same error with the instant before which no new attempt should be made.
    #[must_use]
    pub fn with_retry_at(self, at: Instant) -> Self {
        self.change(|inner| inner.retry_at = Some(at))
    }

    /// The same error with what the authorization server said.
    #[must_use]
    pub(crate) fn with_oauth(self, oauth: OAuthError) -> Self {
        self.change(|inner| inner.oauth = Some(oauth))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the authorization server said, if it answered with an error.
    pub fn oauth(&self) -> Option<&OAuthError> {
        self.0.oauth.as_ref()
    }

    /// The instant before which the authorization server asked not to be called again
    /// (`Retry-After`, [RFC 9110 §10.2.3]).
    ///
    /// [RFC 9110 §10.2.3]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    pub fn retry_at(&self) -> Option<Instant> {
        self.0.retry_at
    }

    /// Whether the same request can succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// Whether somebody has to act: the grant has ended or the credentials are refused.
    pub fn needs_user(&self) -> bool {
        matches!(self.kind(), ErrorKind::InvalidGrant | ErrorKind::InvalidClient)
    }

    /// Finds our error in the chain of another one, such as the `BoxError` of a service.
    ///
    /// ```
    /// use tower_oauth::{BoxError, Error, ErrorKind};
    ///
    /// let boxed: BoxError = Error::new(ErrorKind::Timeout, "no token in time").into();
    /// assert_eq!(Error::find(&*boxed).map(Error::kind), Some(ErrorKind::Timeout));
    /// ```
    pub fn find<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    fn change(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Inner {
            kind: shared.kind,
            message: shared.message.clone(),
            oauth: shared.oauth.clone(),
            retry_at: shared.retry_at,
            source: Some(Box::new(Self(shared))),
        });
        change(&mut inner);
        Self(Arc::new(inner))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(oauth) = &self.0.oauth {
            write!(f, " ({oauth})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(oauth) = &self.0.oauth {
            out.field("oauth", oauth);
        }
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_clone_that_gains_a_retry_instant_keeps_its_cause() {
        let first = Error::other("disk on fire");
        let second = first.clone().with_retry_at(Instant::now());
        assert!(first.retry_at().is_none() && second.retry_at().is_some());
        let cause = second.source().expect("the cause is kept");
        assert!(Error::find(cause).is_some());
    }

    #[test]
    fn ours_is_found_below_other_errors() {
        #[derive(Debug)]
        struct Outer(Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }
        impl std::error::Error for Outer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Outer(Error::new(ErrorKind::Shutdown, "gone"));
        assert_eq!(Error::find(&error).map(Error::kind), Some(ErrorKind::Shutdown));
        assert!(Error::find(&fmt::Error).is_none());
    }
}
