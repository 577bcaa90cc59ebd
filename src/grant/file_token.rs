use std::{path::PathBuf, time::Duration};

use super::credential::read_live;
use crate::{
    error::Error,
    secret::SecretSource,
    source::{FetchContext, TokenSource},
    token::{TokenSet, jwt_expiry},
};

/// A token that something else writes to a file, such as a Kubernetes projected token or a
/// sidecar's.
///
/// The file is read again whenever the token is due. A JWT lives until its `exp`; any other token
/// is taken to live for a minute, or as long as [`lifetime`](Self::lifetime) says.
///
/// ```
/// use tower_oauth::{FileToken, TokenHandle};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// let tokens = TokenHandle::spawn(FileToken::new(token));
/// # let _ = tokens;
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FileToken {
    file: SecretSource,
    lifetime: Duration,
}

impl FileToken {
    /// Reads this file: a token alone, white space at its end aside, of at most 64 KiB.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { file: SecretSource::file(path), lifetime: Duration::from_secs(60) }
    }

    /// How long a token lives that does not tell itself. Default: 1 min.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }
}

impl TokenSource for FileToken {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let token = read_live(&self.file, "the token", &cx).await?;
        let left = jwt_expiry(token.expose())
            .map(|expiry| expiry.duration_since(cx.clock.now().wall).unwrap_or_default());
        Ok(TokenSet::bearer(token)?.with_lifetime(left.unwrap_or(self.lifetime)))
    }
}
