//! The parts of an answer that are the same on every server.

use serde_json::{Map, Value, json};

use super::kinds::TestKind;

/// Returns an answer without what each server determines by itself (times, versions, uids, field owners), and without
/// what other clients write on a real cluster (the status of a Deployment, and objects that the test did not create).
pub(super) fn comparable(kind: TestKind, answer: &Value) -> Value {
    let Some(object) = answer.as_object() else { return answer.clone() };
    match object.get("items") {
        Some(Value::Array(items)) => {
            let ours = items.iter().filter(|item| item["metadata"]["name"] != "kube-root-ca.crt");
            // The apiVersion and kind of list items are a known difference.
            let items: Vec<Value> =
                ours.map(|item| without(self::object(kind, item), &["apiVersion", "kind"])).collect();
            json!({"kind": object.get("kind"), "items": items})
        }
        _ if object.get("kind").is_some_and(|kind| kind == "Status") => status(object),
        _ => self::object(kind, answer),
    }
}

fn without(mut value: Value, keys: &[&str]) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| !keys.contains(&key.as_str()));
    }
    value
}

/// Returns the reason and the invalid fields, each once, because a real server reports some of them two or three
/// times. The texts of messages are tested elsewhere.
fn status(status: &Map<String, Value>) -> Value {
    let details = status.get("details").cloned().unwrap_or_default();
    let causes = details["causes"].as_array().cloned().unwrap_or_default();
    let mut causes: Vec<String> =
        causes.iter().map(|cause| format!("{} {}", text(&cause["reason"]), text(&cause["field"]))).collect();
    causes.sort();
    causes.dedup();
    json!({
        "status": status.get("status"), "reason": status.get("reason"), "causes": causes,
        "of": [details["group"], details["kind"], details["name"]],
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn object(kind: TestKind, object: &Value) -> Value {
    let mut object = object.clone();
    if kind == TestKind::Deployment && object["kind"] != "Scale" {
        object = without(object, &["status"]);
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.remove("deployment.kubernetes.io/revision");
        }
        if object.pointer("/metadata/annotations").is_some_and(|annotations| *annotations == json!({})) {
            object["metadata"] = without(object["metadata"].take(), &["annotations"]);
        }
    }
    if object["metadata"].is_object() {
        let unknowable = ["uid", "resourceVersion", "creationTimestamp", "managedFields"];
        object["metadata"] = without(object["metadata"].take(), &unknowable);
        if object["metadata"]["deletionTimestamp"].is_string() {
            object["metadata"]["deletionTimestamp"] = "some time".into();
        }
    }
    object
}

/// Returns where two results first differ: in their codes, or at a field of the answer.
pub(super) fn first_difference(ours: &Value, theirs: &Value) -> Option<String> {
    if ours["code"] != theirs["code"] {
        return Some(format!("{} from ours, {} from theirs", ours["code"], theirs["code"]));
    }
    differing(ours, theirs)
}

fn differing(one: &Value, other: &Value) -> Option<String> {
    let below = |at: &str, one: Option<&Value>, other: Option<&Value>| {
        let (one, other) = (one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null));
        differing(one, other).map(|place| format!("/{at}{place}"))
    };
    match (one, other) {
        _ if one == other => None,
        (Value::Object(one), Value::Object(other)) => {
            one.keys().chain(other.keys()).find_map(|key| below(key, one.get(key), other.get(key)))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).find_map(|(one, other)| below("*", Some(one), Some(other)))
        }
        _ => Some(String::new()),
    }
}
