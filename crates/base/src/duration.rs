//! Durations in Go's notation, as Kubernetes writes them.

use std::time::Duration;

/// Parses a duration such as `10s`, `1h30m` or `1.5ms`. Returns `None` for anything else, including negative durations.
///
/// Units: `ns`, `us` (`µs`), `ms`, `s`, `m`, `h`.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let letters = behind.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(behind.len());
        let (unit, next) = behind.split_at_checked(letters)?;
        let of_a_second = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * of_a_second;
        rest = next;
    }
    if text.trim_start_matches('+').is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_go_durations() {
        let seconds = |text| parse(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("10s"), Some(10.0));
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("1.5s"), Some(1.5));
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(seconds("+250000us750000µs"), Some(1.0));
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1d",
            "1 s",
            "10sec",
            ".s",
            "1..2s",
            "1e3s",
            "é",
            "+",
            "+-1s",
            "1s+1s",
            "99999999999999999999h",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
