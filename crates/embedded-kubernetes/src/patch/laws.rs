//! Properties that hold for every patch of every object.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::builtin::merge_rules as rules;

/// Generates any JSON whose keys and strings include the directives of a strategic merge patch.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "a",
        "b",
        "name",
        "spec",
        "containers",
        "metadata",
        "finalizers",
        "ports",
        "containerPort",
        "$patch",
        "delete",
        "replace",
        "merge",
        "$retainKeys",
        "$setElementOrder/containers",
        "$setElementOrder/finalizers",
        "$deleteFromPrimitiveList/finalizers",
        "op",
        "path",
        "from",
        "value",
        "add",
        "/a",
        "/spec/containers/0",
        "/-",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..4).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().any(has_null),
        Value::Array(items) => items.iter().any(has_null),
        _ => false,
    }
}

fn null_in_a_list(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().any(null_in_a_list),
        list => list.is_array() && has_null(list),
    }
}

/// Returns the merge patch that turns `from` into `to`.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) => drop(patch.insert(key.clone(), difference(before, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_a_difference_gives_the_target(from in any_json(), to in any_json()) {
        prop_assume!(!has_null(&to));
        prop_assert_eq!(merge(&from, &difference(&from, &to)), to);
    }

    #[test]
    fn merge_is_idempotent(object in any_json(), patch in any_json()) {
        prop_assume!(!null_in_a_list(&patch));
        let once = merge(&object, &patch);
        prop_assert_eq!(merge(&once, &patch), once);
    }

    #[test]
    fn malformed_patches_cause_no_panic(object in any_json(), patch in any_json()) {
        drop(json_patch(&object, &patch));
        drop(json_patch(&object, &json!([patch.clone()])));
        drop(merge_patch(&object, &patch));
        for kind in ["Pod", "Deployment", "Service"] {
            drop(strategic(&object, &patch, rules(kind)));
        }
    }

    /// For an object without keyed lists, a strategic merge gives the same result as a merge patch.
    #[test]
    fn plain_strategic_merge_equals_merge_patch(
        object in prop::collection::btree_map("[a-d]", 0i64..3, 0..4),
        patch in prop::collection::btree_map("[a-d]", prop::option::of(0i64..3), 0..4),
    ) {
        let (object, patch) = (json!({"data": object}), json!({"data": patch}));
        prop_assert_eq!(strategic(&object, &patch, rules("ConfigMap")).unwrap(), merge(&object, &patch));
    }
}
