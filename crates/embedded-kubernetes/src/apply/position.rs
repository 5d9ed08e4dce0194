//! The schema at a position in an object: whether a list or map there is atomic, and by which keys its items are
//! identified.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::set;
use crate::lists::{self, List, MergeRules};
use crate::schema::Schema;
use crate::schema::node::{ListType, SchemaNode};

/// The schema of an object.
#[derive(Debug, Clone, Copy)]
pub enum Types<'a> {
    /// An object of a built-in kind with these rules.
    Builtin(&'a MergeRules),
    /// A custom resource.
    Custom(&'a Schema),
}

/// A position in an object.
#[derive(Clone)]
pub(super) enum Position<'a> {
    /// A position in a built-in kind, or in the metadata of any kind: the rules, and the names of the fields from the
    /// root. The flag marks an item of the list of that name.
    Builtin(&'a MergeRules, Vec<String>, bool),
    /// A position in a custom resource. The flag marks the root and embedded objects.
    Custom(&'a SchemaNode, bool),
    /// A position without a schema: maps are merged by field, lists are atomic.
    Unknown,
}

/// Maps whose keys are chosen by users, in types that several built-in kinds share.
const FREE: [&str; 15] = [
    "labels",
    "annotations",
    "data",
    "binaryData",
    "stringData",
    "matchLabels",
    "nodeSelector",
    "limits",
    "requests",
    "capacity",
    "allocatedResources",
    "overhead",
    "options",
    "parameters",
    "volumeAttributes",
];

/// Structures and lists that an object of any built-in kind always has, possibly empty. Their presence has no owner.
const GIVEN: [&str; 5] = ["metadata", "spec", "status", "template", "containers"];

impl<'a> Position<'a> {
    pub(super) fn root(types: Types<'a>) -> Self {
        match types {
            Types::Builtin(rules) => Self::Builtin(rules, Vec::new(), false),
            Types::Custom(schema) => Self::Custom(schema.root(), true),
        }
    }

    /// Returns the position of the field `name`.
    pub(super) fn field(&self, name: &str) -> Self {
        match self {
            Self::Builtin(rules, names, _) => {
                let mut names = names.clone();
                names.push(name.to_owned());
                Self::Builtin(rules, names, false)
            }
            Self::Custom(_, true) if name == "metadata" => {
                Self::Builtin(&MergeRules::SHARED, vec![name.to_owned()], false)
            }
            Self::Custom(node, _) => node.field(name).map_or(Self::Unknown, |node| Self::Custom(node, node.embedded)),
            Self::Unknown => Self::Unknown,
        }
    }

    /// Returns the position of an item of this list.
    pub(super) fn item(&self) -> Self {
        match self {
            Self::Builtin(rules, names, _) => Self::Builtin(rules, names.clone(), true),
            Self::Custom(node, _) => {
                node.items.as_deref().map_or(Self::Unknown, |node| Self::Custom(node, node.embedded))
            }
            Self::Unknown => Self::Unknown,
        }
    }

    /// Returns the position after a path step.
    pub(super) fn step(&self, step: &str) -> Self {
        step.strip_prefix("f:").map_or_else(|| self.item(), |name| self.field(name))
    }

    fn split(names: &[String]) -> (Vec<&str>, &str) {
        let mut parents: Vec<&str> = names.iter().map(String::as_str).collect();
        let last = parents.pop().unwrap_or_default();
        (parents, last)
    }

    /// Returns whether the list here is atomic.
    pub(super) fn is_atomic_list(&self) -> bool {
        match self {
            Self::Builtin(rules, names, _) => {
                let (parents, last) = Self::split(names);
                rules.applied_list(&parents, last) == List::Atomic
            }
            Self::Custom(node, _) => node.list == ListType::Atomic,
            Self::Unknown => true,
        }
    }

    /// Returns whether the map here is atomic.
    pub(super) fn is_atomic_map(&self) -> bool {
        match self {
            Self::Builtin(rules, names, _) => {
                let (parents, last) = Self::split(names);
                rules.applied_map_is_atomic(&parents, last)
            }
            Self::Custom(node, _) => node.atomic_map,
            Self::Unknown => false,
        }
    }

    /// Returns whether the schema declares the field `name` here.
    pub(super) fn names(&self, name: &str) -> bool {
        match self {
            Self::Builtin(rules, names, _) => names
                .last()
                .is_none_or(|last| !FREE.contains(&last.as_str()) && !rules.free_maps.contains(&last.as_str())),
            Self::Custom(node, resource) => {
                node.properties.contains_key(name) || *resource && matches!(name, "apiVersion" | "kind" | "metadata")
            }
            Self::Unknown => false,
        }
    }

    /// Returns whether the structure here always exists, possibly empty.
    pub(super) fn always_exists(&self) -> bool {
        match self {
            Self::Builtin(rules, names, item) => {
                let given = |name: &str| GIVEN.contains(&name) || rules.always_present.contains(&name);
                !item && names.iter().all(|name| given(name))
            }
            Self::Custom(..) | Self::Unknown => false,
        }
    }

    /// Returns the path step to `item` of this list, or why it has none.
    pub(super) fn step_to(&self, item: &Value) -> Result<String, String> {
        let keys: Vec<(Cow<'_, str>, Option<Value>)> = match self {
            Self::Builtin(rules, names, _) => {
                let (parents, last) = Self::split(names);
                let List::Keyed(keys) = rules.applied_list(&parents, last) else { return Ok(set::value(item)) };
                keys.iter().map(|key| (Cow::Borrowed(*key), Some(Self::builtin_default(key)))).collect()
            }
            Self::Custom(node, _) => {
                let ListType::Map(keys) = &node.list else { return Ok(set::value(item)) };
                let default = |key: &str| node.items.as_ref()?.properties.get(key)?.default.clone();
                keys.iter().map(|key| (Cow::Borrowed(key.as_str()), default(key))).collect()
            }
            Self::Unknown => return Ok(set::value(item)),
        };
        let Value::Object(item) = item else {
            return Err("associative list with keys may not have non-map elements".to_owned());
        };
        let mut found = Map::new();
        for (key, default) in keys {
            let value = item.get(key.as_ref()).filter(|value| !value.is_null()).cloned().or(default);
            let Some(value) = value else {
                return Err(format!(
                    "associative list with keys has an element that omits key field \"{key}\" (and doesn't have \
                     default value)"
                ));
            };
            found.insert(key.into_owned(), value);
        }
        Ok(set::keys(found))
    }

    fn builtin_default(key: &str) -> Value {
        match (lists::key_default(key), key) {
            (Some(default), _) => default.into(),
            (None, "containerPort" | "port") => 0.into(),
            (None, _) => "".into(),
        }
    }

    /// Returns whether `value` is a unit here: a scalar, or an atomic list or map.
    pub(super) fn is_leaf(&self, value: &Value) -> bool {
        match value {
            Value::Object(_) => self.is_atomic_map(),
            Value::Array(_) => self.is_atomic_list(),
            _ => true,
        }
    }
}
