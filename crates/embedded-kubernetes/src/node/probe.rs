//! Probes: is the container started, is it ready, does it live?

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::Context;
use super::process::{Order, Process};
use crate::logs;

/// The most of an answer that is put into an event.
const OUTPUT_BYTES: usize = 300;

/// What is probed, and where.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) container: Container,
    pub(super) address: Ipv4Addr,
    /// How the container's own process was started: a probe that is a command runs in the same surroundings.
    pub(super) order: Order,
    pub(super) mounts: super::expand::Mounts,
    /// Where what a command says is put.
    pub(super) folder: PathBuf,
}

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    /// As events call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What probes have to say.
#[derive(Debug)]
pub(super) enum Word {
    /// The container has started: there is no startup probe, or it has succeeded.
    Started,
    /// Whether it is ready has changed.
    Ready(bool),
    /// One probe has failed, which by itself means nothing.
    Unhealthy(Kind, String),
    /// So many have failed that the container is to be ended, within this time if the probe says so.
    Dead(Kind, Option<i64>),
}

/// Counts successes and failures.
#[derive(Debug)]
struct Judge {
    success_threshold: i32,
    failure_threshold: i32,
    run: (bool, i32),
    verdict: Option<bool>,
}

impl Judge {
    fn new(probe: &Probe) -> Self {
        Self {
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
            run: (false, 0),
            verdict: None,
        }
    }

    /// The verdict, if this result makes it another.
    fn result(&mut self, well: bool) -> Option<bool> {
        self.run = if self.run.0 == well { (well, self.run.1.saturating_add(1)) } else { (well, 1) };
        let enough = if well { self.success_threshold } else { self.failure_threshold };
        if self.run.1 < enough || self.verdict == Some(well) {
            return None;
        }
        self.verdict = Some(well);
        self.verdict
    }
}

/// Probes a container until it is dropped.
pub(super) async fn run(context: &Context, target: &Target, words: &mpsc::Sender<Word>) {
    let container = &target.container;
    if let Some(probe) = &container.startup_probe
        && !follow(context, target, Kind::Startup, probe, words).await
    {
        return;
    }
    let _ = words.send(Word::Started).await;
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            follow(context, target, Kind::Liveness, probe, words).await;
        }
    };
    let readiness = async {
        match &container.readiness_probe {
            Some(probe) => drop(follow(context, target, Kind::Readiness, probe, words).await),
            None => drop(words.send(Word::Ready(true)).await),
        }
    };
    tokio::join!(liveness, readiness);
}

/// Runs one probe until it has nothing more to say. Whether the container has started, for a startup probe.
async fn follow(context: &Context, target: &Target, kind: Kind, probe: &Probe, words: &mpsc::Sender<Word>) -> bool {
    let mut judge = Judge::new(probe);
    let period = seconds(probe.period_seconds, 10);
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    loop {
        let result = check(context, target, kind, probe).await;
        let verdict = judge.result(result.is_ok());
        if let Err(why) = result
            && words.send(Word::Unhealthy(kind, why)).await.is_err()
        {
            return false;
        }
        match (kind, verdict) {
            (Kind::Startup, Some(true)) => return true,
            (Kind::Startup | Kind::Liveness, Some(false)) => {
                let _ = words.send(Word::Dead(kind, probe.termination_grace_period_seconds)).await;
                return false;
            }
            (Kind::Readiness, Some(ready)) => drop(words.send(Word::Ready(ready)).await),
            _ => {}
        }
        tokio::time::sleep(period).await;
    }
}

fn seconds(given: Option<i32>, otherwise: u64) -> Duration {
    Duration::from_secs(given.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(otherwise))
}

/// One probe. The error is what the kubelet would say of it.
async fn check(context: &Context, target: &Target, kind: Kind, probe: &Probe) -> Result<(), String> {
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
            Err("this node knows probes by httpGet, tcpSocket and exec only".to_owned())
        }
    };
    let outcome = tokio::time::timeout(timeout, probing).await;
    outcome.unwrap_or_else(|_| Err(format!("no answer within {} s", timeout.as_secs())))
}

fn address(target: &Target, host: Option<&str>) -> Result<IpAddr, String> {
    match host.filter(|host| !host.is_empty()) {
        None => Ok(target.address.into()),
        Some("localhost") => Ok(Ipv4Addr::LOCALHOST.into()),
        Some(host) => host.parse().map_err(|_| format!("the host {host:?} of the probe is no address")),
    }
}

/// A port by its number, or by its name in the container.
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
        return Err("this node probes by plain HTTP only".to_owned());
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

/// The cause of all causes: what a person can do something about.
fn last_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

async fn exec(context: &Context, target: &Target, kind: Kind, command: &[String]) -> Result<(), String> {
    let log = target.folder.join(format!("{}-probe.log", kind.name().to_ascii_lowercase()));
    let _ = std::fs::remove_file(&log);
    let command = command.iter().map(|word| target.mounts.in_text(word)).collect();
    let order = Order { command, log: log.clone(), ..target.order.clone() };
    let mut process = Process::start(&context.supervisor, &order).await?;
    let code = process.ended().await;
    if code == 0 {
        return Ok(());
    }
    let said = logs::read(&log).unwrap_or_default();
    let mut said: Vec<u8> = said.into_iter().flat_map(|line| line.text).collect();
    said.truncate(OUTPUT_BYTES);
    let said = String::from_utf8_lossy(&said);
    Err(match said.trim() {
        "" => format!("command ended with code {code}"),
        said => said.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_verdict_needs_as_many_in_a_row_as_the_probe_says() {
        let probe = json!({"successThreshold": 2, "failureThreshold": 3});
        let mut judge = Judge::new(&serde_json::from_value(probe).unwrap());
        let verdicts: Vec<Option<bool>> = "ffsfffssfs".chars().map(|result| judge.result(result == 's')).collect();
        let mut expected = vec![None; 10];
        expected[5] = Some(false);
        expected[7] = Some(true);
        assert_eq!(verdicts, expected);
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
