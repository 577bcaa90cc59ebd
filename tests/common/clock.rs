//! A clock whose boot and wall time a test moves, beside tokio's paused time.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tower_oauth::time::{Clock, Moment};

/// Starts at an hour of boot time, in 2023. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct TestClock {
    start: Instant,
    moved: Arc<Mutex<(Duration, i64)>>,
}

impl TestClock {
    pub fn new() -> Self {
        Self { start: Instant::now(), moved: Arc::default() }
    }

    /// The machine sleeps: timers stand still, boot and wall time go on.
    pub fn sleep_machine(&self, time: Duration) {
        let mut moved = self.moved.lock().unwrap();
        moved.0 += time;
        moved.1 += i64::try_from(time.as_secs()).unwrap();
    }

    /// Somebody sets the wall clock.
    pub fn set_wall(&self, seconds: i64) {
        self.moved.lock().unwrap().1 += seconds;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        let (boot, wall) = *self.moved.lock().unwrap();
        let elapsed = self.start.elapsed();
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + elapsed;
        let by = Duration::from_secs(wall.unsigned_abs());
        Moment {
            boot: Duration::from_secs(3600) + elapsed + boot,
            wall: if wall < 0 { epoch - by } else { epoch + by },
        }
    }
}
