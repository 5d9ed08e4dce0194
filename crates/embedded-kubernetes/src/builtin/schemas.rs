//! The schemas of the built-in kinds, from the generated API types. `kubectl explain` shows them.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::kinds::Kind;

/// Returns the schemas of the built-in ones of these kinds, and of all types that they consist of, by name; and with
/// each kind the name of its schema.
pub fn schemas<'a>(kinds: impl Iterator<Item = &'a Kind>) -> (Map<String, Value>, Vec<(&'a Kind, String)>) {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let named = kinds.filter_map(|kind| {
        let reference = (kind.builtin()?.api.schema)(&mut generator);
        let reference = reference.as_object()?.get("$ref")?.as_str()?;
        Some((kind, reference.rsplit('/').next()?.to_owned()))
    });
    let named = named.collect();
    (generator.take_definitions(true).into_iter().collect(), named)
}
