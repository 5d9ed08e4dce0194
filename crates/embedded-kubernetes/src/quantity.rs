//! Amounts of cpu, memory and other resources: `500m`, `1.5`, `128Mi`.

use std::fmt;

/// The billionths in one unit. A billionth is the smallest amount that can be written.
const UNIT: i128 = 1_000_000_000;

const BINARY: &[(&str, i128)] =
    &[("Ei", 1 << 60), ("Pi", 1 << 50), ("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
const DECIMAL: &[(&str, i128)] = &[
    ("E", 1_000_000_000_000_000_000 * UNIT),
    ("P", 1_000_000_000_000_000 * UNIT),
    ("T", 1_000_000_000_000 * UNIT),
    ("G", 1_000_000_000 * UNIT),
    ("M", 1_000_000 * UNIT),
    ("k", 1_000 * UNIT),
    ("", UNIT),
    ("m", 1_000_000),
    ("u", 1_000),
    ("n", 1),
];

/// An amount of a resource.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    /// Whether it is written with a binary suffix such as `Mi`.
    binary: bool,
}

impl Quantity {
    /// Creates an amount of whole units.
    pub fn whole(number: i64) -> Self {
        Self { nanos: i128::from(number) * UNIT, binary: false }
    }

    /// Parses an amount. `None` if the text is not valid.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|letter: char| !(letter.is_ascii_digit() || "+-.".contains(letter))).unwrap_or(text.len());
        let (number, suffix) = text.split_at_checked(end)?;
        let binary = BINARY.iter().find(|(name, _)| *name == suffix).map(|(_, factor)| *factor);
        let factor = match (binary, DECIMAL.iter().find(|(name, _)| *name == suffix)) {
            (Some(factor), _) => factor * UNIT,
            (None, Some((_, factor))) => *factor,
            (None, None) => exponent(suffix)?,
        };
        let negative = number.starts_with('-');
        let number = number.strip_prefix(['+', '-']).unwrap_or(number);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
        let fraction = fraction.get(..fraction.len().min(18))?;
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let numerator = digits(whole)?.checked_mul(scale)?.checked_add(digits(fraction)?)?;
        // Rounded up, so that a request never becomes smaller.
        let scaled = numerator.checked_mul(factor)?;
        let nanos = scaled.div_euclid(scale) + i128::from(scaled.rem_euclid(scale) > 0);
        Some(Self { nanos: if negative { -nanos } else { nanos }, binary: binary.is_some() })
    }

    /// Returns the sum. It is written in the format of `self`, unless `self` is zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let binary = if self.nanos == 0 { other.binary } else { self.binary };
        Self { nanos: self.nanos.saturating_add(other.nanos), binary }
    }

    /// Returns the difference, written in the format of `self`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(other.nanos), ..self }
    }

    /// Returns the larger of the two amounts.
    #[must_use]
    pub fn larger_of(self, other: Self) -> Self {
        if other > self { other } else { self }
    }

    /// Returns whether the amount is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Returns the amount in whole units of `divisor`, rounded up. A divisor of zero counts as 1.
    pub fn in_units_of(self, divisor: Self) -> i128 {
        let divisor = if divisor.nanos == 0 { UNIT } else { divisor.nanos };
        self.nanos.div_euclid(divisor) + i128::from(self.nanos.rem_euclid(divisor) > 0)
    }

    /// Returns the amount as a fraction of `whole`, millionths.
    pub fn millionths_of(self, whole: Self) -> i128 {
        self.nanos.saturating_mul(1_000_000).checked_div(whole.nanos).unwrap_or(1_000_000)
    }
}

/// Parses a decimal exponent such as `e3`.
fn exponent(suffix: &str) -> Option<i128> {
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = u32::try_from(power.checked_add(9)?).ok()?;
    10_i128.checked_pow(power)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.binary && self.nanos % UNIT == 0 {
            let whole = self.nanos / UNIT;
            let (suffix, factor) = BINARY.iter().find(|(_, factor)| whole % factor == 0).copied().unwrap_or(("", 1));
            return write!(f, "{}{suffix}", whole / factor);
        }
        let (suffix, factor) = DECIMAL.iter().find(|(_, factor)| self.nanos % factor == 0).copied().unwrap_or(("n", 1));
        write!(f, "{}{suffix}", self.nanos / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[test]
    fn amounts_are_written_in_the_largest_fitting_unit() {
        for (given, written) in [
            ("500m", "500m"),
            ("1.5", "1500m"),
            ("0.1", "100m"),
            ("2000m", "2"),
            ("1000", "1k"),
            ("128Mi", "128Mi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("12E2", "1200"),
            ("1G", "1G"),
            ("0", "0"),
            ("-1", "-1"),
        ] {
            assert_eq!(parse(given).to_string(), written, "{given}");
        }
        for wrong in ["", "x", "1x", ".", "1..2", "1Kib"] {
            assert!(Quantity::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn amount_in_units_is_rounded_up() {
        for (amount, divisor, units) in [
            ("250m", "1", 1),
            ("250m", "1m", 250),
            ("1.5Gi", "1Mi", 1536),
            ("2500m", "0", 3),
            ("0", "1", 0),
            ("1n", "1m", 1),
        ] {
            assert_eq!(parse(amount).in_units_of(parse(divisor)), units, "{amount} in {divisor}");
        }
    }

    #[test]
    fn sums_keep_the_format_of_their_first_part() {
        assert_eq!(Quantity::default().plus(parse("1Gi")).plus(parse("512Mi")).to_string(), "1536Mi");
        assert_eq!(parse("1").plus(parse("250m")).to_string(), "1250m");
        assert!(parse("1Gi") > parse("1G"));
    }
}
