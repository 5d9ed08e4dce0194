//! `Job`.

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Map, Value, json};

use crate::builtin::defaults::{default, pod_template};
use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage, rules};
use crate::lists::{List, MergeRules};
use crate::meta::{self, entry};
use crate::names;
use crate::status::FieldError;
use crate::table::cells::{age, condition_holds, containers, name, number, selector, text};
use crate::table::{BuiltinTable, PrintColumn, since};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<Job>(),
    short_names: &[],
    categories: &["all"],
    storage: Storage::Own,
    status: true,
    scale: false,
    subresources: &[],
    unconditional_update: true,
    create_on_update: false,
    delete_collection: true,
    delete_returns_object: false,
    garbage_collected: true,
    generation: Generation::Content,
    pod_spec: Some("/spec/template/spec"),
    field_selectors: &["status.successful"],
    table: BuiltinTable {
        columns: &[
            PrintColumn::NAME,
            PrintColumn::text("Status"),
            PrintColumn::text("Completions"),
            PrintColumn::text("Duration"),
            PrintColumn::AGE,
            PrintColumn::text("Containers").wide(),
            PrintColumn::text("Images").wide(),
            PrintColumn::text("Selector").wide(),
        ],
        cells,
        conditions: None,
    },
    merge: MergeRules {
        lists: &[
            ("status.conditions", List::Atomic),
            ("status.uncountedTerminatedPods.failed", List::Set),
            ("status.uncountedTerminatedPods.succeeded", List::Set),
            ("spec.podFailurePolicy.rules.onExitCodes.values", List::Set),
        ],
        strategic_lists: &[
            ("status.conditions", List::Keyed(&["type"])),
            ("status.uncountedTerminatedPods.failed", List::Atomic),
            ("status.uncountedTerminatedPods.succeeded", List::Atomic),
            ("spec.podFailurePolicy.rules.onExitCodes.values", List::Atomic),
        ],
        ..MergeRules::SHARED
    },
    check_name: names::subdomain,
    defaults: Some(defaults),
    first_status: Some(|_| json!({})),
    check: Some(check),
    check_update: Some(check_update),
    hooks: Hooks::NONE,
};

fn defaults(map: &mut Map<String, Value>) {
    let uid = map.get("metadata").and_then(|metadata| metadata.get("uid")).cloned();
    let name = map.get("metadata").and_then(|metadata| metadata.get("name")).cloned();
    let spec = entry(map, "spec");
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "podReplacementPolicy", "TerminatingOrFailed");
    default(spec, "manualSelector", false);
    pod_template(spec);
    if spec.get("manualSelector") == Some(&Value::Bool(false)) {
        spec.remove("manualSelector");
        if let (Some(uid), Some(name)) = (uid, name)
            && !spec.contains_key("selector")
        {
            let labels = entry(entry(entry(spec, "template"), "metadata"), "labels");
            for (key, value) in [("controller-uid", &uid), ("job-name", &name)] {
                default(labels, key, value.clone());
                default(labels, &format!("batch.kubernetes.io/{key}"), value.clone());
            }
            let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
            spec.insert("selector".to_owned(), selector);
        }
    }
}

fn check(object: &Value, errors: &mut Vec<FieldError>) {
    rules::not_negative(object, &["spec.parallelism", "spec.completions", "spec.backoffLimit"], errors);
    rules::pod_spec(object, "spec.template.spec", errors);
    if meta::text(object, "/spec/template/spec/restartPolicy") == "Always" {
        let field = "spec.template.spec.restartPolicy";
        errors.push(FieldError::not_supported(field, "Always", &["OnFailure", "Never"]));
    }
}

fn check_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    rules::immutable(old, new, "spec.selector", errors);
    rules::immutable(old, new, "spec.completionMode", errors);
}

fn cells(object: &Value, now: &str) -> Vec<Value> {
    vec![
        name(object),
        status(object).into(),
        completions(object).into(),
        duration(object, now).into(),
        age(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
        selector(object),
    ]
}

fn status(object: &Value) -> &'static str {
    let terminating = object.pointer("/metadata/deletionTimestamp").is_some();
    match ["Complete", "Failed"].into_iter().find(|kind| condition_holds(object, kind)) {
        Some(ended) => ended,
        None if terminating => "Terminating",
        None => ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
            .into_iter()
            .find(|kind| condition_holds(object, kind))
            .unwrap_or("Running"),
    }
}

fn completions(object: &Value) -> String {
    let succeeded = number(object, "/status/succeeded");
    match (object.pointer("/spec/completions"), number(object, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(object: &Value, now: &str) -> String {
    match (text(object, "/status/startTime"), text(object, "/status/completionTime")) {
        ("", _) => String::new(),
        (start, "") => since(start, now),
        (start, end) => since(start, end),
    }
}
