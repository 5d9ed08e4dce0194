//! Quantities of resources, as far as the downward API needs them.

/// Thousandths of the unit. `None`: it is no quantity.
pub(super) fn milli(text: &str) -> Option<i128> {
    let end = text.find(|letter: char| !matches!(letter, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (mantissa, power): (i128, u32) = match suffix {
        "n" => return scaled(number, 1).map(|n| ceil(n, 1_000_000_000_000)),
        "u" => return scaled(number, 1).map(|n| ceil(n, 1_000_000_000)),
        "m" => return scaled(number, 1).map(|n| ceil(n, 1_000_000)),
        "" => (1, 0),
        "k" => (1000, 1),
        "M" => (1000, 2),
        "G" => (1000, 3),
        "T" => (1000, 4),
        "P" => (1000, 5),
        "E" => (1000, 6),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        exponent => {
            let exponent = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10, exponent)
        }
    };
    scaled(number, mantissa.checked_pow(power)?).map(|n| ceil(n, 1_000))
}

/// A decimal number times a factor, in millionths of it: three digits behind the point more than are asked for.
fn scaled(number: &str, factor: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let is_number = number.contains(|digit: char| digit.is_ascii_digit());
    if !is_number || !fraction.chars().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{digits}").parse::<i128>().ok()?.checked_mul(factor)
}

fn ceil(number: i128, by: i128) -> i128 {
    number.div_euclid(by) + i128::from(number.rem_euclid(by) > 0)
}

/// A quantity in units of a divisor, rounded up, as the downward API writes it.
pub(super) fn divided(milli: i128, divisor: &str) -> String {
    let divisor = match self::milli(divisor) {
        None | Some(0) => 1000,
        Some(divisor) => divisor,
    };
    ceil(milli, divisor).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_divided_as_kubernetes_does() {
        assert_eq!(milli("1"), Some(1000));
        assert_eq!(milli("250m"), Some(250));
        assert_eq!(milli("0.1"), Some(100));
        assert_eq!(milli("1.5Gi"), Some(1_610_612_736_000));
        assert_eq!(milli("2e3"), Some(2_000_000));
        assert_eq!(milli("1n"), Some(1));
        assert_eq!(milli("Gi"), None);
        assert_eq!(milli("x"), None);
        assert_eq!(divided(250, "1"), "1");
        assert_eq!(divided(250, "1m"), "250");
        assert_eq!(divided(1_610_612_736_000, "1Mi"), "1536");
        assert_eq!(divided(2500, "0"), "3");
    }
}
