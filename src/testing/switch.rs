use std::{
    future,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::sync::watch;

/// Whether a server is up, and who asked while it was not.
#[derive(Debug)]
pub(super) struct Switch {
    /// Counts the changes: even is up, odd is down.
    changes: watch::Sender<u64>,
    refused: AtomicUsize,
}

/// Waits for the server to go down after a connection was made.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    changes: watch::Receiver<u64>,
    connected_at: u64,
}

impl Switch {
    pub(super) fn new() -> Self {
        Self { changes: watch::Sender::new(0), refused: AtomicUsize::new(0) }
    }

    pub(super) fn set(&self, up: bool) {
        self.changes.send_if_modified(|changes| {
            let changed = changes.is_multiple_of(2) != up;
            *changes += u64::from(changed);
            changed
        });
    }

    /// A new connection; `None` if it is refused, which is counted.
    pub(super) fn connect(&self) -> Option<Outage> {
        let changes = self.changes.subscribe();
        let connected_at = *changes.borrow();
        if connected_at.is_multiple_of(2) {
            return Some(Outage { changes, connected_at });
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        None
    }

    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn forget_refused(&self) {
        self.refused.store(0, Ordering::Relaxed);
    }
}

impl Outage {
    /// Returns when the server goes down, also if it is up again by then.
    pub(super) async fn begins(mut self) {
        let connected_at = self.connected_at;
        if self.changes.wait_for(|changes| *changes != connected_at).await.is_err() {
            // The switch is gone, and with it whoever could use it.
            future::pending::<()>().await;
        }
    }
}
