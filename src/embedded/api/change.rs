//! The four ways to say what an object shall be like without sending all of it.

use serde_json::{Map, Value};

use super::call::{self, Call, WriteOptions};
use crate::embedded::kinds::Kind;
use crate::embedded::status::{FieldError, Status};

/// A patch, read but not yet applied.
#[derive(Debug)]
pub(super) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

impl Patch {
    /// Reads the body of a PATCH.
    pub(super) fn read(call: &Call, options: &WriteOptions) -> Result<Self, Status> {
        let kind = call.content_type.as_str();
        let apply = kind == "application/apply-patch+yaml";
        let refuse = |error: FieldError| Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
        if apply && call.query.get("fieldManager").is_empty() {
            return refuse(FieldError::required("fieldManager", "is required for apply patch"));
        }
        if !apply && options.force.is_some() {
            return refuse(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        let json = || -> Result<Value, Status> {
            serde_json::from_slice(&call.body)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
        };
        match kind {
            "application/json-patch+json" => Ok(Self::Json(json()?)),
            "application/merge-patch+json" => Ok(Self::Merge(json()?)),
            "application/strategic-merge-patch+json" if !call.kind.is_custom() => Ok(Self::Strategic(json()?)),
            "application/apply-patch+yaml" => {
                let applied = call::yaml(&call.body)
                    .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
                Ok(Self::Apply(applied))
            }
            _ => Err(Status::unsupported_media_type("415: Unsupported Media Type")
                .with(crate::embedded::status::Details::default())),
        }
    }

    /// Whether the object is created if it is not there.
    pub(super) fn creates(&self) -> bool {
        matches!(self, Self::Apply(_))
    }

    /// Applies a patch that is no server-side apply to an object.
    pub(super) fn onto(&self, _kind: &Kind, object: &Value) -> Result<Value, Status> {
        match self {
            Self::Merge(patch) | Self::Strategic(patch) | Self::Apply(patch) => Ok(merge(object, patch)),
            Self::Json(_) => Err(Status::unprocessable("not yet")),
        }
    }
}

fn merge(object: &Value, patch: &Value) -> Value {
    let Some(patch) = patch.as_object() else { return patch.clone() };
    let mut merged = object.as_object().cloned().unwrap_or_else(Map::new);
    for (key, value) in patch {
        if value.is_null() {
            merged.remove(key);
        } else {
            let old = merged.get(key).cloned().unwrap_or_default();
            merged.insert(key.clone(), merge(&old, value));
        }
    }
    Value::Object(merged)
}
