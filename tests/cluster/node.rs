//! The node that runs pods as processes, beside a real API server, scheduler and controllers.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::conditions::{is_deleted, is_pod_running};
use kube::runtime::wait::{Condition, await_condition};
use serde_json::{Value, json};

use super::bed::{Bed, Process};

/// Longer than the cluster waits for a node that is silent: 50 s, seen every 5.
const PATIENCE: Duration = Duration::from_secs(90);

fn ready(conditions: &Value) -> &Value {
    let all = conditions.as_array().into_iter().flatten();
    all.clone().find(|condition| condition["type"] == "Ready").map_or(&Value::Null, |condition| &condition["status"])
}

fn pod_is(status: &'static str) -> impl Condition<Pod> {
    move |pod: Option<&Pod>| ready(&json!(pod)["status"]["conditions"]) == status
}

fn node_is(status: &'static str) -> impl Condition<Node> {
    move |node: Option<&Node>| ready(&json!(node)["status"]["conditions"]) == status
}

async fn until<K>(api: &Api<K>, name: &str, so: impl Condition<K>) -> Option<K>
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + kube::Resource + 'static,
{
    let waited = tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, so)).await;
    waited.unwrap_or_else(|_| panic!("{name} never becomes so")).unwrap()
}

#[tokio::test]
async fn a_node_of_processes_serves_a_real_cluster_and_is_missed_when_it_ends() {
    let bed = Bed::new("node", 0).await;
    let name = format!("processes-{}", std::process::id());
    let folder = std::env::temp_dir().join(&name);
    let log = format!("{name}.log");
    let arguments = ["local", "node", "--name", &name, "--data-dir", folder.to_str().unwrap()];
    let process = Process::start(&arguments, &log);
    let nodes = Api::<Node>::all(bed.client.clone());
    let node = until(&nodes, &name, node_is("True")).await.unwrap();
    let taints = node.spec.unwrap().taints.unwrap_or_default();
    assert!(taints.iter().any(|taint| taint.key == "sluice.dev/local"), "{taints:?}");

    // The scheduler brings it here: it tolerates the taint, and asks for this node by its label.
    let script = format!(
        "trap 'touch {0}/asked-to-end; exit 0' TERM; touch {0}/started; while :; do sleep 0.1; done",
        folder.display()
    );
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "nodeSelector": {"kubernetes.io/hostname": name},
        "tolerations": [{"key": "sluice.dev/local", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 20, "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "none", "command": ["sh", "-c", script],
            "readinessProbe": {"exec": {"command": ["test", "-e", folder.join("started")]}, "periodSeconds": 1}}],
    }});
    let pod = bed.pods().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    until(&bed.pods(), "p", is_pod_running()).await;
    let running = until(&bed.pods(), "p", pod_is("True")).await.unwrap();
    assert_eq!(running.spec.unwrap().node_name.as_deref(), Some(name.as_str()));

    bed.pods().delete("p", &DeleteParams::default()).await.unwrap();
    until(&bed.pods(), "p", is_deleted(&pod.uid().unwrap())).await;
    assert!(folder.join("asked-to-end").exists(), "it was asked, and had the time to answer");

    // The object of a node that has ended stays; the cluster notices that nobody renews its lease.
    assert!(process.stop());
    until(&nodes, &name, node_is("Unknown")).await;
    nodes.delete(&name, &DeleteParams::default()).await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    bed.end().await;
}
