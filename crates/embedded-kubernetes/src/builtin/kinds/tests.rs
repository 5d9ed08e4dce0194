//! Checks that hold for every kind in the list, so that a new kind is checked by being there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::ALL;
use crate::builtin::{BuiltinKind, Generation, Storage, missing, schemas};
use crate::kinds::Registry;
use crate::lists::MergeRules;
use crate::table::Table;

fn api_version(kind: &BuiltinKind) -> String {
    if kind.api.group.is_empty() {
        kind.api.version.to_owned()
    } else {
        format!("{}/{}", kind.api.group, kind.api.version)
    }
}

/// The smallest object of a kind.
fn smallest(kind: &BuiltinKind) -> Value {
    json!({"apiVersion": api_version(kind), "kind": kind.api.kind, "metadata": {"name": "a"}})
}

fn each(check: impl Fn(&BuiltinKind) -> Result<(), String>) {
    let wrong: Vec<String> = ALL
        .iter()
        .filter_map(|kind| Some(format!("{} {}: {}", api_version(kind), kind.api.kind, check(kind).err()?)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn require(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

#[test]
fn every_file_of_the_folder_is_in_the_list_of_kinds() {
    let source = include_str!("mod.rs");
    let list = source.split_once("pub static ALL").unwrap().1;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/builtin/kinds");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        if !matches!(module, "mod" | "tests") {
            assert!(list.contains(&format!("&{module}::")), "{module} has no kind in ALL");
        }
    }
}

#[test]
fn every_kind_is_listed_once_and_served() {
    let registry = Registry::new(std::iter::empty());
    let mut seen = BTreeSet::new();
    each(|kind| {
        let served = registry.at(kind.api.group, kind.api.version, kind.api.plural);
        let served = served.and_then(|served| served.builtin());
        require(served.is_some_and(|served| std::ptr::eq(served, kind)), "another kind is served under its path")
    });
    for kind in ALL {
        assert!(seen.insert((kind.api.group, kind.api.kind)), "{} {} is listed twice", kind.api.group, kind.api.kind);
    }
}

#[test]
fn every_kind_has_a_schema_with_its_fields() {
    let registry = Registry::new(std::iter::empty());
    let (schemas, named) = schemas(registry.all().map(AsRef::as_ref));
    each(|kind| {
        let name = named.iter().find(|(of, _)| of.builtin().is_some_and(|builtin| std::ptr::eq(builtin, kind)));
        let name = &name.ok_or("no schema")?.1;
        let properties = schemas.get(name).and_then(|schema| schema.get("properties")).ok_or("no properties")?;
        require(properties.get("metadata").is_some(), "its schema has no metadata")
    });
}

#[test]
fn every_kind_keeps_the_smallest_object_as_it_is() {
    each(|kind| {
        let given = smallest(kind);
        let mut object = given.clone();
        kind.shape(&mut object).map_err(|status| status.message)?;
        require(missing(&given, &object).is_empty(), "fields are lost")?;
        require(object["kind"] == given["kind"] && object["apiVersion"] == given["apiVersion"], "it has another kind")
    });
}

/// A write that changes nothing must change nothing, so defaults may not depend on whether they are there already.
#[test]
fn every_kind_has_defaults_that_are_stable() {
    each(|kind| {
        let mut once = smallest(kind);
        kind.set_defaults(&mut once);
        let mut shaped = once.clone();
        kind.shape(&mut shaped).map_err(|status| format!("its defaults do not fit: {}", status.message))?;
        require(missing(&once, &shaped).is_empty(), "a default is of an unknown field")?;
        let mut twice = once.clone();
        kind.set_defaults(&mut twice);
        require(once == twice, "setting the defaults again changes something")
    });
}

#[test]
fn every_kind_has_a_first_status_that_fits() {
    each(|kind| {
        let Some(first) = kind.first_status else { return Ok(()) };
        require(kind.status, "there is a first status, but no status")?;
        let mut object = smallest(kind);
        object["status"] = first(&object);
        let mut shaped = object.clone();
        kind.shape(&mut shaped).map_err(|status| status.message)?;
        require(missing(&object, &shaped).is_empty(), "its first status has an unknown field")
    });
}

#[test]
fn every_kind_has_a_cell_for_each_column() {
    each(|kind| {
        let table = Table::builtin(&kind.table);
        let columns = table.columns();
        let columns = columns.as_array().map_or(0, Vec::len);
        let row = table.row(&smallest(kind), "2026-01-01T00:00:00Z");
        let cells = row.get("cells").and_then(Value::as_array).map_or(0, Vec::len);
        require(columns == cells, &format!("{columns} columns, {cells} cells"))?;
        require(table.columns().to_string().contains(r#""name":"Name""#), "no column has the name")
    });
}

#[test]
fn every_merge_rule_names_a_field_of_the_kind() {
    let registry = Registry::new(std::iter::empty());
    let (schemas, named) = schemas(registry.all().map(AsRef::as_ref));
    each(|kind| {
        let name = named.iter().find(|(of, _)| of.builtin().is_some_and(|builtin| std::ptr::eq(builtin, kind)));
        let root = schemas.get(&name.ok_or("no schema")?.1).ok_or("no schema")?;
        let MergeRules { lists, atomic_maps, strategic_lists, strategic_atomic_maps, .. } = kind.merge;
        let lists = lists.iter().chain(strategic_lists).map(|(path, _)| *path);
        for path in lists.chain(atomic_maps.iter().chain(strategic_atomic_maps).copied()) {
            let found = path.split('.').try_fold(root, |at, field| field_of(&schemas, at, field));
            require(found.is_some(), &format!("no field {path}"))?;
        }
        Ok(())
    });
}

/// The schema of a field, or of the field of an item if `schema` is that of a list.
fn field_of<'a>(schemas: &'a serde_json::Map<String, Value>, schema: &'a Value, field: &str) -> Option<&'a Value> {
    let reference = |schema: &Value| schema.get("$ref")?.as_str()?.rsplit('/').next().map(str::to_owned);
    if let Some(name) = reference(schema) {
        return field_of(schemas, schemas.get(&name)?, field);
    }
    let parts = ["allOf", "anyOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
    let inner = parts.chain(schema.get("items"));
    schema
        .pointer("/properties")
        .and_then(|all| all.get(field))
        .or_else(|| inner.into_iter().find_map(|inner| field_of(schemas, inner, field)))
}

#[test]
fn every_kind_agrees_with_itself() {
    each(|kind| {
        require(kind.status || kind.hooks.keep_in_status.is_none(), "it keeps fields in a status that it has not")?;
        require(kind.status || kind.merge.kept_by_status_writes.is_empty(), "nothing writes its status")?;
        require(!kind.scale || kind.status, "it can be scaled, but has no status")?;
        let stored = !matches!(kind.storage, Storage::Nowhere);
        require(stored || kind.generation == Generation::NotCounted, "it counts changes, but is not stored")?;
        require(kind.subresources.is_sorted_by_key(|sub| sub.name), "its subresources are not in the order of names")
    });
}
