//! How an object that is kept looks in the version, and in the form, that is asked for.

use axum::body::Bytes;
use serde_json::{Value, json};

use super::answer::Form;
use super::definitions;
use crate::builtin::BuiltinKind;
use crate::kinds::Kind;
use crate::meta;
use crate::store::Object;

/// Whether objects of a kind look as they are kept.
fn as_kept(kind: &Kind) -> bool {
    match kind.custom() {
        Some(custom) => custom.storage_version == kind.version,
        None => kind.storage.is_none(),
    }
}

/// Whether an object was written under another definition, which may have had other defaults.
fn is_older(kind: &Kind, revision: u64) -> bool {
    kind.custom().is_some_and(|custom| revision < custom.revision)
}

/// Whether an object is kept with all the defaults that it is read with. A write that changes nothing keeps them.
pub(super) fn has_defaults(kind: &Kind, object: &Object) -> bool {
    if !is_older(kind, object.revision) {
        return true;
    }
    let mut filled = object.value.clone();
    definitions::default(kind, &mut filled);
    filled == object.value
}

/// Turns an object as it is kept into one of the version asked for.
pub(super) fn from_kept(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(shared) = kind.builtin().and_then(BuiltinKind::shared_storage) {
        (shared.from_stored)(&mut object);
    } else if !as_kept(kind) {
        meta::as_map(&mut object).insert("apiVersion".to_owned(), kind.api_version().into());
    }
    if is_older(kind, meta::resource_version(&object).parse().unwrap_or(u64::MAX)) {
        definitions::default(kind, &mut object);
    }
    object
}

/// Turns an object of the version asked for into one as it is kept.
pub(super) fn to_kept(kind: &Kind, object: &mut Value) {
    if let Some(shared) = kind.builtin().and_then(BuiltinKind::shared_storage) {
        (shared.to_stored)(object);
    } else if let (false, Some(custom)) = (as_kept(kind), kind.custom()) {
        let version = format!("{}/{}", kind.group, custom.storage_version);
        meta::as_map(object).insert("apiVersion".to_owned(), version.into());
    }
}

/// An object as JSON in the version and form asked for. A table is the caller's business.
pub(super) fn json(kind: &Kind, object: &Object, form: Form) -> Bytes {
    match form {
        Form::Metadata => Bytes::from(metadata(&object.value).to_string()),
        _ if as_kept(kind) && !is_older(kind, object.revision) => object.json(),
        _ => Bytes::from(from_kept(kind, &object.value).to_string()),
    }
}

/// The metadata of an object, as `PartialObjectMetadata`.
pub(super) fn metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}
