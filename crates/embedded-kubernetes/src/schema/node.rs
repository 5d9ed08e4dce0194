//! A node of a structural schema, parsed from JSON.
//!
//! Two kinds of node share this type: those that define the structure of the object, and those inside `allOf`,
//! `anyOf`, `oneOf` and `not`, which only add constraints and define no types, defaults or handling of unknown fields.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::rules::Rule;
use crate::status::{FieldError, FieldErrorKind};

/// A node of a schema.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // the schema format has this many flags
pub(crate) struct SchemaNode {
    /// The type. Empty: any.
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) nullable: bool,
    pub(crate) default: Option<Value>,
    pub(crate) properties: BTreeMap<String, Self>,
    pub(crate) additional: Additional,
    pub(crate) items: Option<Box<Self>>,
    pub(crate) preserve: bool,
    pub(crate) embedded: bool,
    pub(crate) int_or_string: bool,
    pub(crate) list: ListType,
    pub(crate) atomic_map: bool,
    pub(crate) limits: Limits,
    pub(crate) all_of: Vec<Self>,
    pub(crate) any_of: Vec<Self>,
    pub(crate) one_of: Vec<Self>,
    pub(crate) not: Option<Box<Self>>,
    pub(super) rules: Vec<Rule>,
}

/// The fields that are allowed besides the named ones.
#[derive(Debug, Default)]
pub(crate) enum Additional {
    /// No other fields; with `preserve`, any.
    #[default]
    None,
    /// Any other fields.
    Any,
    /// Other fields with this schema.
    Of(Box<SchemaNode>),
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// Constraints on a value.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) required: Vec<String>,
    pub(crate) allowed: Option<Vec<Value>>,
    pub(crate) minimum: Option<f64>,
    pub(crate) above_minimum: bool,
    pub(crate) maximum: Option<f64>,
    pub(crate) below_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) pattern: Option<Regex>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
}

impl SchemaNode {
    /// Returns the node for fields that are not named.
    pub(crate) fn additional(&self) -> Option<&Self> {
        match &self.additional {
            Additional::Of(node) => Some(node),
            Additional::None | Additional::Any => None,
        }
    }

    /// Returns the node for a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or_else(|| self.additional())
    }

    /// Returns the type as errors name it.
    pub(crate) fn type_name(&self) -> &str {
        if self.int_or_string { "integer,string" } else { &self.kind }
    }
}

/// The deepest schema that is accepted, because all functions that walk a schema recurse.
const MAX_DEPTH: usize = 100;

/// Parses a schema, and collects its errors.
pub(crate) struct SchemaReader {
    pub(crate) errors: Vec<FieldError>,
    depth: usize,
}

/// The position of a node in the schema.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Root,
    Field,
    Item,
    Extra,
    /// Inside `allOf`, `anyOf`, `oneOf` or `not`.
    Narrowing,
}

const REFUSED: [&str; 10] = [
    "$ref",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
    "writeOnly",
    "xml",
];

const SHAPING: [&str; 8] = [
    "type",
    "default",
    "nullable",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];

impl SchemaReader {
    pub(crate) fn new() -> Self {
        Self { errors: Vec::new(), depth: 0 }
    }

    /// Parses the node `json` at `path`.
    pub(crate) fn node(&mut self, json: &Value, path: &str, role: Role) -> SchemaNode {
        let Some(map) = json.as_object() else {
            self.errors.push(FieldError::invalid(path, json.clone(), "must be an object"));
            return SchemaNode::default();
        };
        if self.depth == MAX_DEPTH {
            self.errors.push(FieldError::forbidden(path, format!("a schema may be at most {MAX_DEPTH} deep")));
            return SchemaNode::default();
        }
        self.depth += 1;
        let node = self.read(map, path, role);
        self.depth -= 1;
        node
    }

