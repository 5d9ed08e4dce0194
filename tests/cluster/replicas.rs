//! Checks which field managers write the replica count, and when.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::bed::{Bed, has, managers, status};
use super::seen::ReplicaHistory;

#[tokio::test]
async fn replica_count_never_drops_on_reapply_or_restart() {
    let bed = Bed::new("six", 12).await;
    let numbers = ReplicaHistory::watch(&bed, "orders");
    let operator = bed.operator(18111);
    let _load = bed.load(1500);
    let job = bed.job(json!({"spec": {"minReplicas": 6, "scaling": {"initialReplicas": 6}}}));
    bed.apply(&job).await.unwrap();
    bed.until_ready(6, 60).await;
    // With another template the workload is applied again, without the replica count.
    let container = &mut job.clone();
    container["spec"]["workload"]["template"]["metadata"] = json!({"annotations": {"example.com/revision": "2"}});
    bed.apply(container).await.unwrap();
    bed.until("the new template is rolled out", 90, |job| {
        status(job).observed_generation == Some(2) && has(job, "Reconciling", "False", "RolledOut")
    })
    .await;
    assert!(operator.stop(), "SIGTERM ends the operator with success");
    assert_eq!(bed.replicas().await, 6, "workers outlive the operator");
    let again = bed.operator(18111);
    bed.apply(&bed.job(json!({"spec": {"minReplicas": 6, "maxReplicas": 19, "scaling": {"initialReplicas": 6}}})))
        .await
        .unwrap();
    bed.until("the restarted operator has read the spec", 60, |job| status(job).observed_generation == Some(3)).await;
    bed.until_ready(6, 60).await;
    drop(again);
    let seen = numbers.all();
    assert!(!seen.is_empty() && seen.iter().all(|number| *number >= 6), "{seen:?}");
    bed.end().await;
}

#[tokio::test]
async fn kubectl_scale_pins_and_a_null_replicas_unpins() {
    let bed = Bed::new("pin", 12).await;
    let _operator = bed.operator(18112);
    bed.apply(&bed.job(json!({"spec": {"minReplicas": 2}}))).await.unwrap();
    bed.until_ready(2, 60).await;
    // kubectl sends a merge patch to /scale.
    bed.jobs()
        .patch_scale("orders", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 4}})))
        .await
        .unwrap();
    let job = bed.until_ready(4, 60).await;
    assert!(has(&job, "ScalingActive", "False", "Pinned"), "{:?}", status(&job).conditions);
    assert_eq!(status(&job).last_decision.map(|decision| (decision.from, decision.to)), Some((2, 4)));
    bed.jobs()
        .patch("orders", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": null}})))
        .await
        .unwrap();
    bed.until("unpinned", 30, |job| has(job, "ScalingActive", "True", "Active")).await;
    // A suspended job has no workers; afterwards it has at least minReplicas.
    bed.jobs()
        .patch("orders", &PatchParams::default(), &Patch::Merge(json!({"spec": {"suspend": true}})))
        .await
        .unwrap();
    let job = bed.until("no workers", 60, |job| status(job).replicas == 0).await;
    assert!(has(&job, "Ready", "True", "Suspended"));
    bed.jobs()
        .patch("orders", &PatchParams::default(), &Patch::Merge(json!({"spec": {"suspend": false}})))
        .await
        .unwrap();
    bed.until("the workers are back", 60, |job| status(job).ready_replicas >= 2).await;
    bed.end().await;
}

#[tokio::test]
async fn recommend_mode_reports_a_decision_and_writes_nothing() {
    let bed = Bed::new("recommend", 12).await;
    let _operator = bed.operator(18113);
    let mut template = bed.template();
    template["metadata"] = json!({"labels": {"app": "legacy"}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "legacy", "namespace": bed.namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "legacy"}}, "template": template},
    });
    bed.apply(&deployment).await.unwrap();
    let _load = bed.load(1500);
    let before = bed.deployments().get("legacy").await.unwrap();
    bed.apply(&bed.job(json!({"spec": {
        "workload": null, "targetRef": {"kind": "Deployment", "name": "legacy"}, "scaling": {"mode": "Recommend"}}})))
        .await
        .unwrap();
    let job = bed
        .until("the status recommends more workers", 90, |job| {
            status(job).desired_replicas.is_some_and(|desired| desired > 1)
                && has(job, "ScalingActive", "False", "Recommend")
        })
        .await;
    let decision = status(&job).last_decision.expect("a recommendation is reported like a decision");
    assert!(decision.from == 1 && decision.to > 1, "{decision:?}");
    let after = bed.deployments().get("legacy").await.unwrap();
    assert_eq!(after.spec.unwrap().replicas, Some(1));
    let ours = |deployment: &Deployment| {
        let entries = deployment.metadata.managed_fields.clone().unwrap_or_default();
        entries.iter().any(|entry| entry.manager.as_deref().is_some_and(|manager| manager.starts_with("sluice/")))
    };
    assert!(!ours(&before) && !ours(&bed.deployments().get("legacy").await.unwrap()), "no field is owned by Sluice");
    assert!(after.metadata.annotations.unwrap_or_default().keys().all(|key| !key.contains("sluice")));
    // In mode Auto it scales.
    bed.jobs()
        .patch("orders", &PatchParams::default(), &Patch::Merge(json!({"spec": {"scaling": {"mode": "Auto"}}})))
        .await
        .unwrap();
    bed.until("it adds workers", 60, |job| status(job).ready_replicas > 1).await;
    bed.end().await;
}

