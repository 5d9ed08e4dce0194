//! `Node`.

use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::lists::{List, MergeRules};
use crate::names;
use crate::table::cells::{age, condition, condition_holds, items, joined_or_none, name, text};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<Node>(),
    short_names: &["no"],
    categories: &[],
    storage: Storage::Own,
    status: true,
    scale: false,
    subresources: &[],
    unconditional_update: true,
    create_on_update: false,
    delete_collection: true,
    delete_returns_object: false,
    garbage_collected: true,
    generation: Generation::NotCounted,
    pod_spec: None,
    field_selectors: &["spec.unschedulable"],
    table: BuiltinTable {
        columns: &[
            PrintColumn::NAME,
            PrintColumn::text("Status"),
            PrintColumn::text("Roles"),
            PrintColumn::AGE,
            PrintColumn::text("Version"),
            PrintColumn::text("Internal-IP").wide(),
            PrintColumn::text("External-IP").wide(),
            PrintColumn::text("OS-Image").wide(),
            PrintColumn::text("Kernel-Version").wide(),
            PrintColumn::text("Container-Runtime").wide(),
        ],
        cells,
        conditions: None,
    },
    merge: MergeRules {
        lists: &[("status.addresses", List::Keyed(&["type"])), ("spec.podCIDRs", List::Set)],
        free_maps: &["allocatable"],
        always_present: &["daemonEndpoints", "kubeletEndpoint", "nodeInfo"],
        ..MergeRules::SHARED
    },
    check_name: names::subdomain,
    defaults: None,
    first_status: None,
    check: None,
    check_update: None,
    hooks: Hooks::NONE,
};

fn cells(object: &Value, now: &str) -> Vec<Value> {
    let mut status = match condition(object, "Ready") {
        None => "Unknown".to_owned(),
        Some(_) if condition_holds(object, "Ready") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
    };
    if object.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let mut roles: Vec<String> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role.to_owned()),
            None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort();
    let address = |kind: &str| -> Value {
        let found = items(object, "/status/addresses").iter().find(|address| text(address, "/type") == kind);
        found.map_or("<none>", |found| text(found, "/address")).into()
    };
    let info = |field: &str| -> Value {
        match text(object, &format!("/status/nodeInfo/{field}")) {
            "" => "<unknown>".into(),
            text => text.into(),
        }
    };
    vec![
        name(object),
        status.into(),
        joined_or_none(&roles),
        age(object, now),
        text(object, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}
