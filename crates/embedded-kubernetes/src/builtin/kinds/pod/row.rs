//! The cells of a pod. The column Status sums up phase, conditions and containers in one word.

use serde_json::{Value, json};

use crate::table::cells::{age, condition, condition_holds, items, name, number, text};
use crate::table::since;

/// Sums over the containers of a pod.
#[derive(Default)]
struct Totals {
    ready: usize,
    restarts: i64,
    /// Time at which a container last ended. Empty: never.
    last_end: String,
}

impl Totals {
    fn add_restarts(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount");
        let ended = text(status, "/lastState/terminated/finishedAt");
        // Timestamps in this format sort as text.
        if ended > self.last_end.as_str() {
            ended.clone_into(&mut self.last_end);
        }
    }
}

fn is_sidecar(pod: &Value, name: &str) -> bool {
    items(pod, "/spec/initContainers")
        .iter()
        .any(|container| text(container, "/name") == name && text(container, "/restartPolicy") == "Always")
}

/// Returns how a container has ended.
fn ended(terminated: &Value) -> String {
    match (text(terminated, "/reason"), number(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Returns the progress of the initialisation, or `None` once it is complete.
fn initializing(pod: &Value, all: &mut Totals, sidecars: &mut Totals) -> Option<String> {
    let total = items(pod, "/spec/initContainers").len();
    for (index, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
        all.add_restarts(status);
        let sidecar = is_sidecar(pod, text(status, "/name"));
        if sidecar {
            sidecars.add_restarts(status);
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

/// Returns the cells in the order of the columns.
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
    let (mut totals, mut of_sidecars) = (Totals::default(), Totals::default());
    let progress = initializing(pod, &mut totals, &mut of_sidecars);
    let initializing = progress.is_some();
    if let Some(progress) = progress {
        reason = progress;
    }
    if !initializing || condition_holds(pod, "Initialized") {
        totals = of_sidecars;
        running(pod, &mut totals, &mut reason);
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        if own_reason == "NodeLost" {
            "Unknown".clone_into(&mut reason);
        } else if !matches!(phase, "Failed" | "Succeeded") {
            "Terminating".clone_into(&mut reason);
        }
    }
    let restarts = if totals.restarts != 0 && !totals.last_end.is_empty() {
        format!("{} ({} ago)", totals.restarts, since(&totals.last_end, now))
    } else {
        totals.restarts.to_string()
    };
    let or_none = |text: &str| if text.is_empty() { "<none>" } else { text }.to_owned();
    vec![
        name(pod),
        format!("{}/{total}", totals.ready).into(),
        reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(text(pod, "/status/podIPs/0/ip")).into(),
        or_none(text(pod, "/spec/nodeName")).into(),
        or_none(text(pod, "/status/nominatedNodeName")).into(),
        readiness_gates(pod).into(),
    ]
}

/// Adds the containers that run after the initialisation, and replaces the reason by theirs.
fn running(pod: &Value, totals: &mut Totals, reason: &mut String) {
    let mut any_running = false;
    for status in items(pod, "/status/containerStatuses").iter().rev() {
        totals.add_restarts(status);
        let waiting = text(status, "/state/waiting/reason");
        let ready = status.get("ready") == Some(&Value::Bool(true));
        if !waiting.is_empty() {
            waiting.clone_into(reason);
        } else if let Some(terminated) = status.pointer("/state/terminated") {
            *reason = ended(terminated);
        } else if ready && status.pointer("/state/running").is_some() {
            any_running = true;
            totals.ready += 1;
        }
    }
    // One container has completed, and others still run.
    if reason == "Completed" && any_running {
        if condition_holds(pod, "Ready") { "Running" } else { "NotReady" }.clone_into(reason);
    }
}

fn readiness_gates(pod: &Value) -> String {
    match items(pod, "/spec/readinessGates") {
        [] => "<none>".to_owned(),
        gates => {
            let open = gates.iter().filter(|gate| condition_holds(pod, text(gate, "/conditionType"))).count();
            format!("{open}/{}", gates.len())
        }
    }
}

/// Returns the conditions of a row, by which `kubectl get` recognises a pod that has ended.
pub(super) fn conditions(object: &Value) -> Option<Value> {
    object.pointer("/spec/containers")?;
    let (reason, message) = match text(object, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}
