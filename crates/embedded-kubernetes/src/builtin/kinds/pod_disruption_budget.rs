//! `PodDisruptionBudget`.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::lists::MergeRules;
use crate::names;
use crate::table::cells::{age, name, number};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<PodDisruptionBudget>(),
    short_names: &["pdb"],
    categories: &[],
    storage: Storage::Own,
    status: true,
    scale: false,
    subresources: &[],
    unconditional_update: false,
    create_on_update: false,
    delete_collection: true,
    delete_returns_object: false,
    garbage_collected: true,
    generation: Generation::Content,
    pod_spec: None,
    field_selectors: &[],
    table: BuiltinTable {
        columns: &[
            PrintColumn::NAME,
            PrintColumn::text("Min Available"),
            PrintColumn::text("Max Unavailable"),
            PrintColumn::number("Allowed Disruptions"),
            PrintColumn::AGE,
        ],
        cells,
        conditions: None,
    },
    merge: MergeRules {
        strategic_atomic_maps: &["spec.selector"],
        free_maps: &["disruptedPods"],
        ..MergeRules::SHARED
    },
    check_name: names::subdomain,
    defaults: None,
    first_status: Some(
        |_| json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
    ),
    check: None,
    check_update: None,
    hooks: Hooks::NONE,
};

fn cells(object: &Value, now: &str) -> Vec<Value> {
    let bound = |field: &str| -> Value {
        match object.pointer(&format!("/spec/{field}")) {
            None | Some(Value::Null) => "N/A".into(),
            Some(Value::String(text)) => text.as_str().into(),
            Some(other) => other.to_string().into(),
        }
    };
    let allowed = number(object, "/status/disruptionsAllowed");
    vec![name(object), bound("minAvailable"), bound("maxUnavailable"), allowed.into(), age(object, now)]
}
