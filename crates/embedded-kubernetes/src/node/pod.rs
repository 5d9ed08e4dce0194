//! Runs one pod on the node: its address and volumes, its containers, its status, and its removal.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::SelectAll;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::events::EventType;
use kube::runtime::watcher::watch_object;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::{Board, RunState, Slot};
use super::container::ContainerTask;
use super::facts::HOST;
use super::status::{Policy, StatusInput, status};
use super::volumes::{VolumeObject, Volumes, referenced_objects};
use super::{Context, MANAGER, PodEvent, SHUTDOWN};

/// The grace period of a pod that was deleted without one, or whose object is gone.
const NO_GRACE: Duration = Duration::from_secs(1);
/// The longest time that a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before a failed write is tried again.
const WRITE_PAUSE: Duration = Duration::from_secs(2);
/// Interval between attempts to set up volumes for which something is missing. Not everything that may be missing is
/// watched.
const SET_UP_INTERVAL: Duration = Duration::from_secs(10);

/// The latest version of a pod that the node has seen.
#[derive(Debug, Clone)]
pub(super) struct PodVersion {
    pub(super) pod: Arc<Pod>,
    /// Whether the object no longer exists.
    pub(super) gone: bool,
}

/// The task that runs one pod.
pub(super) struct PodTask {
    context: Arc<Context>,
    known: watch::Receiver<PodVersion>,
    stop: CancellationToken,
    api: Api<Pod>,
    name: String,
    uid: String,
    /// The status as it was last written.
    written: Value,
}

/// Runs a pod until nothing of it is left on this machine, or the node is stopped.
pub(super) async fn run_pod(context: Arc<Context>, known: watch::Receiver<PodVersion>, stop: CancellationToken) {
    let pod = Arc::clone(&known.borrow().pod);
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut task = PodTask {
        api: Api::namespaced(context.client.clone(), &namespace),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        written: serde_json::to_value(&pod.status).unwrap_or_default(),
        context,
        known,
        stop,
    };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        task.wait_for_deletion().await;
    } else if pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
        task.run(&pod, HOST).await;
    } else if let Some(address) = task.context.addresses.allocate() {
        task.run(&pod, address).await;
        task.context.addresses.release(address);
    } else {
        tracing::error!(pod = task.name, "no free address for the pod");
        task.wait_for_deletion().await;
    }
    if !task.stop.is_cancelled() || task.known.borrow().gone {
        task.remove(&pod).await;
    }
}

impl PodTask {
    async fn wait_for_deletion(&mut self) {
        let stop = self.stop.clone();
        let deleted = self.known.wait_for(|known| known.gone || known.pod.metadata.deletion_timestamp.is_some());
        tokio::select! {
            _ = deleted => {}
            () = stop.cancelled() => {}
        }
    }

    async fn run(&mut self, pod: &Arc<Pod>, address: Ipv4Addr) {
        let board = watch::Sender::new(Board::new(pod, &self.context.clock.now()));
        // A pod that is already being deleted must not start anything.
        let known = self.known.borrow().clone();
        let stopping = watch::Sender::new(self.deadline(&known));
        let latest = watch::Sender::new(Arc::clone(pod));
        let work = PodWork {
            context: Arc::clone(&self.context),
            pod: latest.subscribe(),
            address,
            folder: self.folder(),
            logs: self.logs(pod),
            board: board.clone(),
            stop: stopping.subscribe(),
        };
        let mut working = tokio::spawn(work.run());
        let mut updates = board.subscribe();
        let mut done = false;
        let mut retry: Option<Instant> = None;
        let stop = self.stop.clone();
        loop {
            let known = self.known.borrow_and_update().clone();
            latest.send_replace(Arc::clone(&known.pod));
            if let Some(deadline) = self.deadline(&known) {
                stopping.send_if_modified(|now| {
                    let earlier = now.is_none_or(|now: Instant| deadline < now);
                    if earlier {
                        *now = Some(deadline);
                    }
                    earlier
                });
            }
            let ending = stopping.borrow().is_some();
            if done && ending {
                break;
            }
            if retry.is_none() && !known.gone && !self.stop.is_cancelled() {
                let current = updates.borrow_and_update().clone();
                retry = self.write(&known.pod, address, ending, &current).await;
            }
            tokio::select! {
                _ = updates.changed() => {}
                changed = self.known.changed() => if changed.is_err() { break },
                () = stop.cancelled(), if !ending => {}
                _ = &mut working, if !done => done = true,
                () = tokio::time::sleep_until(retry.unwrap_or_else(|| self.context.clock.monotonic())), if retry.is_some() => retry = None,
            }
        }
        let known = self.known.borrow().clone();
        let last = board.borrow().clone();
        if !known.gone && !self.stop.is_cancelled() {
            while let Some(at) = self.write(&known.pod, address, true, &last).await {
                if self.known.borrow().gone {
                    return;
                }
                tokio::time::sleep_until(at).await;
            }
        }
    }

