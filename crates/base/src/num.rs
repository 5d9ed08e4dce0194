//! Conversions between floats and integers that say what happens at the edges. The only casts of this room.

use std::cmp::Ordering;

/// Nearest whole number at or above `value`; NaN and negative are 0, too large is `u32::MAX`.
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // such a cast saturates, and NaN is 0
pub fn ceil_u32(value: f64) -> u32 {
    value.ceil() as u32
}

/// Largest whole number at or below `value`; NaN and negative are 0, too large is `u32::MAX`.
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // such a cast saturates, and NaN is 0
pub fn floor_u32(value: f64) -> u32 {
    value as u32
}

/// Exact below 2^53; beyond, rounded: an offset that large only loses its last digits.
#[allow(clippy::as_conversions, clippy::cast_precision_loss)] // rounding is what the doc comment promises
pub fn of_i64(value: i64) -> f64 {
    value as f64
}

/// Largest whole number at or below `value`; NaN is 0; saturates.
#[allow(clippy::as_conversions, clippy::cast_possible_truncation)] // such a cast saturates, and NaN is 0
pub fn floor_i64(value: f64) -> i64 {
    value.floor() as i64
}

/// A count of things in memory.
pub fn of_usize(value: usize) -> f64 {
    u32::try_from(value).map_or_else(|_| f64::from(u32::MAX), f64::from)
}

/// A count of things in memory; saturates.
pub fn u32_of(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Small storage for numbers whose last digits do not matter; finite stays finite.
#[allow(clippy::as_conversions, clippy::cast_possible_truncation)] // clamped to the range of f32 first
pub fn f32_of(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// `Some` for a finite number only: what comes from outside passes through here.
pub fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// `a - b`, without overflow, as a float.
pub fn diff(a: i64, b: i64) -> f64 {
    of_i64(a.saturating_sub(b))
}

/// The `q` quantile (0 to 1) of the values, nearest rank from above; `None` if there are none. Reorders them.
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
    fn quantile_takes_the_nearest_rank_from_above() {
        let mut values: Vec<f64> = (0..=10).map(f64::from).collect();
        assert_eq!(quantile(&mut values, 0.9), Some(9.0));
        assert_eq!(quantile(&mut values, 0.95), Some(10.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
