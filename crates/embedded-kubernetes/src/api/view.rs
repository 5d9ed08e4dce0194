//! Converts stored objects to the version and form that a request asks for, and back.

use axum::body::Bytes;
use serde_json::{Value, json};

use super::answer::Form;
use super::definitions;
use crate::builtin::BuiltinKind;
use crate::kinds::Kind;
use crate::meta;
use crate::store::Object;

/// Returns whether objects of a kind are served as they are stored.
fn is_stored_version(kind: &Kind) -> bool {
    match kind.custom() {
        Some(custom) => custom.storage_version == kind.version,
        None => kind.storage.is_none(),
    }
}

/// Returns whether an object was written under an earlier definition, which may have had other defaults.
fn is_older(kind: &Kind, revision: u64) -> bool {
    kind.custom().is_some_and(|custom| revision < custom.revision)
}

/// Returns whether an object is stored with all the defaults that a read adds. If it is not, a write stores them even
/// if it changes nothing else.
pub(super) fn has_defaults(kind: &Kind, object: &Object) -> bool {
    if !is_older(kind, object.revision) {
        return true;
    }
    let mut filled = object.value.clone();
    definitions::default(kind, &mut filled);
    filled == object.value
}

/// Converts a stored object to the requested version.
pub(super) fn from_stored(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(shared) = kind.builtin().and_then(BuiltinKind::shared_storage) {
        (shared.from_stored)(&mut object);
    } else if !is_stored_version(kind) {
        meta::as_map(&mut object).insert("apiVersion".to_owned(), kind.api_version().into());
    }
    if is_older(kind, meta::resource_version(&object).parse().unwrap_or(u64::MAX)) {
        definitions::default(kind, &mut object);
    }
    object
}

/// Converts an object of the requested version to the stored version.
pub(super) fn to_stored(kind: &Kind, object: &mut Value) {
    if let Some(shared) = kind.builtin().and_then(BuiltinKind::shared_storage) {
        (shared.to_stored)(object);
    } else if let (false, Some(custom)) = (is_stored_version(kind), kind.custom()) {
        let version = format!("{}/{}", kind.group, custom.storage_version);
        meta::as_map(object).insert("apiVersion".to_owned(), version.into());
    }
}

/// Returns an object as JSON in the requested version and form. Tables are written by the caller.
pub(super) fn json(kind: &Kind, object: &Object, form: Form) -> Bytes {
    match form {
        Form::Metadata => Bytes::from(metadata(&object.value).to_string()),
        _ if is_stored_version(kind) && !is_older(kind, object.revision) => object.json(),
        _ => Bytes::from(from_stored(kind, &object.value).to_string()),
    }
}

/// Returns the metadata of an object as `PartialObjectMetadata`.
pub(super) fn metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}
