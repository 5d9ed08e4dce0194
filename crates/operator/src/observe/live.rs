//! Reads the workload and the pods of a job.
//!
//! Usually they come from the caches. Before a write the workload is read live, so that no write is based on an old
//! version.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::Api;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt as _};
use tokio::time::timeout;

use sluice_api::StreamJob;
use sluice_api::v1alpha1::{Metrics, WorkloadKind};
use sluice_base::units::Seconds;
use sluice_signals::{WatchSpec, WorkerEndpoint};

use crate::annotations::POD_DELETION_COST;
use crate::apply::build::workload_resource;
use crate::context::Context;
use crate::error::{Blocked, Error};
use crate::observe::pods::Pods;
use crate::observe::workload::WorkloadView;
use crate::validate::{Job, Target};

/// Timeout of a single read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The caches of one watched namespace, or of all namespaces.
#[derive(Clone)]
pub(crate) struct Caches {
    pub(crate) deployments: Store<DynamicObject>,
    pub(crate) stateful_sets: Store<DynamicObject>,
    pub(crate) pods: Pods,
}

/// A workload: the object, and the facts that were read from it.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) object: Arc<DynamicObject>,
    pub(crate) view: WorkloadView,
}

impl Workload {
    pub(crate) fn from_object(object: Arc<DynamicObject>) -> Self {
        Self { view: WorkloadView::from_object(&object), object }
    }
}

/// Facts about one pod.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own; they do not form states")]
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PodFacts {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) ip: Option<String>,
    pub(crate) created_at: Option<Seconds>,
    pub(crate) started_at: Option<Seconds>,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    pub(crate) finished: bool,
    pub(crate) template: Option<String>,
    pub(crate) unschedulable: Option<String>,
    /// The container that waits in a crash loop, and how it last ended.
    pub(crate) crash_looping: Option<String>,
    /// Why the pod cannot start, if another attempt will not help.
    pub(crate) failing: Option<String>,
    /// Set if the pod has a node but no container runs.
    pub(crate) unstarted: Option<Unstarted>,
    /// Time since which the pod is not ready.
    pub(crate) unready_since: Option<Seconds>,
    pub(crate) metrics_port: Option<u16>,
    /// Deletion cost of the pod, if it is set.
    pub(crate) deletion_cost: Option<i32>,
}

/// State of a pod that has a node but whose containers do not run yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unstarted {
    pub(crate) since: Seconds,
    /// Container that waits, and the reason.
    pub(crate) why: String,
}

impl PodFacts {
    pub(crate) fn from_pod(pod: &Pod, metrics: Option<&Metrics>) -> Self {
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
        let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
        let inits = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
        let failing = inits.iter().find_map(failing_init).or_else(|| containers.iter().find_map(failing));
        let labels = pod.labels();
        let since = |kind: &str, status: &str| {
            let condition = condition(kind).filter(|condition| condition.status == status)?;
            condition.last_transition_time.as_ref().map(|time| crate::seconds(time.0))
        };
        let waits = (phase == "Pending" && failing.is_none())
            .then(|| {
                inits
                    .iter()
                    .map(|each| ("init container", each))
                    .chain(containers.iter().map(|each| ("container", each)))
            })
            .and_then(unstarted);
        Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            ip: status.and_then(|status| status.pod_ip.clone()),
            created_at: pod.creation_timestamp().map(|time| crate::seconds(time.0)),
            started_at: containers.iter().filter_map(started_at).max_by(|a, b| a.0.total_cmp(&b.0)),
            ready: condition("Ready").is_some_and(|condition| condition.status == "True"),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            finished: matches!(phase, "Succeeded" | "Failed"),
            template: labels.get("pod-template-hash").or_else(|| labels.get("controller-revision-hash")).cloned(),
            unschedulable: condition("PodScheduled")
                .filter(|condition| condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable"))
                .map(|condition| condition.message.clone().unwrap_or_default()),
            // A failing pod is not counted as crashing, too.
            crash_looping: if failing.is_none() { containers.iter().find_map(crash_looping) } else { None },
            failing,
            unstarted: waits.and_then(|why| Some(Unstarted { since: since("PodScheduled", "True")?, why })),
            unready_since: since("Ready", "False"),
            metrics_port: metrics.and_then(|metrics| port(pod, &metrics.port)),
            deletion_cost: pod.annotations().get(POD_DELETION_COST).and_then(|cost| cost.parse().ok()),
        }
    }
}

fn started_at(container: &ContainerStatus) -> Option<Seconds> {
    let running = container.state.as_ref()?.running.as_ref()?;
    running.started_at.as_ref().map(|time| crate::seconds(time.0))
}

