//! `x-kubernetes-validations`: the validation rules of a CRD.

use cel::Value as CelValue;
use serde_json::Value;

use super::cel::{Expression, Subject};
use super::cel_input::CelInput;
use super::node::{ListType, SchemaNode};
use crate::status::{FieldError, FieldErrorKind};

/// A parsed rule.
#[derive(Debug)]
pub(super) struct Rule {
    source: String,
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: FieldErrorKind,
    /// The path below the node, with its leading dot.
    field_path: String,
    optional_old: bool,
}

impl Rule {
    /// Parses the rule `json` of `node`, which is at `path` in the schema.
    pub(super) fn read(json: &Value, node: &SchemaNode, path: &str, resource: bool) -> Result<Self, FieldError> {
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
        let at = |key: &str| format!("{path}.{key}");
        // The form in which the real server shows the rule in its errors.
        let shown = || {
            serde_json::json!({
                "Rule": text("rule"), "Message": text("message"), "MessageExpression": text("messageExpression"),
                "Reason": json.get("reason"), "FieldPath": text("fieldPath"), "OptionalOldSelf": json.get("optionalOldSelf"),
            })
        };
        let source = text("rule").trim();
        if source.is_empty() {
            return Err(FieldError::required(at("rule"), "rule is not specified"));
        }
        let message = text("message").trim();
        if message.contains('\n') {
            return Err(FieldError::invalid(at("message"), text("message"), "must not contain line breaks"));
        }
        let subject = Subject { node, resource };
        let expression =
            Expression::read(source, subject).map_err(|why| FieldError::invalid(at("rule"), shown(), why))?;
        let optional_old = json.get("optionalOldSelf") == Some(&Value::Bool(true));
        if optional_old && !expression.uses_old {
            let why = "may not be set if oldSelf is not used in rule";
            return Err(FieldError::invalid(at("optionalOldSelf"), true, why));
        }
        let message_expression = match text("messageExpression") {
            "" => None,
            source => Some(
                Expression::read(source, subject)
                    .map_err(|why| FieldError::invalid(at("messageExpression"), shown(), why))?,
            ),
        };
        let reason = match text("reason") {
            "" | "FieldValueInvalid" => FieldErrorKind::Invalid,
            "FieldValueForbidden" => FieldErrorKind::Forbidden,
            "FieldValueRequired" => FieldErrorKind::Required,
            "FieldValueDuplicate" => FieldErrorKind::Duplicate,
            other => {
                let supported =
                    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
                return Err(FieldError::not_supported(at("reason"), other, &supported));
            }
        };
        let field_path = text("fieldPath");
        if !field_path.is_empty() && !is_field_path(node, field_path) {
            return Err(FieldError::invalid(at("fieldPath"), field_path, "must be a valid path"));
        }
        Ok(Self {
            source: source.to_owned(),
            expression,
            message: message.to_owned(),
            message_expression,
            reason,
            field_path: field_path.to_owned(),
            optional_old,
        })
    }

    fn text(&self) -> &str {
        if self.message.is_empty() { &self.source } else { &self.message }
    }

    fn check(&self, node: &SchemaNode, target: &RuleTarget<'_>) -> Option<FieldError> {
        if self.expression.uses_old && target.old.is_none() && !self.optional_old {
            return None;
        }
        // Unchanged values are not checked, unless the rule is about the change.
        if target.old == Some(target.new) && !self.expression.uses_old {
            return None;
        }
        let subject = Subject { node, resource: target.resource };
        let input = |value| CelInput { value, subject };
        let run = |expression: &Expression| expression.run(input(target.new), target.old.map(input), self.optional_old);
        let invalid = |why: String| FieldError::invalid(shown_path(&target.path), node.kind.as_str(), why);
        match run(&self.expression) {
            Ok(CelValue::Bool(true)) => return None,
            Ok(_) => {}
            Err(error) if error.starts_with("no such overload") => {
                let what = "call arguments did not match a supported operator, function or macro signature";
                return Some(invalid(format!("'{error}': {what} for rule: {}", self.text())));
            }
            Err(error) => return Some(invalid(format!("{error} evaluating rule: {}", self.text()))),
        }
        let computed = self.message_expression.as_ref().and_then(|expression| match run(expression) {
            Ok(CelValue::String(text)) => {
                let text = text.trim();
                (!text.is_empty() && text.len() <= 5120 && !text.contains('\n')).then(|| text.to_owned())
            }
            _ => None,
        });
        let detail = computed.unwrap_or_else(|| match self.message.as_str() {
            "" => format!("failed rule: {}", self.source),
            message => message.to_owned(),
        });
        let path = shown_path(&format!("{}{}", target.path, self.field_path));
        Some(match self.reason {
            FieldErrorKind::Duplicate => FieldError::new(self.reason, path, Some(node.kind.as_str().into()), ""),
            reason => FieldError::new(reason, path, Some(node.kind.as_str().into()), detail),
        })
    }
}