/// The kind's replica count is at `.spec.size`, its selector is only in the status, and its plural is irregular.
#[tokio::test]
async fn a_custom_kind_is_scaled_and_yields_to_another_writer() {
    let bed = Bed::new("custom", 4).await;
    let spec = json!({"type": "object", "properties": {"size": {"type": "integer"}}});
    let status_schema =
        json!({"type": "object", "properties": {"size": {"type": "integer"}, "selector": {"type": "string"}}});
    let scale = json!({"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "fleet.tests.sluice.dev"},
        "spec": {
            "group": "tests.sluice.dev", "scope": "Namespaced",
            "names": {"plural": "fleet", "singular": "ship", "kind": "Ship"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status_schema}}},
                "subresources": {"scale": scale},
            }],
        },
    });
    bed.define(&serde_json::from_value(definition).unwrap()).await;
    let ship = |size: u32| {
        json!({
            "apiVersion": "tests.sluice.dev/v1", "kind": "Ship", "metadata": {"name": "theirs", "namespace": bed.namespace},
            "spec": {"size": size}, "status": {"size": size, "selector": "app=theirs"},
        })
    };
    let resource = kube::core::ApiResource {
        plural: "fleet".to_owned(),
        ..kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("tests.sluice.dev", "v1", "Ship"))
    };
    let ships = kube::Api::<kube::core::DynamicObject>::namespaced_with(bed.client.clone(), &bed.namespace, &resource);
    let apply = async |size: u32| {
        ships.patch("theirs", &PatchParams::apply("user").force(), &Patch::Apply(ship(size))).await.unwrap();
    };
    apply(1).await;
    let _operator = bed.operator(18119);
    let target = json!({"apiVersion": "tests.sluice.dev/v1", "kind": "Ship", "name": "theirs"});
    bed.apply(&bed.job(json!({"spec": {"workload": null, "targetRef": target, "minReplicas": 3}}))).await.unwrap();
    let becomes = async |expected: u64| {
        let mut size = None;
        for _ in 0..60 {
            size = ships.get("theirs").await.unwrap().data["spec"]["size"].as_u64();
            if size == Some(expected) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(size, Some(expected), "written through /scale");
    };
    becomes(3).await;
    // The operator recognizes its own write: the next one follows at once and not after ten minutes.
    bed.jobs()
        .patch("orders", &PatchParams::default(), &Patch::Merge(json!({"spec": {"minReplicas": 5}})))
        .await
        .unwrap();
    becomes(5).await;
    apply(2).await;
    bed.until("the other writer is noticed", 60, |job| has(job, "ScalingActive", "False", "ForeignWriter")).await;
    bed.end().await;
}

