//! `ConfigMap`.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage, rules};
use crate::lists::MergeRules;
use crate::names;
use crate::status::FieldError;
use crate::table::cells::{age, count, name};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<ConfigMap>(),
    short_names: &["cm"],
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
        columns: &[PrintColumn::NAME, PrintColumn::text("Data"), PrintColumn::AGE],
        cells: |object, now| {
            vec![name(object), (count(object, "/data") + count(object, "/binaryData")).into(), age(object, now)]
        },
        conditions: None,
    },
    merge: MergeRules::SHARED,
    check_name: names::subdomain,
    defaults: None,
    first_status: None,
    check: Some(check),
    check_update: Some(rules::immutable_data),
    hooks: Hooks::NONE,
};

fn check(object: &Value, errors: &mut Vec<FieldError>) {
    rules::data_keys(object, "data", errors);
    rules::data_keys(object, "binaryData", errors);
}
