//! Runs one container: prepares and starts it, probes it, and starts it again after it has ended.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::runtime::events::EventType;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::board::{RunEnd, RunState, Slot};
use super::environment;
use super::expand::expand;
use super::probe::{self, ProbeEvent, Target};
use super::process::{Process, ProcessSpec};
use super::status::Policy;
use super::volumes::Volumes;
use super::{Context, PodEvent};
use crate::logs::Logs;

/// Interval between attempts to prepare a container for which something is missing.
const PREPARE_INTERVAL: Duration = Duration::from_secs(5);
/// The exit code of a container that could not be started, as container runtimes report it.
const NOT_STARTED: i32 = 128;

/// The task that runs one container.
pub(super) struct ContainerTask {
    pub(super) context: Arc<Context>,
    /// The latest version of the pod: its labels may change, its containers do not.
    pub(super) pod: watch::Receiver<Arc<Pod>>,
    pub(super) container: Container,
    pub(super) policy: Policy,
    pub(super) address: Ipv4Addr,
    pub(super) volumes: Arc<Volumes>,
    /// The pod's folder on this machine.
    pub(super) folder: PathBuf,
    /// The folder of the pod's logs.
    pub(super) logs: PathBuf,
    pub(super) slot: Slot,
    /// The time at which the container must have ended, once it is to end.
    pub(super) stop: watch::Receiver<Option<Instant>>,
}

