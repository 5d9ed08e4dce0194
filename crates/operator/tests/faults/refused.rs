//! Requests that a cluster refuses for many jobs at once, and workloads that several jobs name.

use embedded_kubernetes::faults::{Act, Faults};
use embedded_kubernetes::service::InMemory;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use sluice_testkit::world::{NAMESPACE, World, job, wait};

/// Number of jobs. With 500 the test takes ten minutes; the number of writes of a namespace does not depend on it.
const JOBS: usize = 60;

/// Returns the writes after the first `before` requests, without events.
fn writes(faults: &Faults, before: usize) -> Vec<String> {
    let requests = faults.requests();
    let all = requests[before..].iter().filter(|request| Act::Write.covers(request.act));
    let all = all.map(|request| format!("{} {} {}", request.act, request.resource(), request.path.name));
    all.filter(|request| !request.contains("events")).collect()
}

fn quota(deployments: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": NAMESPACE},
        "spec": {"hard": {"count/deployments.apps": deployments.to_string()}},
    })
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.into_iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// 500 jobs of one team sent 3,300 requests per second.
///
/// Catalogue: B3.
#[tokio::test(start_paused = true)]
async fn jobs_beyond_a_quota_cost_few_writes_until_it_is_raised() {
    let mut world = World::new(31).await;
    world.apply(&quota(1)).await;
    wait(5).await;
    let faults = world.start_operator(&"".parse().unwrap(), world.clock.clone(), None);
    for number in 0..JOBS {
        let mut object = job(&format!("job-{number}"));
        object["spec"]["scaling"]["initialReplicas"] = json!(1);
        world.apply(&object).await;
    }
    wait(300).await;
    for minute in 6..=10 {
        let before = faults.requests().len();
        wait(60).await;
        let written = writes(&faults, before);
        assert!(written.len() < 10, "{} in minute {minute}: {written:?}", written.len());
    }
    for object in world.list("sluice.dev", "streamjobs") {
        let ready = condition(&object, "Ready");
        assert_eq!(ready["reason"], "WorkloadRejected", "{object}");
        assert!(ready["message"].as_str().unwrap().contains("exceeded quota: small"), "{ready}");
    }
    world.apply(&quota(1000)).await;
    // The maximum back-off of a job, and the time in which the namespace's budget recovers.
    wait(600).await;
    assert_eq!(world.list("apps", "deployments").len(), JOBS + 1);
    world.end();
}

/// Returns the definition of a kind with a scale subresource.
fn definition(kind: &str, plural: &str, schema: &Value, scale: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.demo.test")},
        "spec": {
            "group": "demo.test", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}, "scale": scale},
            }],
        },
    })
}

/// Returns a kind whose replica count is at `.spec.size`, whose selector is only in its status, and whose plural cannot
/// be guessed.
fn ship() -> Value {
    let size = json!({"type": "integer"});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"size": size}},
        "status": {"type": "object", "properties": {"size": size, "selector": {"type": "string"}}},
    }});
    let scale = json!({"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"});
    definition("Ship", "fleet", &schema, &scale)
}

/// Returns a kind like an Argo Rollout: the layout of a Deployment, in another group.
fn rollout() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.HPAReplicas", "labelSelectorPath": ".status.selector"});
    definition("Rollout", "rollouts", &schema, &scale)
}

/// Returns a client for objects of a kind with this plural.
fn named(world: &World, plural: &str, object: &Value) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("demo.test", "v1", object["kind"].as_str().unwrap());
    let client = kube::Client::new(InMemory::new(world.server.clone()), NAMESPACE);
    Api::namespaced_with(client, NAMESPACE, &ApiResource::from_gvk_with_plural(&gvk, plural))
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "demo.test/v1", "kind": kind, "metadata": {"name": "legacy", "namespace": NAMESPACE}, "spec": spec})
}

