//! Startup, readiness and liveness probes of a container.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::Context;
use super::process::{Process, ProcessSpec};
use crate::logs;

/// The most bytes of a command's output that are put into an event.
const OUTPUT_BYTES: usize = 300;

/// The container to probe, and what a probe needs to reach it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) container: Container,
    pub(super) address: Ipv4Addr,
    /// How the container's own process was started: a command probe runs with the same environment and directory.
    pub(super) process_spec: ProcessSpec,
    pub(super) mounts: super::expand::Mounts,
    /// The folder for the output of a command probe.
    pub(super) folder: PathBuf,
}

/// The kinds of probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    /// Returns the name that events use.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What a probe reports to the container's task.
#[derive(Debug)]
pub(super) enum ProbeEvent {
    /// The container has started: its startup probe has succeeded, or it has none.
    Started,
    /// The container has become ready or unready.
    Ready(bool),
    /// One probe has failed. The container's state is unchanged.
    Unhealthy(ProbeKind, String),
    /// The failure threshold is reached: the container must end, within this many seconds if the probe sets a period.
    ThresholdReached(ProbeKind, Option<i64>),
}

/// Counts successes and failures against the thresholds of a probe.
#[derive(Debug)]
struct ResultCounter {
    success_threshold: i32,
    failure_threshold: i32,
    /// The last result, and how many times in a row it was the same.
    run: (bool, i32),
    healthy: Option<bool>,
}

impl ResultCounter {
    fn new(probe: &Probe) -> Self {
        Self {
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
            run: (false, 0),
            healthy: None,
        }
    }

    /// Counts a result. Returns the new state if the result changes it.
    fn record_result(&mut self, success: bool) -> Option<bool> {
        self.run = if self.run.0 == success { (success, self.run.1.saturating_add(1)) } else { (success, 1) };
        let enough = if success { self.success_threshold } else { self.failure_threshold };
        if self.run.1 < enough || self.healthy == Some(success) {
            return None;
        }
        self.healthy = Some(success);
        self.healthy
    }
}

/// Probes a container until the future is dropped.
pub(super) async fn run(context: &Context, target: &Target, events: &mpsc::Sender<ProbeEvent>) {
    let container = &target.container;
    if let Some(probe) = &container.startup_probe
        && !repeat(context, target, ProbeKind::Startup, probe, events).await
    {
        return;
    }
    let _ = events.send(ProbeEvent::Started).await;
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            repeat(context, target, ProbeKind::Liveness, probe, events).await;
        }
    };
    let readiness = async {
        match &container.readiness_probe {
            Some(probe) => drop(repeat(context, target, ProbeKind::Readiness, probe, events).await),
            None => drop(events.send(ProbeEvent::Ready(true)).await),
        }
    };
    tokio::join!(liveness, readiness);
}

/// Runs one probe until it can report nothing more. For a startup probe, returns whether the container has started.
async fn repeat(
    context: &Context,
    target: &Target,
    kind: ProbeKind,
    probe: &Probe,
    events: &mpsc::Sender<ProbeEvent>,
) -> bool {
    let mut counter = ResultCounter::new(probe);
    let period = seconds(probe.period_seconds, 10);
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    loop {
        let result = check(context, target, kind, probe).await;
        let changed = counter.record_result(result.is_ok());
        if let Err(why) = result
            && events.send(ProbeEvent::Unhealthy(kind, why)).await.is_err()
        {
            return false;
        }
        match (kind, changed) {
            (ProbeKind::Startup, Some(true)) => return true,
            (ProbeKind::Startup | ProbeKind::Liveness, Some(false)) => {
                let _ = events.send(ProbeEvent::ThresholdReached(kind, probe.termination_grace_period_seconds)).await;
                return false;
            }
            (ProbeKind::Readiness, Some(ready)) => drop(events.send(ProbeEvent::Ready(ready)).await),
            _ => {}
        }
        tokio::time::sleep(period).await;
    }
}

fn seconds(given: Option<i32>, otherwise: u64) -> Duration {
    Duration::from_secs(given.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(otherwise))
}

