//! The four kinds of patch: JSON patch, merge patch, strategic merge patch and server-side apply.

use serde_json::Value;

use super::call::{self, Call, WriteOptions};
use crate::lists::MergeRules;
use crate::patch;
use crate::status::{FieldError, Status};

/// A patch that has been parsed and not yet applied.
#[derive(Debug)]
pub(super) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

impl Patch {
    /// Refuses a media type that is not a patch for this kind. This is checked before anything else.
    pub(super) fn check_type(call: &Call) -> Result<(), Status> {
        let known = match call.content_type.as_str() {
            "application/json-patch+json" | "application/merge-patch+json" | "application/apply-patch+yaml" => true,
            "application/strategic-merge-patch+json" => !call.kind.is_custom(),
            _ => false,
        };
        if known { Ok(()) } else { Err(unsupported()) }
    }

    /// Parses the body of a PATCH.
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
            "application/strategic-merge-patch+json" => Ok(Self::Strategic(json()?)),
            "application/apply-patch+yaml" => {
                let applied = call::yaml(&call.body)
                    .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
                Ok(Self::Apply(applied))
            }
            _ => Err(unsupported()),
        }
    }

    /// Applies a patch other than a server-side apply to an object of this kind.
    pub(super) fn onto(&self, rules: &MergeRules, object: &Value) -> Result<Value, Status> {
        match self {
            Self::Json(patch) => patch::json_patch(object, patch),
            Self::Merge(patch) | Self::Apply(patch) => patch::merge_patch(object, patch),
            Self::Strategic(patch) => patch::strategic(object, patch, rules),
        }
    }
}

fn unsupported() -> Status {
    Status::unsupported_media_type("415: Unsupported Media Type").with(crate::status::Details::default())
}

/// Converts the error for a patch whose result is not an object of its kind.
pub(super) fn invalid_result(patched: &Value, why: Status) -> Status {
    if why.code != 400 {
        return why;
    }
    Status::invalid("", "", "", &[FieldError::invalid("patch", patched.to_string(), why.message)])
}
