//! `Secret`.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value, json};

use crate::builtin::defaults::default;
use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage, rules};
use crate::lists::MergeRules;
use crate::meta::entry;
use crate::names;
use crate::status::FieldError;
use crate::table::cells::{age, count, name, text};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<Secret>(),
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
    field_selectors: &["type"],
    table: BuiltinTable {
        columns: &[PrintColumn::NAME, PrintColumn::text("Type"), PrintColumn::text("Data"), PrintColumn::AGE],
        cells: |object, now| {
            vec![name(object), text(object, "/type").into(), count(object, "/data").into(), age(object, now)]
        },
        conditions: None,
    },
    merge: MergeRules::SHARED,
    check_name: names::subdomain,
    defaults: Some(defaults),
    first_status: None,
    check: Some(|object, errors| rules::data_keys(object, "data", errors)),
    check_update: Some(check_update),
    hooks: Hooks::NONE,
};

/// Sets the type, and moves `stringData` into `data`, which has bytes.
fn defaults(map: &mut Map<String, Value>) {
    default(map, "type", "Opaque");
    if let Some(Value::Object(texts)) = map.remove("stringData") {
        let data = entry(map, "data");
        for (key, text) in texts {
            let bytes = ByteString(text.as_str().unwrap_or_default().as_bytes().to_vec());
            data.insert(key, json!(bytes));
        }
    }
}

fn check_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    rules::immutable(old, new, "type", errors);
    rules::immutable_data(old, new, errors);
}
