//! engagement — how engaged a recipient is, as 24 bits that keep the order of the values.
//!
//! A value is a number (`17`, `-2.5`, `1e6`; larger is more engaged) or a date of the last sign of
//! life (`2026-03-31`, `2026-03-31T18:04`, `2026-03-31T18:04:12Z`; later is more engaged), which
//! counts as its number of days since 1970. A column should hold one kind only.
//!
//! The map takes the upper 24 bits of the number as an IEEE 754 single: sign, exponent and 15 of
//! the 23 bits of the fraction. So whole numbers up to 65,536 are kept exactly, and with them all
//! dates until 2149-06-07; beyond that, and for fractions, values that differ by less than
//! 1/32,768 of themselves may become equal. A larger value never becomes smaller. The time of a
//! day is read and does not count.
//!
//! It cannot fail: what is no such value is `None`, and no value becomes 0, which means that
//! nothing is known.

/// The engagement that a field tells, from 1 to [`super::ENGAGEMENT_MAX`].
pub(super) fn engagement(field: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(field).ok()?.trim();
    let number = match date(text) {
        Some(days) => days as f32,
        None => text.parse::<f32>().ok().filter(|number| number.is_finite())?,
    };
    Some(ordered(number))
}

/// The upper 24 bits of a finite number, in its order.
fn ordered(number: f32) -> u32 {
    // Adding zero makes the negative zero positive: the two are one number.
    let bits = (number + 0.0).to_bits();
    // Singles are sign and magnitude: flipping all bits of the negative ones and the sign of the
    // others makes their order that of the integers.
    let flipped = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    flipped >> 8
}

/// The days since 1970-01-01 of `YYYY-MM-DD`, with or without a time behind it.
fn date(text: &str) -> Option<i32> {
    let (day, time) = match text.split_once(['T', ' ']) {
        Some((day, time)) => (day, Some(time)),
        None => (text, None),
    };
    let [year, month, day] = numbers(day, '-', [4, 2, 2])?;
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
        return None;
    }
    if let Some(time) = time {
        let time = time.strip_suffix('Z').unwrap_or(time);
        let [hour, minute, second] = match time.len() {
            2 => numbers(time, ':', [2]).map(|[hour]| [hour, 0, 0])?,
            5 => numbers(time, ':', [2, 2]).map(|[hour, minute]| [hour, minute, 0])?,
            _ => numbers(time, ':', [2, 2, 2])?,
        };
        // 60 is a leap second (RFC 3339 §5.7).
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
    }
    Some(days_since_1970(year, month, day))
}

/// Numbers of exactly so many digits each, with `between` between them and nothing else.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i32; N]> {
    let mut found = [0; N];
    let mut parts = text.split(between);
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn days_of(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_since_1970(year: i32, month: i32, day: i32) -> i32 {
    let year = year - i32::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ENGAGEMENT_MAX;
    use super::*;
    use crate::units::Utc;

    fn of(text: &str) -> Option<u32> {
        engagement(text.as_bytes())
    }

    #[test]
    fn what_is_no_number_and_no_date_tells_nothing() {
        for text in [
            "",
            " ",
            "much",
            "nan",
            "inf",
            "-infinity",
            "1e99",
            "3,5",
            "0x10",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-1-1",
            "26-01-01",
            "2026-01-01T24",
            "2026-01-01T12:60",
            "2026-01-01T12:00:61Z",
            "2026-01-01T",
            "2026-01-01Z",
            "2026-01-01T1:00",
            "2026-01-01-01",
            "+026-01-01",
            "2026-01-01T12:00:00+01:00",
        ] {
            assert_eq!(of(text), None, "{text:?}");
        }
        assert_eq!(engagement(b"\xff"), None);
    }

    #[test]
    fn days_are_those_of_the_calendar_and_their_times_do_not_count() {
        for day in (0..60_000).step_by(17) {
            let text = Utc(day * 86_400_000_000).date();
            assert_eq!(of(&text), of(&day.to_string()), "{text}");
            for time in ["T00", "T23:59", "T23:59:60", " 12:00:00", "T12Z", "T12:00:00Z"] {
                assert_eq!(of(&format!(" {text}{time} ")), of(&text), "{text}{time}");
            }
        }
        assert_eq!(of("1969-12-31"), of("-1"));
    }

    #[test]
    fn whole_numbers_are_kept_apart_up_to_65536() {
        let all: Vec<u32> = (-65_536..=65_536).map(|n| of(&n.to_string()).unwrap()).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(of("-0"), of("0"));
    }

    proptest! {
        #[test]
        fn the_order_is_kept_and_nothing_becomes_zero(a: f32, b: f32) {
            prop_assume!(a.is_finite() && b.is_finite() && a <= b);
            let (low, high) = (of(&a.to_string()).unwrap(), of(&b.to_string()).unwrap());
            prop_assert!(low <= high);
            prop_assert!(low >= 1 && high <= ENGAGEMENT_MAX);
            let apart = f64::from(b) - f64::from(a) > f64::from(a.abs().max(b.abs())) / 32_768.0;
            // Below the smallest normal number the steps are absolute ones.
            let normal = a.abs() >= f32::MIN_POSITIVE && b.abs() >= f32::MIN_POSITIVE;
            prop_assert!(!(apart && normal) || low < high);
        }
    }
}
