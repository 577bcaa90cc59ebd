//! What the protocol needs of tokio's signals: the same promises, made of a lock and a condition.

use loom::sync::{Condvar, Mutex};

/// `tokio::sync::Notify` with `notify_one`: one permit is kept for whoever waits next.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    permit: Mutex<bool>,
    given: Condvar,
}

impl Notify {
    pub(crate) fn notify_one(&self) {
        *self.permit.lock().unwrap() = true;
        self.given.notify_one();
    }

    pub(crate) fn notified(&self) {
        let mut permit = self.permit.lock().unwrap();
        while !std::mem::take(&mut *permit) {
            permit = self.given.wait(permit).unwrap();
        }
    }
}

/// `tokio::sync::watch`, of which only the version matters here.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    version: Mutex<u64>,
    sent: Condvar,
}

impl Watch {
    pub(crate) fn send(&self) {
        *self.version.lock().unwrap() += 1;
        self.sent.notify_all();
    }

    pub(crate) fn subscribe(&self) -> u64 {
        *self.version.lock().unwrap()
    }

    pub(crate) fn borrow_and_update(&self, seen: &mut u64) {
        *seen = *self.version.lock().unwrap();
    }

    pub(crate) fn changed(&self, seen: u64) {
        let mut version = self.version.lock().unwrap();
        while *version == seen {
            version = self.sent.wait(version).unwrap();
        }
    }
}
