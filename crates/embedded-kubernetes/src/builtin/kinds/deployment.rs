//! `Deployment`.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Map, Value, json};

use crate::builtin::defaults::{default, pod_template};
use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage, rules};
use crate::lists::MergeRules;
use crate::meta::{self, entry};
use crate::names;
use crate::status::FieldError;
use crate::table::cells::{age, containers, name, number, ready_replicas, selector};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::with_selector::<Deployment>(),
    short_names: &["deploy"],
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
    generation: Generation::ContentAndAnnotations,
    pod_spec: Some("/spec/template/spec"),
    field_selectors: &[],
    table: BuiltinTable {
        columns: &[
            PrintColumn::NAME,
            PrintColumn::text("Ready"),
            PrintColumn::text("Up-to-date"),
            PrintColumn::text("Available"),
            PrintColumn::AGE,
            PrintColumn::text("Containers").wide(),
            PrintColumn::text("Images").wide(),
            PrintColumn::text("Selector").wide(),
        ],
        cells,
        conditions: None,
    },
    merge: MergeRules { always_present: &["strategy"], kept_by_status_writes: &["labels"], ..MergeRules::SHARED },
    check_name: names::subdomain,
    defaults: Some(defaults),
    first_status: Some(|_| json!({})),
    check: Some(check),
    check_update: Some(|old, new, errors| rules::immutable(old, new, "spec.selector", errors)),
    hooks: Hooks::NONE,
};

fn defaults(map: &mut Map<String, Value>) {
    let spec = entry(map, "spec");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    let strategy = entry(spec, "strategy");
    default(strategy, "type", "RollingUpdate");
    if strategy.get("type").is_some_and(|kind| kind == "RollingUpdate") {
        let rolling = entry(strategy, "rollingUpdate");
        default(rolling, "maxSurge", "25%");
        default(rolling, "maxUnavailable", "25%");
    }
    pod_template(spec);
}

fn check(object: &Value, errors: &mut Vec<FieldError>) {
    rules::workload(object, errors);
    rules::not_negative(object, &["spec.revisionHistoryLimit", "spec.progressDeadlineSeconds"], errors);
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let (deadline, ready) = (number("/spec/progressDeadlineSeconds"), number("/spec/minReadySeconds"));
    if let Some(deadline) = deadline.filter(|deadline| *deadline <= ready.unwrap_or_default()) {
        let why = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, why));
    }
    let strategy = object.pointer("/spec/strategy").unwrap_or(&Value::Null);
    let rolling = strategy.get("rollingUpdate");
    match meta::text(strategy, "/type") {
        "Recreate" if rolling.is_some() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", why));
        }
        "Recreate" => {}
        "RollingUpdate" => check_rolling_update(rolling.unwrap_or(&Value::Null), errors),
        _ => errors.push(FieldError::not_supported("spec.strategy", strategy.clone(), &["Recreate", "RollingUpdate"])),
    }
}

fn check_rolling_update(rolling: &Value, errors: &mut Vec<FieldError>) {
    let at = |field: &str| format!("spec.strategy.rollingUpdate.{field}");
    let mut numbers = [0, 0];
    for (field, number) in ["maxUnavailable", "maxSurge"].into_iter().zip(&mut numbers) {
        let value = rolling.get(field).unwrap_or(&Value::Null);
        let percent = value.as_str().map(|text| text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok()));
        match percent {
            Some(Some(percent)) if percent >= 0 => {
                if field == "maxUnavailable" && percent > 100 {
                    errors.push(FieldError::invalid(at(field), value.clone(), "must not be greater than 100%"));
                }
            }
            Some(_) => {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                           '93%', regex used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(at(field), value.clone(), why));
            }
            None => {
                let whole = json!({"spec": {"strategy": {"rollingUpdate": rolling}}});
                rules::not_negative(&whole, &[&at(field)], errors);
            }
        }
        *number = percent.map_or(value.as_i64(), |percent| percent).unwrap_or_default();
    }
    if numbers == [0, 0] {
        let value = rolling.get("maxUnavailable").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(at("maxUnavailable"), value, "may not be 0 when `maxSurge` is 0"));
    }
}

fn cells(object: &Value, now: &str) -> Vec<Value> {
    vec![
        name(object),
        ready_replicas(object),
        number(object, "/status/updatedReplicas").into(),
        number(object, "/status/availableReplicas").into(),
        age(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
        selector(object),
    ]
}
