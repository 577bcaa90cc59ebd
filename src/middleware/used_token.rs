use std::{fmt, sync::Arc};

use crate::refresh::Rejection;

/// Which token a request was sent with: in the extensions of its response, by
/// [`OAuthLayer::expose_token`](super::OAuthLayer::expose_token).
///
/// For refusals that only the caller can see, such as an error in the middle of a stream:
///
/// ```
/// use tower_oauth::middleware::UsedToken;
///
/// # fn f(response: &http::Response<String>) {
/// if response.body().contains("session expired") {
///     if let Some(token) = response.extensions().get::<UsedToken>() {
///         token.reject();
///     }
/// }
/// # }
/// ```
///
/// It keeps the token's handle, or the pool, alive.
#[derive(Clone)]
pub struct UsedToken {
    epoch: u64,
    report: Arc<Report>,
}

type Report = dyn Fn(Certainty) -> Rejection + Send + Sync;

/// How sure it is that a refusal is about the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    Certain,
    /// A refusal without a reason: a young token stays in service.
    Doubtful,
}

impl UsedToken {
    pub(super) fn new(
        epoch: u64,
        report: impl Fn(Certainty) -> Rejection + Send + Sync + 'static,
    ) -> Self {
        Self { epoch, report: Arc::new(report) }
    }

    /// Returns the token's number, for [`TokenHandle::reject`](crate::TokenHandle::reject).
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Reports that the server refused this token, and no other: a newer one stays in service.
    pub fn reject(&self) -> Rejection {
        (self.report)(Certainty::Certain)
    }

    /// Reports a refusal without a reason.
    pub(super) fn doubt(&self) -> Rejection {
        (self.report)(Certainty::Doubtful)
    }
}

impl fmt::Debug for UsedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsedToken").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
