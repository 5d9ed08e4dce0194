//! The final state of a run, in a form that can be compared with other runs: without times, versions, uids and random
//! names.

use std::collections::{BTreeMap, BTreeSet};

use embedded_kubernetes::meta;
use serde_json::{Value, json};

/// Returns the comparable state of objects, one line for each. Pods of one owner are interchangeable.
pub fn ends(plural: &str, objects: &[Value]) -> BTreeSet<String> {
    let mut seen = BTreeMap::<String, u32>::new();
    objects
        .iter()
        .map(|object| {
            let name = named(object);
            let number = seen.entry(name.clone()).or_default();
            *number += 1;
            format!("{plural} {name} {number}: {}", end(plural, object))
        })
        .collect()
}

fn end(plural: &str, object: &Value) -> Value {
    let owners: Vec<&str> =
        list(object, "/metadata/ownerReferences").iter().map(|owner| meta::text(owner, "/name")).collect();
    let labels = object.pointer("/metadata/labels").cloned().unwrap_or_default();
    let ready = |condition: &&Value| condition["type"] == "Ready";
    match plural {
        "streamjobs" => {
            let conditions: Vec<Value> = list(object, "/status/conditions")
                .iter()
                .map(|one| json!([one["type"], one["status"], one["reason"]]))
                .collect();
            json!({
                "spec": object["spec"], "replicas": object["status"]["replicas"], "ready": object["status"]["readyReplicas"],
                "conditions": conditions,
                "current": object["status"]["observedGeneration"] == object["metadata"]["generation"],
            })
        }
        "pods" => json!({
            "owners": owners.len(), "labels": labels,
            "ready": list(object, "/status/conditions").iter().find(ready).map(|condition| condition["status"].clone()),
        }),
        "configmaps" => json!({"data": object["data"], "owners": owners, "labels": labels}),
        _ => {
            let managers: BTreeSet<&str> =
                list(object, "/metadata/managedFields").iter().map(|entry| meta::text(entry, "/manager")).collect();
            json!({"spec": object["spec"], "owners": owners, "labels": labels, "managers": managers})
        }
    }
}

/// Returns the name of an object without its random suffix.
pub fn named(object: &Value) -> String {
    match meta::text(object, "/metadata/generateName") {
        "" => meta::name(object).to_owned(),
        begin => format!("{begin}*"),
    }
}

/// Returns a list in an object, or an empty one.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
