use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::rfc3339::parse_rfc3339;

/// A number of seconds, as a server wrote it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Seconds {
    /// The member is absent or `null`.
    Absent,
    /// It is neither a number nor a string that holds one.
    Unreadable,
    /// Without a fraction. It may be larger than any duration.
    Value(f64),
}

impl Seconds {
    /// Reads numbers and strings that hold one, as Entra v1 and others send them.
    pub(super) fn read(value: Option<&Value>) -> Self {
        let number = match value {
            None | Some(Value::Null) => return Self::Absent,
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => numeric(text.trim()),
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
        };
        number.map_or(Self::Unreadable, |number| Self::Value(number.floor()))
    }

    /// Reads a point in time: as [`read`](Self::read) does, or ISO 8601.
    pub(super) fn read_instant(value: Option<&Value>) -> Self {
        match (Self::read(value), value) {
            (Self::Unreadable, Some(Value::String(text))) => {
                let since_1970 = parse_rfc3339(text.trim());
                since_1970.map_or(Self::Unreadable, |since| Self::Value(since.as_secs_f64()))
            }
            (seconds, _) => seconds,
        }
    }
}

/// The seconds as a duration of at most `max`; what is negative is none at all.
pub(super) fn duration(seconds: f64, max: Duration) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(max).min(max)
}

/// How long it is from `now` until an instant in seconds since 1970; negative if it has passed.
pub(super) fn until(instant: f64, now: SystemTime) -> f64 {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    instant - now.as_secs_f64()
}

/// Reads a member that is for a number of seconds. Some servers write an instant there: a number that
/// lies near now as one, which no lifetime does. `None` if that instant has passed.
pub(super) fn time_stated(seconds: f64, now: SystemTime) -> Option<f64> {
    let left = until(seconds, now);
    let is_instant = (-DAY..=TEN_YEARS).contains(&left);
    Some(if is_instant { left } else { seconds }).filter(|left| *left > 0.0)
}

/// Reads a member that is for an instant. Some servers write a number of seconds from now there.
/// `None` if the instant has passed.
pub(super) fn time_left(instant: f64, now: SystemTime) -> Option<f64> {
    let left = if instant < FIRST_INSTANT { instant } else { until(instant, now) };
    Some(left).filter(|left| *left > 0.0)
}

/// 2001-01-01. An "instant" before it is a number of seconds from now.
const FIRST_INSTANT: f64 = 978_307_200.0;
const DAY: f64 = 86_400.0;
const TEN_YEARS: f64 = 3_653.0 * DAY;

/// `parse` alone would also take `inf` and `nan`.
fn numeric(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn trs_05_numbers_come_in_many_forms() {
        for (value, expected) in [
            (json!(3600), Seconds::Value(3600.0)),
            (json!("3599"), Seconds::Value(3599.0)),
            (json!(3599.9), Seconds::Value(3599.0)),
            (json!(3.6e3), Seconds::Value(3600.0)),
            (json!("3.6e3"), Seconds::Value(3600.0)),
            (json!("3600.0"), Seconds::Value(3600.0)),
            (json!(-1), Seconds::Value(-1.0)),
            (json!(null), Seconds::Absent),
            (json!(""), Seconds::Unreadable),
            (json!("abc"), Seconds::Unreadable),
            (json!("inf"), Seconds::Unreadable),
            (json!("NaN"), Seconds::Unreadable),
            (json!({}), Seconds::Unreadable),
            (json!([1]), Seconds::Unreadable),
            (json!(true), Seconds::Unreadable),
        ] {
            assert_eq!(Seconds::read(Some(&value)), expected, "{value}");
        }
        assert_eq!(Seconds::read(None), Seconds::Absent);
    }

    #[test]
    fn trs_07_absurd_numbers_do_not_overflow() {
        let max = Duration::from_secs(86400);
        for value in [
            json!(1e18),
            json!(1_u64 << 63),
            json!(u64::MAX),
            json!(9_999_999_999_u64),
            json!("1e999"),
        ] {
            let Seconds::Value(seconds) = Seconds::read(Some(&value)) else { panic!("{value}") };
            assert_eq!(duration(seconds, max), max, "{value}");
            assert_eq!(duration(seconds, Duration::MAX).min(max), max, "{value}");
        }
        assert_eq!(duration(-1e18, max), Duration::ZERO);
        assert_eq!(duration(-1.0, max), Duration::ZERO);
    }

    #[test]
    fn trs_08_instants_are_seconds_since_1970_or_iso_8601() {
        for value in
            [json!(1_729_281_097), json!("1729281097"), json!("2024-10-18T19:51:37.0000000+00:00")]
        {
            let read = Seconds::read_instant(Some(&value));
            assert_eq!(read, Seconds::Value(1_729_281_097.0), "{value}");
        }
        assert_eq!(Seconds::read_instant(Some(&json!("soon"))), Seconds::Unreadable);
    }
}
