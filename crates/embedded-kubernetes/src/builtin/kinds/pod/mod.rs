//! `Pod`.

mod row;
mod update;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use crate::builtin::defaults::{default, each, pod_spec};
use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage, rules};
use crate::kinds::Subresource;
use crate::lists::{List, MergeRules};
use crate::meta::{self, entry};
use crate::names;
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<Pod>(),
    short_names: &["po"],
    categories: &["all"],
    storage: Storage::Own,
    status: true,
    scale: false,
    subresources: &[
        Subresource { name: "binding", group: "", version: "", kind: "Binding", verbs: &["create"] },
        Subresource { name: "eviction", group: "policy", version: "v1", kind: "Eviction", verbs: &["create"] },
        Subresource { name: "log", group: "", version: "", kind: "Pod", verbs: &["get"] },
    ],
    unconditional_update: true,
    create_on_update: false,
    delete_collection: true,
    delete_returns_object: true,
    garbage_collected: true,
    generation: Generation::Content,
    pod_spec: Some("/spec"),
    field_selectors: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    table: BuiltinTable {
        columns: &[
            PrintColumn::NAME,
            PrintColumn::text("Ready"),
            PrintColumn::text("Status"),
            PrintColumn::text("Restarts"),
            PrintColumn::AGE,
            PrintColumn::text("IP").wide(),
            PrintColumn::text("Node").wide(),
            PrintColumn::text("Nominated Node").wide(),
            PrintColumn::text("Readiness Gates").wide(),
        ],
        cells: row::cells,
        conditions: Some(row::conditions),
    },
    merge: MergeRules {
        lists: &[("status.podIPs", List::Keyed(&["ip"])), ("status.resourceClaimStatuses", List::Keyed(&["name"]))],
        strategic_lists: &[("status.hostIPs", List::Keyed(&["ip"]))],
        kept_by_status_writes: &["deletionTimestamp", "ownerReferences"],
        ..MergeRules::SHARED
    },
    check_name: names::subdomain,
    defaults: Some(defaults),
    first_status: Some(|pod| json!({"phase": "Pending", "qosClass": quality_of_service(pod)})),
    check: Some(|pod, errors| rules::pod_spec(pod, "spec", errors)),
    check_update: Some(update::check),
    hooks: Hooks { complete_shape: Some(add_times), keep_in_status: Some(keep_quality_of_service), ..Hooks::NONE },
};

fn defaults(map: &mut Map<String, Value>) {
    let spec = entry(map, "spec");
    pod_spec(spec);
    default(spec, "enableServiceLinks", true);
    // A resource that is limited and not requested is requested up to its limit.
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            let resources = entry(container, "resources");
            if let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() {
                let requests = entry(resources, "requests");
                limits.into_iter().for_each(|(name, amount)| default(requests, &name, amount));
            }
        }
    }
}

/// Adds the times of conditions that the real server writes even if they are null.
fn add_times(pod: &mut Value) {
    let conditions = pod.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        for time in ["lastProbeTime", "lastTransitionTime"] {
            condition.entry(time).or_insert(Value::Null);
        }
    }
}

/// Returns the quality-of-service class of a pod, which follows from its requests and limits.
fn quality_of_service(pod: &Value) -> &'static str {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let containers: Vec<&Value> = containers.into_iter().flatten().collect();
    let amount =
        |container: &Value, list: &str, name: &str| container.pointer(&format!("/resources/{list}/{name}")).cloned();
    let guaranteed = containers.iter().all(|container| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = amount(container, "limits", name);
            limit.is_some() && limit == amount(container, "requests", name)
        })
    });
    let best_effort = containers.iter().all(|container| {
        let has = |list: &str| ["cpu", "memory"].iter().any(|name| amount(container, list, name).is_some());
        !has("limits") && !has("requests")
    });
    match (guaranteed, best_effort) {
        (_, true) => "BestEffort",
        (true, false) => "Guaranteed",
        (false, false) => "Burstable",
    }
}

/// The server sets the quality-of-service class, so a written status without it does not remove it.
fn keep_quality_of_service(old: &Value, status: Option<Value>) -> Option<Value> {
    let Some(class) = old.pointer("/status/qosClass") else { return status };
    let mut status = status.unwrap_or_else(|| json!({}));
    meta::as_map(&mut status).entry("qosClass").or_insert_with(|| class.clone());
    Some(status)
}
