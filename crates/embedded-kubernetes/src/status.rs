//! The answer to a failed request: `metav1.Status`. The texts are those of the real API server word for word, because
//! clients show them and some clients parse them.

use std::fmt::{self, Write};

use serde_json::{Map, Value, json};

/// A failed request.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// The reason in one word, which clients act on. Empty: unknown.
    pub reason: &'static str,
    /// The text for people.
    pub message: String,
    /// The object that the request was about, and what is wrong with it.
    pub details: Option<Details>,
    /// A token with which a list can continue at a newer version than the expired one. Only for
    /// [`Status::expired_continue`].
    pub continue_token: Option<String>,
}

/// The object that a [`Status`] is about, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group. Empty: the core group.
    pub group: String,
    /// The resource or, for an invalid object, the kind.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// One entry for each thing that is wrong.
    pub causes: Vec<Cause>,
    /// How long to wait before the next attempt, seconds. 0: not set.
    pub retry_after_seconds: u32,
}

/// One cause of a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause {
    /// The class of the cause, for example `FieldValueInvalid`.
    pub reason: String,
    /// The text for people.
    pub message: String,
    /// The path of the field, `spec.containers[0].name`.
    pub field: String,
}

/// An error in one field: `field.Error` of the real server.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// The class of the error.
    pub kind: FieldErrorKind,
    /// The path of the field, `spec.containers[0].name`.
    pub field: String,
    /// The refused value. `None` if it is not shown.
    pub value: Option<Value>,
    /// The text for people.
    pub detail: String,
}

/// The classes of [`FieldError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The value refers to something that does not exist.
    NotFound,
    /// The value is required and missing.
    Required,
    /// Another entry already has the value.
    Duplicate,
    /// The value has the right type and is not allowed.
    Invalid,
    /// The value is not one of the values of an enumeration.
    NotSupported,
    /// The field must not be set here, or must not be changed.
    Forbidden,
    /// The value has too many characters.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The value has the wrong type.
    TypeInvalid,
    /// The value could not be checked.
    Internal,
}

impl FieldErrorKind {
    /// Returns the value of `causes[].reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

impl FieldError {
    /// Creates an error of any class.
    pub fn new(
        kind: FieldErrorKind,
        field: impl Into<String>,
        value: Option<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, field: field.into(), value, detail: detail.into() }
    }

