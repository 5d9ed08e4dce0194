//! `Lease`.

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::lists::MergeRules;
use crate::names;
use crate::status::FieldError;
use crate::table::cells::{age, name, text};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<Lease>(),
    short_names: &[],
    categories: &[],
    storage: Storage::Own,
    status: false,
    scale: false,
    subresources: &[],
    unconditional_update: false,
    create_on_update: true,
    delete_collection: true,
    delete_returns_object: false,
    garbage_collected: true,
    generation: Generation::NotCounted,
    pod_spec: None,
    field_selectors: &[],
    table: BuiltinTable {
        columns: &[PrintColumn::NAME, PrintColumn::text("Holder"), PrintColumn::AGE],
        cells: |object, now| vec![name(object), text(object, "/spec/holderIdentity").into(), age(object, now)],
        conditions: None,
    },
    merge: MergeRules::SHARED,
    check_name: names::subdomain,
    defaults: None,
    first_status: None,
    check: Some(check),
    check_update: None,
    hooks: Hooks::NONE,
};

fn check(object: &Value, errors: &mut Vec<FieldError>) {
    let duration = object.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64);
    if let Some(duration) = duration.filter(|duration| *duration <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"));
    }
}
