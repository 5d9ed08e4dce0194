//! `ControllerRevision`.

use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage, rules};
use crate::lists::MergeRules;
use crate::meta;
use crate::names;
use crate::table::cells::{age, name, number, text};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<ControllerRevision>(),
    short_names: &[],
    categories: &[],
    storage: Storage::Own,
    status: false,
    scale: false,
    subresources: &[],
    unconditional_update: true,
    create_on_update: false,
    delete_collection: true,
    delete_returns_object: false,
    garbage_collected: true,
    generation: Generation::NotCounted,
    pod_spec: None,
    field_selectors: &[],
    table: BuiltinTable {
        columns: &[
            PrintColumn::NAME,
            PrintColumn::text("Controller"),
            PrintColumn::number("Revision"),
            PrintColumn::AGE,
        ],
        cells: |object, now| {
            vec![name(object), controller(object), number(object, "/revision").into(), age(object, now)]
        },
        conditions: None,
    },
    merge: MergeRules::SHARED,
    check_name: names::subdomain,
    defaults: None,
    first_status: None,
    check: None,
    check_update: Some(|old, new, errors| rules::immutable(old, new, "data", errors)),
    hooks: Hooks::NONE,
};

fn controller(object: &Value) -> Value {
    let shown = meta::controller(object).map_or_else(String::new, |owner| {
        let group = text(owner, "/apiVersion").split('/').next().unwrap_or_default();
        format!("{}.{group}/{}", text(owner, "/kind").to_ascii_lowercase(), text(owner, "/name"))
    });
    shown.into()
}