    /// Returns the time at which the containers must have ended, if they are to end.
    fn deadline(&self, known: &PodVersion) -> Option<Instant> {
        let now = self.context.clock.monotonic();
        let seconds = |seconds: Option<i64>| seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let own = known.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        if known.gone {
            Some(now + NO_GRACE)
        } else if known.pod.metadata.deletion_timestamp.is_some() {
            let grace = seconds(known.pod.metadata.deletion_grace_period_seconds.or(own)).unwrap_or(30);
            Some(now + Duration::from_secs(grace))
        } else if self.stop.is_cancelled() {
            Some(now + Duration::from_secs(seconds(own).unwrap_or(30)).min(SHUTDOWN))
        } else {
            None
        }
    }

    fn folder(&self) -> PathBuf {
        self.context.folder.join("pods").join(&self.uid)
    }

    fn logs(&self, pod: &Pod) -> PathBuf {
        self.context.logs.pod(pod.metadata.namespace.as_deref().unwrap_or_default(), &self.name, &self.uid)
    }

    /// Writes the status if it has changed. Returns when to try again if the write failed.
    async fn write(&mut self, pod: &Pod, address: Ipv4Addr, ending: bool, board: &Board) -> Option<Instant> {
        let now = self.context.clock.now();
        let new = status(StatusInput { pod, address, ending, now: &now }, board, &self.written);
        if new == self.written {
            return None;
        }
        // The uid is part of the patch because another pod of the same name may exist by now.
        let patch = json!({"metadata": {"uid": self.uid}, "status": new});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Strategic(patch);
        let write = self.api.patch_status(&self.name, &params, &patch);
        match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(_)) => self.written = new,
            // The pod is gone or was replaced: the watch reports it, and the task then ends.
            Ok(Err(kube::Error::Api(error))) if matches!(error.code, 404 | 409 | 422) => self.written = new,
            Ok(Err(error)) => return Some(self.retry_at(&error)),
            Err(late) => return Some(self.retry_at(&late)),
        }
        None
    }

    fn retry_at(&self, error: &dyn std::fmt::Display) -> Instant {
        tracing::warn!(pod = self.name, error = %error, "failed to write a pod's status; retrying");
        self.context.clock.monotonic() + WRITE_PAUSE
    }

    /// Removes what is left of the pod: its object, whose deletion the node completes, and its folders.
    async fn remove(&mut self, pod: &Pod) {
        while !self.known.borrow().gone {
            let preconditions = Preconditions { uid: Some(self.uid.clone()), resource_version: None };
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            match tokio::time::timeout(WRITE_TIMEOUT, self.api.delete(&self.name, &params)).await {
                Ok(Ok(_)) => break,
                Ok(Err(kube::Error::Api(error))) if matches!(error.code, 404 | 409) => break,
                _ => tokio::time::sleep(WRITE_PAUSE).await,
            }
        }
        let folders = [self.folder(), self.logs(pod)];
        let removed = tokio::task::spawn_blocking(move || folders.map(std::fs::remove_dir_all)).await;
        for error in removed.into_iter().flatten().filter_map(Result::err) {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(pod = self.name, error = %error, "failed to remove a deleted pod's folder");
            }
        }
    }
}

/// The work for a pod whose containers may run.
struct PodWork {
    context: Arc<Context>,
    pod: watch::Receiver<Arc<Pod>>,
    address: Ipv4Addr,
    folder: PathBuf,
    logs: PathBuf,
    board: watch::Sender<Board>,
    stop: watch::Receiver<Option<Instant>>,
}

