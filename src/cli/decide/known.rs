//! The fields of an observation, and what a line has besides.
//!
//! The contract may grow: a field that this version does not know is not read, and is warned of once, because it may as
//! well be a misspelt one that is now taken for unknown. What decides on nothing at all is an error: no time, or a
//! partition or a worker without a name.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::nearest::nearest;

/// Fields of an object.
#[derive(Debug)]
pub(super) struct Fields {
    /// Where it is, for messages.
    place: &'static str,
    /// Must be there.
    required: &'static str,
    /// What each field holds.
    known: &'static [(&'static str, Holds)],
}

#[derive(Debug)]
enum Holds {
    Plain,
    One(&'static Fields),
    Many(&'static Fields),
}

/// An observation.
pub(super) const OBSERVATION: Fields = Fields {
    place: "",
    required: "at",
    known: &[
        ("at", Holds::Plain),
        ("replicas", Holds::One(&REPLICAS)),
        ("partitions", Holds::Many(&PARTITION)),
        ("groups", Holds::Many(&GROUP)),
        ("workers", Holds::Many(&WORKER)),
        ("limits", Holds::One(&LIMITS)),
    ],
};

const REPLICAS: Fields = Fields {
    place: "replicas.",
    required: "",
    known: &[("desired", Holds::Plain), ("existing", Holds::Plain), ("ready", Holds::Plain)],
};

const PARTITION: Fields = Fields {
    place: "partitions[].",
    required: "id",
    known: &[
        ("id", Holds::Plain),
        ("source", Holds::Plain),
        ("at", Holds::Plain),
        ("end", Holds::Plain),
        ("committed", Holds::Plain),
        ("position", Holds::Plain),
        ("dueEnd", Holds::Plain),
        ("start", Holds::Plain),
        ("owner", Holds::Plain),
    ],
};

const GROUP: Fields = Fields {
    place: "groups[].",
    required: "",
    known: &[("source", Holds::Plain), ("state", Holds::Plain), ("assignor", Holds::Plain)],
};

const WORKER: Fields = Fields {
    place: "workers[].",
    required: "id",
    known: &[
        ("id", Holds::Plain),
        ("at", Holds::Plain),
        ("createdAt", Holds::Plain),
        ("startedAt", Holds::Plain),
        ("ready", Holds::Plain),
        ("terminating", Holds::Plain),
        ("template", Holds::Plain),
        ("processed", Holds::Plain),
        ("inTime", Holds::Plain),
        ("busySeconds", Holds::Plain),
        ("cpuSeconds", Holds::Plain),
        // In the contract; nothing is decided from it yet.
        ("bySource", Holds::Plain),
    ],
};

const LIMITS: Fields = Fields {
    place: "limits.",
    required: "",
    known: &[("granted", Holds::Plain), ("unschedulable", Holds::Plain), ("crashLooping", Holds::Plain)],
};

/// Unknown fields: those warned of, and what is still to be said.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    told: BTreeSet<(&'static str, String)>,
    /// Warnings of the last line.
    pub(super) warnings: Vec<String>,
}

/// So many different unknown fields are told and remembered; a stream of invented names ends there.
const MOST_TOLD: usize = 100;

impl Unknown {
    fn meet(&mut self, place: &'static str, known: &'static [(&'static str, Holds)], name: &str) {
        if self.told.len() >= MOST_TOLD || self.told.contains(&(place, name.to_owned())) {
            return;
        }
        self.told.insert((place, name.to_owned()));
        let meant = nearest(name, known.iter().map(|(name, _)| *name))
            .map_or_else(String::new, |near| format!("; did you mean {near}?"));
        let name = crate::report::table::cut(name, 60);
        self.warnings.push(format!("unknown field {place}{} is not read{meant}", name.escape_debug()));
    }
}

/// Goes over a line, and notes what is unknown.
pub(super) struct Look<'a> {
    pub(super) fields: &'static Fields,
    pub(super) unknown: &'a mut Unknown,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Fields { place, required, known: fields } = *self.fields;
        let mut complete = required.is_empty();
        while let Some(key) = entries.next_key_seed(Key { place, fields, unknown: self.unknown })? {
            match key.map(|index| &fields[index]) {
                None | Some((_, Holds::Plain)) => {
                    entries.next_value::<IgnoredAny>()?;
                }
                Some((_, Holds::One(fields))) => entries.next_value_seed(Look { fields, unknown: self.unknown })?,
                Some((_, Holds::Many(fields))) => entries.next_value_seed(Each { fields, unknown: self.unknown })?,
            }
            complete |= key.is_some_and(|index| fields[index].0 == required);
        }
        if complete { Ok(()) } else { Err(A::Error::missing_field(required)) }
    }
}

/// Every object of a list.
struct Each<'a> {
    fields: &'static Fields,
    unknown: &'a mut Unknown,
}

impl<'de> DeserializeSeed<'de> for Each<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Each<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Look { fields: self.fields, unknown: self.unknown })?.is_some() {}
        Ok(())
    }
}

/// A key: its index in the known fields.
struct Key<'a> {
    place: &'static str,
    fields: &'static [(&'static str, Holds)],
    unknown: &'a mut Unknown,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        let index = self.fields.iter().position(|(known, _)| *known == name);
        if index.is_none() {
            self.unknown.meet(self.place, self.fields, name);
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::policy::{Group, Observation, Partition, Worker};

    fn names(fields: &Fields, prefix: &str, names: &mut BTreeSet<String>) {
        for (name, holds) in fields.known {
            names.insert(format!("{prefix}{name}"));
            match holds {
                Holds::Plain => {}
                Holds::One(fields) | Holds::Many(fields) => self::names(fields, &format!("{prefix}{name}."), names),
            }
        }
    }

    fn keys(value: &Value, prefix: &str, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    names.insert(format!("{prefix}{name}"));
                    keys(value, &format!("{prefix}{name}."), names);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| keys(item, prefix, names)),
            _ => {}
        }
    }

    #[test]
    fn the_known_fields_are_those_that_are_read() {
        let full = Observation {
            partitions: vec![Partition::default()],
            groups: vec![Group::default()],
            workers: vec![Worker::default()],
            ..Observation::default()
        };
        let (mut known, mut read) = (BTreeSet::new(), BTreeSet::from(["workers.bySource".to_owned()]));
        names(&OBSERVATION, "", &mut known);
        keys(&serde_json::to_value(full).unwrap(), "", &mut read);
        assert_eq!(known, read);
    }
}
