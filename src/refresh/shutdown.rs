use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::timeout;

use super::shared::{Shared, can_wait};
use crate::error::{Error, ErrorKind};

/// Ends a refresher, by [`TokenHandle::shutdown`](super::TokenHandle::shutdown).
#[must_use = "nothing ends before it is awaited"]
pub struct Shutdown<'a> {
    shared: &'a Shared,
    ending: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
}

impl<'a> Shutdown<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, ending: None }
    }

    /// Ends the refresher and then revokes the refresh token and the access token, in this order,
    /// at the authorization server ([RFC 7009]).
    ///
    /// The source has to know where: by [`Discovery`](crate::Discovery), or by the grant's setting
    /// `revocation_endpoint`. A server that is busy and says until when is asked once more.
    ///
    /// # Errors
    ///
    /// Whatever kept a token from being revoked; both are tried, and the first error is returned.
    /// Here they are forgotten all the same, but they live on at the server until they expire.
    /// [`ErrorKind::Configuration`] when the source cannot revoke, [`ErrorKind::Shutdown`] when the
    /// refresher had ended before. Outside of a tokio runtime with timers, [`ErrorKind::Timeout`] at
    /// once: the refresher ends and revokes, but its end cannot be waited for.
    ///
    /// # Cancellation
    ///
    /// Safe: the refresher ends and revokes all the same.
    ///
    /// [RFC 7009]: https://www.rfc-editor.org/rfc/rfc7009
    pub async fn revoke(self) -> Result<(), Error> {
        let outcome = self.shared.request_revocation();
        can_wait()?;
        // First a fetch that is under way, and then the calls, each within such a time.
        let bound = self.shared.policy.fetch_timeout.saturating_mul(3);
        match timeout(bound, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::new(
                ErrorKind::Shutdown,
                "the tokens were not revoked: the token refresher had ended already",
            )),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "the tokens were not revoked in time: does the token refresher run?",
            )),
        }
    }
}

impl Future for Shutdown<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared;
        self.ending.get_or_insert_with(|| Box::pin(end(shared))).as_mut().poll(cx)
    }
}

async fn end(shared: &Shared) {
    let mut status = shared.status.subscribe();
    shared.request_end();
    if can_wait().is_err() {
        return;
    }
    let ended = status.wait_for(|status| status.ended);
    // Bounded, for a refresher that nobody runs.
    let _ = timeout(shared.policy.fetch_timeout, ended).await;
}

impl fmt::Debug for Shutdown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shutdown")
    }
}
