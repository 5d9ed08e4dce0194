//! Computes a pod's status as the kubelet writes it. The functions here are pure.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::board::{Board, ContainerRecord, RunEnd, RunState};
use super::facts::HOST;

/// The restart policy: when a container that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    pub(super) fn for_pod(pod: &Pod) -> Self {
        match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Returns whether a container is started again after this end.
    pub(super) fn starts_again(self, end: &RunEnd) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => end.code != 0,
            Self::Never => false,
        }
    }
}

/// The inputs of a pod's status other than its containers.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatusInput<'a> {
    pub(super) pod: &'a Pod,
    pub(super) address: Ipv4Addr,
    /// Whether the pod is ending, so that none of its containers is started any more.
    pub(super) ending: bool,
    pub(super) now: &'a str,
}

/// Computes the status. Times in `before`, the status written last, are kept where nothing has changed.
pub(super) fn status(input: StatusInput<'_>, board: &Board, before: &Value) -> Value {
    let phase = phase(input, board);
    let over = matches!(phase, "Succeeded" | "Failed");
    let names = |record: &[ContainerRecord], affected: &dyn Fn(&ContainerRecord) -> bool| {
        let names: Vec<&str> =
            record.iter().filter(|record| affected(record)).map(|record| record.name.as_str()).collect();
        names.join(" ")
    };
    let unready = names(&board.containers, &|record| !record.ready);
    let unfinished = names(&board.init, &|record| !has_succeeded(record));
    let ready = condition_of(&unready, "ContainersNotReady", "containers with unready status", over);
    let initialized = match (phase, unfinished.is_empty()) {
        ("Succeeded", _) => ("True", "PodCompleted", String::new()),
        (_, done) => condition_of(
            if done { "" } else { &unfinished },
            "ContainersNotInitialized",
            "containers with incomplete status",
            false,
        ),
    };
    let set_up = if board.set_up { "True" } else { "False" };
    let conditions = [
        ("PodReadyToStartContainers", (set_up, "", String::new())),
        ("Initialized", initialized),
        ("Ready", ready.clone()),
        ("ContainersReady", ready),
        ("PodScheduled", ("True", "", String::new())),
    ];
    let conditions: Vec<Value> =
        conditions.into_iter().map(|(kind, is)| condition(kind, is, before, input.now)).collect();
    let start = before.get("startTime").filter(|time| time.is_string());
    let mut status = json!({
        "phase": phase,
        "conditions": conditions,
        "hostIP": HOST.to_string(), "hostIPs": [{"ip": HOST.to_string()}],
        "podIP": input.address.to_string(), "podIPs": [{"ip": input.address.to_string()}],
        "startTime": start.cloned().unwrap_or_else(|| input.now.into()),
        "containerStatuses": board.containers.iter().map(container).collect::<Vec<_>>(),
        "qosClass": qos_class(input.pod),
    });
    if !board.init.is_empty()
        && let Some(map) = status.as_object_mut()
    {
        let statuses: Vec<Value> = board.init.iter().map(container).collect();
        map.insert("initContainerStatuses".to_owned(), statuses.into());
    }
    if let (Some(generation), Some(map)) = (input.pod.metadata.generation, status.as_object_mut()) {
        map.insert("observedGeneration".to_owned(), generation.into());
    }
    status
}

fn condition_of(names: &str, reason: &'static str, message: &str, over: bool) -> (&'static str, &'static str, String) {
    match (names, over) {
        (_, true) => ("False", "PodCompleted", String::new()),
        ("", false) => ("True", "", String::new()),
        (names, false) => ("False", reason, format!("{message}: [{names}]")),
    }
}

fn condition(kind: &str, (status, reason, message): (&str, &str, String), before: &Value, now: &str) -> Value {
    let earlier = before.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let same = |condition: &&Value| condition["type"] == kind && condition["status"] == status;
    let since = earlier.into_iter().find(same).and_then(|condition| condition["lastTransitionTime"].as_str());
    let mut condition = json!({"type": kind, "status": status, "lastTransitionTime": since.unwrap_or(now)});
    // A strategic merge keeps fields that the patch leaves out, so an earlier reason or message is removed explicitly.
    condition["reason"] = if reason.is_empty() { Value::Null } else { reason.into() };
    condition["message"] = if message.is_empty() { Value::Null } else { message.into() };
    condition
}

