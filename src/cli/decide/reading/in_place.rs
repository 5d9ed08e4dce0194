//! Deserialization of a value into an existing one, used by [`read`](super::read).

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Fields, UnknownFields};
use sluice_base::units::Seconds;

/// A value that can be deserialized in place.
pub(super) trait Slot {
    fn fill<'de, D: Deserializer<'de>>(&mut self, deserializer: D, unknown: &mut UnknownFields)
    -> Result<(), D::Error>;
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Slot for $type {
            fn fill<'de, D: Deserializer<'de>>(&mut self, deserializer: D, _: &mut UnknownFields) -> Result<(), D::Error> {
                *self = Deserialize::deserialize(deserializer)?;
                Ok(())
            }
        }
    )*};
}

plain!(Seconds, Option<Seconds>, Option<bool>, Option<u32>, Option<i64>, Option<f64>);

impl Slot for String {
    fn fill<'de, D: Deserializer<'de>>(&mut self, deserializer: D, _: &mut UnknownFields) -> Result<(), D::Error> {
        deserializer.deserialize_str(Text(self))
    }
}

impl Slot for Option<String> {
    fn fill<'de, D: Deserializer<'de>>(&mut self, deserializer: D, _: &mut UnknownFields) -> Result<(), D::Error> {
        deserializer.deserialize_option(MaybeText(self))
    }
}

impl<T: Fields> Slot for Vec<T> {
    fn fill<'de, D: Deserializer<'de>>(
        &mut self,
        deserializer: D,
        unknown: &mut UnknownFields,
    ) -> Result<(), D::Error> {
        deserializer.deserialize_seq(ListInPlace { list: self, unknown })
    }
}

impl<T: Fields> Slot for T {
    fn fill<'de, D: Deserializer<'de>>(
        &mut self,
        deserializer: D,
        unknown: &mut UnknownFields,
    ) -> Result<(), D::Error> {
        deserializer.deserialize_map(InPlace { slot: self, unknown })
    }
}

/// Deserializes into a slot and records the unknown fields.
pub(super) struct InPlace<'a, T> {
    pub(super) slot: &'a mut T,
    pub(super) unknown: &'a mut UnknownFields,
}

impl<'de, T: Slot> DeserializeSeed<'de> for InPlace<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.slot.fill(deserializer, self.unknown)
    }
}

impl<'de, T: Fields> Visitor<'de> for InPlace<'_, T> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = 0_u32;
        let mut next = 0;
        while let Some(key) =
            entries.next_key_seed(Key { place: T::PLACE, names: T::NAMES, next, unknown: self.unknown })?
        {
            let Some(field) = key else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & (1 << field) != 0 {
                return Err(A::Error::duplicate_field(T::NAMES[field]));
            }
            seen |= 1 << field;
            next = field + 1;
            self.slot.read(field, &mut entries, self.unknown)?;
        }
        for (field, name) in T::NAMES.iter().enumerate() {
            if seen & (1 << field) == 0 {
                if *name == T::REQUIRED {
                    return Err(A::Error::missing_field(name));
                }
                self.slot.reset(field);
            }
        }
        Ok(())
    }
}

/// Deserializes a key into its index in the known names. It tries `next` first, because programs usually write fields
/// in the same order.
struct Key<'a> {
    place: &'static str,
    names: &'static [&'static str],
    next: usize,
    unknown: &'a mut UnknownFields,
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
        if self.names.get(self.next).is_some_and(|next| *next == name) {
            return Ok(Some(self.next));
        }
        let index = self.names.iter().position(|known| *known == name);
        if index.is_none() {
            self.unknown.record(self.place, self.names, name);
        }
        Ok(index)
    }
}

/// Deserializes each object of a list into the one at the same index.
struct ListInPlace<'a, T> {
    list: &'a mut Vec<T>,
    unknown: &'a mut UnknownFields,
}

impl<'de, T: Fields> Visitor<'de> for ListInPlace<'_, T> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut count = 0;
        loop {
            if count == self.list.len() {
                self.list.push(T::default());
            }
            if items.next_element_seed(InPlace { slot: &mut self.list[count], unknown: self.unknown })?.is_none() {
                break;
            }
            count += 1;
        }
        self.list.truncate(count);
        Ok(())
    }
}

struct Text<'a>(&'a mut String);

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(text);
        Ok(())
    }
}

struct MaybeText<'a>(&'a mut Option<String>);

impl<'de> Visitor<'de> for MaybeText<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        *self.0 = None;
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        *self.0 = None;
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(Text(self.0.get_or_insert_default()))
    }
}
