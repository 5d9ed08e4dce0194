//! Every field of the definition has an effect, and reverting a change of a field reverts its effect (Gu et al., Acto,
//! SOSP '23, <https://doi.org/10.1145/3600006.3613161>).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sluice_api::StreamJob;
use sluice_operator::validate::validate;
use sluice_signals::JobKey;
use sluice_testkit::world::ends::ends;
use sluice_testkit::world::{NAMESPACE, World, job, wait};

/// A field: its path in the spec, and its value.
type Leaf = (String, Value);

/// Returns jobs that together have every field.
fn jobs() -> [Value; 3] {
    let mut whole = job("orders");
    let spec = &mut whole["spec"];
    spec["objective"] = json!({"latency": "10s", "percentile": "99.5", "window": "2h"});
    spec["suspend"] = json!(false);
    spec["sources"][0]["kafka"]["offsetReset"] = json!("earliest");
    spec["metrics"] = json!({"port": 8080, "path": "/metrics"});
    spec["processing"] = json!({
        "style": "Record", "delivery": "AtLeastOnce", "maxRecordsPerSecond": 1000, "concurrency": 2, "logLevel": "info",
    });
    spec["scaling"] = json!({
        "mode": "Auto", "initialReplicas": 3, "maxStepUp": 4, "maxStepDown": "50%", "maxRescalesPerHour": 20,
        "schedules": [{
            "name": "night", "schedule": "0 22 * * *", "duration": "8h", "timeZone": "Europe/Berlin", "minReplicas": 1, "maxReplicas": 6,
        }],
        "fallback": {"after": "5m", "replicas": 4},
    });
    spec["workload"]["kind"] = json!("Deployment");
    spec["workload"]["minReadySeconds"] = json!(0);
    spec["workload"]["strategy"] = json!({"type": "RollingUpdate"});
    spec["workload"]["template"]["metadata"] = json!({"labels": {"v": "1"}});
    let mut set = job("orders");
    set["spec"]["workload"]["kind"] = json!("StatefulSet");
    set["spec"]["workload"]["volumeClaimTemplates"] =
        json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    set["spec"]["workload"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenScaled": "Retain"});
    // With `replicas` the initial replica count has no effect.
    set["spec"]["replicas"] = json!(3);
    set["spec"]["processing"] = json!({"style": "MicroBatch", "batchInterval": "2s"});
    let mut target = job("orders");
    target["spec"].as_object_mut().unwrap().remove("workload");
    target["spec"]["targetRef"] = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "bystander"});
    [whole, set, target]
}

fn leaves(path: &str, value: &Value, all: &mut Vec<Leaf>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| leaves(&format!("{path}/{key}"), value, all)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| leaves(&format!("{path}/{at}"), value, all));
        }
        leaf => all.push((path.to_owned(), leaf.clone())),
    }
}

/// Collects every field of the definition with its enum values.
fn fields(path: &str, schema: &Value, all: &mut BTreeMap<String, Vec<Value>>) {
    if let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) {
        properties.iter().for_each(|(key, schema)| fields(&format!("{path}/{key}"), schema, all));
    } else if schema["items"].is_object() && schema["items"]["x-kubernetes-preserve-unknown-fields"].is_null() {
        fields(&format!("{path}/0"), &schema["items"], all);
    } else {
        all.insert(path.to_owned(), schema["enum"].as_array().cloned().unwrap_or_default());
    }
}

fn definition() -> BTreeMap<String, Vec<Value>> {
    let definition = serde_json::to_value(&sluice_api::crds()[0]).unwrap();
    let mut all = BTreeMap::new();
    fields("", &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], &mut all);
    all
}

/// Returns other values for a field, the likeliest first.
fn others(path: &str, value: &Value, enum_values: &[Value]) -> Vec<Value> {
    let texts = ["20s", "3h", "99.9", "20%", "0 9 * * *", "America/Lima", "/other", "other", "other:9092"];
    let all: Vec<Value> = match value {
        Value::Bool(flag) => vec![json!(!flag)],
        Value::Number(number) => vec![json!(number.as_i64().unwrap() + 1), json!(number.as_i64().unwrap() - 1)],
        _ if path.ends_with("/strategy/type") => vec![json!("Recreate")],
        _ if path.ends_with("/apiVersion") => vec![json!("apps/v2")],
        _ if path.ends_with("/targetRef/kind") => vec![json!("ReplicaSet")],
        _ => enum_values.iter().cloned().chain(texts.map(Value::from)).collect(),
    };
    all.into_iter().filter(|other| other != value).collect()
}

/// Returns the parsed job as text, or the problems of its spec.
fn parsed(object: &Value) -> Result<String, String> {
    let mut object = object.clone();
    object["metadata"]["uid"] = json!("11111111-2222-3333-4444-555555555555");
    let job: StreamJob = serde_json::from_value(object).map_err(|error| error.to_string())?;
    validate(&job).map(|job| format!("{job:?}")).map_err(|problems| format!("{problems:?}"))
}

/// Catalogue: T5.
#[tokio::test(start_paused = true)]
async fn every_field_has_an_effect_that_is_reverted_with_it() {
    let known = definition();
    let mut tried = BTreeSet::new();
    for base in jobs() {
        let mut world = World::new(13).await;
        let key = JobKey { namespace: NAMESPACE.to_owned(), name: "orders".to_owned() };
        world.plant.set_rate(&key, 220);
        world.start_operator(&"".parse().unwrap(), world.clock.clone(), None);
        world.apply(&base).await;
        // Some conditions change only after ten minutes.
        wait(900).await;
        let state = |world: &World| {
            ["streamjobs", "deployments", "statefulsets", "pods", "configmaps"].map(|plural| {
                let group = match plural {
                    "streamjobs" => "sluice.dev",
                    "pods" | "configmaps" => "",
                    _ => "apps",
                };
                ends(plural, &world.list(group, plural))
            })
        };
        let before = state(&world);
        let mut all = Vec::new();
        leaves("", &base["spec"], &mut all);
        for (path, value) in all {
            if tried.contains(&path) {
                continue;
            }
            let field = known.keys().find(|field| path == **field || path.starts_with(&format!("{field}/")));
            let Some(field) = field else { panic!("{path} is not a field") };
            let (mut accepted, mut refusals) = (None, Vec::new());
            for other in others(&path, &value, &known[field]) {
                let mut changed = base.clone();
                *changed["spec"].pointer_mut(&path).unwrap() = other;
                let refusal = match parsed(&changed) {
                    Ok(_) => world.try_apply(&changed).await.err().map(|error| error.to_string()),
                    Err(refusal) => Some(refusal),
                };
                let Some(refusal) = refusal else {
                    accepted = Some(changed);
                    break;
                };
                refusals.push(refusal);
            }
            if refusals.iter().any(|refusal| refusal.contains("cannot be changed")) {
                tried.insert(path);
                continue;
            }
            let Some(changed) = accepted else {
                panic!("no other value than {value} is accepted for {path}: {refusals:#?}")
            };
            assert!(parsed(&changed) != parsed(&base), "{path} has no effect");
            wait(60).await;
            world.apply(&base).await;
            wait(900).await;
            assert_eq!(state(&world), before, "{path} is {value} again, but the state differs");
            tried.insert(path);
        }
        world.end();
    }
    let missing: Vec<&String> = known
        .keys()
        .filter(|field| !tried.iter().any(|path| path == *field || path.starts_with(&format!("{field}/"))))
        .collect();
    assert!(missing.is_empty(), "fields that were not tried: {missing:?}");
}