fn has_succeeded(record: &ContainerRecord) -> bool {
    matches!(&record.state, RunState::Terminated(end) if end.code == 0)
}

/// Returns the phase of the pod.
fn phase(input: StatusInput<'_>, board: &Board) -> &'static str {
    let policy = if input.ending { Policy::Never } else { Policy::for_pod(input.pod) };
    let lost = |record: &ContainerRecord| matches!(&record.state, RunState::Terminated(end) if !policy.starts_again(end) && end.code != 0);
    if board.init.iter().any(lost) {
        return "Failed";
    }
    let ever_ran = |record: &ContainerRecord| record.last.is_some();
    let (mut pending, mut running, mut ended) = (0, 0, 0);
    for record in &board.containers {
        match &record.state {
            RunState::Running { .. } => running += 1,
            RunState::Terminated(_) => ended += 1,
            RunState::Waiting { .. } if ever_ran(record) => ended += 1,
            RunState::Waiting { .. } => pending += 1,
        }
    }
    let uninitialized = board.init.iter().any(|record| !has_succeeded(record)) && running + ended == 0;
    if pending > 0 || uninitialized || !board.set_up {
        return if running + ended > 0 && board.set_up { "Running" } else { "Pending" };
    }
    if running > 0 {
        return "Running";
    }
    let final_end = |record: &ContainerRecord| match &record.state {
        RunState::Terminated(end) => Some(end.clone()),
        _ => record.last.clone(),
    };
    let ends: Vec<RunEnd> = board.containers.iter().filter_map(final_end).collect();
    if ended > 0 && ends.iter().any(|end| policy.starts_again(end)) {
        "Running"
    } else if ends.iter().all(|end| end.code == 0) {
        "Succeeded"
    } else {
        "Failed"
    }
}

fn container(record: &ContainerRecord) -> Value {
    let mut status = json!({
        "name": record.name, "image": record.image, "imageID": record.image, "restartCount": record.restarts,
        "ready": record.ready,
        "started": record.started,
        "state": state(&record.state),
        "lastState": record.last.as_ref().map_or_else(|| json!({}), |end| json!({"terminated": ended(end)})),
    });
    if let (false, Some(map)) = (record.id.is_empty(), status.as_object_mut()) {
        map.insert("containerID".to_owned(), record.id.clone().into());
    }
    status
}

fn state(state: &RunState) -> Value {
    match state {
        RunState::Waiting { reason, message } if message.is_empty() => json!({"waiting": {"reason": reason}}),
        RunState::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
        RunState::Running { started } => json!({"running": {"startedAt": started}}),
        RunState::Terminated(end) => json!({"terminated": ended(end)}),
    }
}

fn ended(end: &RunEnd) -> Value {
    let mut value = json!({"exitCode": end.code, "reason": end.reason, "finishedAt": end.finished});
    for (key, text) in [("message", &end.message), ("startedAt", &end.started), ("containerID", &end.id)] {
        if !text.is_empty() {
            value[key] = text.as_str().into();
        }
    }
    value
}

/// Returns the quality-of-service class that follows from requests and limits.
fn qos_class(pod: &Pod) -> &'static str {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let containers: Vec<&Container> = spec.iter().flat_map(|spec| &spec.containers).chain(init).collect();
    let amounts = |container: &Container| {
        let resources = container.resources.clone().unwrap_or_default();
        (resources.requests.unwrap_or_default(), resources.limits.unwrap_or_default())
    };
    let any = containers.iter().any(|container| {
        let (requests, limits) = amounts(container);
        !requests.is_empty() || !limits.is_empty()
    });
    let all = containers.iter().all(|container| {
        let (requests, limits) = amounts(container);
        ["cpu", "memory"].iter().all(|name| {
            limits.get(*name).is_some_and(|limit| requests.get(*name).is_none_or(|request| request == limit))
        })
    });
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
#[path = "status_test.rs"]
mod tests;
