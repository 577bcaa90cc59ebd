//! A user's clock, which may panic.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::time::Instant;

use super::{Clock, Moment, SystemClock};
use crate::task::contain;

/// Contains the panics of a clock. While it panics, tokio's time goes on from its last reading.
pub(crate) fn contained(clock: impl Clock) -> Arc<dyn Clock> {
    let reading = contain(|| clock.now()).unwrap_or_else(|| SystemClock::new().now());
    let last = Mutex::new((reading, Instant::now()));
    Arc::new(Contained { clock, last })
}

struct Contained<C> {
    clock: C,
    /// The last reading, and when it was.
    last: Mutex<(Moment, Instant)>,
}

impl<C> Contained<C> {
    fn last(&self) -> MutexGuard<'_, (Moment, Instant)> {
        // Nothing panics while it is held.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn estimate(&self) -> Moment {
        let (reading, at) = *self.last();
        reading.after(at.elapsed())
    }
}

impl<C: Clock> Clock for Contained<C> {
    fn now(&self) -> Moment {
        let Some(reading) = contain(|| self.clock.now()) else { return self.estimate() };
        *self.last() = (reading, Instant::now());
        reading
    }

    fn boot_counts_sleep(&self) -> bool {
        contain(|| self.clock.boot_counts_sleep()).unwrap_or(true)
    }

    fn coarse_wall(&self) -> SystemTime {
        // The request that asks takes no lock unless the clock panics.
        contain(|| self.clock.coarse_wall()).unwrap_or_else(|| self.estimate().wall)
    }
}

impl<C: fmt::Debug> fmt::Debug for Contained<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.clock.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Reads once, and then panics.
    #[derive(Debug)]
    struct Once(SystemClock, Mutex<bool>);

    impl Clock for Once {
        fn now(&self) -> Moment {
            let mut read = self.1.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(!std::mem::replace(&mut *read, true), "broken");
            self.0.now()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f100_a_clock_that_panics_goes_on_from_its_last_reading() {
        let clock = contained(Once(SystemClock::new(), Mutex::default()));
        let first = clock.now();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.now(), first.after(Duration::from_secs(60)));
        assert_eq!(clock.coarse_wall(), clock.now().wall);
        assert!(clock.boot_counts_sleep());
    }
}
