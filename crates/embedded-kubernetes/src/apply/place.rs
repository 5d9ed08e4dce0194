//! What is known of the value at a place in an object: whether it is taken as a whole, and what its items are keyed by.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::set;
use crate::lists::{self, List, MergeRules};
use crate::schema::Schema;
use crate::schema::node::{ListType, Node};

/// Where a [`Place`] begins.
#[derive(Debug, Clone, Copy)]
pub enum Types<'a> {
    /// An object of a built-in kind with these rules.
    Builtin(&'a MergeRules),
    /// A custom resource.
    Custom(&'a Schema),
}

/// A place in an object.
#[derive(Clone)]
pub(super) enum Place<'a> {
    /// In a built-in kind, or in the metadata of any: the rules, and the names of the fields on the way. The flag: this
    /// is an item of the list of that name.
    Builtin(&'a MergeRules, Vec<String>, bool),
    /// In a custom resource. The flag: this is the root, or an embedded object.
    Custom(&'a Node, bool),
    /// Where no schema reaches: maps by field, lists as a whole.
    Unknown,
}

/// Maps whose keys users choose, in types that several built-in kinds share.
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

/// Structures and lists that an object of any built-in kind has from the start, if only empty, so that no field manager
/// adds them.
const GIVEN: [&str; 5] = ["metadata", "spec", "status", "template", "containers"];

impl<'a> Place<'a> {
    pub(super) fn root(types: Types<'a>) -> Self {
        match types {
            Types::Builtin(rules) => Self::Builtin(rules, Vec::new(), false),
            Types::Custom(schema) => Self::Custom(schema.root(), true),
        }
    }

    /// The field `name` of what is here.
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

    /// An item of the list that is here.
    pub(super) fn item(&self) -> Self {
        match self {
            Self::Builtin(rules, names, _) => Self::Builtin(rules, names.clone(), true),
            Self::Custom(node, _) => {
                node.items.as_deref().map_or(Self::Unknown, |node| Self::Custom(node, node.embedded))
            }
            Self::Unknown => Self::Unknown,
        }
    }

    /// What one step leads to.
    pub(super) fn step(&self, step: &str) -> Self {
        step.strip_prefix("f:").map_or_else(|| self.item(), |name| self.field(name))
    }

    fn split(names: &[String]) -> (Vec<&str>, &str) {
        let mut parents: Vec<&str> = names.iter().map(String::as_str).collect();
        let last = parents.pop().unwrap_or_default();
        (parents, last)
    }

    /// Whether the list here is taken as a whole.
    pub(super) fn whole_list(&self) -> bool {
        match self {
            Self::Builtin(rules, names, _) => {
                let (parents, last) = Self::split(names);
                rules.applied_list(&parents, last) == List::Atomic
            }
            Self::Custom(node, _) => node.list == ListType::Atomic,
            Self::Unknown => true,
        }
    }

    /// Whether the map here is taken as a whole.
    pub(super) fn whole_map(&self) -> bool {
        match self {
            Self::Builtin(rules, names, _) => {
                let (parents, last) = Self::split(names);
                rules.applied_map_is_atomic(&parents, last)
            }
            Self::Custom(node, _) => node.atomic_map,
            Self::Unknown => false,
        }
    }

    /// Whether the schema names the field `name` of what is here.
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

    /// Whether what is here is there from the start, empty.
    pub(super) fn given(&self) -> bool {
        match self {
            Self::Builtin(rules, names, item) => {
                let given = |name: &str| GIVEN.contains(&name) || rules.always_present.contains(&name);
                !item && names.iter().all(|name| given(name))
            }
            Self::Custom(..) | Self::Unknown => false,
        }
    }

    /// The step to `item` of the list here, or why there is none.
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

    /// Whether `value` is one thing here: a scalar, or what is taken as a whole.
    pub(super) fn is_leaf(&self, value: &Value) -> bool {
        match value {
            Value::Object(_) => self.whole_map(),
            Value::Array(_) => self.whole_list(),
            _ => true,
        }
    }
}
