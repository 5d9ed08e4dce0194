//! What holds of every sequence of writes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::builtin::merge_rules as rules;

/// A small Deployment, as somebody may want it.
fn any_wish() -> impl Strategy<Value = Value> {
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
            let mut wish = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
                "spec": {"paused": true}});
            if let Some(replicas) = replicas {
                wish["spec"]["replicas"] = json!(replicas);
            }
            if !items.is_empty() {
                wish["spec"]["template"] = json!({"spec": {"containers": items}});
            }
            if !labels.is_empty() {
                wish["metadata"]["labels"] = json!(labels);
            }
            if !finalizers.is_empty() {
                wish["metadata"]["finalizers"] = json!(finalizers);
            }
            wish
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
    walk::fields(value, &Place::root(Types::Builtin(rules("Deployment")))).difference(&nobodys())
}

/// Whether applying `wish` would change nothing but the order of items, which nobody owns.
fn says(object: &Value, wish: &Value) -> bool {
    let place = Place::root(Types::Builtin(rules("Deployment")));
    let object = without_managed(object);
    let changes = walk::compare(&object, &walk::merge(&object, wish, &place), &place);
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

    /// Of whatever many managers apply by force, the object has what the last one said, each has what it said less what
    /// was taken from it, and nothing is there that nobody has.
    #[test]
    fn everything_has_an_owner_and_the_last_word_holds(
        wishes in prop::collection::vec((prop::sample::select(vec!["m1", "m2", "m3"]), any_wish()), 1..8),
    ) {
        let mut live: Option<Value> = None;
        for (manager, wish) in &wishes {
            let made = apply(&by(manager), live.as_ref(), wish, true).unwrap();
            let managers = managers::read(managed(&made)).unwrap();
            let all = managers.values().fold(Set::default(), |all, owned| all.union(&owned.fields));
            let there = fields(&without_managed(&made));
            let ownerless: Vec<String> = there.difference(&all).paths();
            // What is on the way to something is there with it.
            prop_assert!(
                ownerless.iter().all(|path| all.paths().iter().any(|owned| owned.starts_with(path.as_str()))),
                "{ownerless:?}"
            );
            prop_assert!(fields(wish).difference(&there).is_empty(), "what was applied is there");
            prop_assert!(says(&made, wish), "and says what it said");
            // Applied again, it changes nothing.
            prop_assert_eq!(&apply(&by(manager), Some(&made), wish, false).unwrap(), &made);
            live = Some(made);
        }
        // When all let go, nothing is left but the name.
        let nothing = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
        for manager in ["m1", "m2", "m3"] {
            live = Some(apply(&by(manager), live.as_ref(), &nothing, false).unwrap());
        }
        prop_assert_eq!(fields(&live.unwrap()).paths(), Vec::<String>::new());
    }

    /// An apply that is not forced changes nothing that another manager has.
    #[test]
    fn without_force_nothing_is_taken(first in any_wish(), second in any_wish()) {
        let one = apply(&by("m1"), None, &first, false).unwrap();
        if let Ok(both) = apply(&by("m2"), Some(&one), &second, false) {
            let before = managers::read(managed(&one)).unwrap();
            let after = managers::read(managed(&both)).unwrap();
            let m1 = by("m1").manager(true);
            prop_assert_eq!(before.get(&m1), after.get(&m1));
            prop_assert!(says(&both, &first));
        }
    }

    /// An update takes what it changes, and the rest stays where it was.
    #[test]
    fn an_update_takes_what_it_changes(first in any_wish(), second in any_wish()) {
        let one = apply(&by("m1"), None, &first, false).unwrap();
        let mut new = second;
        update(&by("m2"), Some(&one), &mut new);
        let managers = managers::read(managed(&new)).unwrap();
        let m1 = managers.get(&by("m1").manager(true)).map(|owned| owned.fields.clone()).unwrap_or_default();
        let m2 = managers.get(&by("m2").manager(false)).map(|owned| owned.fields.clone()).unwrap_or_default();
        prop_assert!(m1.intersection(&m2).is_empty());
        let place = Place::root(by("m1").types);
        let changes = walk::compare(&without_managed(&one), &without_managed(&new), &place);
        let taken = changes.added.union(&changes.modified).difference(&nobodys());
        prop_assert_eq!(m2, taken);
    }

    #[test]
    fn nothing_makes_it_panic(live in any_json(), new in any_json(), force in any::<bool>()) {
        let mut wish = new.clone();
        if let Value::Object(wish) = &mut wish {
            wish.insert("apiVersion".to_owned(), json!("apps/v1"));
            wish.insert("kind".to_owned(), json!("Deployment"));
        }
        for subresource in ["", "status"] {
            let write = Write { subresource, ..by("m") };
            drop(apply(&write, Some(&live), &wish, force));
            drop(apply(&write, None, &wish, force));
            let mut updated = new.clone();
            update(&write, Some(&live), &mut updated);
        }
        let scale = Write { subresource: "scale", ..by("m") };
        drop(apply(&scale, Some(&live), &json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": wish}), force));
        let mut updated = new.clone();
        update(&scale, Some(&live), &mut updated);
    }
}
