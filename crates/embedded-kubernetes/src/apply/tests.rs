//! Compares with what a real 1.34 server did at the same steps, as recorded without times in `recorded/`.

use serde_json::{Value, json};

use super::*;
use crate::builtin::merge_rules as rules;
use crate::schema::Schema;

fn recorded() -> Vec<Value> {
    serde_json::from_str(include_str!("recorded/steps.json")).unwrap()
}

fn schema_of_w() -> Schema {
    let features: Value = serde_json::from_str(include_str!("../schema/recorded/features.json")).unwrap();
    Schema::from_crd_version(&features["version"]).unwrap()
}

fn timeless(object: &Value) -> Value {
    let mut object = object.clone();
    let entries = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
    for entry in entries.into_iter().flatten() {
        entry.as_object_mut().unwrap().remove("time");
    }
    object
}

/// Returns the entries in a fixed order, because the real server sorts them by time.
fn entries(object: &Value) -> Vec<String> {
    let entries = timeless(object);
    let mut entries: Vec<String> =
        managed(&entries).and_then(Value::as_array).into_iter().flatten().map(ToString::to_string).collect();
    entries.sort();
    entries
}

fn sorted(causes: &Value) -> Vec<String> {
    let mut causes: Vec<String> = causes.as_array().into_iter().flatten().map(ToString::to_string).collect();
    causes.sort();
    causes
}

fn write<'a>(types: Types<'a>, step: &'a Value, version: &'a str) -> Write<'a> {
    let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
    Write {
        types,
        api_version: version,
        kind: text("kind"),
        manager: text("manager"),
        subresource: text("sub"),
        has_status: text("kind") == "Deployment" || text("kind") == "StreamJob",
        replicas: Some(if text("kind") == "W" { ".spec.i32" } else { ".spec.replicas" }),
        now: "2026-01-01T00:00:00Z",
    }
}

