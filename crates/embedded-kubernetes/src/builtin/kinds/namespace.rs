//! `Namespace`.

use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Map, Value};

use crate::builtin::defaults::default;
use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::kinds::Subresource;
use crate::lists::MergeRules;
use crate::meta::{self, entry};
use crate::names;
use crate::table::cells::{age, name, text};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<Namespace>(),
    short_names: &["ns"],
    categories: &[],
    storage: Storage::Own,
    status: true,
    scale: false,
    subresources: &[Subresource { name: "finalize", group: "", version: "", kind: "Namespace", verbs: &["update"] }],
    unconditional_update: true,
    create_on_update: false,
    delete_collection: false,
    delete_returns_object: false,
    garbage_collected: true,
    generation: Generation::NotCounted,
    pod_spec: None,
    field_selectors: &["status.phase"],
    table: BuiltinTable {
        columns: &[PrintColumn::NAME, PrintColumn::text("Status"), PrintColumn::AGE],
        cells: |object, now| vec![name(object), text(object, "/status/phase").into(), age(object, now)],
        conditions: None,
    },
    merge: MergeRules::SHARED,
    check_name: names::label,
    defaults: Some(defaults),
    first_status: None,
    check: None,
    check_update: None,
    hooks: Hooks { keep_on_update: Some(keep_finalizers), ..Hooks::NONE },
};

fn defaults(map: &mut Map<String, Value>) {
    default(entry(map, "status"), "phase", "Active");
    if let Some(name) = map.get("metadata").and_then(|metadata| metadata.get("name")).cloned() {
        entry(entry(map, "metadata"), "labels").insert("kubernetes.io/metadata.name".to_owned(), name);
    }
}

/// The finalizers of the specification change only through the subresource `finalize`.
fn keep_finalizers(old: &Value, new: &mut Value) {
    if let Some(finalizers) = old.pointer("/spec/finalizers").cloned() {
        entry(meta::as_map(new), "spec").insert("finalizers".to_owned(), finalizers);
    }
}