/// Waiting reason of a container that is restarted repeatedly.
const CRASH_LOOP: &str = "CrashLoopBackOff";

/// Waiting reasons that another attempt does not resolve: a problem of the image, the configuration or the command.
const CANNOT_START: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// Maximum length of a text of the kubelet that a condition quotes, in characters.
const LONGEST_DETAIL: usize = 200;

fn crash_looping(container: &ContainerStatus) -> Option<String> {
    waiting(container).filter(|(reason, _)| *reason == CRASH_LOOP)?;
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let how = ended.map_or_else(String::new, |ended| {
        let reason = ended.reason.as_deref().filter(|reason| *reason != "Error").map(|reason| format!(" ({reason})"));
        format!("exit code {}{}", ended.exit_code, reason.unwrap_or_default())
    });
    Some(why("container", container, CRASH_LOOP, &how))
}

/// Waiting reasons of a container that has not been started yet.
const BEFORE_START: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Returns which of these containers waits and why, if none of them runs.
fn unstarted<'a>(mut containers: impl Iterator<Item = (&'static str, &'a ContainerStatus)> + Clone) -> Option<String> {
    let runs = |container: &ContainerStatus| container.state.as_ref().is_some_and(|state| state.running.is_some());
    if containers.clone().any(|(_, container)| runs(container)) {
        return None;
    }
    containers.find_map(|(what, container)| {
        let (reason, detail) = waiting(container).filter(|(reason, _)| BEFORE_START.contains(reason))?;
        Some(why(what, container, reason, detail))
    })
}

fn failing(container: &ContainerStatus) -> Option<String> {
    let (reason, detail) = waiting(container).filter(|(reason, _)| CANNOT_START.contains(reason))?;
    Some(why("container", container, reason, detail))
}

/// Returns why an init container fails. A crash loop of an init container prevents the pod from starting.
fn failing_init(container: &ContainerStatus) -> Option<String> {
    let (reason, detail) =
        waiting(container).filter(|(reason, _)| *reason == CRASH_LOOP || CANNOT_START.contains(reason))?;
    Some(why("init container", container, reason, detail))
}

/// Returns the reason for which a container waits, and the kubelet's message.
fn waiting(container: &ContainerStatus) -> Option<(&str, &str)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default()))
}

fn why(what: &str, container: &ContainerStatus, reason: &str, detail: &str) -> String {
    let detail: String =
        detail.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(LONGEST_DETAIL).collect();
    let name = &container.name;
    if detail.is_empty() { format!("{what} {name}: {reason}") } else { format!("{what} {name}: {reason}: {detail}") }
}

/// Returns whether an init container is a native sidecar, which runs as long as the pod.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn port(pod: &Pod, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
            let containers = spec.containers.iter().chain(sidecars);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let port = ports.find(|port| port.name.as_ref() == Some(name))?;
            u16::try_from(port.container_port).ok()
        }
    }
}

/// Returns the sources and worker endpoints that the hub should watch for a job with these pods.
pub(crate) fn hub_watch(job: &Job, pods: &[PodFacts]) -> WatchSpec {
    let path = job.metrics.as_ref().map_or("/metrics", |metrics| &metrics.path);
    let endpoint = |pod: &PodFacts| {
        let ip = pod.ip.as_ref()?.parse().ok()?;
        let port = pod.metrics_port?;
        let address = std::net::SocketAddr::new(ip, port);
        (!pod.finished).then(|| WorkerEndpoint {
            id: pod.name.clone(),
            uid: pod.uid.clone(),
            address,
            path: path.to_owned(),
        })
    };
    WatchSpec {
        latency: job.latency,
        sources: job.sources.clone(),
        workers: pods.iter().filter_map(endpoint).collect(),
    }
}

/// Returns the type and name of a job's workload.
pub(crate) fn target<'a>(context: &Context, job: &'a Job) -> (ApiResource, &'a str) {
    match &job.target {
        Target::Owned(owned) => (workload_resource(owned.workload.kind), &job.key.name),
        Target::Existing { resource, name } => (context.kinds.resolve_cached(resource), name),
    }
}

/// A job's workload and its pods as they were observed.
#[derive(Debug, Clone)]
pub(crate) struct ObservedWorkload {
    /// `None`: the workload does not exist.
    pub(crate) workload: Option<Workload>,
    /// `None`: it is unknown which pods belong to the workload.
    pub(crate) pods: Option<Vec<PodFacts>>,
}

