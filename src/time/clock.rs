use std::{
    fmt,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

/// What the clocks say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Time since an arbitrary point, going on while the machine sleeps (`CLOCK_BOOTTIME`).
    pub boot: Duration,
    /// Wall-clock time. It may jump in both directions.
    pub wall: SystemTime,
}

impl Moment {
    /// The moment `by` later, on both clocks, but at most a century.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        let by = by.min(FOR_EVER);
        Self {
            boot: self.boot.saturating_add(by),
            wall: self.wall.checked_add(by).unwrap_or(self.wall),
        }
    }

    /// The moment `by` earlier, on both clocks, as far as they go back.
    pub(crate) fn before(self, by: Duration) -> Self {
        Self {
            boot: self.boot.saturating_sub(by),
            wall: self.wall.checked_sub(by).unwrap_or(self.wall),
        }
    }

    /// The same moment for a clock whose boot time alone is believed.
    pub(crate) fn by_boot(self) -> Self {
        Self { wall: SystemTime::UNIX_EPOCH + FOR_EVER * 10, ..self }
    }

    /// How long it is from `now` until this moment, by the clock that says less.
    pub fn remaining(self, now: Self) -> Duration {
        let boot = self.boot.saturating_sub(now.boot);
        boot.min(self.wall.duration_since(now.wall).unwrap_or_default())
    }

    /// How far the wall clock was moved between this moment and `now`: what it advanced beyond boot
    /// time, or fell behind it.
    pub fn wall_jump(self, now: Self) -> Duration {
        let should = self.after(now.boot.saturating_sub(self.boot)).wall;
        match now.wall.duration_since(should) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        }
    }
}

/// The instant `wait` from now. One that is for ever ends with the century.
pub(crate) fn instant_in(wait: Duration) -> Instant {
    Instant::now() + wait.min(FOR_EVER)
}

/// No clock overflows by it.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Tells the time. The default is [`SystemClock`]; tests bring their own.
///
/// A handle and a pool contain a clock's panics. Meanwhile tokio's time goes on from the clock's last
/// reading.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// What the clocks say now.
    fn now(&self) -> Moment;

    /// Whether [`boot`](Moment::boot) goes on while the machine sleeps. Where it does, it alone says
    /// when a token expires, so that a wall clock that is set takes no token out of service. Where it
    /// does not, the clock that says "expired" first is believed. Default: it does.
    fn boot_counts_sleep(&self) -> bool {
        true
    }

    /// Wall-clock time, a few milliseconds late at most. Asked once per request, so it must be
    /// cheap and must not write memory that threads share.
    fn coarse_wall(&self) -> SystemTime {
        self.now().wall
    }

    /// [`coarse_wall`](Self::coarse_wall) in nanoseconds since 1970, which is what a request compares.
    /// Default: computed from it.
    #[inline]
    fn coarse_wall_nanos(&self) -> u64 {
        nanoseconds_since_1970(self.coarse_wall())
    }
}

/// A time as nanoseconds since 1970, up to the year 2554.
#[inline]
pub(crate) fn nanoseconds_since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(since.subsec_nanos()))
}

/// A moment as a clock is to be believed.
pub(crate) fn believed(clock: &dyn Clock, moment: Moment) -> Moment {
    if clock.boot_counts_sleep() { moment.by_boot() } else { moment }
}

/// The clocks of this machine.
///
/// Where a test has paused tokio's time before it makes the clock, boot and wall time move along
/// with it. If time is paused later, or advanced on a clock that was made before,
/// [`now`](Clock::now) does so and [`coarse_wall`](Clock::coarse_wall) does not.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    tokio: Instant,
    boot: Duration,
    /// Whether tokio's time stood still when the clock was made.
    paused: bool,
}

impl SystemClock {
    /// A clock that reads this machine's clocks.
    pub fn new() -> Self {
        Self { tokio: Instant::now(), boot: steady_time(), paused: is_paused() }
    }
}

