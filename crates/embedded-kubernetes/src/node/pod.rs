//! One pod's life on the node: address and volumes, containers, status, and its end.

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

use super::board::{Board, Slot, State};
use super::container::Life;
use super::facts::HOST;
use super::status::{About, Policy, status};
use super::volumes::{Shown, Volumes, shown};
use super::{Context, MANAGER, Note, SHUTDOWN};

/// How long a pod has to end that has been deleted without grace, or whose object is gone.
const NO_GRACE: Duration = Duration::from_secs(1);
/// How long a write may take, and how soon it is tried again.
const WRITE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));
/// How often it is tried again to make volumes for which something is missing of which no change is seen.
const AGAIN: Duration = Duration::from_secs(10);

/// What the node knows of a pod.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) pod: Arc<Pod>,
    /// Its object is not there any more.
    pub(super) gone: bool,
}

/// A pod on this node.
pub(super) struct PodLife {
    context: Arc<Context>,
    known: watch::Receiver<Known>,
    stop: CancellationToken,
    api: Api<Pod>,
    name: String,
    uid: String,
    /// The status that was written last.
    written: Value,
}

/// Lives a pod's life. Ends when nothing of it is left on this machine, or the node is stopped.
pub(super) async fn live(context: Arc<Context>, known: watch::Receiver<Known>, stop: CancellationToken) {
    let pod = Arc::clone(&known.borrow().pod);
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut life = PodLife {
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
        life.wait_for_deletion().await;
    } else if pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
        life.run(&pod, HOST).await;
    } else if let Some(address) = life.context.addresses.take() {
        life.run(&pod, address).await;
        life.context.addresses.give_back(address);
    } else {
        tracing::error!(pod = life.name, "failed to give the pod an address: all are in use");
        life.wait_for_deletion().await;
    }
    if !life.stop.is_cancelled() || life.known.borrow().gone {
        life.remove(&pod).await;
    }
}

impl PodLife {
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
        // One that is to end already must not start anything first.
        let known = self.known.borrow().clone();
        let stopping = watch::Sender::new(self.deadline(&known));
        let latest = watch::Sender::new(Arc::clone(pod));
        let work = Work {
            context: Arc::clone(&self.context),
            pod: latest.subscribe(),
            address,
            folder: self.folder(),
            logs: self.logs(pod),
            board: board.clone(),
            stop: stopping.subscribe(),
        };
        let mut working = tokio::spawn(work.run());
        let mut seen = board.subscribe();
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
                let shown = seen.borrow_and_update().clone();
                retry = self.write(&known.pod, address, ending, &shown).await;
            }
            tokio::select! {
                _ = seen.changed() => {}
                changed = self.known.changed() => if changed.is_err() { break },
                () = stop.cancelled(), if !ending => {}
                _ = &mut working, if !done => done = true,
                () = tokio::time::sleep_until(retry.unwrap_or_else(|| self.context.clock.monotonic())), if retry.is_some() => retry = None,
            }
        }
        let known = self.known.borrow().clone();
        let shown = board.borrow().clone();
        if !known.gone && !self.stop.is_cancelled() {
            while let Some(at) = self.write(&known.pod, address, true, &shown).await {
                if self.known.borrow().gone {
                    return;
                }
                tokio::time::sleep_until(at).await;
            }
        }
    }

    /// Until when the containers must have ended, if they must.
    fn deadline(&self, known: &Known) -> Option<Instant> {
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

    /// Writes the status if it has changed. When to try again, if it could not be written.
    async fn write(&mut self, pod: &Pod, address: Ipv4Addr, ending: bool, board: &Board) -> Option<Instant> {
        let now = self.context.clock.now();
        let new = status(About { pod, address, ending, now: &now }, board, &self.written);
        if new == self.written {
            return None;
        }
        // With the uid, for a pod of the same name may have taken this one's place.
        let patch = json!({"metadata": {"uid": self.uid}, "status": new});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Strategic(patch);
        let write = self.api.patch_status(&self.name, &params, &patch);
        match tokio::time::timeout(WRITE.0, write).await {
            Ok(Ok(_)) => self.written = new,
            // The watch says so too, and what then is to be done.
            Ok(Err(kube::Error::Api(error))) if matches!(error.code, 404 | 409 | 422) => self.written = new,
            Ok(Err(error)) => return Some(self.try_again(&error)),
            Err(late) => return Some(self.try_again(&late)),
        }
        None
    }

    fn try_again(&self, error: &dyn std::fmt::Display) -> Instant {
        tracing::warn!(pod = self.name, error = %error, "failed to write the status of a pod; it is tried again");
        self.context.clock.monotonic() + WRITE.1
    }

    /// Takes away what is left: the object, for which the node has the last word, and the folders.
    async fn remove(&mut self, pod: &Pod) {
        while !self.known.borrow().gone {
            let preconditions = Preconditions { uid: Some(self.uid.clone()), resource_version: None };
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            match tokio::time::timeout(WRITE.0, self.api.delete(&self.name, &params)).await {
                Ok(Ok(_)) => break,
                Ok(Err(kube::Error::Api(error))) if matches!(error.code, 404 | 409) => break,
                _ => tokio::time::sleep(WRITE.1).await,
            }
        }
        let folders = [self.folder(), self.logs(pod)];
        let removed = tokio::task::spawn_blocking(move || folders.map(std::fs::remove_dir_all)).await;
        for error in removed.into_iter().flatten().filter_map(Result::err) {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(pod = self.name, error = %error, "failed to remove a folder of a pod that is gone");
            }
        }
    }
}

