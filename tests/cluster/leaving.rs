//! Checks which workers are removed when a job is scaled down.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use super::bed::{Bed, has, managers, page, status};
use super::seen::{A_MOMENT, PodHistory};

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

fn marked(pod: &Pod) -> bool {
    pod.annotations().contains_key(COST)
}

fn marked_by(pod: &Pod) -> Vec<String> {
    managers(pod, &["f:metadata", "f:annotations", &format!("f:{COST}")])
}

fn leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(ResourceExt::name_any).collect()
}

/// Waits until this number of workers owns all partitions, and returns the partition count of each.
pub(super) async fn burdens(bed: &Bed, workers: usize) -> BTreeMap<String, usize> {
    for _ in 0..60 {
        let mut burdens = BTreeMap::new();
        let partitions = bed.progress().await.partitions;
        for owner in partitions.iter().filter_map(|partition| partition.owner.as_ref()) {
            *burdens.entry(owner.client_id.clone()).or_default() += 1;
        }
        if burdens.len() == workers && burdens.values().sum::<usize>() == partitions.len() {
            return burdens;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the partitions are not owned by {workers} workers");
}

/// Returns the resource versions of the pods and the Deployment, which change with every write.
async fn versions(bed: &Bed) -> Vec<Option<String>> {
    let pods = bed.pods().list(&ListParams::default()).await.unwrap().items;
    let deployment = bed.deployments().get("orders").await.unwrap();
    pods.iter().map(ResourceExt::resource_version).chain([deployment.resource_version()]).collect()
}

#[tokio::test]
async fn scale_down_removes_the_workers_with_fewest_partitions() {
    let bed = Bed::new("leaving", 9).await;
    let _operator = bed.operator(18117);
    let _load = bed.load(300);
    bed.apply(&bed.job(json!({"spec": {"replicas": 6}}))).await.unwrap();
    bed.until_ready(6, 60).await;
    bed.until("the objective is met", 60, |job| has(job, "WithinTarget", "True", "Met")).await;
    let pods = PodHistory::watch(&bed);
    // Three workers have two partitions and three have one. One of the former has the mark of an abandoned scale-down.
    let burdens = burdens(&bed, 6).await;
    let (spared, most) = burdens.iter().max_by_key(|burden| *burden.1).unwrap();
    assert_eq!(*most, 2, "{burdens:?}");
    let mark = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": {COST: "-1"}}});
    bed.pods().patch(spared, &PatchParams::apply("sluice/scale"), &Patch::Apply(&mark)).await.unwrap();
    // The operator samples the group every two seconds.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        names(&pods.matching(marked)),
        std::slice::from_ref(spared),
        "no pod is marked while no worker is to be removed"
    );

    bed.patch("orders", json!({"spec": {"replicas": 3}})).await;
    bed.until("three workers", 60, |job| status(job).replicas == 3 && status(job).ready_replicas == 3).await;
    tokio::time::sleep(A_MOMENT).await;
    let (gone, stay) = (pods.matching(leaving), pods.matching(|pod| !leaving(pod)));
    assert_eq!((gone.len(), stay.len()), (3, 3));
    for pod in &gone {
        assert_eq!((burdens[&pod.name_any()], marked_by(pod)), (1, vec!["sluice/scale".to_owned()]), "{burdens:?}");
    }
    for pod in &stay {
        assert!(!marked(pod) && marked_by(pod).is_empty(), "{:?}", pod.metadata);
    }

    // After the scale-down nothing is written.
    let left = async || bed.pods().list(&ListParams::default()).await.unwrap().items.len();
    for _ in 0..60 {
        if left().await == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = versions(&bed).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(before, versions(&bed).await);
    let page = page(18117, "/metrics").await;
    let marks: Vec<&str> =
        page.lines().filter(|line| line.starts_with("sluice_api_writes_total") && line.contains("mark")).collect();
    assert!(
        matches!(marks[..], [ok] if ok.contains("\"ok\"") && ok.ends_with(" 4")),
        "three marked and one unmarked: {marks:?}"
    );
    bed.end().await;
}