    fn read(&mut self, map: &Map<String, Value>, path: &str, role: Role) -> SchemaNode {
        for word in REFUSED.iter().filter(|word| map.contains_key(**word)) {
            self.forbid(path, word, &format!("{word} is not supported"));
        }
        if map.get("uniqueItems") == Some(&Value::Bool(true)) {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(path, "uniqueItems", why);
        }
        if role == Role::Narrowing {
            for word in SHAPING.iter().filter(|word| map.contains_key(**word)) {
                // The exception is the type alone, as in the written-out form of int-or-string.
                if *word != "type" || map.len() > 1 {
                    let why = if *word == "default" { "undefined" } else { "empty" };
                    self.forbid(path, word, &format!("must be {why} to be structural"));
                }
            }
        }
        let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let flag = |key: &str| map.get(key) == Some(&Value::Bool(true));
        let mut node = SchemaNode {
            kind: text("type"),
            format: text("format"),
            nullable: flag("nullable"),
            default: map.get("default").cloned(),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            atomic_map: map.get("x-kubernetes-map-type").is_some_and(|kind| kind == "atomic"),
            limits: self.limits(map, path),
            ..SchemaNode::default()
        };
        let narrowing = role == Role::Narrowing;
        let of = |role| if narrowing { Role::Narrowing } else { role };
        if let Some(properties) = map.get("properties").and_then(Value::as_object) {
            for (name, json) in properties {
                let path = format!("{path}.properties[{name}]");
                node.properties.insert(name.clone(), self.node(json, &path, of(Role::Field)));
            }
        }
        node.additional = match map.get("additionalProperties") {
            Some(Value::Bool(true)) => Additional::Any,
            Some(json @ Value::Object(_)) => {
                Additional::Of(Box::new(self.node(json, &format!("{path}.additionalProperties"), of(Role::Extra))))
            }
            _ => Additional::None,
        };
        node.items = map.get("items").map(|json| Box::new(self.node(json, &format!("{path}.items"), of(Role::Item))));
        for (key, nodes) in [("allOf", &mut node.all_of), ("anyOf", &mut node.any_of), ("oneOf", &mut node.one_of)] {
            for (index, json) in map.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
                nodes.push(self.node(json, &format!("{path}.{key}[{index}]"), Role::Narrowing));
            }
        }
        node.not = map.get("not").map(|json| Box::new(self.node(json, &format!("{path}.not"), Role::Narrowing)));
        node.list = self.list_type(map, &node, path);
        if !narrowing {
            self.check_shape(&node, map, path, role);
        }
        for (index, json) in
            map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let at = format!("{path}.x-kubernetes-validations[{index}]");
            match Rule::read(json, &node, &at, role == Role::Root || node.embedded) {
                Ok(read) => node.rules.push(read),
                Err(error) => self.errors.push(error),
            }
        }
        node
    }

    fn forbid(&mut self, path: &str, word: &str, why: &str) {
        self.errors.push(FieldError::forbidden(format!("{path}.{word}"), why));
    }

    fn check_shape(&mut self, node: &SchemaNode, map: &Map<String, Value>, path: &str, role: Role) {
        let free = node.preserve || node.int_or_string;
        if node.kind.is_empty() && !free {
            let what = match role {
                Role::Root => "at the root",
                Role::Item => "for specified array items",
                _ => "for specified object fields",
            };
            self.errors.push(FieldError::required(format!("{path}.type"), format!("must not be empty {what}")));
        }
        if role == Role::Root && !node.kind.is_empty() && node.kind != "object" {
            let error = FieldError::invalid(format!("{path}.type"), node.kind.as_str(), "must be object at the root");
            self.errors.push(error);
        }
        if !matches!(node.kind.as_str(), "" | "array" | "boolean" | "integer" | "number" | "object" | "string") {
            let supported = ["array", "boolean", "integer", "number", "object", "string"];
            self.errors.push(FieldError::not_supported(format!("{path}.type"), node.kind.as_str(), &supported));
        }
        if node.kind == "array" && node.items.is_none() {
            self.errors.push(FieldError::required(format!("{path}.items"), "must be specified"));
        }
        if map.contains_key("properties") && !matches!(node.additional, Additional::None) {
            let why = "additionalProperties and properties are mutual exclusive";
            self.forbid(path, "additionalProperties", why);
        }
    }

    fn list_type(&mut self, map: &Map<String, Value>, node: &SchemaNode, path: &str) -> ListType {
        let keys = || -> Vec<String> {
            let listed = map.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
            listed.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
            None | Some("atomic") => ListType::Atomic,
            Some("set") => ListType::Set,
            Some("map") => {
                let keys = keys();
                let at = format!("{path}.x-kubernetes-list-map-keys");
                if keys.is_empty() {
                    let why = "must not be empty if x-kubernetes-list-type is map";
                    self.errors.push(FieldError::required(at.clone(), why));
                }
                for key in &keys {
                    let field = node.items.as_ref().and_then(|items| items.properties.get(key));
                    let required = node.items.as_ref().is_some_and(|items| items.limits.required.contains(key));
                    match field {
                        None => {
                            let why = "entries must all be names of item properties";
                            self.errors.push(FieldError::invalid(at.clone(), Value::from(keys.clone()), why));
                        }
                        Some(field) if field.default.is_none() && !required => {
                            let at = format!("{path}.items.properties[{key}].default");
                            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                            self.errors.push(FieldError::required(at, why));
                        }
                        Some(_) => {}
                    }
                }
                ListType::Map(keys)
            }
            Some(other) => {
                let at = format!("{path}.x-kubernetes-list-type");
                self.errors.push(FieldError::not_supported(at, other, &["atomic", "set", "map"]));
                ListType::Atomic
            }
        }
    }

    fn limits(&mut self, map: &Map<String, Value>, path: &str) -> Limits {
        let number = |key: &str| map.get(key).and_then(Value::as_f64);
        // Generated schemas write whole numbers as floats.
        let count = |key: &str| map.get(key).and_then(Value::as_u64);
        let flag = |key: &str| map.get(key) == Some(&Value::Bool(true));
        let pattern = map.get("pattern").and_then(Value::as_str).and_then(|pattern| match Regex::new(pattern) {
            Ok(regex) => Some(regex),
            Err(error) => {
                let why = format!("must be a valid regular expression, but isn't: {error}");
                self.errors.push(FieldError::new(
                    FieldErrorKind::Invalid,
                    format!("{path}.pattern"),
                    Some(pattern.into()),
                    why,
                ));
                None
            }
        });
        let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
        Limits {
            required: required.filter_map(Value::as_str).map(str::to_owned).collect(),
            allowed: map.get("enum").and_then(Value::as_array).cloned(),
            minimum: number("minimum"),
            above_minimum: flag("exclusiveMinimum"),
            maximum: number("maximum"),
            below_maximum: flag("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern,
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
        }
    }
}
