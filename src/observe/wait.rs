use tokio::time::Instant;

use super::Event;

/// A request that waits for a token. Tells so, and that the wait is over, in whatever way it ends:
/// also when the request is dropped.
pub(crate) struct Wait<F: Fn(&Event<'_>)> {
    emit: F,
    started: Instant,
    obtained: bool,
}

impl<F: Fn(&Event<'_>)> Wait<F> {
    pub(crate) fn begin(emit: F) -> Self {
        emit(&Event::Waiting);
        Self { emit, started: Instant::now(), obtained: false }
    }

    /// Ends the wait.
    pub(crate) fn end(mut self, obtained: bool) {
        self.obtained = obtained;
    }
}

impl<F: Fn(&Event<'_>)> Drop for Wait<F> {
    fn drop(&mut self) {
        (self.emit)(&Event::Waited { waited: self.started.elapsed(), obtained: self.obtained });
    }
}
