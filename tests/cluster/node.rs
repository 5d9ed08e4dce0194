//! The node that runs pods as processes, with a real API server, scheduler and controllers.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::conditions::{is_deleted, is_pod_running};
use kube::runtime::wait::{Condition, await_condition};
use serde_json::{Value, json};

use super::bed::{Bed, Process};

/// Longer than the cluster waits for a node without heartbeats: 50 s, checked every 5 s.
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

async fn until<K>(api: &Api<K>, name: &str, condition: impl Condition<K>) -> Option<K>
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + kube::Resource + 'static,
{
    let waited = tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition)).await;
    waited.unwrap_or_else(|_| panic!("{name} did not satisfy the condition")).unwrap()
}

#[tokio::test]
async fn a_local_node_runs_pods_of_a_real_cluster() {
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

    // The scheduler assigns the pod to this node: it tolerates the taint and selects the node by its label.
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
    assert!(folder.join("asked-to-end").exists(), "the container received SIGTERM and had time to react");

    // The object of an ended node remains; the cluster notices that its lease is no longer renewed.
    assert!(process.stop());
    until(&nodes, &name, node_is("Unknown")).await;
    nodes.delete(&name, &DeleteParams::default()).await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    bed.end().await;
}
