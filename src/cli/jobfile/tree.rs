//! A YAML document in which every key and every value has its place in the file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

/// A place in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1; 0 is unknown.
    pub(super) line: u64,
    /// In characters, from 1.
    pub(super) column: u64,
    /// In bytes from the beginning of the file.
    pub(super) offset: usize,
    /// In bytes.
    pub(super) length: usize,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        let bytes = |number: Option<u64>| number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
        let span = location.span();
        Self {
            line: location.line(),
            column: location.column(),
            offset: bytes(span.byte_offset()),
            length: bytes(span.byte_len()),
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) tree: Tree,
    pub(super) place: Place,
}

/// A value whose parts have places.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Scalar(Value),
    List(Vec<Node>),
    Fields(Vec<Field>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    /// Returns whether this is an empty document.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.tree, Tree::Scalar(Value::Null))
    }

    /// Returns the field of this name.
    fn field(&self, name: &str) -> Option<&Field> {
        let Tree::Fields(fields) = &self.tree else { return None };
        fields.iter().find(|field| field.name == name)
    }

    /// Returns the value of a field; `None` also when it is `null`, which means the same as an absent field.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        self.field(name).map(|field| &field.value).filter(|value| !value.is_null())
    }

    /// Returns the text of a field.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.tree {
            Tree::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns the value at a path such as `spec.sources[0].name`.
    pub(super) fn value_at(&self, path: &str) -> Option<&Self> {
        path.split(['.', '[']).try_fold(self, |node, step| node.step(step).map(|(value, _)| value))
    }

    /// Returns the place of the value at a path, or of its nearest existing parent.
    pub(super) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in path.split(['.', '[']) {
            let Some((value, key)) = node.step(step) else { return place };
            // The key marks a list or an object better than the first character of its value does.
            place = if matches!(value.tree, Tree::Scalar(_)) { value.place } else { key };
            node = value;
        }
        place
    }

    /// Returns the place of the key of the field at a path, or the place of its nearest existing parent.
    pub(super) fn key_place(&self, path: &str) -> Place {
        let (parent, name) =
            path.rsplit_once('.').map_or((Some(self), path), |(parent, name)| (self.value_at(parent), name));
        parent.and_then(|parent| parent.step(name)).map_or_else(|| self.place_of(path), |(_, key)| key)
    }

    /// Returns the value that one step of a path leads to, and the place of its key.
    fn step(&self, step: &str) -> Option<(&Self, Place)> {
        match (&self.tree, step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok())) {
            (Tree::List(items), Some(index)) => items.get(index).map(|item| (item, item.place)),
            (Tree::Fields(_), None) => self.field(step).map(|field| (&field.value, field.place)),
            _ => None,
        }
    }

    /// Returns the value without places.
    pub(super) fn to_value(&self) -> Value {
        match &self.tree {
            Tree::Scalar(value) => value.clone(),
            Tree::List(items) => items.iter().map(Self::to_value).collect(),
            Tree::Fields(fields) => {
                Value::Object(fields.iter().map(|field| (field.name.clone(), field.value.to_value())).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Tree>::deserialize(deserializer)?;
        Ok(Self { tree: value, place: referenced.into() })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(number.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::Scalar(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(Spanned { value: name, referenced, .. }) = entries.next_key::<Spanned<String>>()? {
            fields.push(Field { name, place: referenced.into(), value: entries.next_value()? });
        }
        Ok(Tree::Fields(fields))
    }
}
