//! Numbers that may be shares of another: `3` or `"25%"`.

use serde_json::Value;

/// Which way a share is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    Up,
    Down,
}

/// Whether it is a share.
pub(super) fn is_share(value: &Value) -> bool {
    value.is_string()
}

/// The number itself, or the share of `whole`. 0 if it is neither.
pub(super) fn of(value: Option<&Value>, whole: i64, round: Round) -> i64 {
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
    fn shares_are_rounded_as_asked() {
        assert_eq!(of(Some(&json!(3)), 10, Round::Up), 3);
        assert_eq!(of(Some(&json!("25%")), 10, Round::Up), 3);
        assert_eq!(of(Some(&json!("25%")), 10, Round::Down), 2);
        assert_eq!(of(Some(&json!("100%")), 7, Round::Up), 7);
        assert_eq!(of(None, 7, Round::Up), 0);
    }
}
