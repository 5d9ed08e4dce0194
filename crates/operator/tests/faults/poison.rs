//! Arbitrary objects beside a healthy job: the healthy job is served as if they did not exist.

use std::cell::Cell;
use std::sync::Once;

use embedded_kubernetes::api::Actor;
use embedded_kubernetes::meta;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed};
use serde_json::{Map, Value, json};
use sluice_operator::Election;
use sluice_signals::JobKey;
use sluice_testkit::world::{NAMESPACE, World, job, wait};

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts panics on this thread, caught or not.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
    PANICS.set(0);
}

fn key(name: &str) -> JobKey {
    JobKey { namespace: NAMESPACE.to_owned(), name: name.to_owned() }
}

fn workers(world: &World, name: &str) -> u64 {
    let all = world.list("apps", "deployments");
    let ours = all.iter().find(|object| meta::name(object) == name);
    ours.and_then(|object| object["spec"]["replicas"].as_u64()).unwrap_or(0)
}

/// Applies a definition without a schema, as an older or edited one might be: any object is a valid StreamJob.
async fn loosen(world: &World) {
    for definition in sluice_api::crds() {
        let mut definition = serde_json::to_value(definition).unwrap();
        for version in definition["spec"]["versions"].as_array_mut().unwrap() {
            version["schema"] =
                json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        }
        world.apply(&definition).await;
    }
}

/// Starts an operator in a world where any object is a valid StreamJob, with the objects of `poison`.
async fn beside(poison: &[Value], status: &Value) -> World {
    let mut world = World::new(17).await;
    loosen(&world).await;
    let user = Actor::new(world.server.clone(), "user");
    for object in poison {
        // Objects that the server refuses do no harm.
        if let Ok(made) = user.create(object.clone()) {
            let _ = user.set_status(&made.value, status.clone());
        }
    }
    world.plant.set_rate(&key("orders"), 100);
    let election = Election { namespace: NAMESPACE.to_owned(), lease: "sluice".to_owned(), identity: "o-".to_owned() };
    world.start_operator(&"".parse().unwrap(), world.clock.clone(), Some(election));
    world
}

/// Asserts that a healthy job is created, scaled, and scaled again, in time.
async fn is_served(mut poison: Vec<Value>, status: &Value) {
    count_panics();
    for object in &mut poison {
        object["metadata"]["namespace"] = json!(NAMESPACE);
    }
    let world = beside(&poison, status).await;
    world.apply(&job("orders")).await;
    // If another process holds the lease, the operator waits until it expires.
    wait(40).await;
    assert_eq!(workers(&world, "orders"), 3, "the initial replica count");
    world.plant.set_rate(&key("orders"), 500);
    wait(40).await;
    assert!((5..=8).contains(&workers(&world, "orders")), "{} workers for 500 a second", workers(&world, "orders"));
    assert_eq!(PANICS.get(), 0);
    world.end();
}

/// Returns a strategy for arbitrary JSON of at most three levels.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "NaN",
            "-1",
            "1e999",
            "9999-12-31T23:59:59Z",
            "",
            "10s",
            "-10s",
            "\u{0}",
            "💥",
            "50%"
        ])
        .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("x".repeat(5000))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..4).prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    let known =
        vec!["latency", "port", "kafka", "template", "spec", "containers", "name", "replicas", "after", "conditions"];
    prop_oneof![prop::sample::select(known).prop_map(str::to_owned), "[a-zA-Z./-]{0,8}"]
}

/// Returns a strategy that replaces one to three parts of an object with arbitrary JSON.
fn spoilt(whole: Value) -> impl Strategy<Value = Value> {
    let paths = paths(&whole);
    prop::collection::vec((prop::sample::select(paths), anything()), 1..4).prop_map(move |changes| {
        let mut object = whole.clone();
        for (path, value) in changes {
            if let Some(part) = object.pointer_mut(&path) {
                *part = value;
            }
        }
        object
    })
}

