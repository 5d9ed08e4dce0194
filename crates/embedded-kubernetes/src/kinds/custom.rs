//! The kinds that a `CustomResourceDefinition` adds.

use std::sync::Arc;

use serde_json::Value;

use super::{Custom, Kind, Origin, ScalePaths};
use crate::meta;
use crate::schema::Schema;

/// Returns the served versions of a definition, or nothing if it is not established.
pub fn from_definition(definition: &Value) -> Vec<Kind> {
    let established = meta::condition(definition, "Established").is_some_and(|status| status == "True");
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let Some(versions) = versions.filter(|_| established) else { return Vec::new() };
    let storage = versions.iter().find(|version| version.get("storage") == Some(&Value::Bool(true)));
    let storage_version = storage.map_or("", |version| meta::text(version, "/name"));
    let served = versions.iter().filter(|version| version.get("served") == Some(&Value::Bool(true)));
    served.map(|version| kind(definition, version, storage_version)).collect()
}

fn kind(definition: &Value, version: &Value, storage_version: &str) -> Kind {
    let text = |pointer: &str| meta::text(definition, pointer).to_owned();
    let kind = text("/spec/names/kind");
    let or = |given: String, other: String| if given.is_empty() { other } else { given };
    let scale = version.pointer("/subresources/scale").map(|scale| ScalePaths {
        spec: meta::text(scale, "/specReplicasPath").to_owned(),
        status: meta::text(scale, "/statusReplicasPath").to_owned(),
        selector: scale.get("labelSelectorPath").and_then(Value::as_str).map(str::to_owned),
    });
    let selectable = version.get("selectableFields").and_then(Value::as_array);
    let selectable = selectable.into_iter().flatten().map(|field| meta::text(field, "/jsonPath").to_owned());
    Kind {
        group: text("/spec/group"),
        version: meta::text(version, "/name").to_owned(),
        list_kind: or(text("/spec/names/listKind"), format!("{kind}List")),
        plural: text("/spec/names/plural"),
        singular: or(text("/spec/names/singular"), kind.to_ascii_lowercase()),
        short_names: meta::texts(definition, "/spec/names/shortNames"),
        categories: meta::texts(definition, "/spec/names/categories"),
        namespaced: meta::text(definition, "/spec/scope") == "Namespaced",
        stored: true,
        delete_collection: true,
        status: version.pointer("/subresources/status").is_some(),
        scale,
        unconditional_update: false,
        create_on_update: false,
        generation: true,
        storage: None,
        origin: Origin::Custom(Arc::new(Custom {
            version: version.clone(),
            preserve_unknown_fields: definition.pointer("/spec/preserveUnknownFields") == Some(&Value::Bool(true)),
            storage_version: storage_version.to_owned(),
            revision: meta::resource_version(definition).parse().unwrap_or_default(),
            selectable_fields: selectable.collect(),
            terminating: meta::deleting(definition),
            schema: Schema::from_crd_version(version).ok().map(Arc::new),
        })),
        kind,
    }
}