/// The defaults that the API server filled in for a rolling update must be removed with it, or it rejects this apply
/// and every later one.
#[tokio::test]
async fn a_running_job_can_change_to_the_strategy_recreate() {
    let bed = Bed::new("recreate", 4).await;
    let _operator = bed.operator(18120);
    bed.apply(&bed.job(json!({}))).await.unwrap();
    bed.until_ready(1, 60).await;
    bed.apply(&bed.job(json!({"spec": {"workload": {"strategy": {"type": "Recreate"}}}}))).await.unwrap();
    let mut found = None;
    for _ in 0..60 {
        let strategy = bed.deployments().get("orders").await.unwrap().spec.unwrap().strategy.unwrap();
        found = strategy.type_;
        if found.as_deref() == Some("Recreate") {
            assert_eq!(strategy.rolling_update, None);
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(found.as_deref(), Some("Recreate"));
    bed.until_ready(1, 90).await;
    let mut template = bed.template();
    template["metadata"] = json!({"annotations": {"another": "template"}});
    let strategy = json!({"type": "Recreate"});
    bed.apply(&bed.job(json!({"spec": {"workload": {"strategy": strategy, "template": template}}}))).await.unwrap();
    let mut annotations = None;
    for _ in 0..60 {
        annotations =
            bed.deployments().get("orders").await.unwrap().spec.unwrap().template.metadata.unwrap().annotations;
        if annotations.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(annotations.is_some_and(|all| all.contains_key("another")), "a later template is applied as well");
    bed.end().await;
}

#[tokio::test]
async fn an_unowned_workload_of_the_same_name_is_not_touched() {
    let bed = Bed::new("taken", 4).await;
    let mut template = bed.template();
    template["metadata"] = json!({"labels": {"app": "theirs"}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders", "namespace": bed.namespace},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "theirs"}}, "template": template},
    });
    bed.apply(&deployment).await.unwrap();
    let before = bed.deployments().get("orders").await.unwrap();
    let _operator = bed.operator(18114);
    bed.apply(&bed.job(json!({}))).await.unwrap();
    let job = bed.until("Ready=False/NameTaken", 30, |job| has(job, "Ready", "False", "NameTaken")).await;
    assert!(has(&job, "Stalled", "True", "NameTaken"));
    let after = bed.deployments().get("orders").await.unwrap();
    assert_eq!((before.spec, before.metadata.uid), (after.spec, after.metadata.uid));
    // After the other workload is deleted, the job's own is created.
    bed.deployments().delete("orders", &kube::api::DeleteParams::default()).await.unwrap();
    bed.until_ready(1, 60).await;
    bed.end().await;
}

#[tokio::test]
async fn two_foreign_writes_are_a_conflict_until_resumed() {
    let bed = Bed::new("foreign", 12).await;
    let _operator = bed.operator(18115);
    bed.apply(&bed.job(json!({"spec": {"minReplicas": 2}}))).await.unwrap();
    bed.until_ready(2, 60).await;
    let deployments = bed.deployments();
    let write = async |number: i32| {
        let scale = Patch::Merge(json!({"spec": {"replicas": number}}));
        deployments.patch_scale("orders", &PatchParams::default(), &scale).await.unwrap();
    };
    write(5).await;
    bed.until("ScalingActive=False/ForeignWriter", 30, |job| has(job, "ScalingActive", "False", "ForeignWriter")).await;
    // Long enough for several decisions.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(bed.replicas().await, 5);
    // A change of the spec is newer than the other writer's value and takes precedence.
    bed.jobs().patch("orders", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 3}}))).await.unwrap();
    bed.until_ready(3, 60).await;
    assert!(bed.events().await.contains(&"ForeignWriter".to_owned()));
    bed.until("the job is pinned", 30, |job| has(job, "ScalingActive", "False", "Pinned")).await;

    write(5).await;
    bed.until("the second write is respected", 30, |job| has(job, "ScalingActive", "False", "ForeignWriter")).await;
    write(4).await;
    bed.until("Stalled=True/Conflict", 30, |job| has(job, "Stalled", "True", "Conflict")).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(bed.replicas().await, 4, "the operator waits for a user");
    let output = bed.sluice(&["resume", "orders"]);
    assert!(output.contains("resumed; autoscaling was paused: "), "{output}");
    let job = bed.until_ready(3, 30).await;
    assert!(has(&job, "Stalled", "False", "Progressing"), "{:?}", status(&job).conditions);
    let owners = managers(&bed.deployments().get("orders").await.unwrap(), &["f:spec", "f:replicas"]);
    assert_eq!(owners, ["sluice/scale"]);
    bed.end().await;
}

#[tokio::test]
async fn a_stateful_set_hands_over_partitions_on_scale_down() {
    let bed = Bed::new("stateful", 12).await;
    let _operator = bed.operator(18116);
    let _load = bed.load(600);
    let mut template = bed.template();
    template["spec"]["containers"][0]["args"].as_array_mut().unwrap().push(json!("--static-membership"));
    bed.apply(&bed.job(json!({"spec": {"replicas": 4, "workload": {"kind": "StatefulSet", "template": template}}})))
        .await
        .unwrap();
    bed.until_ready(4, 90).await;
    bed.until("the objective is met", 60, |job| has(job, "WithinTarget", "True", "Met")).await;
    bed.jobs().patch("orders", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 3}}))).await.unwrap();
    bed.until("three workers", 60, |job| status(job).replicas == 3 && status(job).ready_replicas == 3).await;
    // A static member that does not leave the group would keep its partitions for the session timeout of 45 s.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let sets = Api::<k8s_openapi::api::apps::v1::StatefulSet>::namespaced(bed.client.clone(), &bed.namespace);
    assert_eq!(sets.get("orders").await.unwrap().spec.unwrap().replicas, Some(3));
    let job = bed.jobs().get("orders").await.unwrap();
    assert!(has(&job, "WithinTarget", "True", "Met"), "{:?}", status(&job).conditions);
    bed.end().await;
}
