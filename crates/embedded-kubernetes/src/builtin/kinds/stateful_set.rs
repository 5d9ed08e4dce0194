//! `StatefulSet`.

use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Map, Value, json};

use crate::builtin::defaults::{default, pod_template};
use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage, rules};
use crate::lists::MergeRules;
use crate::meta::{self, entry};
use crate::names;
use crate::status::FieldError;
use crate::table::cells::{age, containers, name, ready_replicas};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::with_selector::<StatefulSet>(),
    short_names: &["sts"],
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
    field_selectors: &[],
    table: BuiltinTable {
        columns: &[
            PrintColumn::NAME,
            PrintColumn::text("Ready"),
            PrintColumn::AGE,
            PrintColumn::text("Containers").wide(),
            PrintColumn::text("Images").wide(),
        ],
        cells: |object, now| {
            let (names, images) = (containers(object, "/name"), containers(object, "/image"));
            vec![name(object), ready_replicas(object), age(object, now), names, images]
        },
        conditions: None,
    },
    merge: MergeRules { always_present: &["updateStrategy"], ..MergeRules::SHARED },
    check_name: names::subdomain,
    defaults: Some(defaults),
    first_status: Some(|_| json!({"replicas": 0, "availableReplicas": 0})),
    check: Some(rules::workload),
    check_update: Some(check_update),
    hooks: Hooks::NONE,
};

fn defaults(map: &mut Map<String, Value>) {
    let spec = entry(map, "spec");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    let strategy = entry(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if strategy.get("type").is_some_and(|kind| kind == "RollingUpdate") {
        default(entry(strategy, "rollingUpdate"), "partition", 0);
    }
    pod_template(spec);
}

fn check_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    const MUTABLE: &[&str] = &[
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        for field in MUTABLE {
            meta::as_map(&mut spec).remove(*field);
        }
        spec
    };
    if fixed(old) != fixed(new) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden";
        errors.push(FieldError::forbidden("spec", why));
    }
}