/// What is done for a pod while it lives.
struct Work {
    context: Arc<Context>,
    pod: watch::Receiver<Arc<Pod>>,
    address: Ipv4Addr,
    folder: PathBuf,
    logs: PathBuf,
    board: watch::Sender<Board>,
    stop: watch::Receiver<Option<Instant>>,
}

impl Work {
    /// Volumes, then init containers one after the other, then all containers, until none is to be started any more.
    async fn run(mut self) {
        let volumes = Arc::new(Volumes::new(self.folder.join("volumes")));
        let pod = Arc::clone(&self.pod.borrow());
        let mut changes = changes(&self.context.client, &pod);
        if !self.set_up(&volumes, &mut changes).await {
            return self.give_up();
        }
        self.board.send_modify(|board| board.set_up = true);
        // Dropped, and with it ended, when this is.
        let mut refreshing = JoinSet::new();
        refreshing.spawn(refresh(
            Arc::clone(&self.context),
            Arc::clone(&volumes),
            self.pod.clone(),
            self.address,
            changes,
        ));

        let spec = pod.spec.clone().unwrap_or_default();
        let policy = Policy::of(&pod);
        for (index, container) in spec.init_containers.into_iter().flatten().enumerate() {
            // One that fails is started again, unless nothing is.
            let policy = if policy == Policy::Never { Policy::Never } else { Policy::OnFailure };
            let slot = Slot { board: self.board.clone(), init: true, index };
            self.life(container, policy, slot.clone(), &volumes).live().await;
            let well = slot.get(|seen| matches!(&seen.state, State::Terminated(end) if end.code == 0));
            if well != Some(true) || self.stop.borrow().is_some() {
                return self.give_up();
            }
        }
        let lives = spec.containers.into_iter().enumerate().map(|(index, container)| {
            let slot = Slot { board: self.board.clone(), init: false, index };
            self.life(container, policy, slot, &volumes).live()
        });
        futures::future::join_all(lives).await;
    }

    fn life(
        &self,
        container: k8s_openapi::api::core::v1::Container,
        policy: Policy,
        slot: Slot,
        volumes: &Arc<Volumes>,
    ) -> Life {
        Life {
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

    /// Makes the volumes, waiting for what they show. Whether the pod still is to run.
    async fn set_up(&mut self, volumes: &Volumes, changes: &mut SelectAll<Changes>) -> bool {
        let mut said = String::new();
        loop {
            if self.stop.borrow().is_some() {
                return false;
            }
            let pod = Arc::clone(&self.pod.borrow());
            let Err(why) = volumes.write(&self.context, &pod, self.address).await else { return true };
            if said != why {
                let note = Note { kind: EventType::Warning, reason: "FailedMount", text: why.clone(), field: None };
                self.context.say(&pod, note);
                said = why;
            }
            tokio::select! {
                Some(()) = changes.next() => {}
                _ = self.stop.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// Nothing of what has not run yet will run.
    fn give_up(&self) {
        if self.stop.borrow().is_none() {
            return;
        }
        let now = self.context.clock.now();
        self.board.send_modify(|board| {
            for seen in board.init.iter_mut().chain(&mut board.containers) {
                if let State::Waiting { .. } = seen.state {
                    let end = seen.last.clone().unwrap_or_else(|| super::board::End::unseen(&now));
                    seen.state = State::Terminated(end);
                }
            }
        });
    }
}

/// Something that a volume shows has changed.
type Changes = std::pin::Pin<Box<dyn Stream<Item = ()> + Send>>;

fn changes(client: &Client, pod: &Pod) -> SelectAll<Changes> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut all = SelectAll::new();
    for object in shown(pod) {
        let changes: Changes = match object {
            Shown::ConfigMap(name) => {
                let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
                watch_object(api, &name).default_backoff().map(drop::<watcher::Result<_>>).boxed()
            }
            Shown::Secret(name) => {
                let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
                watch_object(api, &name).default_backoff().map(drop::<watcher::Result<_>>).boxed()
            }
        };
        all.push(changes);
    }
    all
}

/// Keeps the files of the volumes as the objects are, and the pod's own labels.
async fn refresh(
    context: Arc<Context>,
    volumes: Arc<Volumes>,
    mut pod: watch::Receiver<Arc<Pod>>,
    address: Ipv4Addr,
    mut changes: SelectAll<Changes>,
) {
    loop {
        tokio::select! {
            Some(()) = changes.next() => {}
            news = pod.changed() => if news.is_err() { return },
        }
        let now = Arc::clone(&pod.borrow());
        // What is gone leaves its files behind, as on a real node.
        if let Err(why) = volumes.write(&context, &now, address).await {
            tracing::debug!(pod = now.metadata.name, why, "files of a volume stay as they are");
        }
    }
}