/// Each step starts with the object that the real server had after the previous one.
#[test]
fn each_recorded_step_matches_the_real_server() {
    let schema = schema_of_w();
    let mut objects: std::collections::BTreeMap<String, Value> = std::collections::BTreeMap::new();
    let mut wrong = Vec::new();
    for step in &recorded() {
        let (label, kind) = (step["label"].as_str().unwrap(), step["kind"].as_str().unwrap());
        if kind == "StreamJob" {
            continue;
        }
        let (types, version) = match kind {
            "W" => (Types::Custom(&schema), "example.com/v1"),
            "ConfigMap" => (Types::Builtin(rules(kind)), "v1"),
            _ => (Types::Builtin(rules(kind)), "apps/v1"),
        };
        let write = write(types, step, version);
        let name = |object: &Value| format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
        let key = step.get("live").map_or_else(|| name(&step["body"]), &name);
        let before = objects.get(&key);
        let force = step["force"] == true;
        let got = if step["op"] == "apply" {
            apply(&write, before, &step["body"], force)
        } else {
            let mut new = step["live"].clone();
            let reset = (label == "reset").then(|| json!([]));
            set_managed(&mut new, reset);
            update(&write, before, &mut new);
            Ok(new)
        };
        match (&got, step["code"].as_u64().unwrap()) {
            (Ok(got), 200 | 201) => {
                if entries(got) != entries(&step["live"]) {
                    wrong.push(format!("{label}\n  got  {:#?}\n  want {:#?}", entries(got), entries(&step["live"])));
                }
                let mut made = timeless(got);
                if kind == "W" {
                    schema.prune(&mut made);
                    schema.default(&mut made);
                    if made["spec"] != step["live"]["spec"] && step["op"] == "apply" && step.get("sub").is_none() {
                        wrong.push(format!("{label}\n  got  {}\n  want {}", made["spec"], step["live"]["spec"]));
                    }
                }
            }
            (Err(status), code) if u64::from(status.code) == code => {
                if status.message != step["message"].as_str().unwrap() {
                    wrong.push(format!("{label}\n  got  {}\n  want {}", status.message, step["message"]));
                }
                let causes = status.to_value().pointer("/details/causes").cloned().unwrap_or_default();
                if sorted(&causes) != sorted(&step["causes"]) {
                    wrong.push(format!("{label}\n  got  {causes}\n  want {}", step["causes"]));
                }
            }
            (got, code) => wrong.push(format!("{label}: {got:?}, not {code}")),
        }
        if let Some(live) = step.get("live") {
            objects.insert(key, live.clone());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn deployment(spec: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

fn by<'a>(manager: &'a str, subresource: &'a str) -> Write<'a> {
    Write {
        types: Types::Builtin(rules("Deployment")),
        api_version: "apps/v1",
        kind: "Deployment",
        manager,
        subresource,
        has_status: true,
        replicas: Some(".spec.replicas"),
        now: "2026-01-01T00:00:00Z",
    }
}

fn scale(replicas: i64) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": replicas}})
}

/// Returns the owners of `.spec.replicas`: manager and subresource.
fn owners(object: &Value) -> Vec<(String, String)> {
    let entries = managed(object).and_then(Value::as_array).into_iter().flatten();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    entries
        .filter(|entry| entry.pointer("/fieldsV1/f:spec/f:replicas").is_some())
        .map(|entry| (text(entry, "manager"), text(entry, "subresource")))
        .collect()
}

/// Recorded results for each live count and each count applied to /scale, with and without an owner before.
#[test]
fn applied_scale_takes_ownership_of_the_count() {
    for (live, desired, conflict) in [(0, 0, true), (0, 5, true), (3, 0, true), (3, 5, true), (3, 3, false)] {
        let owned = apply(&by("m1", ""), None, &deployment(&json!({"replicas": live, "paused": true})), false).unwrap();
        let answer = apply(&by("sc", "scale"), Some(&owned), &scale(desired), false);
        assert_eq!(answer.is_err(), conflict, "{live} {desired}");
        if let Err(error) = answer {
            assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"m1\": .spec.replicas");
        }
        let forced = apply(&by("sc", "scale"), Some(&owned), &scale(desired), true).unwrap();
        assert_eq!(forced["spec"]["replicas"], desired);
        let mut expected = vec![("sc".to_owned(), "scale".to_owned())];
        if !conflict {
            expected.insert(0, ("m1".to_owned(), String::new()));
        }
        let mut owners = owners(&forced);
        owners.sort();
        assert_eq!(owners, expected, "{live} {desired}");
        let others = managed(&forced).unwrap().as_array().unwrap().len();
        assert_eq!(others, 2, "m1 keeps its other fields");
    }
    for (live, desired, conflict) in [(0, 0, false), (0, 5, false), (3, 0, true), (3, 5, true)] {
        let unowned = deployment(&json!({"replicas": live}));
        let answer = apply(&by("sc", "scale"), Some(&unowned), &scale(desired), false);
        match answer {
            Ok(_) if conflict => panic!("{live} {desired}"),
            Ok(made) => assert_eq!(owners(&made), [("sc".to_owned(), "scale".to_owned())], "{live} {desired}"),
            Err(error) => assert_eq!(
                error.message,
                "Apply failed with 1 conflict: conflict with \"before-first-apply\" with subresource \"scale\" using \
                 autoscaling/v1: .spec.replicas"
            ),
        }
        let forced = apply(&by("sc", "scale"), Some(&unowned), &scale(desired), true).unwrap();
        assert_eq!(owners(&forced), [("sc".to_owned(), "scale".to_owned())]);
    }
}

/// The messages are recorded.
#[test]
fn scale_cannot_be_applied_to_a_custom_resource() {
    let schema = schema_of_w();
    let write = Write { types: Types::Custom(&schema), replicas: Some(".spec.i32"), ..by("sc", "scale") };
    let object = |fields: Value| json!({"metadata": {"name": "f", "namespace": "default", "managedFields": fields}, "spec": {"i32": 3}});
    let refused = |live: &Value| apply(&write, Some(live), &scale(5), true).unwrap_err().message;
    let why = "; autoscaling/v1, Kind=Scale) to proper version: request to convert CR to an invalid group/version: \
               autoscaling/v1";
    assert_eq!(
        refused(&object(Value::Null)),
        format!("failed to create manager for existing fields: failed to convert live object (/{why}")
    );
    let owned = json!([{"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:i32": {}}}}]);
    assert_eq!(refused(&object(owned.clone())), format!("failed to convert new object (default/f{why}"));
    assert!(apply(&write, Some(&object(owned)), &scale(3), false).is_ok(), "the same number");
}

#[test]
fn scale_update_of_an_unowned_count_is_not_recorded() {
    let live = deployment(&json!({"replicas": 3}));
    let mut new = deployment(&json!({"replicas": 4}));
    update(&by("hpa", "scale"), Some(&live), &mut new);
    assert_eq!(managed(&new), None);
}

#[test]
fn apply_without_a_change_keeps_the_time() {
    let first = apply(&by("m1", ""), None, &deployment(&json!({"replicas": 1})), false).unwrap();
    let later = Write { now: "2027-01-01T00:00:00Z", ..by("m1", "") };
    assert_eq!(apply(&later, Some(&first), &deployment(&json!({"replicas": 1})), false).unwrap(), first);
    let changed = apply(&later, Some(&first), &deployment(&json!({"replicas": 2})), false).unwrap();
    assert_eq!(managed(&changed).unwrap()[0]["time"], "2027-01-01T00:00:00Z");
}

