//! Registers the node with the cluster: maintains its Node object and the lease that shows that it is alive.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::facts::{Capacity, HOST};
use super::{Context, MANAGER};
use crate::quantity::Quantity;

/// As in a kubelet, a lease of 40 s is renewed every 10 s, and the status is written every 5 min.
const RENEW: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
const STATUS_EVERY: u32 = 30;
/// The most pods on the node, as on a real one.
const PODS: u32 = 110;
/// The memory that is assumed where the system does not report it.
const MEMORY_UNKNOWN: &str = "4Gi";
const NAMESPACE: &str = "kube-node-lease";

/// Returns the resources of this machine.
pub(super) fn capacity() -> Capacity {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").ok();
    let memory = memory.as_deref().and_then(parse_memory).or_else(|| Quantity::parse(MEMORY_UNKNOWN));
    Capacity { cpu: Quantity::whole(i64::try_from(processors).unwrap_or(1)), memory: memory.unwrap_or_default() }
}

fn parse_memory(meminfo: &str) -> Option<Quantity> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Quantity::parse(&format!("{}Ki", line.split_whitespace().next()?))
}

/// Registers the node and renews its lease until the future is dropped.
pub(super) async fn maintain(context: &Context) {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let leases: Api<Lease> = Api::namespaced(context.client.clone(), NAMESPACE);
    let mut uid = None;
    for beat in 0_u32.. {
        if uid.is_none() || beat % STATUS_EVERY == 0 {
            match register(context, &nodes).await {
                Ok(registered) => uid = registered,
                Err(error) => tracing::warn!(error = %error, "failed to register the node; retrying"),
            }
        }
        if let Some(uid) = &uid
            && let Err(error) = renew(context, &leases, uid).await
        {
            tracing::warn!(error = %error, "failed to renew the node's lease; retrying");
        }
        tokio::time::sleep(RENEW).await;
    }
}

fn apply() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

async fn register(context: &Context, nodes: &Api<Node>) -> kube::Result<Option<String>> {
    let name = &context.name;
    let body = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": std::env::consts::OS,
            "kubernetes.io/arch": arch(),
        }},
    });
    let node = nodes.patch(name, &apply(), &Patch::Apply(&body)).await?;
    if let Some(key) = &context.taint {
        taint(nodes, &node, key).await?;
    }
    let status = status(context, &serde_json::to_value(&node.status).unwrap_or_default());
    let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status});
    nodes.patch_status(name, &apply(), &Patch::Apply(&body)).await?;
    Ok(node.metadata.uid)
}

/// Adds the node's taint to those that others have set.
async fn taint(nodes: &Api<Node>, node: &Node, key: &str) -> kube::Result<()> {
    let mut taints = node.spec.clone().and_then(|spec| spec.taints).unwrap_or_default();
    if taints.iter().any(|taint| taint.key == key) {
        return Ok(());
    }
    taints.push(Taint { key: key.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() });
    // With the version that was read, because the list is written as a whole.
    let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let name = node.metadata.name.as_deref().unwrap_or_default();
    nodes.patch(name, &params, &Patch::Merge(patch)).await.map(drop)
}

/// Returns the processor architecture by its name in Go, which labels use.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(context: &Context, before: &Value) -> Value {
    let now = context.clock.now();
    let capacity = json!({
        "cpu": context.capacity.cpu.to_string(),
        "memory": context.capacity.memory.to_string(),
        "pods": PODS.to_string(),
    });
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let earlier = before.get("conditions").and_then(Value::as_array).into_iter().flatten();
        let mut same = earlier.filter(|condition| condition["type"] == kind && condition["status"] == status);
        let since = same.next().and_then(|condition| condition["lastTransitionTime"].as_str()).unwrap_or(&now);
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since})
    };
    json!({
        "capacity": capacity, "allocatable": capacity,
        "addresses": [{"type": "InternalIP", "address": HOST.to_string()}, {"type": "Hostname", "address": context.name}],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
        "nodeInfo": {
            "architecture": arch(), "operatingSystem": std::env::consts::OS,
            "bootID": "", "machineID": "", "systemUUID": "",
            "kernelVersion": kernel(), "osImage": "processes of this machine",
            "containerRuntimeVersion": format!("process://{}", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": format!("v{}.{}.0-embedded", super::super::api::VERSION.0, super::super::api::VERSION.1),
            "kubeProxyVersion": "",
        },
    })
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).unwrap_or_default()
}

async fn renew(context: &Context, leases: &Api<Lease>, uid: &str) -> kube::Result<()> {
    let name = &context.name;
    let body = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid},
        ]},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": context.micro_time()},
    });
    leases.patch(name, &apply(), &Patch::Apply(&body)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(parse_memory("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(Quantity::whole(24576 * 1024)));
        assert_eq!(parse_memory(""), None);
    }
}
