//! Properties of server-side apply that hold for every sequence of writes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::builtin::merge_rules as rules;

/// Generates a small Deployment that a manager may apply.
fn any_configuration() -> impl Strategy<Value = Value> {
    let text = || prop::sample::select(vec!["x", "y"]);
    let container = (prop::sample::select(vec!["a", "b", "c"]), prop::option::of(text()), prop::option::of(text()));
    let labels = prop::collection::btree_map(prop::sample::select(vec!["k", "l"]), text(), 0..3);
    (
        prop::option::of(1..4_i64),
        prop::collection::vec(container, 0..3),
        labels,
        prop::collection::btree_set(text(), 0..2),
    )
        .prop_map(|(replicas, containers, labels, finalizers)| {
            let mut seen = Vec::new();
            let mut items = Vec::new();
            for (name, image, env) in containers {
                if !seen.contains(&name) {
                    seen.push(name);
                    let mut item = json!({"name": name});
                    if let Some(image) = image {
                        item["image"] = json!(image);
                    }
                    if let Some(value) = env {
                        item["env"] = json!([{"name": "E", "value": value}]);
                    }
                    items.push(item);
                }
            }
            let mut applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
                "spec": {"paused": true}});
            if let Some(replicas) = replicas {
                applied["spec"]["replicas"] = json!(replicas);
            }
            if !items.is_empty() {
                applied["spec"]["template"] = json!({"spec": {"containers": items}});
            }
            if !labels.is_empty() {
                applied["metadata"]["labels"] = json!(labels);
            }
            if !finalizers.is_empty() {
                applied["metadata"]["finalizers"] = json!(finalizers);
            }
            applied
        })
}

fn by(manager: &str) -> Write<'_> {
    Write {
        types: Types::Builtin(rules("Deployment")),
        api_version: "apps/v1",
        kind: "Deployment",
        manager,
        subresource: "",
        has_status: true,
        replicas: Some(".spec.replicas"),
        now: "2026-01-01T00:00:00Z",
    }
}

fn fields(value: &Value) -> Set {
    walk::fields(value, &Position::root(Types::Builtin(rules("Deployment")))).difference(&unowned_fields())
}

/// Returns whether applying `applied` would change at most the order of items, which has no owner.
fn contains(object: &Value, applied: &Value) -> bool {
    let position = Position::root(Types::Builtin(rules("Deployment")));
    let object = without_managed(object);
    let changes = walk::compare(&object, &walk::merge(&object, applied, &position), &position);
    changes.added.is_empty() && changes.modified.is_empty() && changes.removed.is_empty()
}

fn any_json() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "spec",
        "containers",
        "template",
        "labels",
        "finalizers",
        "managedFields",
        "operation",
        "fieldsV1",
        "f:spec",
        "k:{\"name\":\"a\"}",
        ".",
        "replicas",
        "i:0",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        (-2i64..3).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec!["a", "apps/v1", "Deployment", "Apply", "FieldsV1", ""]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// When managers apply by force in any order, the object contains what the last one applied, each manager owns
    /// what it applied less what was taken from it, and every field has an owner.
    #[test]
    fn all_fields_have_owners_and_the_last_apply_holds(
        configurations in prop::collection::vec((prop::sample::select(vec!["m1", "m2", "m3"]), any_configuration()), 1..8),
    ) {
        let mut live: Option<Value> = None;
        for (manager, applied) in &configurations {
            let made = apply(&by(manager), live.as_ref(), applied, true).unwrap();
            let managers = managers::read(managed(&made)).unwrap();
            let all = managers.values().fold(Set::default(), |all, owned| all.union(&owned.fields));
            let present = fields(&without_managed(&made));
            let ownerless: Vec<String> = present.difference(&all).paths();
            // The parents of an owned field are present without an owner of their own.
            prop_assert!(
                ownerless.iter().all(|path| all.paths().iter().any(|owned| owned.starts_with(path.as_str()))),
                "{ownerless:?}"
            );
            prop_assert!(fields(applied).difference(&present).is_empty(), "all applied fields are present");
            prop_assert!(contains(&made, applied), "the applied values are in the object");
            // Applying the same again changes nothing.
            prop_assert_eq!(&apply(&by(manager), Some(&made), applied, false).unwrap(), &made);
            live = Some(made);
        }
        // When all managers have released their fields, only the name is left.
        let nothing = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
        for manager in ["m1", "m2", "m3"] {
            live = Some(apply(&by(manager), live.as_ref(), &nothing, false).unwrap());
        }
        prop_assert_eq!(fields(&live.unwrap()).paths(), Vec::<String>::new());
    }

    /// An apply without force changes nothing that another manager owns.
    #[test]
    fn apply_without_force_takes_nothing(first in any_configuration(), second in any_configuration()) {
        let one = apply(&by("m1"), None, &first, false).unwrap();
        if let Ok(both) = apply(&by("m2"), Some(&one), &second, false) {
            let before = managers::read(managed(&one)).unwrap();
            let after = managers::read(managed(&both)).unwrap();
            let m1 = by("m1").manager(true);
            prop_assert_eq!(before.get(&m1), after.get(&m1));
            prop_assert!(contains(&both, &first));
        }
    }

    /// An update takes ownership of what it changes; the ownership of other fields stays.
    #[test]
    fn update_takes_what_it_changes(first in any_configuration(), second in any_configuration()) {
        let one = apply(&by("m1"), None, &first, false).unwrap();
        let mut new = second;
        update(&by("m2"), Some(&one), &mut new);
        let managers = managers::read(managed(&new)).unwrap();
        let m1 = managers.get(&by("m1").manager(true)).map(|owned| owned.fields.clone()).unwrap_or_default();
        let m2 = managers.get(&by("m2").manager(false)).map(|owned| owned.fields.clone()).unwrap_or_default();
        prop_assert!(m1.intersection(&m2).is_empty());
        let position = Position::root(by("m1").types);
        let changes = walk::compare(&without_managed(&one), &without_managed(&new), &position);
        let taken = changes.added.union(&changes.modified).difference(&unowned_fields());
        prop_assert_eq!(m2, taken);
    }

    #[test]
    fn malformed_objects_cause_no_panic(live in any_json(), new in any_json(), force in any::<bool>()) {
        let mut applied = new.clone();
        if let Value::Object(map) = &mut applied {
            map.insert("apiVersion".to_owned(), json!("apps/v1"));
            map.insert("kind".to_owned(), json!("Deployment"));
        }
        for subresource in ["", "status"] {
            let write = Write { subresource, ..by("m") };
            drop(apply(&write, Some(&live), &applied, force));
            drop(apply(&write, None, &applied, force));
            let mut updated = new.clone();
            update(&write, Some(&live), &mut updated);
        }
        let scale = Write { subresource: "scale", ..by("m") };
        drop(apply(&scale, Some(&live), &json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": applied}), force));
        let mut updated = new.clone();
        update(&scale, Some(&live), &mut updated);
    }
}
