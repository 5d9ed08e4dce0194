//! `OpenAPI` v3 documents, sufficient for `kubectl explain`, `kubectl apply` and their validation: the schemas, and
//! for each path the kind and the parameters of its operations.

use std::hash::Hasher as _;

use fnv::FnvHasher;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use crate::builtin;
use crate::kinds::{Kind, Registry};

/// Answers `/openapi/v3` and the documents that it lists.
pub(super) fn answer(registry: &Registry, path: &str) -> Answer {
    let rest = path.trim_start_matches("/openapi/v3").trim_matches('/');
    if rest.is_empty() {
        return Answer::value(index(registry));
    }
    let parts: Vec<&str> = rest.split('/').collect();
    let (group, version) = match parts.as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return Answer::no_such_path(),
    };
    let kinds: Vec<&Kind> = registry.in_version(group, version).map(AsRef::as_ref).collect();
    if kinds.is_empty() { Answer::no_such_path() } else { Answer::value(document(&kinds)) }
}

fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, versions) in registry.groups() {
        for version in versions {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            // Clients cache documents by this address, so it changes with the definitions.
            let hash = hash(registry, &group, &version);
            let address = format!("/openapi/v3/{path}?hash={hash:016X}");
            paths.insert(path, json!({"serverRelativeURL": address}));
        }
    }
    json!({"paths": paths})
}

fn hash(registry: &Registry, group: &str, version: &str) -> u64 {
    let text = registry.in_version(group, version).map(|kind| {
        let schema = kind.custom().map(|custom| custom.version.to_string()).unwrap_or_default();
        format!("{}{schema}", kind.plural)
    });
    // FNV-1a, which returns the same in every process.
    let mut hasher = FnvHasher::default();
    text.for_each(|text| hasher.write(text.as_bytes()));
    hasher.finish()
}

fn document(kinds: &[&Kind]) -> Value {
    let (mut schemas, named) = builtin::schemas(kinds.iter().copied());
    let mut all: Vec<(&Kind, String)> = named;
    for kind in kinds.iter().filter(|kind| kind.is_custom()) {
        let name = format!("{}.{}.{}", reversed(&kind.group), kind.version, kind.kind);
        schemas.insert(name.clone(), custom(kind));
        all.push((kind, name));
    }
    let mut paths = Map::new();
    for (kind, name) in all {
        if let Some(schema) = schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = json!([gvk(kind)]);
        }
        add_paths(kind, &name, &mut paths);
    }
    json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": format!("v{}.{}.0", super::VERSION.0, super::VERSION.1)},
        "paths": paths, "components": {"schemas": schemas},
    })
}

/// Returns `com.example` for `example.com`.
fn reversed(group: &str) -> String {
    group.rsplit('.').collect::<Vec<_>>().join(".")
}

fn gvk(kind: &Kind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn custom(kind: &Kind) -> Value {
    let schema = kind.custom().and_then(|custom| custom.version.pointer("/schema/openAPIV3Schema").cloned());
    let mut schema = schema.filter(Value::is_object).unwrap_or_else(|| json!({"type": "object"}));
    let mut properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let text = |what: &str| json!({"type": "string", "description": what});
    properties.insert("apiVersion".to_owned(), text("The version of this representation of the object."));
    properties.insert("kind".to_owned(), text("The kind of this object, in CamelCase."));
    properties.insert("metadata".to_owned(), json!({"type": "object", "description": "Standard object's metadata."}));
    schema["properties"] = properties.into();
    schema
}

fn add_paths(kind: &Kind, schema: &str, paths: &mut Map<String, Value>) {
    let root = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}/{}{scope}/{}", kind.version, kind.plural);
    let operation = |action: &str, parameters: &[&str]| {
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect();
        json!({
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk(kind), "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": {"application/json": {
                "schema": {"$ref": format!("#/components/schemas/{schema}")}}}}},
        })
    };
    let write = &["dryRun", "fieldManager", "fieldValidation"];
    if !kind.stored {
        paths.insert(collection, json!({"post": operation("post", write)}));
        return;
    }
    // Strategic merge patches are left out, so that clients use their built-in patch rules, which contain the merge
    // keys.
    let mut patch = operation("patch", &["dryRun", "fieldManager", "fieldValidation", "force"]);
    patch["requestBody"] = json!({"content": {
        "application/apply-patch+yaml": {}, "application/json-patch+json": {}, "application/merge-patch+json": {},
    }});
    paths.insert(
        format!("{collection}/{{name}}"),
        json!({
            "get": operation("get", &[]), "put": operation("put", write), "patch": patch,
            "delete": operation("delete", &["dryRun"]),
        }),
    );
    paths.insert(collection, json!({"get": operation("list", &[]), "post": operation("post", write)}));
}