/// Why a container cannot be started yet: the reason and message of its state.
type Missing = (&'static str, String);

impl ContainerTask {
    /// Runs the container until it has ended and is not to be started again.
    pub(super) async fn run_until_done(mut self) {
        let mut backoff = Backoff::default();
        let mut ended = self.slot.get(|record| record.found.clone()).flatten();
        loop {
            if let Some(end) = ended.take() {
                if self.stopping() || !self.policy.starts_again(&end) {
                    return self.finish(end);
                }
                let wait = backoff.after_end(self.context.clock.monotonic());
                if self.wait_after(&end, wait).await {
                    return self.finish(end);
                }
                self.slot.update(|record| {
                    record.restarts += 1;
                    record.last = Some(end);
                });
            }
            let Some(target) = self.prepared().await else {
                let last = self.slot.get(|record| record.last.clone()).flatten();
                return self.finish(last.unwrap_or_else(|| RunEnd::unobserved(&self.context.clock.now())));
            };
            ended = Some(self.run(target).await);
        }
    }

    fn stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    fn finish(&self, end: RunEnd) {
        self.slot.update(|record| {
            // A pod counts an init container that has succeeded as ready.
            record.ready = self.slot.init && end.code == 0;
            record.started = false;
            record.state = RunState::Terminated(end);
        });
    }

    /// Waits before the container is started again. Returns true if it must not be started any more.
    async fn wait_after(&mut self, end: &RunEnd, wait: Duration) -> bool {
        self.finish(end.clone());
        if wait.is_zero() {
            return self.stopping();
        }
        let (pod, uid) = (self.reference(), self.pod.borrow().metadata.uid.clone().unwrap_or_default());
        let name = &self.container.name;
        self.slot.update(|record| {
            record.ready = false;
            record.last = Some(end.clone());
            let message = format!("back-off {} restarting failed container={name} pod={pod}({uid})", go_duration(wait));
            record.state = RunState::Waiting { reason: "CrashLoopBackOff".to_owned(), message };
        });
        let note = format!("Back-off restarting failed container {name} in pod {pod}({uid})");
        self.publish(EventType::Warning, "BackOff", note);
        self.stopped_within(wait).await
    }

    /// Returns `NAME_NAMESPACE`, as the kubelet names pods in messages.
    fn reference(&self) -> String {
        let pod = self.pod.borrow();
        let (name, namespace) = (pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref());
        format!("{}_{}", name.unwrap_or_default(), namespace.unwrap_or_default())
    }

    async fn stopped_within(&mut self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.stop.wait_for(Option::is_some)).await.is_ok()
    }

    fn publish(&self, kind: EventType, reason: &'static str, text: String) {
        let list = if self.slot.init { "initContainers" } else { "containers" };
        let field = format!("spec.{list}{{{}}}", self.container.name);
        self.context.publish_event(&self.pod.borrow(), PodEvent { kind, reason, text, field: Some(field) });
    }

    /// Waits until the container can be started, and returns what it needs. `None`: it must not be started any more.
    async fn prepared(&mut self) -> Option<Target> {
        let mut reported = String::new();
        loop {
            if self.stopping() {
                return None;
            }
            match self.prepare().await {
                Ok(target) => return Some(target),
                Err((reason, message)) => {
                    if reported != message {
                        self.publish(EventType::Warning, "Failed", format!("Error: {message}"));
                        reported.clone_from(&message);
                    }
                    self.slot.update(|record| {
                        record.state = RunState::Waiting { reason: reason.to_owned(), message };
                    });
                }
            }
            if self.stopped_within(PREPARE_INTERVAL).await {
                return None;
            }
        }
    }

    async fn prepare(&self) -> Result<Target, Missing> {
        let pod = Arc::clone(&self.pod.borrow());
        let container = &self.container;
        let config = |message: String| ("CreateContainerConfigError", message);
        let own = environment::variables(&self.context, &pod, container, self.address).await.map_err(config)?;
        let mounts = self.volumes.mounts(&pod, container, &own).map_err(config)?;
        let text = |word: &String| mounts.in_text(&expand(word, &own));
        let image = container.image.as_deref().unwrap_or_default();
        let own_command = container.command.as_deref().filter(|command| !command.is_empty());
        let program: Vec<String> = if let Some(command) = own_command {
            command.iter().map(text).collect()
        } else if let Some(command) = self.context.images.command(image) {
            command.iter().map(|word| expand(word, &own)).collect()
        } else {
            let why = format!(
                "no command is set for image \"{image}\" on this node: start it with --image {image}=COMMAND, or give the \
                     container a command"
            );
            return Err(("ErrImagePull", why));
        };
        let arguments = container.args.iter().flatten().map(text);
        let folder = self.folder.join("containers").join(&container.name);
        std::fs::create_dir_all(&folder)
            .map_err(|error| ("CreateContainerError", format!("failed to create {}: {error}", folder.display())))?;
        let directory = match container.working_dir.as_deref().filter(|directory| !directory.is_empty()) {
            Some(directory) => mounts.path(directory),
            None => folder.clone(),
        };
        let run = self.slot.get(|record| record.restarts).unwrap_or_default();
        let mut env = self.context.base_env.clone();
        env.extend(own.iter().map(|(key, value)| (key.clone(), mounts.in_text(value))));
        let process_spec = ProcessSpec {
            command: program.into_iter().chain(arguments).collect(),
            env,
            directory,
            log: Logs::file(&self.logs, &container.name, run),
        };
        Ok(Target { container: container.clone(), address: self.address, process_spec, mounts, folder })
    }

    /// Runs the container once, from start to end.
    async fn run(&mut self, target: Target) -> RunEnd {
        let run = self.slot.get(|record| record.restarts).unwrap_or_default();
        let uid = self.pod.borrow().metadata.uid.clone().unwrap_or_default();
        let name = self.container.name.clone();
        let id = format!("process://{uid}/{name}/{run}");
        // As on a real node, only the logs of this run and of the one before are kept.
        let _ = std::fs::remove_file(Logs::file(&self.logs, &name, run - 2));
        let _ = std::fs::remove_file(Logs::older(&Logs::file(&self.logs, &name, run - 2)));
        let mut process = match Process::start(&self.context.supervisor, &target.process_spec).await {
            Ok(process) => process,
            Err(message) => {
                self.publish(
                    EventType::Warning,
                    "Failed",
                    format!("Error: failed to start container \"{name}\": {message}"),
                );
                let finished = self.context.clock.now();
                let reason = "StartError".to_owned();
                return RunEnd { code: NOT_STARTED, reason, message, started: String::new(), finished, id };
            }
        };
        let started = self.context.clock.now();
        self.slot.update(|record| {
            record.state = RunState::Running { started: started.clone() };
            record.id.clone_from(&id);
            record.ready = false;
            record.started = false;
        });
        self.publish(EventType::Normal, "Started", format!("Started container {name}"));
        let code = self.attend(&mut process, &target).await;
        let reason = if code == 0 { "Completed" } else { "Error" };
        let finished = self.context.clock.now();
        RunEnd { code, reason: reason.to_owned(), message: String::new(), started, finished, id }
    }

    /// Watches over a run until it has ended, and returns its exit code.
    async fn attend(&mut self, process: &mut Process, target: &Target) -> i32 {
        let (sender, mut probe_events) = mpsc::channel(8);
        let context = Arc::clone(&self.context);
        let probing = probe::run(&context, target, &sender);
        tokio::pin!(probing);
        let mut probed = false;
        let mut kill_at: Option<Instant> = None;
        let mut stop = self.stop.clone();
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                code = process.ended() => return code,
                deadline = changed(&mut stop, stopping) => {
                    if !stopping {
                        stopping = true;
                        self.publish(EventType::Normal, "Killing", format!("Stopping container {}", self.container.name));
                        process.terminate().await;
                    }
                    kill_at = Some(kill_at.map_or(deadline, |at| at.min(deadline)));
                }
                () = until(kill_at) => {
                    process.kill().await;
                    // The process ends as soon as the system schedules it.
                    return process.ended().await;
                }
                Some(event) = probe_events.recv() => {
                    if let Some(grace) = self.apply_probe_event(event, stopping) {
                        process.terminate().await;
                        kill_at.get_or_insert_with(|| self.context.clock.monotonic() + grace);
                    }
                }
                () = &mut probing, if !probed => probed = true,
            }
        }
    }

    /// Takes in the result of a probe. Returns the grace period if the container must end because of it.
    fn apply_probe_event(&self, event: ProbeEvent, stopping: bool) -> Option<Duration> {
        match event {
            ProbeEvent::Started => self.slot.update(|record| record.started = true),
            ProbeEvent::Ready(ready) => self.slot.update(|record| record.ready = ready),
            ProbeEvent::Unhealthy(kind, why) => {
                self.publish(EventType::Warning, "Unhealthy", format!("{} probe failed: {why}", kind.name()));
            }
            ProbeEvent::ThresholdReached(kind, grace) if !stopping => {
                let kind = kind.name().to_ascii_lowercase();
                let name = &self.container.name;
                let note = format!("Container {name} failed {kind} probe, will be restarted");
                self.publish(EventType::Normal, "Killing", note);
                let own = self.pod.borrow().spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
                let seconds = grace.or(own).and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30);
                return Some(Duration::from_secs(seconds));
            }
            ProbeEvent::ThresholdReached(..) => {}
        }
        None
    }
}

/// Waits for the deadline to be set, or to change if it is already `known`.
async fn changed(stop: &mut watch::Receiver<Option<Instant>>, known: bool) -> Instant {
    if known && stop.changed().await.is_err() {
        return std::future::pending().await;
    }
    match stop.wait_for(Option::is_some).await.map(|deadline| *deadline) {
        Ok(Some(deadline)) => deadline,
        _ => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Formats a duration as Go does: 10s, 1m20s, 5m0s.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}
