//! The charts: a first installation with the operator in its own pod, with the rights of the chart and no more; and an
//! uninstallation that leaves nothing.

use std::process::Command;
use std::time::Duration;

use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::Discovery;
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::bed::{Bed, has, status};
use super::seen::{A_MOMENT, Pods};

pub(super) fn helm(arguments: &[&str]) -> String {
    let output = Command::new("helm").args(arguments).output().expect("helm is installed: hack/tools helm");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "helm {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Every object in the cluster that carries the release's label.
async fn leftovers(client: &Client, release: &str) -> Vec<String> {
    let mut left = Vec::new();
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    for group in discovery.groups() {
        for (kind, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(kube::discovery::verbs::LIST) {
                continue;
            }
            let params = ListParams::default().labels(&format!("app.kubernetes.io/instance={release}"));
            let Ok(list) = Api::<DynamicObject>::all_with(client.clone(), &kind).list(&params).await else { continue };
            left.extend(list.items.iter().map(|object| format!("{} {}", kind.kind, object.name_any())));
        }
    }
    left
}

#[tokio::test]
async fn installed_by_helm_it_scales_a_job_and_uninstalled_it_leaves_nothing() {
    let bed = Bed::new("helm", 12).await;
    let image = std::env::var("SLUICE_TEST_IMAGE").unwrap();
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let charts = concat!(env!("CARGO_MANIFEST_DIR"), "/charts");
    // Watching one namespace, it gets no right in any other.
    helm(&[
        "upgrade",
        "--install",
        "sluice",
        &format!("{charts}/sluice"),
        "--namespace",
        &bed.namespace,
        "--wait",
        "--timeout",
        "90s",
        "--set",
        &format!("image.repository={repository}"),
        "--set",
        &format!("image.tag={tag}"),
        "--set",
        &format!("watchNamespaces={{{}}}", bed.namespace),
        "--set",
        "replicas=2",
    ]);
    let mut job = bed.job(json!({"spec": {"minReplicas": 2}}));
    // The operator is in a pod, so it reaches Kafka where pods do.
    job["spec"]["sources"][0]["kafka"]["bootstrapServers"] = json!([std::env::var("SLUICE_TEST_KAFKA_POD").unwrap()]);
    bed.apply(&job).await.unwrap();
    let _load = bed.load(600);
    bed.until("the job is ready", 90, |job| {
        status(job).ready_replicas >= 2
            && has(job, "Ready", "True", "Ready")
            && has(job, "MetricsAvailable", "True", "Fresh")
    })
    .await;
    // The leader dies; the other takes over and goes on.
    let lease = Api::<k8s_openapi::api::coordination::v1::Lease>::namespaced(bed.client.clone(), &bed.namespace);
    let holder = lease.get("sluice").await.unwrap().spec.unwrap().holder_identity.unwrap();
    let leader = holder.rsplit_once('_').unwrap().0.to_owned();
    bed.pods().delete(&leader, &kube::api::DeleteParams::default()).await.unwrap();
    bed.jobs()
        .patch("orders", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(json!({"spec": {"replicas": 3}})))
        .await
        .unwrap();
    bed.until_ready(3, 60).await;
    let next = lease.get("sluice").await.unwrap().spec.unwrap().holder_identity.unwrap();
    assert_ne!(holder, next);
    // It may say which worker leaves first.
    bed.until("the partitions are read", 60, |job| has(job, "WithinTarget", "True", "Met")).await;
    let pods = Pods::watch(&bed);
    bed.patch("orders", json!({"spec": {"replicas": 2}})).await;
    bed.until("two workers", 60, |job| status(job).replicas == 2).await;
    tokio::time::sleep(A_MOMENT).await;
    let marked = pods.that(|pod| pod.annotations().contains_key("controller.kubernetes.io/pod-deletion-cost"));
    assert!(matches!(&marked[..], [one] if one.metadata.deletion_timestamp.is_some()), "{marked:?}");

    helm(&["uninstall", "sluice", "--namespace", &bed.namespace, "--wait", "--timeout", "60s"]);
    let mut left = leftovers(&bed.client, "sluice").await;
    for _ in 0..30 {
        // Pods take a moment to stop.
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        left = leftovers(&bed.client, "sluice").await;
    }
    assert!(left.is_empty(), "{left:?}");
    // The lease is the operator's own and goes with the namespace; the workers go on.
    assert_eq!(bed.wanted().await, 2);
    bed.end().await;
}

#[test]
fn the_charts_render_and_carry_the_definitions_that_sluice_prints() {
    let charts = concat!(env!("CARGO_MANIFEST_DIR"), "/charts");
    for chart in ["sluice", "sluice-crds"] {
        helm(&["lint", "--strict", &format!("{charts}/{chart}")]);
    }
    let rendered = helm(&["template", "x", &format!("{charts}/sluice-crds"), "--set", "keep=false"]);
    let documents: Vec<serde_json::Value> = serde_yaml::Deserializer::from_str(&rendered)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .collect();
    let printed: Vec<serde_json::Value> =
        sluice::api::crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    let (documents, printed): (Vec<_>, Vec<_>) =
        (documents.into_iter().map(plain).collect(), printed.into_iter().map(plain).collect());
    assert!(documents == printed, "the chart's definitions differ from what sluice prints");
    let rendered = helm(&["template", "x", &format!("{charts}/sluice")]);
    assert!(rendered.contains("kind: ClusterRole\n") && !rendered.contains("\"*\""), "no wildcard in any role");
}

/// Helm writes whole floats as integers.
fn plain(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, field)| (key, plain(field))).collect(),
        other => other,
    }
}
