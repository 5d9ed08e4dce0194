//! The subresources of pods: binding to a node, and eviction within a disruption budget. The log is in
//! [`logs`](super::logs).

use serde_json::{Map, Value, json};

use super::Server;
use super::answer::Answer;
use super::call::Call;
use super::{delete, write};
use crate::kinds::Resource;
use crate::meta;
use crate::selector::Selector;
use crate::status::{Cause, Details, Status};

fn success(code: u16) -> Answer {
    let value = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code});
    Answer::value(value).with_code(code)
}

/// POST of a Binding, with which the scheduler assigns a pod to a node.
pub(super) fn bind(server: &Server, call: &Call) -> Result<Answer, Status> {
    let binding = call.object_of("v1", "Binding")?;
    let node = meta::text(&binding, "/target/name").to_owned();
    if node.is_empty() {
        let error = crate::status::FieldError::required("target.name", "");
        return Err(Status::invalid("", "Binding", &call.path.name, &[error]));
    }
    bind_to(server, call, &node)?;
    Ok(success(201))
}

/// Assigns a pod to a node.
pub(super) fn bind_to(server: &Server, call: &Call, node: &str) -> Result<(), Status> {
    let options = call.write_options("CreateOptions")?;
    let now = server.clock().now();
    write::replace_pod(server, call, &options, |pod| {
        let conflict = |why: String| Err(Status::conflict("", "pods/binding", &call.path.name, why));
        if meta::deleting(pod) {
            return conflict(format!("pod {} is being deleted, cannot be assigned to a host", call.path.name));
        }
        let at = meta::text(pod, "/spec/nodeName");
        if !at.is_empty() {
            return conflict(format!("pod {} is already assigned to node {at:?}", call.path.name));
        }
        let mut new = pod.clone();
        let map = meta::as_map(&mut new);
        meta::entry(map, "spec").insert("nodeName".to_owned(), node.into());
        let status = meta::entry(map, "status");
        let scheduled =
            json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": &now});
        let conditions = status.entry("conditions").or_insert_with(|| json!([]));
        if let Some(list) = conditions.as_array_mut() {
            list.retain(|condition| meta::text(condition, "/type") != "PodScheduled");
            list.push(scheduled);
        }
        Ok(new)
    })
}

/// POST of an Eviction: a deletion that a `PodDisruptionBudget` may refuse for now.
pub(super) fn evict(server: &Server, call: &Call) -> Result<Answer, Status> {
    let eviction = call.object_of("policy/v1", "Eviction")?;
    let name = meta::name(&eviction);
    if !name.is_empty() && name != call.path.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let empty = Map::new();
    let asked = eviction.get("deleteOptions").and_then(Value::as_object).unwrap_or(&empty);
    let options = delete::nested_options(call, asked)?;
    let pod = server.store().get(&call.resource(), &call.key()).ok_or_else(|| call.not_found())?;
    let over = matches!(meta::text(&pod.value, "/status/phase"), "Succeeded" | "Failed" | "Pending");
    if !over && !meta::deleting(&pod.value) {
        while !use_disruption(server, call, &pod.value, options.dry_run)? {}
    }
    let now = server.clock().now();
    delete::delete_one_after(server, call, &options, |pod| record_eviction(pod, &now))?;
    Ok(success(201))
}

/// Records on a pod why it is being deleted.
fn record_eviction(pod: &mut Value, now: &str) {
    let conditions = meta::entry(meta::as_map(pod), "status").entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|condition| meta::text(condition, "/type") != "DisruptionTarget");
        list.push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now,
        }));
    }
}

/// Takes one disruption from the budget that covers the pod, if there is one. Returns false if the budget has been
/// changed in the meantime.
fn use_disruption(server: &Server, call: &Call, pod: &Value, dry_run: bool) -> Result<bool, Status> {
    let budgets = Resource::new("policy", "poddisruptionbudgets");
    let page = server.store().list(&budgets, Some(&call.path.namespace), None, None);
    let page = page.map_err(|_| Status::internal("the current state has expired"))?;
    let covers = |budget: &Value| {
        budget.pointer("/spec/selector").is_some_and(|selector| Selector::from_label_selector(selector).selects(pod))
    };
    let covering: Vec<_> = page.objects.iter().filter(|(_, object)| covers(&object.value)).collect();
    let (key, budget) = match covering.as_slice() {
        [] => return Ok(true),
        [one] => (&one.0, &one.1),
        _ => {
            let message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::internal(message));
        }
    };
    let refuse = |message: &str, retry_after_seconds: u32| {
        let message = message.to_owned();
        let cause = Cause { reason: "DisruptionBudget".to_owned(), message, field: String::new() };
        let why = "Cannot evict pod as it would violate the pod's disruption budget.";
        let mut status = Status::too_many_requests(why, retry_after_seconds);
        status.details = Some(Details { causes: vec![cause], retry_after_seconds, ..Details::default() });
        Err(status)
    };
    let name = meta::name(&budget.value);
    let number = |pointer: &str| budget.value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    // The budget does not protect a pod that is not ready, as long as enough others are.
    if meta::condition(pod, "Ready") != Some("True") {
        let desired = number("/status/desiredHealthy");
        let enough = number("/status/currentHealthy") >= desired && desired > 0;
        if enough || meta::text(&budget.value, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow" {
            return Ok(true);
        }
    }
    if number("/status/observedGeneration") < meta::generation(&budget.value) {
        return refuse(&format!("The disruption budget {name} is still being processed by the server."), 10);
    }
    let allowed = number("/status/disruptionsAllowed");
    if allowed <= 0 {
        let (needed, there) = (number("/status/desiredHealthy"), number("/status/currentHealthy"));
        let message = format!("The disruption budget {name} needs {needed} healthy pods and has {there} currently");
        return refuse(&message, 0);
    }
    if dry_run {
        return Ok(true);
    }
    let mut new = budget.value.clone();
    let status = meta::entry(meta::as_map(&mut new), "status");
    status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    meta::entry(status, "disruptedPods").insert(meta::name(pod).to_owned(), server.clock().now().into());
    Ok(server.store().put(&budgets, key, Some(budget.revision), new).is_ok())
}