/// Returns a workload of the job's own and its pods, from the caches.
pub(crate) fn owned(context: &Context, job: &Job, kind: WorkloadKind) -> ObservedWorkload {
    let workload = cached(context, job, kind);
    let cached_pods = context.caches.pods.of_job(&job.key);
    let pods = pod_facts(cached_pods.iter().map(Arc::as_ref), job, workload.as_ref());
    ObservedWorkload { workload, pods: Some(pods) }
}

/// Returns a workload with the job's name from the caches.
pub(crate) fn cached(context: &Context, job: &Job, kind: WorkloadKind) -> Option<Workload> {
    let store = match kind {
        WorkloadKind::Deployment => &context.caches.deployments,
        WorkloadKind::StatefulSet => &context.caches.stateful_sets,
    };
    let reference = ObjectRef::new_with(&job.key.name, workload_resource(kind)).within(&job.key.namespace);
    store.get(&reference).map(Workload::from_object)
}

/// Returns facts about the pods of a workload that have not finished, sorted by name.
pub(crate) fn pod_facts<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    job: &Job,
    workload: Option<&Workload>,
) -> Vec<PodFacts> {
    let (kind, name) = match &job.target {
        Target::Owned(owned) => (workload_resource(owned.workload.kind).kind, job.key.name.as_str()),
        Target::Existing { resource, name } if resource.group == "apps" => (resource.kind.clone(), name.as_str()),
        Target::Existing { .. } => (String::new(), ""),
    };
    let uid = workload.map(|workload| workload.view.uid.as_str());
    let ours = pods.filter(|pod| is_pod_of(pod, &kind, name, uid));
    let mut facts: Vec<PodFacts> =
        ours.map(|pod| PodFacts::from_pod(pod, job.metrics.as_ref())).filter(|pod| !pod.finished).collect();
    facts.sort_by(|a, b| a.name.cmp(&b.name));
    facts
}

/// Returns whether a pod belongs to the workload, by its controller, since any client may put a label on a pod. For a
/// kind whose pods are created by an unknown controller (an empty `kind`), any owner is accepted.
fn is_pod_of(pod: &Pod, kind: &str, name: &str, uid: Option<&str>) -> bool {
    if kind.is_empty() {
        return !pod.owner_references().is_empty();
    }
    let Some(controller) = pod.owner_references().iter().find(|owner| owner.controller == Some(true)) else {
        return false;
    };
    match kind {
        // The pod's controller is a ReplicaSet, whose name contains the Deployment's name and the hash. A forged
        // reference has another uid, and a pod whose controller does not exist is garbage collected.
        "Deployment" => pod.labels().get("pod-template-hash").is_some_and(|hash| {
            let base = controller.name.strip_suffix(hash.as_str()).and_then(|base| base.strip_suffix('-'));
            controller.kind == "ReplicaSet" && base == Some(name)
        }),
        _ => controller.kind == kind && controller.name == name && uid.is_none_or(|uid| controller.uid == uid),
    }
}

/// Reads whether the job, with the same uid, still exists and is not being deleted.
pub(crate) async fn job_still_exists(client: &Client, job: &Job) -> Result<bool, Error> {
    let api = Api::<StreamJob>::namespaced(client.clone(), &job.key.namespace);
    let object = read("read the StreamJob", api.get_metadata_opt(&job.key.name)).await?;
    Ok(object.is_some_and(|object| {
        object.metadata.uid.as_ref() == Some(&job.uid) && object.metadata.deletion_timestamp.is_none()
    }))
}

/// Reads the job's workload from the API server.
pub(crate) async fn live_workload(context: &Context, job: &Job, now: Seconds) -> Result<Option<Workload>, Blocked> {
    let (resource, name) = match &job.target {
        Target::Owned(_) => target(context, job),
        Target::Existing { resource, name } => {
            (context.kinds.resolve(&context.client, resource, now).await?, name.as_str())
        }
    };
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), &job.key.namespace, &resource);
    let Some(object) = read("read the workload", api.get_opt(name)).await? else { return Ok(None) };
    let Workload { object, view } = Workload::from_object(Arc::new(object));
    if resource.group == "apps" {
        return Ok(Some(Workload { object, view }));
    }
    // Where another kind keeps its replica count and its selector is known only to its scale subresource.
    let scale = read("read the scale of the workload", api.get_scale(name)).await?;
    Ok(Some(Workload { object, view: view.with_scale(scale) }))
}

/// Makes a read request with a timeout.
pub(crate) async fn read<T>(verb: &'static str, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match timeout(READ_TIMEOUT, request).await {
        Ok(result) => result.map_err(|source| Error::Api { verb, source }),
        Err(_) => Err(Error::Timeout { verb, timeout: READ_TIMEOUT }),
    }
}

#[cfg(test)]
#[path = "live_test.rs"]
mod tests;