fn shown_path(path: &str) -> String {
    match path.trim_start_matches('.') {
        "" => "<nil>".to_owned(),
        path => path.to_owned(),
    }
}

/// Returns whether `path`, such as `.a.b` or `.a['b']`, names a field of `node`.
fn is_field_path(node: &SchemaNode, path: &str) -> bool {
    let mut node = node;
    let mut rest = path;
    while !rest.is_empty() {
        let (name, after) = if let Some(quoted) = rest.strip_prefix("['") {
            let Some((name, after)) = quoted.split_once("']") else { return false };
            (name, after)
        } else {
            let Some(plain) = rest.strip_prefix('.') else { return false };
            plain.split_at(plain.find(['.', '[']).unwrap_or(plain.len()))
        };
        match node.field(name) {
            Some(field) => node = field,
            None => return false,
        }
        rest = after;
    }
    true
}

/// Returns whether the node or a node below it has rules.
pub(super) fn has_rules(node: &SchemaNode) -> bool {
    let below = node.properties.values().chain(node.additional()).chain(node.items.as_deref()).chain(&node.all_of);
    !node.rules.is_empty() || below.into_iter().any(has_rules)
}

/// Returns whether an error prevents the evaluation of the rules.
pub(super) fn blocking(error: &FieldError) -> bool {
    use FieldErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
}

/// Returns the error that is added if rules were not evaluated.
pub(super) fn not_checked() -> FieldError {
    let why = "some validation rules were not checked because the object was invalid; correct the existing errors to \
               complete validation";
    FieldError::new(FieldErrorKind::Invalid, "<nil>", Some(Value::Null), why)
}

struct RuleTarget<'a> {
    new: &'a Value,
    old: Option<&'a Value>,
    path: String,
    resource: bool,
}

/// Returns the errors of all rules of `root` and below that `new` violates.
pub(super) fn check(root: &SchemaNode, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(root, &RuleTarget { new, old, path: String::new(), resource: true }, &mut errors);
    errors
}

fn walk(node: &SchemaNode, target: &RuleTarget<'_>, errors: &mut Vec<FieldError>) {
    if target.new.is_null() {
        return;
    }
    errors.extend(node.rules.iter().filter_map(|rule| rule.check(node, target)));
    for narrowing in &node.all_of {
        let RuleTarget { new, old, resource, .. } = *target;
        walk(narrowing, &RuleTarget { new, old, path: target.path.clone(), resource }, errors);
    }
    match target.new {
        Value::Object(map) => {
            // The members of an atomic map have no identity across versions.
            let old = target.old.filter(|_| !node.atomic_map);
            for (name, new) in map {
                let Some(field) = node.field(name) else { continue };
                let path = if node.properties.contains_key(name) {
                    super::validate::child(&target.path, name)
                } else {
                    format!("{}[{name}]", target.path)
                };
                let old = old.and_then(|old| old.get(name)).filter(|old| !old.is_null());
                walk(field, &RuleTarget { new, old, path, resource: field.embedded }, errors);
            }
        }
        Value::Array(items) => {
            let Some(item_node) = &node.items else { return };
            for (index, new) in items.iter().enumerate() {
                let old = target.old.and_then(|old| item_before(node, new, old));
                let path = format!("{}[{index}]", target.path);
                walk(item_node, &RuleTarget { new, old, path, resource: item_node.embedded }, errors);
            }
        }
        _ => {}
    }
}

/// Returns the item of the list `old` that has the same keys as `item`. Items of a list without keys have no identity
/// across versions.
pub(super) fn item_before<'a>(node: &SchemaNode, item: &Value, old: &'a Value) -> Option<&'a Value> {
    let ListType::Map(keys) = &node.list else { return None };
    old.as_array()?.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
}