impl PodWork {
    /// Sets up the volumes, runs the init containers one after the other, then all containers, until none is to be
    /// started any more.
    async fn run(mut self) {
        let volumes = Arc::new(Volumes::new(self.folder.join("volumes")));
        let pod = Arc::clone(&self.pod.borrow());
        let mut changes = watch_objects(&self.context.client, &pod);
        if !self.set_up(&volumes, &mut changes).await {
            return self.give_up();
        }
        self.board.send_modify(|board| board.set_up = true);
        // Dropping the set ends the task.
        let mut refreshing = JoinSet::new();
        refreshing.spawn(refresh(
            Arc::clone(&self.context),
            Arc::clone(&volumes),
            self.pod.clone(),
            self.address,
            changes,
        ));

        let spec = pod.spec.clone().unwrap_or_default();
        let policy = Policy::for_pod(&pod);
        for (index, container) in spec.init_containers.into_iter().flatten().enumerate() {
            // An init container that fails is started again, unless the pod's policy is `Never`.
            let policy = if policy == Policy::Never { Policy::Never } else { Policy::OnFailure };
            let slot = Slot { board: self.board.clone(), init: true, index };
            self.container_task(container, policy, slot.clone(), &volumes).run_until_done().await;
            let succeeded = slot.get(|record| matches!(&record.state, RunState::Terminated(end) if end.code == 0));
            if succeeded != Some(true) || self.stop.borrow().is_some() {
                return self.give_up();
            }
        }
        let tasks = spec.containers.into_iter().enumerate().map(|(index, container)| {
            let slot = Slot { board: self.board.clone(), init: false, index };
            self.container_task(container, policy, slot, &volumes).run_until_done()
        });
        futures::future::join_all(tasks).await;
    }

    fn container_task(
        &self,
        container: k8s_openapi::api::core::v1::Container,
        policy: Policy,
        slot: Slot,
        volumes: &Arc<Volumes>,
    ) -> ContainerTask {
        ContainerTask {
            context: Arc::clone(&self.context),
            pod: self.pod.clone(),
            container,
            policy,
            address: self.address,
            volumes: Arc::clone(volumes),
            folder: self.folder.clone(),
            logs: self.logs.clone(),
            slot,
            stop: self.stop.clone(),
        }
    }

    /// Sets up the volumes, and waits for the objects that they need. Returns whether the pod may still run.
    async fn set_up(&mut self, volumes: &Volumes, changes: &mut SelectAll<ObjectChanges>) -> bool {
        let mut reported = String::new();
        loop {
            if self.stop.borrow().is_some() {
                return false;
            }
            let pod = Arc::clone(&self.pod.borrow());
            let Err(why) = volumes.write(&self.context, &pod, self.address).await else { return true };
            if reported != why {
                let event =
                    PodEvent { kind: EventType::Warning, reason: "FailedMount", text: why.clone(), field: None };
                self.context.publish_event(&pod, event);
                reported = why;
            }
            tokio::select! {
                Some(()) = changes.next() => {}
                _ = self.stop.changed() => {}
                () = tokio::time::sleep(SET_UP_INTERVAL) => {}
            }
        }
    }

    /// Marks the containers that have not run yet as terminated, if the pod is to end.
    fn give_up(&self) {
        if self.stop.borrow().is_none() {
            return;
        }
        let now = self.context.clock.now();
        self.board.send_modify(|board| {
            for record in board.init.iter_mut().chain(&mut board.containers) {
                if let RunState::Waiting { .. } = record.state {
                    let end = record.last.clone().unwrap_or_else(|| super::board::RunEnd::unobserved(&now));
                    record.state = RunState::Terminated(end);
                }
            }
        });
    }
}

/// A stream of changes of an object that a volume contains.
type ObjectChanges = std::pin::Pin<Box<dyn Stream<Item = ()> + Send>>;

fn watch_objects(client: &Client, pod: &Pod) -> SelectAll<ObjectChanges> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut all = SelectAll::new();
    for object in referenced_objects(pod) {
        let changes: ObjectChanges = match object {
            VolumeObject::ConfigMap(name) => {
                let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
                watch_object(api, &name).default_backoff().map(drop::<watcher::Result<_>>).boxed()
            }
            VolumeObject::Secret(name) => {
                let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
                watch_object(api, &name).default_backoff().map(drop::<watcher::Result<_>>).boxed()
            }
        };
        all.push(changes);
    }
    all
}

/// Keeps the files of the volumes up to date with their objects and with the pod's own labels.
async fn refresh(
    context: Arc<Context>,
    volumes: Arc<Volumes>,
    mut pod: watch::Receiver<Arc<Pod>>,
    address: Ipv4Addr,
    mut changes: SelectAll<ObjectChanges>,
) {
    loop {
        tokio::select! {
            Some(()) = changes.next() => {}
            updated = pod.changed() => if updated.is_err() { return },
        }
        let now = Arc::clone(&pod.borrow());
        // An object that is gone leaves its files behind, as on a real node.
        if let Err(why) = volumes.write(&context, &now, address).await {
            tracing::debug!(pod = now.metadata.name, why, "keeping the files of a volume");
        }
    }
}
