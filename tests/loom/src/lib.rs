//! The protocol between requests and the refresher, for every order in which threads can run.
//!
//! loom does not see into arc-swap or tokio, so the protocol of `src/slot/cell.rs` and
//! `src/refresh/{shared,refresher}.rs` is written down here once more over loom's types, line for
//! line where it matters: the slot, the inbox, the wake-up and the status. Change both together.
//!
//! ```sh
//! cd tests/loom && LOOM_MAX_PREEMPTIONS=3 cargo test --release
//! ```

mod signal;

use loom::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
use signal::{Notify, Watch};

/// No token is in the slot.
pub const EMPTY: u64 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    Accepted,
    Superseded,
}

#[derive(Debug, Default)]
struct Inbox {
    rejected: Option<u64>,
    refresh: bool,
    closed: bool,
}

/// The slot and what handles and the refresher share. A token is its epoch.
#[derive(Debug)]
pub struct Shared {
    current: AtomicU64,
    inbox: Mutex<Inbox>,
    wake: Notify,
    status: Watch,
}

impl Shared {
    pub fn holding(epoch: u64) -> Self {
        Self {
            current: AtomicU64::new(epoch),
            inbox: Mutex::default(),
            wake: Notify::default(),
            status: Watch::default(),
        }
    }

    /// `Slot::inject`
    pub fn read(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    /// `Slot::newer_than`
    fn newer_than(&self, after: u64) -> Option<u64> {
        Some(self.read()).filter(|epoch| *epoch > after)
    }

    /// `Slot::take`
    fn take(&self, epoch: u64) -> bool {
        let swap =
            |from| self.current.compare_exchange(from, EMPTY, Ordering::AcqRel, Ordering::Acquire);
        self.read() == epoch && swap(epoch).is_ok()
    }

    /// `Shared::reject`
    pub fn reject(&self, epoch: u64) -> Rejection {
        let mut inbox = self.inbox.lock().unwrap();
        if self.read() != epoch || !self.take(epoch) {
            return Rejection::Superseded;
        }
        inbox.rejected = Some(epoch);
        self.status.send();
        drop(inbox);
        self.wake.notify_one();
        Rejection::Accepted
    }

    /// `TokenHandle::refresh`, without waiting for the outcome
    pub fn refresh(&self) {
        self.inbox.lock().unwrap().refresh = true;
        self.wake.notify_one();
    }

    /// `Shared::wait`
    pub fn wait(&self, after: u64) -> u64 {
        if let Some(epoch) = self.newer_than(after) {
            return epoch;
        }
        let mut seen = self.status.subscribe();
        self.wake.notify_one();
        loop {
            self.status.borrow_and_update(&mut seen);
            // After the status: a token that is published is published before it.
            if let Some(epoch) = self.newer_than(after) {
                return epoch;
            }
            self.status.changed(seen);
        }
    }

    /// `Shared::publish`, of the next token; or of the token `same` once more, which keeps its epoch
    /// if it is there still.
    pub fn publish(&self, same: u64, next: u64) {
        let inbox = self.inbox.lock().unwrap();
        if inbox.closed {
            return;
        }
        let epoch = if same != EMPTY && self.read() == same { same } else { next };
        // arc-swap stores by a swap as well.
        self.current.swap(epoch, Ordering::AcqRel);
        drop(inbox);
        self.status.send();
    }

    /// `Shared::close`
    pub fn close(&self) {
        let mut inbox = self.inbox.lock().unwrap();
        inbox.closed = true;
        self.current.swap(EMPTY, Ordering::AcqRel);
        drop(inbox);
        self.status.send();
    }

    /// The refresher, up to the publication of so many tokens. It fetches when it is asked to, or
    /// when it holds none; a wake-up without a reason changes nothing.
    pub fn refresher(&self, mut held: u64, publications: u64) {
        let last = held.max(1) + publications;
        let mut epoch = held.max(1);
        while epoch < last {
            let asked = std::mem::take(&mut *self.inbox.lock().unwrap());
            if asked.rejected == Some(held) {
                held = EMPTY;
            }
            if held == EMPTY || asked.refresh {
                epoch += 1;
                held = epoch;
                self.publish(EMPTY, epoch);
            } else {
                self.wake.notified();
            }
        }
    }
}

#[cfg(test)]
mod tests;
