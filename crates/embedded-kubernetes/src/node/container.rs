//! One container's life: prepared, started, probed, ended, started again.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::runtime::events::EventType;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::board::{End, Slot, State};
use super::environment;
use super::expand::expand;
use super::probe::{self, Target, Word};
use super::process::{Order, Process};
use super::status::Policy;
use super::volumes::Volumes;
use super::{Context, Note};
use crate::logs::Logs;

/// How often it is tried again to prepare a container for which something is missing.
const AGAIN: Duration = Duration::from_secs(5);
/// The exit code of a container that could not be started, as the runtimes of real nodes have it.
const NOT_STARTED: i32 = 128;

/// What a container needs to live.
pub(super) struct Life {
    pub(super) context: Arc<Context>,
    /// As it is now: labels may change, containers do not.
    pub(super) pod: watch::Receiver<Arc<Pod>>,
    pub(super) container: Container,
    pub(super) policy: Policy,
    pub(super) address: Ipv4Addr,
    pub(super) volumes: Arc<Volumes>,
    /// The pod's folder on this machine, and that of its logs.
    pub(super) folder: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) slot: Slot,
    /// Until when it must have ended, once it must.
    pub(super) stop: watch::Receiver<Option<Instant>>,
}

/// Why a container cannot be started yet: reason and message of its state.
type Missing = (&'static str, String);

impl Life {
    /// Lives it, until the container has ended and is not to be started again.
    pub(super) async fn live(mut self) {
        let mut backoff = Backoff::default();
        let mut ended = self.slot.get(|seen| seen.found.clone()).flatten();
        loop {
            if let Some(end) = ended.take() {
                if self.stopping() || !self.policy.starts_again(&end) {
                    return self.finish(end);
                }
                let wait = backoff.after_end(self.context.clock.monotonic());
                if self.wait_after(&end, wait).await {
                    return self.finish(end);
                }
                self.slot.update(|seen| {
                    seen.restarts += 1;
                    seen.last = Some(end);
                });
            }
            let Some(target) = self.prepared().await else {
                let last = self.slot.get(|seen| seen.last.clone()).flatten();
                return self.finish(last.unwrap_or_else(|| End::unseen(&self.context.clock.now())));
            };
            ended = Some(self.run(target).await);
        }
    }

    fn stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    fn finish(&self, end: End) {
        self.slot.update(|seen| {
            // An init container that has done its work is what its pod calls ready.
            seen.ready = self.slot.init && end.code == 0;
            seen.started = false;
            seen.state = State::Terminated(end);
        });
    }

    /// Waits before the container is started again. Whether it is not to be started any more.
    async fn wait_after(&mut self, end: &End, wait: Duration) -> bool {
        self.finish(end.clone());
        if wait.is_zero() {
            return self.stopping();
        }
        let (pod, uid) = (self.reference(), self.pod.borrow().metadata.uid.clone().unwrap_or_default());
        let name = &self.container.name;
        self.slot.update(|seen| {
            seen.ready = false;
            seen.last = Some(end.clone());
            let message = format!("back-off {} restarting failed container={name} pod={pod}({uid})", go_duration(wait));
            seen.state = State::Waiting { reason: "CrashLoopBackOff".to_owned(), message };
        });
        let note = format!("Back-off restarting failed container {name} in pod {pod}({uid})");
        self.say(EventType::Warning, "BackOff", note);
        self.stopped_within(wait).await
    }

    /// `NAME_NAMESPACE`, as the kubelet names pods in messages.
    fn reference(&self) -> String {
        let pod = self.pod.borrow();
        let (name, namespace) = (pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref());
        format!("{}_{}", name.unwrap_or_default(), namespace.unwrap_or_default())
    }

    async fn stopped_within(&mut self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.stop.wait_for(Option::is_some)).await.is_ok()
    }

    fn say(&self, kind: EventType, reason: &'static str, text: String) {
        let list = if self.slot.init { "initContainers" } else { "containers" };
        let field = format!("spec.{list}{{{}}}", self.container.name);
        self.context.say(&self.pod.borrow(), Note { kind, reason, text, field: Some(field) });
    }

    /// What is needed to start the container, as soon as it is there. `None`: it is not to be started any more.
    async fn prepared(&mut self) -> Option<Target> {
        let mut said = String::new();
        loop {
            if self.stopping() {
                return None;
            }
            match self.prepare().await {
                Ok(target) => return Some(target),
                Err((reason, message)) => {
                    if said != message {
                        self.say(EventType::Warning, "Failed", format!("Error: {message}"));
                        said.clone_from(&message);
                    }
                    self.slot.update(|seen| {
                        seen.state = State::Waiting { reason: reason.to_owned(), message };
                    });
                }
            }
            if self.stopped_within(AGAIN).await {
                return None;
            }
        }
    }

    async fn prepare(&self) -> Result<Target, Missing> {
        let pod = Arc::clone(&self.pod.borrow());
        let container = &self.container;
        let config = |message: String| ("CreateContainerConfigError", message);
        let own = environment::of(&self.context, &pod, container, self.address).await.map_err(config)?;
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
                "image \"{image}\" stands for no command on this node: start it with --image {image}=COMMAND, or give \
                 the container a command"
            );
            return Err(("ErrImagePull", why));
        };
        let arguments = container.args.iter().flatten().map(text);
        let folder = self.folder.join("containers").join(&container.name);
        std::fs::create_dir_all(&folder)
            .map_err(|error| ("CreateContainerError", format!("failed to make {}: {error}", folder.display())))?;
        let directory = match container.working_dir.as_deref().filter(|directory| !directory.is_empty()) {
            Some(directory) => mounts.path(directory),
            None => folder.clone(),
        };
        let run = self.slot.get(|seen| seen.restarts).unwrap_or_default();
        let mut env = self.context.base_env.clone();
        env.extend(own.iter().map(|(key, value)| (key.clone(), mounts.in_text(value))));
        let order = Order {
            command: program.into_iter().chain(arguments).collect(),
            env,
            directory,
            log: Logs::file(&self.logs, &container.name, run),
        };
        Ok(Target { container: container.clone(), address: self.address, order, mounts, folder })
    }

    /// One run, from start to end.
    async fn run(&mut self, target: Target) -> End {
        let run = self.slot.get(|seen| seen.restarts).unwrap_or_default();
        let uid = self.pod.borrow().metadata.uid.clone().unwrap_or_default();
        let name = self.container.name.clone();
        let id = format!("process://{uid}/{name}/{run}");
        // As on a real node, the log of the run before is kept, and no more.
        let _ = std::fs::remove_file(Logs::file(&self.logs, &name, run - 2));
        let _ = std::fs::remove_file(Logs::older(&Logs::file(&self.logs, &name, run - 2)));
        let mut process = match Process::start(&self.context.supervisor, &target.order).await {
            Ok(process) => process,
            Err(message) => {
                self.say(
                    EventType::Warning,
                    "Failed",
                    format!("Error: failed to start container \"{name}\": {message}"),
                );
                let finished = self.context.clock.now();
                let reason = "StartError".to_owned();
                return End { code: NOT_STARTED, reason, message, started: String::new(), finished, id };
            }
        };
        let started = self.context.clock.now();
        self.slot.update(|seen| {
            seen.state = State::Running { started: started.clone() };
            seen.id.clone_from(&id);
            seen.ready = false;
            seen.started = false;
        });
        self.say(EventType::Normal, "Started", format!("Started container {name}"));
        let code = self.attend(&mut process, &target).await;
        let reason = if code == 0 { "Completed" } else { "Error" };
        let finished = self.context.clock.now();
        End { code, reason: reason.to_owned(), message: String::new(), started, finished, id }
    }

    /// Looks after a run until it has ended: its exit code.
    async fn attend(&mut self, process: &mut Process, target: &Target) -> i32 {
        let (sender, mut words) = mpsc::channel(8);
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
                        self.say(EventType::Normal, "Killing", format!("Stopping container {}", self.container.name));
                        process.terminate().await;
                    }
                    kill_at = Some(kill_at.map_or(deadline, |at| at.min(deadline)));
                }
                () = until(kill_at) => {
                    process.kill().await;
                    // It is dead as soon as the system has time for it.
                    return process.ended().await;
                }
                Some(word) = words.recv() => {
                    if let Some(grace) = self.hear(word, stopping) {
                        process.terminate().await;
                        kill_at.get_or_insert_with(|| self.context.clock.monotonic() + grace);
                    }
                }
                () = &mut probing, if !probed => probed = true,
            }
        }
    }

    /// Takes in what a probe says. How long the container has to end, if it is to end.
    fn hear(&self, word: Word, stopping: bool) -> Option<Duration> {
        match word {
            Word::Started => self.slot.update(|seen| seen.started = true),
            Word::Ready(ready) => self.slot.update(|seen| seen.ready = ready),
            Word::Unhealthy(kind, why) => {
                self.say(EventType::Warning, "Unhealthy", format!("{} probe failed: {why}", kind.name()));
            }
            Word::Dead(kind, grace) if !stopping => {
                let kind = kind.name().to_ascii_lowercase();
                let name = &self.container.name;
                let note = format!("Container {name} failed {kind} probe, will be restarted");
                self.say(EventType::Normal, "Killing", note);
                let own = self.pod.borrow().spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
                let seconds = grace.or(own).and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30);
                return Some(Duration::from_secs(seconds));
            }
            Word::Dead(..) => {}
        }
        None
    }
}

/// The deadline, when there is one that has not been `seen`.
async fn changed(stop: &mut watch::Receiver<Option<Instant>>, seen: bool) -> Instant {
    if seen && stop.changed().await.is_err() {
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

/// As Go writes a duration: 10s, 1m20s, 5m0s.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}
