//! Formats numbers for people: three significant digits, one unit, no false precision.
//!
//! Pure. NaN and infinity are formatted as `?`. Events, the status, help texts of metrics and the decision core's
//! messages all use these functions, so that a number looks the same everywhere.

const UNKNOWN: &str = "?";

/// Formats a number of records or workers: `12.4k`, `4.96k`, `7`, `1.2M`. Three significant digits from 100 upwards.
pub fn count(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let mut rest = value.abs();
    let mut unit = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        // 999.5 would be shown as 1000, which belongs to the next unit.
        if rest < 999.5 {
            break;
        }
        rest /= 1000.0;
        unit = next;
    }
    let digits = significant(rest);
    if digits == "0" { digits } else { format!("{sign}{digits}{unit}") }
}

/// Formats a rate in records per second: `5.4k/s`, `0.067/s`.
pub fn rate(per_second: f64) -> String {
    // Workers that take a minute for a record process 0.0167 a second, which must not be shown as 0.02 or 0.
    if (0.0005..0.0995).contains(&per_second) {
        return format!("{}/s", fixed(per_second, 3));
    }
    format!("{}/s", count(per_second))
}

/// Formats a length of time in seconds: `850ms`, `3.2s`, `2m10s`, `1h05m`, `2d03h`. At most two units.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let length = value.abs();
    if length < 0.0005 {
        return "0s".to_owned();
    }
    if length < 0.9995 {
        return format!("{sign}{}ms", fixed(length * 1000.0, 0));
    }
    if length < 59.95 {
        let decimals = usize::from(length < 9.95);
        return format!("{sign}{}s", fixed(length, if length < 59.5 { decimals } else { 1 }));
    }
    let (whole, large, small, per) = if length < 3599.5 {
        (length.round(), 'm', 's', 60.0)
    } else if length < 86_370.0 {
        ((length / 60.0).round(), 'h', 'm', 60.0)
    } else {
        ((length / 3600.0).round(), 'd', 'h', 24.0)
    };
    let first = (whole / per).floor();
    let second = whole - first * per;
    if second < 0.5 { format!("{sign}{first}{large}") } else { format!("{sign}{first}{large}{second:02}{small}") }
}

/// Formats a fraction in percent: 0.9993 is `99.93%`. Rounds towards zero, so that 100% means all.
pub fn percent(fraction: f64) -> String {
    if !fraction.is_finite() {
        return UNKNOWN.to_owned();
    }
    // The small addition keeps 0.9993, which is stored as slightly less, from becoming 99.92.
    let hundredths = (fraction.abs() * 10_000.0 + 1e-6).floor();
    let sign = if fraction < 0.0 && hundredths > 0.0 { "-" } else { "" };
    format!("{sign}{}%", fixed(hundredths / 100.0, 2))
}

/// Formats values below 999.5 with at most three significant digits.
fn significant(value: f64) -> String {
    let decimals = usize::from(value < 99.95) + usize::from(value < 9.995);
    fixed(value, decimals)
}

/// Formats with at most `decimals` decimals, without trailing zeros.
fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_three_significant_digits() {
        let table = [
            (0.0, "0"),
            (0.001, "0"),
            (0.5, "0.5"),
            (7.0, "7"),
            (12.34, "12.3"),
            (999.4, "999"),
            (999.6, "1k"),
            (4960.0, "4.96k"),
            (5400.0, "5.4k"),
            (12_400.0, "12.4k"),
            (1_200_000.0, "1.2M"),
            (-1500.0, "-1.5k"),
        ];
        for (value, words) in table {
            assert_eq!(count(value), words, "{value}");
        }
        assert_eq!(rate(5400.0), "5.4k/s");
        assert_eq!([rate(0.0167), rate(0.067), rate(0.4), rate(0.0)], ["0.017/s", "0.067/s", "0.4/s", "0/s"]);
    }

    #[test]
    fn times_have_at_most_two_units() {
        let table = [
            (0.0, "0s"),
            (0.85, "850ms"),
            (0.9999, "1s"),
            (3.2, "3.2s"),
            (10.0, "10s"),
            (42.4, "42s"),
            (59.6, "59.6s"),
            (59.99, "1m"),
            (60.0, "1m"),
            (130.0, "2m10s"),
            (125.0, "2m05s"),
            (3600.0, "1h"),
            (3900.0, "1h05m"),
            (86_399.0, "1d"),
            (183_600.0, "2d03h"),
            (-3.2, "-3.2s"),
        ];
        for (value, words) in table {
            assert_eq!(seconds(value), words, "{value}");
        }
    }

    #[test]
    fn percent_never_rounds_up_to_all() {
        let table =
            [(1.0, "100%"), (0.99, "99%"), (0.9993, "99.93%"), (0.99999, "99.99%"), (0.5, "50%"), (-0.2, "-20%")];
        for (value, words) in table {
            assert_eq!(percent(value), words, "{value}");
        }
    }

    #[test]
    fn unknown_numbers_are_shown_as_question_mark() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!((count(value), seconds(value), percent(value)), ("?".into(), "?".into(), "?".into()));
        }
        assert!(count(f64::MAX).ends_with('E') && !seconds(f64::MAX).is_empty() && !percent(f64::MAX).is_empty());
    }
}