/// Whether tokio's time is paused: it stands still while that of the machine goes on.
fn is_paused() -> bool {
    let (paused, real) = (Instant::now(), steady_time());
    while steady_time() == real {}
    Instant::now() == paused
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        // Zero unless a test moves tokio's clock: then boot and wall time follow it. Both are
        // read from the monotonic clock, so a machine's sleep is in neither.
        let virtual_time = self.tokio.elapsed();
        let real_time = steady_time().saturating_sub(self.boot);
        let (boot, wall) = (boot_time(), wall_time());
        let ahead = virtual_time.saturating_sub(real_time);
        let behind = real_time.saturating_sub(virtual_time);
        Moment { boot: boot.saturating_sub(behind), wall: wall.checked_sub(behind).unwrap_or(wall) }
            .after(ahead)
    }

    fn boot_counts_sleep(&self) -> bool {
        BOOT_COUNTS_SLEEP
    }

    #[inline]
    fn coarse_wall(&self) -> SystemTime {
        if self.paused { self.now().wall } else { coarse_wall_time() }
    }

    #[inline]
    fn coarse_wall_nanos(&self) -> u64 {
        if self.paused { nanoseconds_since_1970(self.now().wall) } else { coarse_wall_nanos() }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn wall_time() -> SystemTime {
    SystemTime::now()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use super::{Duration, SystemTime};
    use rustix::time::{ClockId, Timespec, clock_gettime};

    pub(super) const BOOT_COUNTS_SLEEP: bool = true;

    pub(super) fn boot_time() -> Duration {
        since_zero(clock_gettime(ClockId::Boottime))
    }

    pub(super) fn steady_time() -> Duration {
        since_zero(clock_gettime(ClockId::Monotonic))
    }

    pub(super) fn coarse_wall_time() -> SystemTime {
        SystemTime::UNIX_EPOCH + since_zero(clock_gettime(ClockId::RealtimeCoarse))
    }

    #[inline]
    pub(super) fn coarse_wall_nanos() -> u64 {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        let nanoseconds = time.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec);
        u64::try_from(nanoseconds).unwrap_or_default()
    }

    fn since_zero(time: Timespec) -> Duration {
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::{sync::OnceLock, time::Instant};

    use super::{Duration, SystemTime};

    pub(super) const BOOT_COUNTS_SLEEP: bool = false;

    /// Where there is no boot clock, the wall clock catches a machine's sleep.
    pub(super) fn boot_time() -> Duration {
        steady_time()
    }

    #[expect(clippy::disallowed_methods, reason = "tokio's clock may be paused; this one is not")]
    pub(super) fn steady_time() -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        // Starts an hour in, so that earlier moments can be expressed.
        START.get_or_init(Instant::now).elapsed() + Duration::from_secs(3600)
    }

    pub(super) fn coarse_wall_time() -> SystemTime {
        super::wall_time()
    }

    pub(super) fn coarse_wall_nanos() -> u64 {
        super::nanoseconds_since_1970(super::wall_time())
    }
}

use system::{BOOT_COUNTS_SLEEP, boot_time, coarse_wall_nanos, coarse_wall_time, steady_time};

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn moment(boot: u64, wall: u64) -> Moment {
        Moment {
            boot: Duration::from_secs(boot),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn boot_and_wall_time_follow_a_paused_clock() {
        let clock = SystemClock::new();
        let start = clock.now();
        tokio::time::advance(MINUTE * 60).await;
        let end = clock.now();
        // The two real clocks behind are not read at one instant.
        assert!(end.boot.saturating_sub(start.boot) > MINUTE * 59);
        assert!(start.wall_jump(end) < Duration::from_secs(1));
        let coarse = clock.coarse_wall();
        assert!(coarse.duration_since(start.wall).unwrap() > MINUTE * 59, "it moves along too");
    }

    #[test]
    fn time_that_goes_on_is_not_taken_for_paused() {
        for _ in 0..1000 {
            assert!(!is_paused());
        }
    }

    #[test]
    fn the_clock_that_says_less_counts() {
        let expiry = moment(100, 1000);
        assert_eq!(expiry.remaining(moment(90, 900)), Duration::from_secs(10));
        assert_eq!(expiry.remaining(moment(10, 999)), Duration::from_secs(1));
        assert_eq!(expiry.remaining(moment(10, 2000)), Duration::ZERO);
    }

    #[test]
    fn a_wall_jump_is_seen_in_both_directions() {
        let start = moment(100, 1000);
        assert_eq!(start.wall_jump(moment(160, 1060)), Duration::ZERO);
        assert_eq!(start.wall_jump(moment(160, 1100)), Duration::from_secs(40));
        assert_eq!(start.wall_jump(moment(160, 900)), Duration::from_secs(160));
    }

    #[test]
    fn far_moments_do_not_overflow() {
        let far = moment(100, 1000).after(Duration::MAX);
        assert!(far.remaining(moment(0, 0)) > Duration::ZERO);
    }
}
