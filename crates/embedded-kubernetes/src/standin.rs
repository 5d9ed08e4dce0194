//! A stand-in for the kubelets of all nodes: bound pods become running, but no process is started. It is for tests,
//! and for measuring what thousands of pods cost the server.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::api::{Actor, Server};
use super::kinds::Resource;
use super::meta;
use super::status::Status;

/// Marks bound pods as running, and removes deleted ones, `delay` after the change. Pods with the label `broken` never
/// become ready; those with `brief` succeed, and those with `doomed` fail.
pub fn run(server: &Server, delay: Duration, cancel: &CancellationToken) {
    let (actor, cancel) = (Actor::new(server.clone(), "kubelet"), cancel.clone());
    let resource = Resource::new("", "pods");
    tokio::spawn(async move {
        // Existing pods are served first, and again whenever the history no longer reaches back far enough.
        'relist: loop {
            let begin = actor.store().revision();
            for pod in actor.list(&resource, None) {
                update_pod(&actor, &super::store::key(meta::namespace(&pod.value), meta::name(&pod.value)));
            }
            let Ok(mut watch) = actor.store().watch(&resource, Some(begin)) else { continue };
            loop {
                let events = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return,
                    events = watch.next() => events,
                };
                let Ok(events) = events else { continue 'relist };
                tokio::time::sleep(delay).await;
                for event in events {
                    update_pod(&actor, &event.key);
                }
            }
        }
    });
}

/// Adds a node with room for `pods` pods.
pub fn add_node(actor: &Actor, name: &str, pods: &str) -> Result<(), Status> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let node = actor.create(node)?;
    let status = json!({"allocatable": {"cpu": "4", "memory": "8Gi", "pods": pods}});
    actor.set_status(&node.value, status)
}

/// Does for a pod what a kubelet would. A write that fails on a conflict is not repeated: the other writer's change
/// causes another event.
fn update_pod(actor: &Actor, key: &str) {
    let Some(pod) = actor.get(&Resource::new("", "pods"), key) else { return };
    let pod = &pod.value;
    if meta::text(pod, "/spec/nodeName").is_empty() {
        return;
    }
    if meta::deleting(pod) {
        let _ = actor.delete(pod, "Background", Some(0));
        return;
    }
    let labelled = |label: &str| meta::label(pod, label).is_some();
    let now = actor.clock().now();
    let phase = match meta::text(pod, "/status/phase") {
        "Running" if labelled("brief") => "Succeeded",
        "Running" if labelled("doomed") => "Failed",
        "Running" | "Succeeded" | "Failed" => return,
        _ => "Running",
    };
    let ready = if phase == "Running" && !labelled("broken") { "True" } else { "False" };
    let mut status = pod["status"].clone();
    status["phase"] = phase.into();
    status["podIP"] = address(meta::uid(pod)).to_string().into();
    status["conditions"] = json!([
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
        {"type": "Ready", "status": ready, "lastTransitionTime": now},
    ]);
    let _ = actor.set_status(pod, status);
}

/// Returns a fake address. Two pods may share one; nothing here depends on it.
fn address(uid: &str) -> std::net::Ipv4Addr {
    let [_, a, b, c] = u32::from_str_radix(uid.get(..8).unwrap_or_default(), 16).unwrap_or_default().to_be_bytes();
    std::net::Ipv4Addr::new(10, a, b, c)
}
