//! `CustomResourceDefinitions`: establishes new ones, removes deleted ones, and applies their schemas to custom
//! resources.

use serde_json::{Value, json};

use super::Server;
use super::call::Call;
use super::delete;
use crate::kinds::{Kind, Resource};
use crate::meta;
use crate::schema::Schema;
use crate::status::FieldError;

/// The finalizer that keeps a definition until its last object has been removed.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

fn definitions() -> Resource {
    Resource::new("apiextensions.k8s.io", "customresourcedefinitions")
}

/// Drops the fields that the schema does not declare.
pub(super) fn prune(kind: &Kind, object: &mut Value) {
    if let Some(schema) = schema(kind) {
        schema.prune(object);
    }
}

fn schema(kind: &Kind) -> Option<&Schema> {
    kind.custom()?.schema.as_deref()
}

/// Fills in the schema's defaults.
pub(super) fn default(kind: &Kind, object: &mut Value) {
    if let Some(schema) = schema(kind) {
        schema.default(object);
    }
}

/// Returns the errors of an object under the schema.
pub(super) fn validate(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = schema(kind).map(|schema| schema.validate(new, old)).unwrap_or_default();
    if let Some(paths) = &kind.scale {
        errors.extend([&paths.spec, &paths.status].into_iter().filter_map(|path| check_replicas(path, new)));
        errors.extend(paths.selector.as_ref().and_then(|path| {
            let selector = new.pointer(&super::scale::pointer(path)).filter(|selector| !selector.is_string())?;
            Some(FieldError::invalid(path.as_str(), selector.clone(), "must be a string"))
        }));
    }
    errors
}

/// Returns the errors of an object that names another kind: only the invariants of the schema are checked.
pub(super) fn validate_other_kind(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let why = format!("must be {}", kind.kind);
    let mut errors = vec![FieldError::invalid("kind", meta::text(new, "/kind"), why)];
    if let Some(schema) = schema(kind) {
        schema.invariants(new, old, &mut errors);
    }
    errors
}

/// Checks a replica count, independently of the schema.
fn check_replicas(path: &str, object: &Value) -> Option<FieldError> {
    let value = object.pointer(&super::scale::pointer(path))?;
    let why = match value.as_i64() {
        None => format!("{path} accessor error: {value} is not an int64"),
        Some(number) if number < 0 => "should be a non-negative integer".to_owned(),
        Some(number) if number > i64::from(i32::MAX) => format!("should be less than or equal to {}", i32::MAX),
        Some(_) => return None,
    };
    Some(FieldError::invalid(path, value.as_i64().unwrap_or_default(), why))
}

/// Returns the errors of a definition: in its name, and in schemas that this server does not support in full.
pub(super) fn check(definition: &Value) -> Vec<FieldError> {
    let text = |pointer: &str| meta::text(definition, pointer);
    let mut errors = Vec::new();
    let name = format!("{}.{}", text("/spec/names/plural"), text("/spec/group"));
    if meta::name(definition) != name {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", meta::name(definition), why));
    }
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    for version in versions.into_iter().flatten() {
        errors.extend(Schema::from_crd_version(version).err().into_iter().flatten());
    }
    errors
}

/// Adds the finalizer that keeps a definition while objects of it exist.
pub(super) fn add_cleanup_finalizer(call: &Call, finalizers: &mut Vec<String>) {
    if call.resource() == definitions() && !finalizers.iter().any(|name| name == CLEANUP) {
        finalizers.push(CLEANUP.to_owned());
    }
}

/// Handles a change of a resource, after each one: new definitions are established, and deleted ones are removed after
/// their objects.
pub(super) fn after_change(server: &Server, resource: &Resource) {
    let is_definition = *resource == definitions();
    if !is_definition && !resource.group.contains('.') {
        return;
    }
    if is_definition {
        let page = server.store().list(&definitions(), None, None, None);
        for (key, object) in page.map(|page| page.objects).unwrap_or_default() {
            establish(server, &key, &object);
        }
        server.reload();
    }
    remove_deleted(server, resource, is_definition);
}

fn establish(server: &Server, key: &str, object: &crate::store::Object) {
    let definition = &object.value;
    let names = definition.pointer("/spec/names").cloned().unwrap_or_default();
    let storage = definition.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    let storage = storage.filter(|version| version.get("storage") == Some(&Value::Bool(true)));
    let storage: Vec<String> = storage.map(|version| meta::text(version, "/name").to_owned()).collect();
    let mut stored = meta::texts(definition, "/status/storedVersions");
    let unstored = storage.iter().any(|version| !stored.contains(version));
    let established = meta::condition(definition, "Established").is_some();
    if established && !unstored && definition.pointer("/status/acceptedNames") == Some(&names) {
        return;
    }
    stored.extend(storage.into_iter().filter(|version| !stored.contains(version)).collect::<Vec<_>>());
    let now = server.clock().now();
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now});
    let mut new = definition.clone();
    let mut conditions = definition.pointer("/status/conditions").cloned().unwrap_or_else(|| json!([]));
    if let Some(list) = conditions.as_array_mut().filter(|_| !established) {
        list.push(condition("NamesAccepted", "NoConflicts", "no conflicts found"));
        list.push(condition("Established", "InitialNamesAccepted", "the initial names have been accepted"));
    }
    let status = json!({"acceptedNames": names, "conditions": conditions, "storedVersions": stored});
    meta::as_map(&mut new).insert("status".to_owned(), status);
    let _ = server.store().put(&definitions(), key, Some(object.revision), new);
}

/// Deletes the objects of definitions that are being deleted, and removes definitions without objects.
fn remove_deleted(server: &Server, resource: &Resource, all: bool) {
    let page = server.store().list(&definitions(), None, None, None);
    for (key, definition) in page.map(|page| page.objects).unwrap_or_default() {
        let spec = |pointer: &str| meta::text(&definition.value, pointer);
        let instances = Resource::new(spec("/spec/group"), spec("/spec/names/plural"));
        if !meta::deleting(&definition.value) || !(all || instances == *resource) {
            continue;
        }
        let registry = server.registry();
        let kind = registry.all().find(|kind| kind.is_custom() && kind.resource() == instances).cloned();
        if let Some(kind) = kind.filter(|_| all) {
            let objects =
                server.store().list(&instances, None, None, None).map(|page| page.objects).unwrap_or_default();
            for (_, object) in objects.iter().filter(|(_, object)| !meta::deleting(&object.value)) {
                let call = Call::internal(&kind, meta::namespace(&object.value), meta::name(&object.value));
                let _ = delete::delete_one(server, &call, &delete::DeleteOptions::default());
            }
        }
        let finalizers: Vec<String> =
            meta::finalizers(&definition.value).into_iter().filter(|name| name != CLEANUP).collect();
        if server.store().count(&instances) > 0 {
            continue;
        }
        let mut new = definition.value.clone();
        let last = finalizers.is_empty();
        meta::set_finalizers(&mut new, finalizers);
        let store = server.store();
        let done = if last {
            store.remove(&definitions(), &key, definition.revision, new)
        } else if new == definition.value {
            continue;
        } else {
            store.put(&definitions(), &key, Some(definition.revision), new)
        };
        if done.is_ok() {
            server.reload();
        }
    }
}
