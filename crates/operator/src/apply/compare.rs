//! Live objects beside what was applied to them. Pure.

/// Whether `live` has everything that `wanted` has; what the API server has filled in is not looked at.
pub(crate) fn contains(live: &serde_json::Value, wanted: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object};
    match (live, wanted) {
        (Object(live), Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| live.get(key).map_or_else(|| is_empty(wanted), |live| contains(live, wanted))),
        (Array(live), Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

/// The API server drops empty values.
fn is_empty(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Object(map) => map.values().all(is_empty),
        serde_json::Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::contains;

    #[test]
    fn a_live_object_contains_what_was_applied_whatever_else_it_has() {
        let live = json!({"a": 1, "b": [{"c": 2, "d": 3}], "e": {"f": "g"}});
        assert!(contains(&live, &json!({"b": [{"c": 2}]})));
        assert!(contains(&live, &json!({"x": {}, "y": [], "e": {"f": "g"}})), "empty values are dropped by the server");
        assert!(!contains(&live, &json!({"b": [{"c": 3}]})));
        assert!(!contains(&live, &json!({"b": []})));
        assert!(!contains(&live, &json!({"x": 1})));
    }
}
