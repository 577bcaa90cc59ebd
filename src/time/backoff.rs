use std::{ops::Range, time::Duration};

/// A wait before attempt `failures + 1`: full jitter over an exponential bound, so that clients
/// which failed together do not come back together.
///
/// `draw` is uniform in 0..1. The wait is never below `floor`, so that a long outage cannot make a
/// burst.
pub(crate) fn full_jitter(failures: u32, range: &Range<Duration>, draw: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(30);
    let bound = range.start.saturating_mul(2u32.saturating_pow(doublings + 1)).min(range.end);
    spread(range.start..bound.max(range.start), draw)
}

/// The point at `draw` (0..1) of a range.
pub(crate) fn spread(range: Range<Duration>, draw: f64) -> Duration {
    let width = range.end.saturating_sub(range.start);
    range.start + width.mul_f64(draw.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range<Duration> = Duration::from_millis(500)..Duration::from_secs(30);

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let bounds: Vec<_> =
            (1..=8).map(|failures| full_jitter(failures, &RANGE, 1.0).as_millis()).collect();
        assert_eq!(bounds, [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    }

    #[test]
    fn no_wait_is_below_the_floor_and_no_count_overflows() {
        for failures in [0, 1, 30, 31, u32::MAX] {
            assert_eq!(full_jitter(failures, &RANGE, 0.0), RANGE.start);
        }
    }
}
