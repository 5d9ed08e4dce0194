//! The shape of the built-in kinds: their fields and types, taken from the generated API types, their defaults and
//! their rules.

mod defaults;
mod events;
mod pods;
mod rules;
mod schemas;

use k8s_openapi::api::{
    apps::v1 as apps, authorization::v1 as authorization, batch::v1 as batch, coordination::v1 as coordination,
    core::v1 as core, events::v1 as events_api, policy::v1 as policy, rbac::v1 as rbac,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as machinery;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use defaults::set as set_defaults;
pub use events::{from_core as events_from_core, to_core as events_to_core};
pub use rules::{on_create, on_update};
pub use schemas::schemas;

use super::kinds::Kind;
use super::meta;
use super::status::Status;

/// Reads the object into the type of its kind and writes it back: what the type does not know is dropped, what does
/// not fit is an error.
pub fn shape(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    clean(object);
    read(kind, object)?;
    clean(object);
    if kind.is("", "Pod") {
        times(object);
    }
    Ok(())
}

/// Times that are written even where there are none.
fn times(pod: &mut Value) {
    let conditions = pod.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        for time in ["lastProbeTime", "lastTransitionTime"] {
            condition.entry(time).or_insert(Value::Null);
        }
    }
}

/// The same, but for what is empty: it stays.
pub fn read(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    if kind.is_custom() {
        let given = object.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new()));
        let metadata = through::<machinery::ObjectMeta>(&given).map_err(|error| unfit(kind, &error))?;
        meta::as_map(object).insert("metadata".to_owned(), metadata);
        return Ok(());
    }
    // The types have an empty one where there is none, which is another mistake.
    let unselected = kind.group == "apps" && object.get("spec").is_some_and(|spec| spec.get("selector").is_none());
    let shaped = match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "ConfigMap") => through::<core::ConfigMap>(object),
        ("", "Event") => through::<core::Event>(object),
        ("", "Namespace") => through::<core::Namespace>(object),
        ("", "Node") => through::<core::Node>(object),
        ("", "Pod") => through::<core::Pod>(object),
        ("", "ResourceQuota") => through::<core::ResourceQuota>(object),
        ("", "Secret") => through::<core::Secret>(object),
        ("", "Service") => through::<core::Service>(object),
        ("", "ServiceAccount") => through::<core::ServiceAccount>(object),
        ("apps", "ControllerRevision") => through::<apps::ControllerRevision>(object),
        ("apps", "Deployment") => through::<apps::Deployment>(object),
        ("apps", "ReplicaSet") => through::<apps::ReplicaSet>(object),
        ("apps", "StatefulSet") => through::<apps::StatefulSet>(object),
        ("batch", "Job") => through::<batch::Job>(object),
        ("coordination.k8s.io", "Lease") => through::<coordination::Lease>(object),
        ("events.k8s.io", "Event") => through::<events_api::Event>(object),
        ("policy", "PodDisruptionBudget") => through::<policy::PodDisruptionBudget>(object),
        ("rbac.authorization.k8s.io", "ClusterRole") => through::<rbac::ClusterRole>(object),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => through::<rbac::ClusterRoleBinding>(object),
        ("rbac.authorization.k8s.io", "Role") => through::<rbac::Role>(object),
        ("rbac.authorization.k8s.io", "RoleBinding") => through::<rbac::RoleBinding>(object),
        ("authorization.k8s.io", _) => through::<authorization::SelfSubjectAccessReview>(object),
        // The schemas in a definition are free-form enough to be left as they are.
        _ => through_metadata(object).map(|()| object.clone()),
    };
    *object = shaped.map_err(|error| unfit(kind, &error))?;
    if unselected {
        meta::entry(meta::as_map(object), "spec").remove("selector");
    }
    Ok(())
}

/// Reads `metadata` of a custom resource into its type and writes it back.
pub fn shape_metadata(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    through_metadata(object).map_err(|error| unfit(kind, &error))
}

fn unfit(kind: &Kind, error: &serde_json::Error) -> Status {
    Status::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {error}",
        kind.kind, kind.version, kind.kind
    ))
}

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, serde_json::Error> {
    // From text, so that an error says where it is.
    let typed: T = T::deserialize(object)?;
    serde_json::to_value(typed)
}

fn through_metadata(object: &mut Value) -> Result<(), serde_json::Error> {
    let given = object.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let mut shaped = through::<machinery::ObjectMeta>(&given)?;
    clean(&mut shaped);
    meta::as_map(object).insert("metadata".to_owned(), shaped);
    Ok(())
}

/// The maps of text; an empty one is the same as none, as it is in the real server's types.
const MAPS: &[&str] = &[
    "annotations",
    "binaryData",
    "data",
    "immutableAnnotations",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "overhead",
    "stringData",
];

/// Drops what is null, and the lists and maps that are empty: to the real server they are the same as none.
fn clean(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| match value {
                Value::Null => false,
                Value::Array(list) => !list.is_empty(),
                Value::Object(fields) => !(fields.is_empty() && MAPS.contains(&key.as_str())),
                _ => true,
            });
            map.iter_mut().filter(|(key, _)| *key != "fieldsV1").for_each(|(_, value)| clean(value));
        }
        Value::Array(list) => list.iter_mut().for_each(clean),
        _ => {}
    }
}

/// The fields of one object that are missing in another, as paths: what a request named that nobody knows.
pub fn missing(given: &Value, kept: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    compare(given, kept, "", &mut paths);
    paths
}

fn compare(given: &Value, kept: &Value, path: &str, paths: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match kept.get(key) {
                    Some(other) => compare(value, other, &path, paths),
                    None if value.is_null() => {}
                    None => paths.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (at, (given, kept)) in given.iter().zip(kept).enumerate() {
                compare(given, kept, &format!("{path}[{at}]"), paths);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Registry;
    use serde_json::json;

    #[test]
    fn unknown_fields_are_dropped_and_named_and_wrong_types_refused() {
        let registry = Registry::new(std::iter::empty());
        let kind = registry.at("", "v1", "pods").unwrap();
        let given = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "labels": {}, "creationTimestamp": "2026-11-25T10:08:52Z"},
            "spec": {"containers": [{"name": "c", "imagee": "x", "env": [], "resources": {}}], "nodeName": null},
            "foo": 1,
        });
        let mut object = given.clone();
        shape(kind, &mut object).unwrap();
        assert_eq!(
            object,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "creationTimestamp": "2026-11-25T10:08:52Z"},
                "spec": {"containers": [{"name": "c", "resources": {}}]},
            })
        );
        let mut whole = given.clone();
        read(kind, &mut whole).unwrap();
        assert_eq!(missing(&given, &whole), ["foo", "spec.containers[0].imagee"]);
        let error = shape(kind, &mut json!({"metadata": {"name": 1}})).unwrap_err();
        assert_eq!(error.code, 400);
    }
}