/// Runs one probe once. The error is the text that the kubelet would report.
async fn check(context: &Context, target: &Target, kind: ProbeKind, probe: &Probe) -> Result<(), String> {
    let timeout = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let probing = async {
        if let Some(get) = &probe.http_get {
            http(context, target, get).await
        } else if let Some(connect) = &probe.tcp_socket {
            let address = address(target, connect.host.as_deref())?;
            let port = port(&target.container, &connect.port)?;
            let connection = TcpStream::connect((address, port)).await;
            connection.map(drop).map_err(|error| format!("dial tcp {address}:{port}: {error}"))
        } else if let Some(command) = probe.exec.as_ref().and_then(|exec| exec.command.as_ref()) {
            exec(context, target, kind, command).await
        } else {
            Err("this node supports httpGet, tcpSocket and exec probes only".to_owned())
        }
    };
    let outcome = tokio::time::timeout(timeout, probing).await;
    outcome.unwrap_or_else(|_| Err(format!("no answer within {} s", timeout.as_secs())))
}

fn address(target: &Target, host: Option<&str>) -> Result<IpAddr, String> {
    match host.filter(|host| !host.is_empty()) {
        None => Ok(target.address.into()),
        Some("localhost") => Ok(Ipv4Addr::LOCALHOST.into()),
        Some(host) => host.parse().map_err(|_| format!("the host {host:?} of the probe is not an IP address")),
    }
}

/// Returns a port by its number, or by its name in the container.
fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    let port = || match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| format!("the container has no port {}", port()))
}

async fn http(context: &Context, target: &Target, get: &HTTPGetAction) -> Result<(), String> {
    if get.scheme.as_deref().is_some_and(|scheme| scheme != "HTTP") {
        return Err("this node supports plain HTTP probes only".to_owned());
    }
    let (address, port) = (address(target, get.host.as_deref())?, port(&target.container, &get.port)?);
    let path = get.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let url = format!("http://{address}:{port}{slash}{path}");
    let mut request = context.http.get(&url);
    for header in get.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    let answer = request.send().await.map_err(|error| format!("Get {url:?}: {}", last_cause(&error)))?;
    let code = answer.status().as_u16();
    if (200..400).contains(&code) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {code}")) }
}

/// Returns the innermost cause, which is the one that a user can act on.
fn last_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

async fn exec(context: &Context, target: &Target, kind: ProbeKind, command: &[String]) -> Result<(), String> {
    let log = target.folder.join(format!("{}-probe.log", kind.name().to_ascii_lowercase()));
    let _ = std::fs::remove_file(&log);
    let command = command.iter().map(|word| target.mounts.in_text(word)).collect();
    let process_spec = ProcessSpec { command, log: log.clone(), ..target.process_spec.clone() };
    let mut process = Process::start(&context.supervisor, &process_spec).await?;
    let code = process.ended().await;
    if code == 0 {
        return Ok(());
    }
    let lines = logs::read(&log).unwrap_or_default();
    let mut output: Vec<u8> = lines.into_iter().flat_map(|line| line.text).collect();
    output.truncate(OUTPUT_BYTES);
    let output = String::from_utf8_lossy(&output);
    Err(match output.trim() {
        "" => format!("command ended with code {code}"),
        output => output.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn probe_state_changes_at_its_thresholds() {
        let probe = json!({"successThreshold": 2, "failureThreshold": 3});
        let mut counter = ResultCounter::new(&serde_json::from_value(probe).unwrap());
        let changes: Vec<Option<bool>> =
            "ffsfffssfs".chars().map(|result| counter.record_result(result == 's')).collect();
        let mut expected = vec![None; 10];
        expected[5] = Some(false);
        expected[7] = Some(true);
        assert_eq!(changes, expected);
    }

    #[test]
    fn ports_are_found_by_number_and_name() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "metrics", "containerPort": 8080}]}))
                .unwrap();
        assert_eq!(port(&container, &IntOrString::String("metrics".to_owned())), Ok(8080));
        assert_eq!(port(&container, &IntOrString::Int(1)), Ok(1));
        let none = port(&container, &IntOrString::String("web".to_owned())).unwrap_err();
        assert_eq!(none, "the container has no port web");
    }
}
