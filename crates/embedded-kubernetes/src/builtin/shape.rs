//! Objects and their API types: the fields that a type has, and what is dropped or refused.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource, ResourceScope};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::kinds::Kind;
use crate::meta;
use crate::status::Status;

/// What the generated type of a built-in kind gives.
#[derive(Debug)]
pub struct ApiType {
    /// The group. Empty: the core group.
    pub group: &'static str,
    /// The version, such as `v1`.
    pub version: &'static str,
    /// The kind, in CamelCase.
    pub kind: &'static str,
    /// The plural, in lower case.
    pub plural: &'static str,
    /// Whether the objects are in namespaces.
    pub namespaced: bool,
    /// Adds the schema to the generator's, and returns a reference to it.
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
    /// Reads an object into the type and writes it back.
    pub(super) read: fn(&mut Value) -> Result<(), serde_json::Error>,
}

/// Whether objects are in namespaces, of the markers in the generated types.
pub(super) trait Scoped: ResourceScope {
    /// Whether they are.
    const NAMESPACED: bool;
}

impl Scoped for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}

impl Scoped for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

impl ApiType {
    /// The type `T`.
    pub(super) const fn of<T>() -> Self
    where
        T: Resource<Scope: Scoped> + JsonSchema + DeserializeOwned + Serialize,
    {
        Self {
            group: T::GROUP,
            version: T::VERSION,
            kind: T::KIND,
            plural: T::URL_PATH_SEGMENT,
            namespaced: <T::Scope as Scoped>::NAMESPACED,
            schema: |generator| generator.subschema_for::<T>(),
            read: read_object::<T>,
        }
    }

    /// The type `T`, for which a missing `spec.selector` differs from an empty one. The generated type has an empty one
    /// in both cases, but they are different mistakes.
    pub(super) const fn with_selector<T>() -> Self
    where
        T: Resource<Scope: Scoped> + JsonSchema + DeserializeOwned + Serialize,
    {
        Self { read: read_selecting::<T>, ..Self::of::<T>() }
    }

    /// The type `T`, of which only the metadata is read: the rest is kept as it is given.
    pub(super) const fn free_form<T>() -> Self
    where
        T: Resource<Scope: Scoped> + JsonSchema + DeserializeOwned + Serialize,
    {
        Self { read: read_metadata_only, ..Self::of::<T>() }
    }
}

fn round_trip<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(T::deserialize(object)?)
}

fn read_object<T: DeserializeOwned + Serialize>(object: &mut Value) -> Result<(), serde_json::Error> {
    *object = round_trip::<T>(object)?;
    Ok(())
}

fn read_selecting<T: DeserializeOwned + Serialize>(object: &mut Value) -> Result<(), serde_json::Error> {
    let without = object.get("spec").is_some_and(|spec| spec.get("selector").is_none());
    read_object::<T>(object)?;
    if without {
        meta::entry(meta::as_map(object), "spec").remove("selector");
    }
    Ok(())
}

fn read_metadata_only(object: &mut Value) -> Result<(), serde_json::Error> {
    let mut metadata = typed_metadata(object)?;
    drop_empty(&mut metadata);
    meta::as_map(object).insert("metadata".to_owned(), metadata);
    Ok(())
}

fn typed_metadata(object: &Value) -> Result<Value, serde_json::Error> {
    match object.get("metadata") {
        Some(metadata) => round_trip::<ObjectMeta>(metadata),
        None => round_trip::<ObjectMeta>(&Value::Object(Map::new())),
    }
}

/// Reads the metadata of a custom resource into its type and writes it back, which drops unknown and empty fields.
pub fn shape_metadata(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    read_metadata_only(object).map_err(|error| does_not_fit(&kind.kind, &kind.version, &error))
}

/// Does the same as [`shape_metadata`], but keeps empty lists and maps.
pub fn read_metadata(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    let metadata = typed_metadata(object).map_err(|error| does_not_fit(&kind.kind, &kind.version, &error))?;
    meta::as_map(object).insert("metadata".to_owned(), metadata);
    Ok(())
}

pub(super) fn does_not_fit(kind: &str, version: &str, error: &serde_json::Error) -> Status {
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
}

/// The maps of text. An empty one is the same as none, as in the real server's types.
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

/// Drops nulls, and empty lists and maps. To the real server they are the same as absent fields.
pub(super) fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| match value {
                Value::Null => false,
                Value::Array(list) => !list.is_empty(),
                Value::Object(fields) => !(fields.is_empty() && MAPS.contains(&key.as_str())),
                _ => true,
            });
            map.iter_mut().filter(|(key, _)| *key != "fieldsV1").for_each(|(_, value)| drop_empty(value));
        }
        Value::Array(list) => list.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

/// Returns the paths of the fields of `given` that `kept` does not have: those that a request names and the kind does
/// not know.
pub fn missing(given: &Value, kept: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    add_missing(given, kept, "", &mut paths);
    paths
}

fn add_missing(given: &Value, kept: &Value, path: &str, paths: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match kept.get(key) {
                    Some(other) => add_missing(value, other, &path, paths),
                    None if value.is_null() => {}
                    None => paths.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (at, (given, kept)) in given.iter().zip(kept).enumerate() {
                add_missing(given, kept, &format!("{path}[{at}]"), paths);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::Registry;

    #[test]
    fn unknown_fields_are_dropped_and_named() {
        let registry = Registry::new(std::iter::empty());
        let pod = registry.at("", "v1", "pods").unwrap().builtin().unwrap();
        let given = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "labels": {}, "creationTimestamp": "2026-11-25T10:08:52Z"},
            "spec": {"containers": [{"name": "c", "imagee": "x", "env": [], "resources": {}}], "nodeName": null},
            "foo": 1,
        });
        let mut object = given.clone();
        pod.shape(&mut object).unwrap();
        assert_eq!(
            object,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "creationTimestamp": "2026-11-25T10:08:52Z"},
                "spec": {"containers": [{"name": "c", "resources": {}}]},
            })
        );
        let mut whole = given.clone();
        pod.read(&mut whole).unwrap();
        assert_eq!(missing(&given, &whole), ["foo", "spec.containers[0].imagee"]);
    }

    #[test]
    fn wrong_types_are_refused() {
        let registry = Registry::new(std::iter::empty());
        let pod = registry.at("", "v1", "pods").unwrap().builtin().unwrap();
        assert_eq!(pod.shape(&mut json!({"metadata": {"name": 1}})).unwrap_err().code, 400);
    }
}