/// The first server-side apply by kubectl after it has applied the object client-side.
#[test]
fn kubectl_takes_over_its_client_side_apply() {
    let applied = deployment(&json!({"replicas": 1, "paused": true}));
    let mut live = applied.clone();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: applied.to_string()});
    let mut made = live.clone();
    update(&by("kubectl-client-side-apply", ""), None, &mut made);
    let desired = deployment(&json!({"replicas": 2, "paused": true}));
    assert!(apply(&by("m1", ""), Some(&made), &desired, false).is_err());
    let taken = apply(&by("kubectl", ""), Some(&made), &desired, false).unwrap();
    assert_eq!(taken["spec"]["replicas"], 2);
    assert_eq!(taken["metadata"]["annotations"][LAST_APPLIED], applied.to_string(), "the annotation is unchanged");
    // A field that another manager has changed since is a conflict.
    made["spec"]["replicas"] = json!(7);
    assert!(apply(&by("kubectl", ""), Some(&made), &desired, false).is_err());
}

#[test]
fn oldest_updating_managers_are_merged() {
    let mut live = deployment(&json!({}));
    live["metadata"]["labels"] = json!({});
    update(&by("m0", ""), None, &mut live);
    for number in 0..14 {
        let mut new = live.clone();
        new["metadata"]["labels"][format!("l{number}")] = json!("x");
        let (manager, now) = (format!("m{number}"), format!("2026-01-01T00:00:{number:02}Z"));
        update(&Write { now: &now, ..by(&manager, "") }, Some(&live), &mut new);
        live = new;
    }
    let entries = managed(&live).unwrap().as_array().unwrap().clone();
    assert_eq!(entries.len(), 10);
    let oldest = entries.iter().find(|entry| entry["manager"] == "ancient-changes").unwrap();
    let labels = oldest.pointer("/fieldsV1/f:metadata/f:labels").unwrap();
    assert_eq!(labels.as_object().unwrap().keys().collect::<Vec<_>>(), [".", "f:l0", "f:l1", "f:l2", "f:l3", "f:l4"]);
}

#[test]
fn managed_fields_of_an_update_are_used_if_valid() {
    let live = apply(&by("m1", ""), None, &deployment(&json!({"replicas": 1})), false).unwrap();
    let with = |entries: Value| {
        let mut new = live.clone();
        set_managed(&mut new, Some(entries));
        update(&by("m2", ""), Some(&live), &mut new);
        managed(&new).cloned()
    };
    assert_eq!(with(json!("x")).as_ref(), managed(&live), "unreadable");
    assert_eq!(with(json!([{"manager": "q"}])).as_ref(), managed(&live), "unreadable");
    assert_eq!(with(json!([])), None);
    assert_eq!(with(json!([{}])), None);
    let mut other = managed(&live).unwrap().clone();
    other[0]["manager"] = json!("renamed");
    assert_eq!(with(other.clone()), Some(other));
}

/// A status apply owns nothing of the object, and an apply of the object owns nothing of the status.
#[test]
fn status_and_object_have_separate_owners() {
    let job = |spec: Value, status: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec, "status": status});
    let first = apply(&by("m1", ""), None, &job(json!({"replicas": 1}), json!({"replicas": 5})), false).unwrap();
    assert_eq!(managed(&first).unwrap()[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    let status =
        apply(&by("op", "status"), Some(&first), &job(json!({"replicas": 9}), json!({"replicas": 2})), false).unwrap();
    let entry = &managed(&status).unwrap().as_array().unwrap()[1];
    assert_eq!(
        (&entry["subresource"], &entry["fieldsV1"]),
        (&json!("status"), &json!({"f:status": {"f:replicas": {}}}))
    );
}

#[test]
fn apply_that_violates_the_schema_is_refused() {
    let schema = schema_of_w();
    let write = Write { types: Types::Custom(&schema), api_version: "v", kind: "W", ..by("m", "") };
    let refused = |spec: Value| {
        let object = json!({"apiVersion": "v", "kind": "W", "metadata": {"name": "w"}, "spec": spec});
        apply(&write, None, &object, false).map(drop).map_err(|error| (error.code, error.message))
    };
    let message = |why: &str| Err((500, format!("failed to create typed patch object (/w; v, Kind=W): {why}")));
    assert_eq!(refused(json!({"frob": 1})), message(".spec.frob: field not declared in schema"));
    assert_eq!(
        refused(json!({"map": [{"q": "x"}]})),
        message(
            ".spec.map: element 0: associative list with keys has an element that omits key field \"p\" (and doesn't have default value)"
        )
    );
    assert_eq!(refused(json!({"pre": {"anything": 1}})), Ok(()));
}
