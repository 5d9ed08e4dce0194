//! The row of a pod, in which most of what can be seen of a pod is put in one word.

use serde_json::{Value, json};

use super::since::since;
use super::{condition, holds, items, number, text};

/// What is counted while the containers are looked at.
#[derive(Default)]
struct Seen {
    ready: usize,
    restarts: i64,
    /// When a container ended last; empty: never.
    restarted: String,
}

impl Seen {
    fn restarts_of(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount");
        let ended = text(status, "/lastState/terminated/finishedAt");
        // Times of one form are in the order of their letters.
        if ended > self.restarted.as_str() {
            ended.clone_into(&mut self.restarted);
        }
    }
}

fn is_sidecar(pod: &Value, name: &str) -> bool {
    items(pod, "/spec/initContainers")
        .iter()
        .any(|container| text(container, "/name") == name && text(container, "/restartPolicy") == "Always")
}

/// How a container has ended.
fn ended(terminated: &Value) -> String {
    match (text(terminated, "/reason"), number(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// What the initialisation is at, unless it is done.
fn initializing(pod: &Value, all: &mut Seen, sidecars: &mut Seen) -> Option<String> {
    let total = items(pod, "/spec/initContainers").len();
    for (index, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
        all.restarts_of(status);
        let sidecar = is_sidecar(pod, text(status, "/name"));
        if sidecar {
            sidecars.restarts_of(status);
        }
        let terminated = status.pointer("/state/terminated");
        if terminated.is_some_and(|terminated| number(terminated, "/exitCode") == 0) {
            continue;
        }
        if sidecar && status.get("started") == Some(&Value::Bool(true)) {
            let ready = usize::from(status.get("ready") == Some(&Value::Bool(true)));
            all.ready += ready;
            sidecars.ready += ready;
            continue;
        }
        let waiting = text(status, "/state/waiting/reason");
        return Some(match terminated {
            Some(terminated) => format!("Init:{}", ended(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{total}"),
        });
    }
    None
}

/// Name, Ready, Status, Restarts, Age, and the wide ones.
pub(super) fn cells(pod: &Value, now: &str) -> Vec<Value> {
    let phase = text(pod, "/status/phase");
    let own_reason = text(pod, "/status/reason");
    let mut reason = if own_reason.is_empty() { phase } else { own_reason }.to_owned();
    if condition(pod, "PodScheduled").is_some_and(|condition| text(condition, "/reason") == "SchedulingGated") {
        "SchedulingGated".clone_into(&mut reason);
    }
    let sidecars = items(pod, "/spec/initContainers")
        .iter()
        .filter(|container| text(container, "/restartPolicy") == "Always")
        .count();
    let total = items(pod, "/spec/containers").len() + sidecars;
    let (mut seen, mut of_sidecars) = (Seen::default(), Seen::default());
    let at = initializing(pod, &mut seen, &mut of_sidecars);
    let initializing = at.is_some();
    if let Some(at) = at {
        reason = at;
    }
    if !initializing || holds(pod, "Initialized") {
        seen = of_sidecars;
        running(pod, &mut seen, &mut reason);
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        if own_reason == "NodeLost" {
            "Unknown".clone_into(&mut reason);
        } else if !matches!(phase, "Failed" | "Succeeded") {
            "Terminating".clone_into(&mut reason);
        }
    }
    let restarts = if seen.restarts != 0 && !seen.restarted.is_empty() {
        format!("{} ({} ago)", seen.restarts, since(&seen.restarted, now))
    } else {
        seen.restarts.to_string()
    };
    let or_none = |text: &str| if text.is_empty() { "<none>" } else { text }.to_owned();
    vec![
        text(pod, "/metadata/name").into(),
        format!("{}/{total}", seen.ready).into(),
        reason.into(),
        restarts.into(),
        since(text(pod, "/metadata/creationTimestamp"), now).into(),
        or_none(text(pod, "/status/podIPs/0/ip")).into(),
        or_none(text(pod, "/spec/nodeName")).into(),
        or_none(text(pod, "/status/nominatedNodeName")).into(),
        gates(pod).into(),
    ]
}

fn running(pod: &Value, seen: &mut Seen, reason: &mut String) {
    let mut any_running = false;
    for status in items(pod, "/status/containerStatuses").iter().rev() {
        seen.restarts_of(status);
        let waiting = text(status, "/state/waiting/reason");
        let ready = status.get("ready") == Some(&Value::Bool(true));
        if !waiting.is_empty() {
            waiting.clone_into(reason);
        } else if let Some(terminated) = status.pointer("/state/terminated") {
            *reason = ended(terminated);
        } else if ready && status.pointer("/state/running").is_some() {
            any_running = true;
            seen.ready += 1;
        }
    }
    // One container has ended well, others go on.
    if reason == "Completed" && any_running {
        if holds(pod, "Ready") { "Running" } else { "NotReady" }.clone_into(reason);
    }
}

fn gates(pod: &Value) -> String {
    match items(pod, "/spec/readinessGates") {
        [] => "<none>".to_owned(),
        gates => {
            let open = gates.iter().filter(|gate| holds(pod, text(gate, "/conditionType"))).count();
            format!("{open}/{}", gates.len())
        }
    }
}

/// What `kubectl get` recognises an ended pod by.
pub(super) fn conditions(object: &Value) -> Option<Value> {
    object.pointer("/spec/containers")?;
    let (reason, message) = match text(object, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}
