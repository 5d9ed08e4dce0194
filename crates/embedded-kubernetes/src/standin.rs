//! A stand-in for the kubelets of all nodes: pods that are bound start, and nothing runs. For tests, and for looking at what
//! thousands of pods do to a server.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::api::{Actor, Server};
use super::kinds::Resource;
use super::meta;
use super::status::Status;

/// Starts what is bound, and ends what is deleted, `delay` later. Pods with the label `broken` never
/// become ready, those with `brief` end well, those with `doomed` badly.
pub fn run(server: &Server, delay: Duration, cancel: &CancellationToken) {
    let (actor, cancel) = (Actor::new(server.clone(), "kubelet"), cancel.clone());
    let resource = Resource::new("", "pods");
    tokio::spawn(async move {
        // What is there already comes first, and then again whenever the history has moved on too far.
        'anew: loop {
            let begin = actor.store().revision();
            for pod in actor.list(&resource, None) {
                serve(&actor, &super::store::key(meta::namespace(&pod.value), meta::name(&pod.value)));
            }
            let Ok(mut watch) = actor.store().watch(&resource, Some(begin)) else { continue };
            loop {
                let events = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return,
                    events = watch.next() => events,
                };
                let Ok(events) = events else { continue 'anew };
                tokio::time::sleep(delay).await;
                for event in events {
                    serve(&actor, &event.key);
                }
            }
        }
    });
}

/// A node with room for so many pods.
pub fn add_node(actor: &Actor, name: &str, pods: &str) -> Result<(), Status> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let node = actor.create(node)?;
    let status = json!({"allocatable": {"cpu": "4", "memory": "8Gi", "pods": pods}});
    actor.set_status(&node.value, status)
}

/// What a kubelet does with a pod.
///
/// Somebody else may be faster: then there is another event.
fn serve(actor: &Actor, key: &str) {
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

/// An address that nobody has. Two pods may get the same, and nobody minds.
fn address(uid: &str) -> std::net::Ipv4Addr {
    let [_, a, b, c] = u32::from_str_radix(uid.get(..8).unwrap_or_default(), 16).unwrap_or_default().to_be_bytes();
    std::net::Ipv4Addr::new(10, a, b, c)
}
