//! Compares live objects with applied bodies. Pure.

/// Returns whether `live` contains everything in `wanted`. Fields that the API server has defaulted are ignored.
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

/// Returns whether the API server drops the value because it is empty.
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
    fn live_object_contains_the_applied_body() {
        let live = json!({"a": 1, "b": [{"c": 2, "d": 3}], "e": {"f": "g"}});
        assert!(contains(&live, &json!({"b": [{"c": 2}]})));
        assert!(contains(&live, &json!({"x": {}, "y": [], "e": {"f": "g"}})), "empty values are dropped by the server");
        assert!(!contains(&live, &json!({"b": [{"c": 3}]})));
        assert!(!contains(&live, &json!({"b": []})));
        assert!(!contains(&live, &json!({"x": 1})));
    }
}