    /// Creates the error for a missing required value.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, field, None, detail)
    }

    /// Creates the error for a value that is not allowed.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, field, Some(value.into()), detail)
    }

    /// Creates the error for a field that must not be set or changed.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, field, None, detail)
    }

    /// Creates the error for a value that is not one of `supported`, which are shown in the given order.
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("supported values: {}", supported.join(", "));
        Self::new(FieldErrorKind::NotSupported, field, Some(value.into()), detail)
    }

    /// Returns the text of the error without its field, as `causes[].message` contains it.
    pub fn body(&self) -> String {
        use FieldErrorKind::{Forbidden, Internal, Required, TooLong};
        let mut text = self.kind.title().to_owned();
        if let Some(value) = &self.value
            && !matches!(self.kind, Required | Forbidden | TooLong | Internal)
        {
            text.push_str(": ");
            match value {
                Value::String(string) => {
                    let _ = write!(text, "{string:?}");
                }
                other => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Returns `resource.group`, or `resource` in the core group.
pub fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn details_for(group: &str, kind: &str, name: &str) -> Details {
    Details { name: name.to_owned(), group: group.to_owned(), kind: kind.to_owned(), ..Details::default() }
}

impl Status {
    /// Creates a failure with a code, a reason and a message.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continue_token: None }
    }

    /// Adds the details.
    #[must_use]
    pub fn with(mut self, details: Details) -> Self {
        self.details = Some(details);
        self
    }

    /// Creates a 400 Bad Request.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// Creates a 401 Unauthorized.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// Creates a 403 for one object. `why` is shown after the colon.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let what = qualified(resource, group);
        let message = if name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} {name:?} is forbidden: {why}")
        };
        Self::new(403, "Forbidden", message).with(details_for(group, resource, name))
    }

    /// Creates a 404 for an object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", qualified(resource, group)))
            .with(details_for(group, resource, name))
    }

    /// Creates a 404 for a path that is not served.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with(Details::default())
    }

    /// Creates a 405.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .with(Details::default())
    }

    /// Creates a 406: the client accepts none of the media types that are served.
    pub fn not_acceptable(served: &str) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {served}"))
    }

    /// Creates a 409 because the name is already in use.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", qualified(resource, group)))
            .with(details_for(group, resource, name))
    }

    /// Creates a 409 because a precondition does not hold. `why` is shown after the colon.
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let what = qualified(resource, group);
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {what} {name:?}: {why}"))
            .with(details_for(group, resource, name))
    }

    /// Creates a 409 because the client did not start from the latest version.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    /// Creates a 409 because a server-side apply would take fields from other managers. Each cause has the reason
    /// `FieldManagerConflict`.
    pub fn apply_conflict(causes: Vec<Cause>) -> Self {
        let listed: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.message, cause.field)).collect();
        let message = match listed.as_slice() {
            [one] => format!("Apply failed with 1 conflict: {one}"),
            many => format!("Apply failed with {} conflicts: {}", many.len(), many.join(", ")),
        };
        Self::new(409, "Conflict", message).with(Details { causes, ..Details::default() })
    }

    /// Creates a 410 because the history does not reach back far enough.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// Creates a 410 for a continue token whose snapshot is gone, with a token that continues in a newer snapshot.
    pub fn expired_continue(token: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start \
                       a new list without the continue parameter, or use the continue token in this response to \
                       retrieve the remainder of the results. Continuing with the provided token results in an \
                       inconsistent list - objects that were created, modified, or deleted between the time the first \
                       chunk was returned and now may show up in the list.";
        Self { continue_token: Some(token), ..Self::expired(message) }
    }

    /// Creates a 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// Creates a 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// Creates a 422 for an object with these errors. `kind` is the kind, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let listed: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let listed = match listed.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes = errors.iter().map(|error| Cause {
            reason: error.kind.reason().to_owned(),
            message: error.body(),
            field: error.field.clone(),
        });
        Self::new(422, "Invalid", format!("{} {name:?} is invalid: {listed}", qualified(kind, group)))
            .with(Details { causes: causes.collect(), ..details_for(group, kind, name) })
    }

    /// Creates a 422 without fields, for a patch that cannot be applied.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message).with(Details::default())
    }

    /// Creates a 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).with(Details { retry_after_seconds, ..Details::default() })
    }

    /// Creates a 500.
    pub fn internal(message: impl fmt::Display) -> Self {
        let cause = Cause { message: message.to_string(), ..Cause::default() };
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
            .with(Details { causes: vec![cause], ..Details::default() })
    }

    /// Creates a 504 because the request asks for a version that this server has not reached.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let cause = Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        };
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Self::new(504, "Timeout", message).with(Details {
            causes: vec![cause],
            retry_after_seconds: 1,
            ..Details::default()
        })
    }

    /// Returns the object as it is sent.
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".to_owned(), Value::from(token.as_str()));
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = Value::from(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.to_value();
        }
        status
    }
}

impl Details {
    /// Returns the object as it is sent, without empty fields.
    pub fn to_value(&self) -> Value {
        let mut value = Map::new();
        for (key, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !text.is_empty() {
                value.insert(key.to_owned(), Value::from(text.as_str()));
            }
        }
        if !self.causes.is_empty() {
            value.insert("causes".to_owned(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds > 0 {
            value.insert("retryAfterSeconds".to_owned(), Value::from(self.retry_after_seconds));
        }
        Value::Object(value)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut value = Map::new();
        for (key, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                value.insert(key.to_owned(), Value::from(text.as_str()));
            }
        }
        Value::Object(value)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_field_errors_are_listed() {
        let errors = [
            FieldError::invalid("spec.replicas", -1, "must be greater than or equal to 0"),
            FieldError::required("spec.selector", ""),
            FieldError::not_supported("spec.mode", "x", &["A", "B"]),
        ];
        let status = Status::invalid("apps", "Deployment", "web", &errors);
        assert_eq!(
            status.message,
            "Deployment.apps \"web\" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to \
             0, spec.selector: Required value, spec.mode: Unsupported value: \"x\": supported values: \"A\", \"B\"]"
        );
        let value = status.to_value();
        assert_eq!(
            value["details"]["causes"][1],
            json!({"reason": "FieldValueRequired", "message": "Required value",
            "field": "spec.selector"})
        );
        assert_eq!(value["details"]["kind"], "Deployment");
    }

    #[test]
    fn apply_conflict_names_manager_and_field() {
        let cause = Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: "conflict with \"m1\"".to_owned(),
            field: ".spec.a".to_owned(),
        };
        let status = Status::apply_conflict(vec![cause]);
        assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"m1\": .spec.a");
    }
}
