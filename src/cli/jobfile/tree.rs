//! YAML as it stands in the file: every key and every value with its place.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

/// Where something stands.
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

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
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
    /// The value of a field; `None` too when it is `null`, which means the same as leaving it out.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Tree::Fields(fields) = &self.tree else { return None };
        fields.iter().map(|field| (&field.name, &field.value)).find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The text of a field.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.tree {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The place of what a path such as `spec.sources[0].name` names, or of the nearest that is there.
    pub(super) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in path.split(['.', '[']) {
            let next = match (&node.tree, step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok())) {
                (Tree::List(items), Some(index)) => items.get(index).map(|item| (item, item.place)),
                (Tree::Fields(fields), None) => {
                    fields.iter().find(|field| field.name == step).map(|field| (&field.value, field.place))
                }
                _ => None,
            };
            let Some((value, key)) = next else { return place };
            // A key names a list or a group of fields better than its first character does.
            place = if matches!(value.tree, Tree::List(_) | Tree::Fields(_)) { key } else { value.place };
            node = value;
        }
        place
    }

    /// The plain value.
    pub(super) fn plain(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(truth) => (*truth).into(),
            Tree::Integer(number) => (*number).into(),
            Tree::Number(number) => (*number).into(),
            Tree::Text(text) => text.clone().into(),
            Tree::List(items) => items.iter().map(Self::plain).collect(),
            Tree::Fields(fields) => {
                Value::Object(fields.iter().map(|field| (field.name.clone(), field.value.plain())).collect())
            }
        }
    }
}

impl fmt::Display for Tree {
    /// What was found, for a message: kind and, if it is short, the value.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("nothing"),
            Self::Bool(truth) => write!(formatter, "{truth}"),
            Self::Integer(number) => write!(formatter, "the number {number}"),
            Self::Number(number) => write!(formatter, "the number {number}"),
            Self::Text(text) => write!(formatter, "the text {:?}", sluice_base::text::truncate(text, 60)),
            Self::List(_) => formatter.write_str("a list"),
            Self::Fields(_) => formatter.write_str("fields"),
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
        deserializer.deserialize_any(Planter)
    }
}

struct Planter;

impl<'de> Visitor<'de> for Planter {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Integer(number))
    }

    #[allow(clippy::cast_precision_loss, reason = "a number beyond i64 is out of every field's range anyway")]
    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(i64::try_from(number).map_or(Tree::Number(number as f64), Tree::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::Text(text))
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
