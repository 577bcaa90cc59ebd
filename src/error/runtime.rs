use std::{borrow::Cow, fmt, sync::Arc};

use tokio::time::Instant;

use super::{BoxError, ErrorKind, OAuthError};

/// Why a token could not be had, or a request could not be sent.
///
/// Cloning is cheap: one failed fetch is delivered to every request that waits for it. No error
/// holds a token, a client secret or any other credential.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
    retry_at: Option<Instant>,
}

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    oauth: Option<OAuthError>,
    source: Option<BoxError>,
    fails_at_once: bool,
}

impl Error {
    /// An error of a kind, with a message that says what was wrong and what to do.
    ///
    /// The message is printed and logged: it must not contain a secret.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        let inner = Inner { kind, message, oauth: None, source: None, fails_at_once: false };
        Self { inner: Arc::new(inner), retry_at: None }
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
    pub fn with_retry_at(mut self, at: Instant) -> Self {
        self.retry_at = Some(at);
        self
    }

    /// The same error with the instant of the next attempt, unless that has passed.
    #[must_use]
    pub(crate) fn until(self, at: Instant) -> Self {
        if at > Instant::now() { self.with_retry_at(at) } else { self }
    }

    /// The same error for callers that would wait for a token: it fails them at once, since time
    /// alone does not mend it.
    #[must_use]
    pub(crate) fn without_wait(self) -> Self {
        self.change(|inner| inner.fails_at_once = true)
    }

    /// The same error with what the authorization server said.
    #[must_use]
    pub(crate) fn with_oauth(self, oauth: OAuthError) -> Self {
        self.change(|inner| inner.oauth = Some(oauth))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// What the authorization server said, if it answered with an error.
    pub fn oauth(&self) -> Option<&OAuthError> {
        self.inner.oauth.as_ref()
    }

    /// The instant before which another attempt is in vain. In an error of a source, the
    /// authorization server asked for it (`Retry-After`, [RFC 9110 §10.2.3]); in an error that ends a
    /// wait for a token, it is when the next attempt to obtain one is made.
    ///
    /// [RFC 9110 §10.2.3]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Whether a caller that waits for a token gets this error at once.
    pub(crate) fn fails_at_once(&self) -> bool {
        self.inner.fails_at_once || !self.is_retryable()
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
        let Self { inner, retry_at } = self;
        let mut inner = Arc::try_unwrap(inner).unwrap_or_else(|shared| Inner {
            kind: shared.kind,
            message: shared.message.clone(),
            oauth: shared.oauth.clone(),
            fails_at_once: shared.fails_at_once,
            source: Some(Box::new(Self { inner: shared, retry_at })),
        });
        change(&mut inner);
        Self { inner: Arc::new(inner), retry_at }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        if let Some(oauth) = &self.inner.oauth {
            write!(f, " ({oauth})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.inner.kind).field("message", &self.inner.message);
        if let Some(oauth) = &self.inner.oauth {
            out.field("oauth", oauth);
        }
        if let Some(source) = &self.inner.source {
            out.field("source", source);
        }
        out.finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
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
        assert_eq!(cause.to_string(), "disk on fire", "it is not told twice");
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
