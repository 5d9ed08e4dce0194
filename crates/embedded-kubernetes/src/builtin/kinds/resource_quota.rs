//! `ResourceQuota`. What it counts is in `quota.rs` of the crate.

use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};

use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::lists::MergeRules;
use crate::names;
use crate::table::cells::{age, name};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<ResourceQuota>(),
    short_names: &["quota"],
    categories: &[],
    storage: Storage::Own,
    status: true,
    scale: false,
    subresources: &[],
    unconditional_update: true,
    create_on_update: false,
    delete_collection: true,
    delete_returns_object: true,
    garbage_collected: true,
    generation: Generation::NotCounted,
    pod_spec: None,
    field_selectors: &[],
    table: BuiltinTable {
        columns: &[PrintColumn::NAME, PrintColumn::text("Request"), PrintColumn::text("Limit"), PrintColumn::AGE],
        cells,
        conditions: None,
    },
    merge: MergeRules { atomic_maps: &["spec.scopeSelector"], free_maps: &["hard", "used"], ..MergeRules::SHARED },
    check_name: names::subdomain,
    defaults: None,
    first_status: Some(|_| json!({})),
    check: None,
    check_update: None,
    hooks: Hooks::NONE,
};

fn cells(object: &Value, now: &str) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in object.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten() {
        let amount = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("0").to_owned();
        let used = object.pointer("/status/used").and_then(|used| used.get(resource));
        let line = format!("{resource}: {}/{}", amount(used), amount(Some(hard)));
        if resource.starts_with("limits.") { &mut limits } else { &mut requests }.push(line);
    }
    vec![name(object), requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
}
