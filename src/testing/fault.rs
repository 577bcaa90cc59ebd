use std::{error::Error, fmt, sync::Arc};

use crate::error::BoxError;

/// Why a call of a test server in process failed, as a connection would have.
#[derive(Debug, Clone)]
pub struct ConnectionError {
    kind: Kind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Refused,
    Reset,
    Incomplete,
    Aborted,
    Raw,
}

impl ConnectionError {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, source: None }
    }

    pub(super) fn aborted(source: BoxError) -> Self {
        Self { kind: Kind::Aborted, source: Some(source.into()) }
    }

    /// Whether no connection was made, because the server is down: nothing of the request was
    /// seen.
    pub fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Refused => "connection refused",
            Kind::Reset => "connection reset",
            Kind::Incomplete => "connection closed before the body was complete",
            Kind::Aborted => "the request's own body failed",
            Kind::Raw => "raw bytes can only be sent by a server on loopback",
        })
    }
}

impl Error for ConnectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
