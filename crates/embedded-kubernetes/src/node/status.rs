//! A pod's status, as the kubelet writes it. Pure.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::board::{Board, End, Seen, State};
use super::facts::HOST;

/// When a container that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    pub(super) fn of(pod: &Pod) -> Self {
        match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container is started again after this end.
    pub(super) fn starts_again(self, end: &End) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => end.code != 0,
            Self::Never => false,
        }
    }
}

/// What is known of a pod beside its containers.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) pod: &'a Pod,
    pub(super) address: Ipv4Addr,
    /// Nothing of it is started any more.
    pub(super) ending: bool,
    pub(super) now: &'a str,
}

/// The status. `before` is the one written last, whose times are kept where nothing has changed.
pub(super) fn status(about: About<'_>, board: &Board, before: &Value) -> Value {
    let phase = phase(about, board);
    let over = matches!(phase, "Succeeded" | "Failed");
    let names = |seen: &[Seen], unwell: &dyn Fn(&Seen) -> bool| {
        let names: Vec<&str> = seen.iter().filter(|seen| unwell(seen)).map(|seen| seen.name.as_str()).collect();
        names.join(" ")
    };
    let unready = names(&board.containers, &|seen| !seen.ready);
    let unfinished = names(&board.init, &|seen| !well_done(seen));
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
        conditions.into_iter().map(|(kind, is)| condition(kind, is, before, about.now)).collect();
    let start = before.get("startTime").filter(|time| time.is_string());
    let mut status = json!({
        "phase": phase,
        "conditions": conditions,
        "hostIP": HOST.to_string(), "hostIPs": [{"ip": HOST.to_string()}],
        "podIP": about.address.to_string(), "podIPs": [{"ip": about.address.to_string()}],
        "startTime": start.cloned().unwrap_or_else(|| about.now.into()),
        "containerStatuses": board.containers.iter().map(container).collect::<Vec<_>>(),
        "qosClass": quality(about.pod),
    });
    if !board.init.is_empty()
        && let Some(map) = status.as_object_mut()
    {
        let statuses: Vec<Value> = board.init.iter().map(container).collect();
        map.insert("initContainerStatuses".to_owned(), statuses.into());
    }
    if let (Some(generation), Some(map)) = (about.pod.metadata.generation, status.as_object_mut()) {
        map.insert("observedGeneration".to_owned(), generation.into());
    }
    status
}

fn condition_of(unwell: &str, reason: &'static str, message: &str, over: bool) -> (&'static str, &'static str, String) {
    match (unwell, over) {
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
    // A strategic merge keeps what is not named: what was said before is taken back.
    condition["reason"] = if reason.is_empty() { Value::Null } else { reason.into() };
    condition["message"] = if message.is_empty() { Value::Null } else { message.into() };
    condition
}

fn well_done(seen: &Seen) -> bool {
    matches!(&seen.state, State::Terminated(end) if end.code == 0)
}

/// Where the pod is in its life.
fn phase(about: About<'_>, board: &Board) -> &'static str {
    let policy = if about.ending { Policy::Never } else { Policy::of(about.pod) };
    let lost =
        |seen: &Seen| matches!(&seen.state, State::Terminated(end) if !policy.starts_again(end) && end.code != 0);
    if board.init.iter().any(lost) {
        return "Failed";
    }
    let ever_ran = |seen: &Seen| seen.last.is_some();
    let (mut pending, mut running, mut ended) = (0, 0, 0);
    for seen in &board.containers {
        match &seen.state {
            State::Running { .. } => running += 1,
            State::Terminated(_) => ended += 1,
            State::Waiting { .. } if ever_ran(seen) => ended += 1,
            State::Waiting { .. } => pending += 1,
        }
    }
    let uninitialized = board.init.iter().any(|seen| !well_done(seen)) && running + ended == 0;
    if pending > 0 || uninitialized || !board.set_up {
        return if running + ended > 0 && board.set_up { "Running" } else { "Pending" };
    }
    if running > 0 {
        return "Running";
    }
    let final_end = |seen: &Seen| match &seen.state {
        State::Terminated(end) => Some(end.clone()),
        _ => seen.last.clone(),
    };
    let ends: Vec<End> = board.containers.iter().filter_map(final_end).collect();
    if ended > 0 && ends.iter().any(|end| policy.starts_again(end)) {
        "Running"
    } else if ends.iter().all(|end| end.code == 0) {
        "Succeeded"
    } else {
        "Failed"
    }
}

fn container(seen: &Seen) -> Value {
    let mut status = json!({
        "name": seen.name, "image": seen.image, "imageID": seen.image, "restartCount": seen.restarts,
        "ready": seen.ready,
        "started": seen.started,
        "state": state(&seen.state),
        "lastState": seen.last.as_ref().map_or_else(|| json!({}), |end| json!({"terminated": ended(end)})),
    });
    if let (false, Some(map)) = (seen.id.is_empty(), status.as_object_mut()) {
        map.insert("containerID".to_owned(), seen.id.clone().into());
    }
    status
}

fn state(state: &State) -> Value {
    match state {
        State::Waiting { reason, message } if message.is_empty() => json!({"waiting": {"reason": reason}}),
        State::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
        State::Running { started } => json!({"running": {"startedAt": started}}),
        State::Terminated(end) => json!({"terminated": ended(end)}),
    }
}

fn ended(end: &End) -> Value {
    let mut value = json!({"exitCode": end.code, "reason": end.reason, "finishedAt": end.finished});
    for (key, text) in [("message", &end.message), ("startedAt", &end.started), ("containerID", &end.id)] {
        if !text.is_empty() {
            value[key] = text.as_str().into();
        }
    }
    value
}

/// The class of service that follows from requests and limits.
fn quality(pod: &Pod) -> &'static str {
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
