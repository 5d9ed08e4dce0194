//! Counts that may be percentages of another: `3` or `"25%"`.

use serde_json::Value;

/// How a percentage is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    Up,
    Down,
}

/// Returns whether the value is a percentage.
pub(super) fn is_percentage(value: &Value) -> bool {
    value.is_string()
}

/// Returns the number, or the percentage of `whole`. 0 if the value is neither.
pub(super) fn resolve(value: Option<&Value>, whole: i64, round: Round) -> i64 {
    let Some(value) = value else { return 0 };
    if let Some(number) = value.as_i64() {
        return number;
    }
    let share = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse::<i64>().ok());
    let product = share.unwrap_or_default().saturating_mul(whole);
    match round {
        Round::Up => product.saturating_add(99).div_euclid(100),
        Round::Down => product.div_euclid(100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn percentages_are_rounded_as_requested() {
        assert_eq!(resolve(Some(&json!(3)), 10, Round::Up), 3);
        assert_eq!(resolve(Some(&json!("25%")), 10, Round::Up), 3);
        assert_eq!(resolve(Some(&json!("25%")), 10, Round::Down), 2);
        assert_eq!(resolve(Some(&json!("100%")), 7, Round::Up), 7);
        assert_eq!(resolve(None, 7, Round::Up), 0);
    }
}
