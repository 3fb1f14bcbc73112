//! time — times and paces as they are written on the command line.

use std::time::Duration;

/// Reads `500ms`, `1s`, `15m` or `1h`.
///
/// # Errors
/// A sentence that names these forms; also below a millisecond and above a day.
pub fn time(text: &str) -> Result<Duration, String> {
    let refused = || "expected a time such as 500ms, 1s, 1m or 1h".to_owned();
    let unit = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(refused)?;
    let (number, unit) = text.split_at(unit);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(refused()),
    };
    let number: u64 = number.parse().map_err(|_| refused())?;
    match number.checked_mul(millis) {
        Some(millis @ 1..=86_400_000) => Ok(Duration::from_millis(millis)),
        _ => Err("expected at least a millisecond and at most a day".to_owned()),
    }
}

/// Reads a number per time: `100/1s`.
///
/// # Errors
/// A sentence that names this form.
pub fn pace(text: &str) -> Result<(u64, Duration), String> {
    let refused = || "expected a pace such as 100/1s".to_owned();
    let (number, period) = text.split_once('/').ok_or_else(refused)?;
    Ok((number.parse().map_err(|_| refused())?, time(period)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let cases = [("500ms", 500), ("1s", 1000), ("2m", 120_000), ("24h", 86_400_000)];
        for (text, millis) in cases {
            assert_eq!(time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1", "s", "0s", "25h", "1.5s", "-1s", "1d", "99999999999999999999h"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!(pace("20/500ms"), Ok((20, Duration::from_millis(500))));
        for text in ["", "20", "20/", "/1s", "x/1s", "-1/1s"] {
            assert!(pace(text).is_err(), "{text}");
        }
    }
}