fn job_for(name: &str, target: &Value, replicas: u32) -> Value {
    let mut job = job(name);
    let spec = job["spec"].as_object_mut().unwrap();
    spec.remove("workload");
    spec.remove("scaling");
    spec.insert("targetRef".to_owned(), target.clone());
    spec.insert("replicas".to_owned(), json!(replicas));
    job
}

/// Sluice's own first write was taken for a foreign write, and left unchanged for ten minutes.
///
/// Catalogue: A9.
#[tokio::test(start_paused = true)]
async fn every_kind_with_a_scale_follows_each_change_at_once() {
    let cases = [
        (ship(), "fleet", object("Ship", &json!({"size": 1})), "/spec/size"),
        (
            rollout(),
            "rollouts",
            object("Rollout", &json!({"replicas": 1, "selector": {"matchLabels": {"app": "x"}}})),
            "/spec/replicas",
        ),
    ];
    for (definition, plural, workload, number) in cases {
        let mut world = World::new(32).await;
        world.apply(&definition).await;
        wait(5).await;
        let ships = named(&world, plural, &workload);
        ships.patch("legacy", &PatchParams::apply("user"), &Patch::Apply(&workload)).await.unwrap();
        world.start_operator(&"".parse().unwrap(), world.clock.clone(), None);
        let target = json!({"apiVersion": "demo.test/v1", "kind": workload["kind"], "name": "legacy"});
        for replicas in [4, 2, 7] {
            world.apply(&job_for("sized", &target, replicas)).await;
            wait(40).await;
            let now = &world.list("demo.test", plural)[0];
            assert_eq!(now.pointer(number), Some(&json!(replicas)), "{now}");
            let status = &world.list("sluice.dev", "streamjobs")[0];
            assert_eq!(condition(status, "ScalingActive")["reason"], "Pinned", "{status}");
            assert_eq!(condition(status, "Stalled")["status"], "False", "{status}");
            assert_eq!(condition(status, "Reconciling")["status"], "False", "{status}");
        }
        // Another writer is still detected.
        let mut theirs = workload.clone();
        *theirs.pointer_mut(number).unwrap() = json!(1);
        ships.patch("legacy", &PatchParams::apply("user").force(), &Patch::Apply(&theirs)).await.unwrap();
        wait(40).await;
        let status = &world.list("sluice.dev", "streamjobs")[0];
        assert_eq!(condition(status, "ScalingActive")["reason"], "ForeignWriter", "{status}");
        world.end();
    }
}

/// Two such jobs wrote 2 and 5 in turns, 13 times in 100 seconds.
///
/// Catalogue: A8.
#[tokio::test(start_paused = true)]
async fn two_jobs_that_name_one_workload_do_not_fight_over_it() {
    let mut world = World::new(33).await;
    let target = json!({"kind": "Deployment", "name": "bystander"});
    world.apply(&job_for("first", &target, 4)).await;
    wait(2).await;
    world.apply(&job_for("second", &target, 6)).await;
    let faults = world.start_operator(&"".parse().unwrap(), world.clock.clone(), None);
    wait(600).await;
    let scaled = faults.requests().iter().filter(|request| request.resource() == "deployments/scale").count();
    assert_eq!(scaled, 1, "one write");
    let jobs = world.list("sluice.dev", "streamjobs");
    let reason = |name: &str, kind: &str| {
        let job = jobs.iter().find(|job| job["metadata"]["name"] == name).unwrap();
        condition(job, kind)["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (reason("second", "Stalled"), reason("second", "Ready")),
        ("TargetTaken".to_owned(), "TargetTaken".to_owned())
    );
    assert_eq!(reason("first", "Stalled"), "Progressing");
    // The first job is deleted, and the second scales the workload.
    world.delete(&job_for("first", &json!({}), 4)).await;
    wait(60).await;
    let bystander =
        world.list("apps", "deployments").into_iter().find(|object| object["metadata"]["name"] == "bystander");
    assert_eq!(bystander.unwrap()["spec"]["replicas"], 6);
    world.end();
}
