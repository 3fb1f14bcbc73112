//! units — points in time, durations and rates as people write them, with their unit in the type.
//!
//! Everything stored or compared between processes is UTC in whole microseconds ([`Utc`]);
//! everything that measures a wait is a `std::time::Duration`. Parsing fails with a sentence that
//! names the accepted forms. This module reads no clock: time is an argument everywhere above it.

use std::fmt;
use std::time::Duration;

/// A point in time: microseconds since 1970-01-01T00:00:00Z, leap seconds ignored as POSIX does.
///
/// Microseconds because every Parquet reader agrees on them (nanoseconds and milliseconds each fail
/// somewhere).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Utc(pub i64);

impl Utc {
    /// Whole seconds since the epoch, rounded down; what DKIM's `t=` and the `Date:` header carry.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The time `later` after this one, saturating at the end of the scale.
    pub fn after(self, later: Duration) -> Utc {
        let micros = i64::try_from(later.as_micros()).unwrap_or(i64::MAX);
        Utc(self.0.saturating_add(micros))
    }

    /// How long from `earlier` until this; zero when `earlier` is not earlier (clocks step back).
    pub fn since(self, earlier: Utc) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Days since the epoch, the `dt=` partition of the accounting data.
    pub fn day(self) -> i64 {
        self.0.div_euclid(86_400_000_000)
    }

    /// The UTC date as `YYYY-MM-DD`.
    pub fn date(self) -> String {
        let (year, month, day) = civil(self.day());
        format!("{year:04}-{month:02}-{day:02}")
    }
}

impl fmt::Display for Utc {
    /// RFC 3339 with seconds: `2026-11-21T18:04:12Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.seconds().rem_euclid(86_400);
        write!(
            f,
            "{}T{:02}:{:02}:{:02}Z",
            self.date(),
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// Days since 1970-01-01 to year, month, day in the proleptic Gregorian calendar.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A point on the monotonic clock: nanoseconds since the process began to count.
///
/// Deadlines and rates use it, because the wall clock steps. It means nothing in another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The tick `later` after this one, saturating at the end of the scale.
    pub fn after(self, later: Duration) -> Tick {
        let nanos = u64::try_from(later.as_nanos()).unwrap_or(u64::MAX);
        Tick(self.0.saturating_add(nanos))
    }

    /// How long from `earlier` until this; zero when `earlier` is later.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// So many messages in each period, of any window of that length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Attempted recipients admitted per period; at least 1.
    pub messages: u32,
    /// The length of the window; at least one second.
    pub period: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.period.as_secs();
        match seconds {
            1 => write!(f, "{}/s", self.messages),
            60 => write!(f, "{}/m", self.messages),
            3600 => write!(f, "{}/h", self.messages),
            86_400 => write!(f, "{}/d", self.messages),
            _ => write!(f, "{}/{}", self.messages, Human(self.period)),
        }
    }
}

/// Parses `90s`, `15m`, `4h`, `5d`, `250ms` or sums such as `1h30m`.
///
/// # Errors
/// A sentence naming the accepted forms, when the text is empty, has no unit, or overflows.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{text:?} is not a duration; write for example \"90s\", \"15m\", \"4h\", \"5d\" \
             or \"1h30m\""
        )
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let millis: u64 = match rest[digits..unit_end].trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(millis).ok_or_else(wrong)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(wrong)?;
        rest = rest[unit_end..].trim_start();
    }
    Ok(total)
}

/// Parses `3500/h`, `100/10m`, `50000/24h` or `20/s`.
///
/// # Errors
/// A sentence naming the accepted forms; also for zero messages and for periods below one second.
pub fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || {
        format!(
            "{text:?} is not a rate; write messages per period, for example \"3500/h\", \
             \"100/10m\" or \"20/s\""
        )
    };
    let (count, per) = text.split_once('/').ok_or_else(wrong)?;
    let messages: u32 = count.trim().replace([',', '_'], "").parse().map_err(|_| wrong())?;
    let per = per.trim();
    let period = if per.starts_with(|c: char| c.is_ascii_digit()) {
        duration(per).map_err(|_| wrong())?
    } else {
        duration(&format!("1{per}")).map_err(|_| wrong())?
    };
    if messages == 0 {
        return Err(format!("{text:?} allows no message at all; leave the rate out for no limit"));
    }
    if period < Duration::from_secs(1) {
        return Err(format!("{text:?} has a period below one second; the shortest is \"/s\""));
    }
    Ok(Rate { messages, period })
}

/// A duration as people read it: its two largest units, `3h 12m`, `41m`, `850ms`.
#[derive(Clone, Copy, Debug)]
pub struct Human(pub Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if seconds == 0 {
            return write!(f, "{}ms", self.0.as_millis());
        }
        let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
        let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(3);
        let (size, name) = units[first];
        write!(f, "{}{name}", seconds / size)?;
        if let Some((smaller, small_name)) = units.get(first + 1) {
            let rest = seconds % size / smaller;
            if rest > 0 {
                write!(f, " {rest}{small_name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_284_252, "2026-11-21T18:04:12Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Utc(seconds * 1_000_000).to_string(), expected);
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5d"), Ok(Duration::from_secs(432_000)));
        for bad in ["", "15", "m", "1x", "-5m", "99999999999999999999h", "1.5h"] {
            assert!(duration(bad).is_err_and(|why| why.contains("duration")), "{bad:?}");
        }
    }

    #[test]
    fn rates_are_counts_per_period() {
        assert_eq!(rate("3,500/h"), Ok(Rate { messages: 3500, period: Duration::from_secs(3600) }));
        assert_eq!(rate("100/10m").map(|r| r.to_string()), Ok("100/10m".into()));
        assert_eq!(rate("20/s").map(|r| r.to_string()), Ok("20/s".into()));
        for bad in ["", "5", "0/h", "5/0s", "5/10ms", "x/h", "5/fortnight"] {
            assert!(rate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn human_durations_keep_two_units() {
        for (millis, expected) in [
            (850, "850ms"),
            (41_000, "41s"),
            (11_520_000, "3h 12m"),
            (3_600_000, "1h"),
            (90_061_000, "1d 1h"),
        ] {
            assert_eq!(Human(Duration::from_millis(millis)).to_string(), expected);
        }
    }
}
