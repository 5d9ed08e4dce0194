//! Conversions between floats and integers with defined results for out-of-range values. The only casts of this crate.

use std::cmp::Ordering;

/// Returns the smallest whole number that is not below `value`; 0 for NaN and negative values, `u32::MAX` for larger
/// ones.
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // such a cast saturates, and NaN is 0
pub fn ceil_u32(value: f64) -> u32 {
    value.ceil() as u32
}

/// Returns the largest whole number that is not above `value`; 0 for NaN and negative values, `u32::MAX` for larger
/// ones.
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // such a cast saturates, and NaN is 0
pub fn floor_u32(value: f64) -> u32 {
    value as u32
}

/// Converts an integer to a float. Exact below 2^53 and rounded beyond, where an offset only loses its last digits.
#[allow(clippy::as_conversions, clippy::cast_precision_loss)] // rounding is what the doc comment promises
pub fn of_i64(value: i64) -> f64 {
    value as f64
}

/// Returns the largest whole number that is not above `value`; 0 for NaN. Saturates.
#[allow(clippy::as_conversions, clippy::cast_possible_truncation)] // such a cast saturates, and NaN is 0
pub fn floor_i64(value: f64) -> i64 {
    value.floor() as i64
}

/// Converts a number of things in memory to a float.
pub fn of_usize(value: usize) -> f64 {
    u32::try_from(value).map_or_else(|_| f64::from(u32::MAX), f64::from)
}

/// Converts a number of things in memory to a `u32`. Saturates.
pub fn u32_of(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Converts a number whose last digits do not matter to the smaller type. A finite number remains finite.
#[allow(clippy::as_conversions, clippy::cast_possible_truncation)] // clamped to the range of f32 first
pub fn f32_of(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// Returns a number only if it is finite. Every number from outside passes through here.
pub fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Returns `a - b` as a float, without overflow.
pub fn diff(a: i64, b: i64) -> f64 {
    of_i64(a.saturating_sub(b))
}

/// Returns the `q` quantile (0 to 1) of the values, by the nearest rank from above; `None` if there are no values.
/// Reorders the values.
pub fn quantile(values: &mut [f64], q: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let rank = usize::try_from(ceil_u32(q.clamp(0.0, 1.0) * of_usize(last))).unwrap_or(last).min(last);
    let (_, value, _) = values.select_nth_unstable_by(rank, |a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    Some(*value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_saturate() {
        assert_eq!((ceil_u32(2.1), ceil_u32(-1.0), ceil_u32(f64::NAN), ceil_u32(f64::INFINITY)), (3, 0, 0, u32::MAX));
        assert_eq!((floor_u32(2.9), floor_u32(1e300)), (2, u32::MAX));
        assert!(f32_of(1e300).is_finite());
        assert!((diff(i64::MAX, i64::MIN) - of_i64(i64::MAX)).abs() < 1.0);
    }

    #[test]
    fn quantile_takes_nearest_rank_from_above() {
        let mut values: Vec<f64> = (0..=10).map(f64::from).collect();
        assert_eq!(quantile(&mut values, 0.9), Some(9.0));
        assert_eq!(quantile(&mut values, 0.95), Some(10.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
