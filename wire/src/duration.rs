//! Durations as people write them.

use core::time::Duration;

/// Longer than any time-out or quantum of use. More cannot be added to a time of
/// day without overflow checks everywhere.
const LONGEST: Duration = Duration::from_secs(3600);

/// A number with a unit: `200us`, `5ms`, `2s`, `1.5s`; `0` needs none. The error
/// says what is wrong, for people.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} does not begin with a number"))?;
    let seconds = match unit {
        "" if number == 0.0 => 0.0,
        "ns" => number / 1e9,
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" | "min" => number * 60.0,
        _ => return Err(format!("{text:?} needs a unit: ns, us, ms, s or min")),
    };
    if seconds > LONGEST.as_secs_f64() {
        return Err(format!("{text:?} is more than an hour"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("200us"), Ok(Duration::from_micros(200)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "5 parsecs", "-1s", "s", "1.2.3s", "99999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
