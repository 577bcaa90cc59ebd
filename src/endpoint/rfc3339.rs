use std::time::Duration;

/// Reads an [RFC 3339] date and time as whole seconds since 1970, such as Azure's `expires_on`:
/// `2024-10-18T19:51:37.0000000+00:00`.
///
/// [RFC 3339]: https://www.rfc-editor.org/rfc/rfc3339#section-5.6
pub(super) fn parse_rfc3339(text: &str) -> Option<Duration> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let zone_start = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_start)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = fields(clock, ':', [2, 2, 2])?;
    let in_range = hour < 24 && minute < 60 && second <= 60;
    if !in_range || fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    u64::try_from(seconds - offset(zone)?).ok().map(Duration::from_secs)
}

/// The numbers of a text such as `2024-10-18`, each of exactly so many digits.
fn fields<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(separator);
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// The seconds that a zone such as `+02:00` is ahead.
fn offset(zone: &str) -> Option<i64> {
    let (sign, zone) = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", zone) => (1, zone),
        ("-", zone) => (-1, zone),
        _ => return None,
    };
    let [hours, minutes] = fields(zone, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // The year is taken to begin in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days_before_month = (153 * month + 2) / 5;
    year * 365 + leap_days + days_before_month + day - 1 - DAYS_TO_1970
}

/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zones_fractions_and_leap_days_are_understood() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1994-11-06T08:49:37Z", 784_111_777),
            ("2024-10-18T19:51:37.0000000+00:00", 1_729_281_097),
            ("2024-10-18T21:51:37+02:00", 1_729_281_097),
            ("2024-10-18t14:51:37.9-05:00", 1_729_281_097),
            ("2024-10-19T01:21:37+05:30", 1_729_281_097),
            ("2024-10-18T16:21:37-03:30", 1_729_281_097),
            ("2024-02-29 00:00:00Z", 1_709_164_800),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse_rfc3339(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "T",
            "2024-10-18",
            "2024-10-18T19:51:37",
            "2024-13-18T19:51:37Z",
            "2024-10-32T19:51:37Z",
            "2024-10-18T24:51:37Z",
            "2024-10-18T19:60:37Z",
            "24-10-18T19:51:37Z",
            "2024-10-18T19:51:37.Z",
            "2024-10-18T19:51:37+2:00",
            "2024-10-18T19:51:37Zx",
            "2024-10-18T19:51:37+24:00",
            "2024-10-18T19:51:37+02:60",
            "1969-12-31T23:59:59Z",
            "+024-10-18T19:51:37Z",
            "2024-10-18T19:51:37é",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = parse_rfc3339(&text);
        }

        #[test]
        fn it_agrees_with_another_calendar(seconds in 0..2_000_000_000u32) {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into());
            // Sun, 06 Nov 1994 08:49:37 GMT
            let date = httpdate::fmt_http_date(time);
            let month = 1 + "JanFebMarAprMayJunJulAugSepOctNovDec".find(&date[8..11]).unwrap() / 3;
            let text = format!("{}-{month:02}-{}T{}Z", &date[12..16], &date[5..7], &date[17..25]);
            prop_assert_eq!(parse_rfc3339(&text), Some(Duration::from_secs(seconds.into())));
        }
    }
}
