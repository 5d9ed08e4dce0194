//! `ReplicaSet`.

use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Map, Value, json};

use crate::builtin::defaults::{default, pod_template};
use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage, rules};
use crate::lists::MergeRules;
use crate::meta::entry;
use crate::names;
use crate::table::cells::{age, containers, name, number, selector};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::with_selector::<ReplicaSet>(),
    short_names: &["rs"],
    categories: &["all"],
    storage: Storage::Own,
    status: true,
    scale: true,
    subresources: &[],
    unconditional_update: true,
    create_on_update: false,
    delete_collection: true,
    delete_returns_object: false,
    garbage_collected: true,
    generation: Generation::Content,
    pod_spec: Some("/spec/template/spec"),
    field_selectors: &["status.replicas"],
    table: BuiltinTable {
        columns: &[
            PrintColumn::NAME,
            PrintColumn::number("Desired"),
            PrintColumn::number("Current"),
            PrintColumn::number("Ready"),
            PrintColumn::AGE,
            PrintColumn::text("Containers").wide(),
            PrintColumn::text("Images").wide(),
            PrintColumn::text("Selector").wide(),
        ],
        cells,
        conditions: None,
    },
    merge: MergeRules::SHARED,
    check_name: names::subdomain,
    defaults: Some(defaults),
    first_status: Some(|_| json!({"replicas": 0})),
    check: Some(rules::workload),
    check_update: Some(|old, new, errors| rules::immutable(old, new, "spec.selector", errors)),
    hooks: Hooks::NONE,
};

fn defaults(map: &mut Map<String, Value>) {
    let spec = entry(map, "spec");
    default(spec, "replicas", 1);
    pod_template(spec);
}

fn cells(object: &Value, now: &str) -> Vec<Value> {
    vec![
        name(object),
        number(object, "/spec/replicas").into(),
        number(object, "/status/replicas").into(),
        number(object, "/status/readyReplicas").into(),
        age(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
        selector(object),
    ]
}
