//! Which refreshers run, by name: a handle that is replaced by one of the same name shares its gauges.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Whether the refresher of a handle runs.
#[derive(Debug, Default)]
pub(super) struct Life {
    runs: AtomicBool,
}

impl Life {
    /// The refresher runs.
    pub(super) fn begin(&self, name: &Arc<str>) {
        if !self.runs.load(Ordering::Relaxed) && !self.runs.swap(true, Ordering::Relaxed) {
            *running().entry(name.clone()).or_default() += 1;
        }
    }

    /// The refresher has ended. Returns whether another one of this name runs.
    pub(super) fn end(&self, name: &Arc<str>) -> bool {
        let mut running = running();
        let Some(count) = running.get_mut(name) else { return false };
        if self.runs.swap(false, Ordering::Relaxed) {
            *count -= 1;
        }
        if *count == 0 {
            running.remove(name);
            return false;
        }
        true
    }
}

fn running() -> MutexGuard<'static, HashMap<Arc<str>, usize>> {
    // Nothing panics while it is held.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many run, by name; no name without one.
static RUNNING: LazyLock<Mutex<HashMap<Arc<str>, usize>>> = LazyLock::new(Mutex::default);
