//! `Service`.

use k8s_openapi::api::core::v1::Service;
use serde_json::{Map, Value, json};

use crate::builtin::defaults::{default, each};
use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::lists::{List, MergeRules};
use crate::meta::entry;
use crate::names;
use crate::table::cells::{age, items, joined_or_none, name, number, pairs, text};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<Service>(),
    short_names: &["svc"],
    categories: &["all"],
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
    field_selectors: &["spec.clusterIP", "spec.type"],
    table: BuiltinTable {
        columns: &[
            PrintColumn::NAME,
            PrintColumn::text("Type"),
            PrintColumn::text("Cluster-IP"),
            PrintColumn::text("External-IP"),
            PrintColumn::text("Port(s)"),
            PrintColumn::AGE,
            PrintColumn::text("Selector").wide(),
        ],
        cells,
        conditions: None,
    },
    merge: MergeRules {
        lists: &[("spec.ports", List::Keyed(&["port", "protocol"]))],
        always_present: &["loadBalancer"],
        ..MergeRules::SHARED
    },
    check_name: names::label_1035,
    defaults: Some(defaults),
    first_status: Some(|_| json!({"loadBalancer": {}})),
    check: None,
    check_update: None,
    hooks: Hooks::NONE,
};

fn defaults(map: &mut Map<String, Value>) {
    let spec = entry(map, "spec");
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    if spec.get("type").is_some_and(|kind| kind != "ExternalName") {
        default(spec, "internalTrafficPolicy", "Cluster");
        default(spec, "ipFamilies", json!(["IPv4"]));
        default(spec, "ipFamilyPolicy", "SingleStack");
    }
    for port in each(spec, "ports") {
        default(port, "protocol", "TCP");
        if let Some(number) = port.get("port").cloned() {
            default(port, "targetPort", number);
        }
    }
}

fn cells(object: &Value, now: &str) -> Vec<Value> {
    let port = |port: &Value| {
        let (own, protocol) = (number(port, "/port"), text(port, "/protocol"));
        match number(port, "/nodePort") {
            0 => format!("{own}/{protocol}"),
            node => format!("{own}:{node}/{protocol}"),
        }
    };
    let ports: Vec<String> = items(object, "/spec/ports").iter().map(port).collect();
    let listed = |pointer: &str, field: &str| -> Vec<String> {
        items(object, pointer)
            .iter()
            .map(|item| item.as_str().unwrap_or_else(|| text(item, field)).to_owned())
            .collect()
    };
    let mut external = listed("/spec/externalIPs", "");
    let kind = text(object, "/spec/type");
    let external = match kind {
        "ExternalName" => text(object, "/spec/externalName").into(),
        "LoadBalancer" => {
            let mut all = listed("/status/loadBalancer/ingress", "/ip");
            all.append(&mut external);
            if all.is_empty() { "<pending>".into() } else { all.join(",").into() }
        }
        _ => joined_or_none(&external),
    };
    let internal = match text(object, "/spec/clusterIPs/0") {
        "" => "<none>",
        address => address,
    };
    vec![
        name(object),
        kind.into(),
        internal.into(),
        external,
        joined_or_none(&ports),
        age(object, now),
        joined_or_none(&pairs(object.pointer("/spec/selector"))),
    ]
}
