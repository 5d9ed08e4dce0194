//! Validates types and constraints.

use serde_json::Value;

use super::formats;
use super::node::SchemaNode;
use crate::status::{FieldError, FieldErrorKind};

/// Returns the path of the field `name` below `path`.
pub(super) fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The result of checking a value. `passed` counts the successful checks: if several alternatives all fail, the errors
/// of the one with the most are reported.
#[derive(Default)]
pub(super) struct Check {
    errors: Vec<FieldError>,
    passed: usize,
}

/// Checks the defaults in `node` and below against their own schema.
pub(super) fn defaults(node: &SchemaNode, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(default) = &node.default {
        let mut default = default.clone();
        super::shape::fill_in(&mut default, node);
        let wrong = Check::default().all(node, &default, None);
        errors.extend(wrong.into_iter().map(|error| {
            let below = if error.field.is_empty() { String::new() } else { format!(".{}", error.field) };
            FieldError { field: format!("{path}.default{below}"), ..error }
        }));
    }
    for (name, node) in &node.properties {
        defaults(node, &format!("{path}.properties[{name}]"), errors);
    }
    if let Some(node) = node.additional() {
        defaults(node, &format!("{path}.additionalProperties"), errors);
    }
    if let Some(node) = &node.items {
        defaults(node, &format!("{path}.items"), errors);
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Returns the Go type that the real server names if a value with a format is not a string.
fn go_type_of(value: &Value) -> &'static str {
    match value {
        Value::Number(number) if !number.is_f64() => "int64",
        Value::Number(_) => "float64",
        _ => "",
    }
}

impl Check {
    /// Returns all errors of `new` at the root of an object.
    pub(super) fn all(mut self, node: &SchemaNode, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        self.value(node, new, old, "");
        self.errors
    }

    fn fail(&mut self, kind: FieldErrorKind, path: &str, value: impl Into<Value>, detail: impl Into<String>) {
        self.errors.push(FieldError::new(kind, path, Some(value.into()), detail));
    }

    fn invalid(&mut self, path: &str, value: impl Into<Value>, detail: String) {
        self.fail(FieldErrorKind::Invalid, path, value, detail);
    }

    /// Checks a value. `old` is the previous version of the same value, if it can be identified.
    fn value(&mut self, node: &SchemaNode, value: &Value, old: Option<&Value>, path: &str) {
        if old == Some(value) {
            return;
        }
        self.type_and_format(node, value, path);
        self.alternatives(node, value, path);
        match value {
            Value::String(text) => self.string(node, text, path),
            Value::Number(_) => self.number(node, value, path),
            Value::Array(items) => self.array(node, items, old, path),
            _ => {}
        }
        if let Some(allowed) = &node.limits.allowed
            && !value.is_null()
        {
            if allowed.contains(value) {
                self.passed += 1;
            } else {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let supported: Vec<String> = allowed.iter().map(text).collect();
                let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
                self.errors.push(FieldError::not_supported(path, value.clone(), &supported));
            }
        }
        if value.is_object() {
            self.object(node, value, old, path);
        }
    }

    fn type_and_format(&mut self, node: &SchemaNode, value: &Value, path: &str) {
        let wanted = node.type_name();
        let found = type_of(value);
        let wrong = |check: &mut Self, wanted: &str, found: &str| {
            let message = format!("{path} in body must be of type {wanted}: {found:?}");
            check.fail(FieldErrorKind::TypeInvalid, path, found, message);
        };
        if value.is_null() {
            if !wanted.is_empty() && !node.nullable {
                wrong(self, wanted, found);
            }
            return;
        }
        let format = formats::canonical_name(&node.format).filter(|_| matches!(wanted, "string" | ""));
        let fits = match (wanted, found) {
            ("", _) | ("number", "integer") | ("integer,string", "integer" | "string") => true,
            ("integer" | "integer,string", "number") => value.as_f64().is_some_and(is_exactly_whole),
            (wanted, found) => wanted == found,
        };
        match format {
            Some(format) if !value.is_string() && !value.is_array() => wrong(self, format, go_type_of(value)),
            _ if !fits => wrong(self, wanted, found),
            Some(format) if value.as_str().is_some_and(|text| !formats::has_format(format, text)) => {
                let text = value.as_str().unwrap_or_default();
                let message = format!("{path} in body must be of type {format}: {text:?}");
                self.fail(FieldErrorKind::TypeInvalid, path, text, message);
            }
            _ => self.passed += 1,
        }
    }

    fn string(&mut self, node: &SchemaNode, text: &str, path: &str) {
        let limits = &node.limits;
        let length = text.chars().count() as u64;
        // Only the first failure is reported.
        if let Some(most) = limits.max_length.filter(|most| length > *most) {
            let message = format!("may not be more than {most} bytes");
            self.errors.push(FieldError::new(FieldErrorKind::TooLong, path, None, message));
        } else if let Some(least) = limits.min_length.filter(|least| length < *least) {
            self.invalid(path, text, format!("{path} in body should be at least {least} chars long"));
        } else if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            self.invalid(path, text, format!("{path} in body should match '{}'", pattern.as_str()));
        } else {
            self.passed += 1;
        }
    }

    fn number(&mut self, node: &SchemaNode, value: &Value, path: &str) {
        let limits = &node.limits;
        let before = self.errors.len();
        let number = value.as_f64().unwrap_or_default();
        if let Some(factor) = limits.multiple_of {
            // Whole numbers are divided by whole numbers.
            let factor = if value.is_f64() { factor } else { factor.trunc() };
            if factor <= 0.0 {
                let message = format!("factor MultipleOf declared for {path} must be positive: {factor}");
                self.invalid(path, plain(factor), message);
            } else if !is_whole(number / factor) {
                self.invalid(path, value.clone(), format!("{path} in body should be a multiple of {factor}"));
            }
        }
        if let Some(least) = limits.minimum {
            if limits.above_minimum && number <= least {
                self.invalid(path, value.clone(), format!("{path} in body should be greater than {least}"));
            } else if number < least {
                let message = format!("{path} in body should be greater than or equal to {least}");
                self.invalid(path, value.clone(), message);
            }
        }
        if let Some(most) = limits.maximum {
            if limits.below_maximum && number >= most {
                self.invalid(path, value.clone(), format!("{path} in body should be less than {most}"));
            } else if number > most {
                self.invalid(path, value.clone(), format!("{path} in body should be less than or equal to {most}"));
            }
        }
        self.passed += usize::from(self.errors.len() == before);
    }

    fn array(&mut self, node: &SchemaNode, items: &[Value], old: Option<&Value>, path: &str) {
        if let Some(item_node) = &node.items {
            for (index, item) in items.iter().enumerate() {
                let before = old.and_then(|old| super::rules::item_before(node, item, old));
                self.value(item_node, item, before, &format!("{path}[{index}]"));
            }
        }
        let count = items.len() as u64;
        if let Some(least) = node.limits.min_items.filter(|least| count < *least) {
            self.invalid(path, count, format!("{path} in body should have at least {least} items"));
        }
        self.too_many(path, count, node.limits.max_items);
    }

    fn too_many(&mut self, path: &str, count: u64, most: Option<u64>) {
        if let Some(most) = most.filter(|most| count > *most) {
            self.fail(FieldErrorKind::TooMany, path, count, format!("must have at most {most} items"));
        }
    }

    fn object(&mut self, node: &SchemaNode, value: &Value, old: Option<&Value>, path: &str) {
        let Value::Object(map) = value else { return };
        let count = map.len() as u64;
        if let Some(least) = node.limits.min_properties.filter(|least| count < *least) {
            self.invalid(path, count, format!("{path} in body should have at least {least} properties"));
        }
        self.too_many(path, count, node.limits.max_properties);
        for (name, value) in map {
            if let Some(field) = node.field(name) {
                let before = old.and_then(|old| old.get(name));
                self.value(field, value, before, &child(path, name));
            }
        }
        let resource = if node.embedded { &["apiVersion", "kind"][..] } else { &[] };
        let required = node.limits.required.iter().map(String::as_str);
        for name in required.chain(resource.iter().copied()) {
            if map.contains_key(name) {
                self.passed += 1;
            } else {
                self.errors.push(FieldError::required(child(path, name), ""));
            }
        }
    }

    fn check_alternative(node: &SchemaNode, value: &Value, path: &str) -> Self {
        let mut check = Self::default();
        check.value(node, value, None, path);
        check
    }

    fn composite(&mut self, message: String) {
        self.fail(FieldErrorKind::Invalid, "<nil>", "", message);
    }

    fn furthest(attempts: Vec<Self>) -> Vec<FieldError> {
        let mut best: Option<Self> = None;
        for attempt in attempts {
            if best.as_ref().is_none_or(|best| attempt.passed > best.passed) {
                best = Some(attempt);
            }
        }
        best.map(|best| best.errors).unwrap_or_default()
    }

    fn alternatives(&mut self, node: &SchemaNode, value: &Value, path: &str) {
        let attempts = |nodes: &[SchemaNode]| -> Vec<Self> {
            nodes.iter().map(|node| Self::check_alternative(node, value, path)).collect()
        };
        let valid = |attempts: &[Self]| attempts.iter().filter(|attempt| attempt.errors.is_empty()).count();
        if !node.any_of.is_empty() {
            let attempts = attempts(&node.any_of);
            if valid(&attempts) == 0 {
                self.composite(format!("\"{path}\" must validate at least one schema (anyOf)"));
                self.errors.extend(Self::furthest(attempts));
            }
        }
        if !node.one_of.is_empty() {
            let attempts = attempts(&node.one_of);
            let (valid, must) = (valid(&attempts), "must validate one and only one schema (oneOf)");
            if valid == 0 {
                self.composite(format!("\"{path}\" {must}. Found none valid"));
                self.errors.extend(Self::furthest(attempts));
            } else if valid > 1 {
                self.composite(format!("\"{path}\" {must}. Found {valid} valid alternatives"));
            }
        }
        if !node.all_of.is_empty() {
            let attempts = attempts(&node.all_of);
            let valid = valid(&attempts);
            self.errors.extend(attempts.into_iter().flat_map(|attempt| attempt.errors));
            if valid != node.all_of.len() {
                let addition = if valid == 0 { ". None validated" } else { "" };
                self.composite(format!("\"{path}\" must validate all the schemas (allOf){addition}"));
            }
        }
        if node.not.as_ref().is_some_and(|not| Self::check_alternative(not, value, path).errors.is_empty()) {
            self.composite(format!("\"{path}\" must not validate the schema (not)"));
        }
    }
}

fn is_whole(number: f64) -> bool {
    number.fract() == 0.0
}

/// Returns whether the number is whole and small enough to be exact as a float.
fn is_exactly_whole(number: f64) -> bool {
    is_whole(number) && number.abs() < 9_007_199_254_740_992.0
}

/// Returns a whole number without a fraction, so that 0.0 becomes 0, as Go formats it.
fn plain(number: f64) -> Value {
    format!("{number}").parse::<i64>().map_or_else(|_| Value::from(number), Value::from)
}