/// Returns the paths of all values in an object.
fn paths(value: &Value) -> Vec<String> {
    let under = |key: String, value: &Value| -> Vec<String> {
        let mut all = vec![format!("/{key}")];
        all.extend(paths(value).into_iter().map(|rest| format!("/{key}{rest}")));
        all
    };
    match value {
        Value::Object(map) => map.iter().flat_map(|(key, value)| under(key.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().flat_map(|(at, value)| under(at.to_string(), value)).collect(),
        _ => Vec::new(),
    }
}

fn whole_spec() -> Value {
    let mut spec = job("poison")["spec"].take();
    spec["scaling"] = json!({
        "mode": "Auto", "initialReplicas": 3, "maxStepUp": 4, "maxStepDown": "50%",
        "schedules": [{"name": "n", "schedule": "0 22 * * *", "duration": "8h", "timeZone": "Europe/Berlin", "minReplicas": 1}],
        "fallback": {"after": "5m", "replicas": 4},
    });
    spec["metrics"] = json!({"port": 8080, "path": "/metrics"});
    spec["processing"] = json!({"style": "Record", "maxRecordsPerSecond": 1000, "concurrency": 2});
    spec
}

fn whole_status() -> Value {
    json!({
        "observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "desiredReplicas": 3, "lagRecords": 5,
        "model": {"capacityPerWorker": 100, "handoverMilliseconds": 500, "startUpMilliseconds": 2000},
        "lastDecision": {"time": "2026-01-01T00:00:00Z", "from": 1, "to": 2, "reason": "Growth", "message": "m"},
        "recentDecisions": [],
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    })
}

fn named(spec: &Value, number: usize) -> Value {
    json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob", "metadata": {"name": format!("poison-{number}")}, "spec": spec})
}

/// With `SLUICE_PROPTEST_CASES` set, this number of random cases runs instead of the fixed ones.
///
/// Catalogue: S20.
#[test]
fn arbitrary_jobs_do_not_affect_a_healthy_job() {
    let others = std::env::var("SLUICE_PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config {
        cases: others.unwrap_or(16),
        rng_seed: if others.is_some() { RngSeed::Random } else { RngSeed::Fixed(1) },
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        max_shrink_iters: 50,
        ..Config::default()
    };
    let specs = prop::collection::vec(prop_oneof![3 => spoilt(whole_spec()), 1 => anything()], 1..5);
    let status = prop_oneof![spoilt(whole_status()), anything()];
    proptest!(config, |(specs in specs, status in status)| {
        let poison: Vec<Value> = specs.iter().enumerate().map(|(number, spec)| named(spec, number)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(is_served(poison, &status));
    });
}

/// Times that the Rust types cannot represent, in any client's object, made the list of all pods undecodable.
///
/// Catalogue: S20.
#[tokio::test(start_paused = true)]
async fn time_of_the_year_9999_does_not_affect_a_healthy_job() {
    let managed = json!([{
        "manager": "m", "operation": "Update", "apiVersion": "v1", "time": "9999-12-31T23:59:59Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {"f:sluice.dev/job": {}}}},
    }]);
    let metadata =
        |name: &str| json!({"name": name, "labels": {"sluice.dev/job": "orders"}, "managedFields": managed.clone()});
    let pod = json!({"containers": [{"name": "c", "image": "i"}]});
    let workload = json!({
        "replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod},
    });
    let mut set = workload.clone();
    set["serviceName"] = json!("s");
    let mut stranger = named(&whole_spec(), 0);
    stranger["metadata"] = metadata("poison");
    let poison = vec![
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("p"), "spec": pod}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("d"), "spec": workload}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata("s"), "spec": set}),
        stranger,
    ];
    is_served(poison, &Value::Null).await;
}

/// Absurd values in pods, annotations, a workload with the name of a job, and the lease.
///
/// Catalogue: S20.
#[tokio::test(start_paused = true)]
async fn absurd_pods_and_leases_do_not_affect_a_healthy_job() {
    let pod = json!({"containers": [{"name": "c", "image": "i"}]});
    let costs = ["", "NaN", "-2147483649", "99999999999999999999", "1e9", "\u{feff}1"];
    let mut poison: Vec<Value> = costs
        .iter()
        .enumerate()
        .map(|(number, cost)| {
            let mut annotations: Map<String, Value> = Map::new();
            annotations.insert("controller.kubernetes.io/pod-deletion-cost".to_owned(), json!(cost));
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
                "name": format!("p-{number}"), "annotations": annotations,
                "labels": {"sluice.dev/job": "stranger", "pod-template-hash": "x".repeat(63)},
            }, "spec": pod})
        })
        .collect();
    let mut stranger = named(&whole_spec(), 0);
    stranger["metadata"]["name"] = json!("stranger");
    poison.push(stranger);
    poison.push(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
        "name": "stranger", "labels": {"sluice.dev/job": "orders"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y", "controller": true}],
    }, "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod}}}));
    poison.push(
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "sluice"}, "spec": {
            "holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 2_147_483_647,
            "acquireTime": "9999-12-30T00:00:00.000000Z", "renewTime": "9999-12-30T00:00:00.000000Z",
        }}),
    );
    let status = json!({
        "phase": "Running", "podIP": "not an address", "startTime": "0001-01-01T00:00:00Z",
        "conditions": [{"type": "Ready", "status": "Perhaps"}, {"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "elsewhere", "ready": true, "restartCount": 2_147_483_647, "image": "", "imageID": "",
            "state": {"running": {"startedAt": "9999-12-30T00:00:00Z"}}}],
    });
    is_served(poison, &status).await;
}
