//! Watches: the caches of one scope, and the controller that reconciles its jobs.

pub(crate) mod deadline;
pub(crate) mod tolerant;
pub(crate) mod unreadable;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ObjectMeta};
use kube::core::{ApiResource, DeserializeGuard, DynamicObject};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::events::Recorder;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::serve::Health;
use crate::serve::metrics::Metrics;
use sluice_api::{JOB_LABEL, StreamJob};
use sluice_base::clock::Clock;
use sluice_signals::{JobKey, Signals};

use crate::annotations::POD_DELETION_COST;
use crate::apply::attempts::NamespaceRefusals;
use crate::apply::writer::Applier;
use crate::context::Context;
use crate::error::Error;
use crate::job_state::Jobs;
use crate::observe::claims::{Claims, ClaimsWriter};
use crate::observe::kinds::Kinds;
use crate::observe::live::{Caches, is_sidecar};
use crate::observe::pods::{Pods, PodsWriter};
use crate::observe::workload::{REPLICAS, owns_replicas};
use crate::reconcile::reconcile;
use crate::watch::tolerant::{TolerantObject, map_event};

/// Maximum number of concurrent reconciles in each scope. Most of a reconcile is waiting for the API server, and a job
/// whose writes hang must not delay the others.
const CONCURRENCY: u16 = 16;
/// Time between two searches for jobs that are gone.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// The scope of one controller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// The whole cluster.
    All,
    /// One namespace.
    Namespace(String),
}

impl Scope {
    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, client: &Client) -> Api<K> {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }

    fn dynamic(&self, client: &Client, kind: &ApiResource) -> Api<TolerantObject<DynamicObject>> {
        match self {
            Self::All => Api::all_with(client.clone(), kind),
            Self::Namespace(namespace) => Api::namespaced_with(client.clone(), namespace, kind),
        }
    }

    fn covers(&self, key: &JobKey) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => *namespace == key.namespace,
        }
    }
}

/// What the controllers of all scopes share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) signals: Arc<dyn Signals>,
    pub(crate) applier: Applier,
    pub(crate) metrics: Metrics,
    pub(crate) recorder: Recorder,
    pub(crate) jobs: Jobs,
    pub(crate) excluded: Arc<BTreeSet<String>>,
    pub(crate) health: Health,
    pub(crate) claims: Claims,
    pub(crate) kinds: Kinds,
    pub(crate) namespace_refusals: NamespaceRefusals,
}

impl Shared {
    /// Starts the caches and the controller of a scope. The returned future completes when they are synced, or with
    /// false if `stop` is cancelled first.
    pub(crate) fn start(
        &self,
        scope: &Scope,
        feed: &mpsc::Sender<JobKey>,
        changed: mpsc::Receiver<JobKey>,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> impl Future<Output = bool> + Send + 'static + use<> {
        let client = &self.client;
        let deployment = ApiResource::erase::<Deployment>(&());
        let stateful_set = ApiResource::erase::<StatefulSet>(&());
        let (synced_deployments, synced_sets, synced_pods) = (Latch::new(), Latch::new(), Latch::new());
        let watch = Watching { feed, stop };
        let caches = Caches {
            deployments: watch.cache(scope.dynamic(client, &deployment), deployment, &synced_deployments, tasks),
            stateful_sets: watch.cache(scope.dynamic(client, &stateful_set), stateful_set, &synced_sets, tasks),
            pods: watch.pods(scope.api(client), &synced_pods, tasks),
        };
        let workloads_synced = async move {
            synced_deployments.cancelled().await;
            synced_sets.cancelled().await;
            synced_pods.cancelled().await;
        };
        let changed =
            futures::stream::unfold(changed, |mut jobs| async move { jobs.recv().await.map(|key| (key, jobs)) });
        let synced = Latch::new();
        let (store, writer) = reflector::store();
        let jobs = watcher(scope.api::<TolerantObject<StreamJob>>(client), watcher::Config::default())
            .default_backoff()
            .map_ok(|event| map_event(event, |job| job.0))
            .modify(prune_job)
            .inspect_ok(record_claims(self.claims.clone(), scope.clone()))
            .reflect(writer)
            .inspect(open_when_listed(&synced))
            .applied_objects();
        let graceful = stop.clone();
        let controller = Controller::for_stream(jobs, store.clone())
            .with_config(controller::Config::default().concurrency(CONCURRENCY))
            .reconcile_on(changed.map(|key| ObjectRef::new(&key.name).within(&key.namespace)))
            .graceful_shutdown_on(async move { graceful.cancelled().await });
        let context = Context {
            client: self.client.clone(),
            clock: self.clock.clone(),
            caches,
            signals: Arc::clone(&self.signals),
            applier: self.applier.clone(),
            metrics: self.metrics.clone(),
            recorder: self.recorder.clone(),
            jobs: self.jobs.clone(),
            excluded: Arc::clone(&self.excluded),
            health: self.health.clone(),
            claims: self.claims.clone(),
            jobs_listed: synced.clone(),
            kinds: self.kinds.clone(),
            namespace_refusals: self.namespace_refusals.clone(),
        };
        tasks.spawn(sweep(scope.clone(), store, synced.clone(), context.clone(), stop.clone()));
        let stopping = stop.clone();
        tasks.spawn(async move {
            // With an incomplete cache, reconciles would treat workloads as missing.
            tokio::select! {
                () = workloads_synced => {}
                () = stopping.cancelled() => return,
            }
            controller.run(reconcile, on_error, Arc::new(context)).for_each(|_| std::future::ready(())).await;
        });
        let stopping = stop.clone();
        async move {
            tokio::select! {
                () = synced.cancelled() => true,
                () = stopping.cancelled() => false,
            }
        }
    }
}

/// Opens once, for all tasks that wait. (`Store::wait_until_ready` wakes only the last of several waiting tasks.)
type Latch = CancellationToken;

/// Returns a function that opens a latch when a watch has completed its first list.
fn open_when_listed<K>(latch: &Latch) -> impl FnMut(&watcher::Result<watcher::Event<K>>) + Send + 'static + use<K> {
    let latch = latch.clone();
    move |event| {
        if matches!(event, Ok(watcher::Event::InitDone)) {
            latch.cancel();
        }
    }
}

/// Returns a function that records the claims of the jobs of a scope.
fn record_claims(
    claims: Claims,
    scope: Scope,
) -> impl FnMut(&watcher::Event<DeserializeGuard<StreamJob>>) + Send + 'static {
    let mut writer = ClaimsWriter::new(claims);
    move |event| writer.apply_event(event, |key| scope.covers(key))
}

/// Starts watches that feed caches.
struct Watching<'a> {
    /// Receives the job of each changed object.
    feed: &'a mpsc::Sender<JobKey>,
    stop: &'a CancellationToken,
}

impl Watching<'_> {
    /// Starts a cache of the workloads that have the job label.
    fn cache(
        &self,
        api: Api<TolerantObject<DynamicObject>>,
        kind: ApiResource,
        synced: &Latch,
        tasks: &mut JoinSet<()>,
    ) -> Store<DynamicObject> {
        let mut writer = reflector::store::Writer::new(kind);
        let store = writer.as_reader();
        let bare = |metadata| DynamicObject { types: None, metadata, data: serde_json::Value::Null };
        self.follow(api, bare, prune_workload, move |event| writer.apply_watcher_event(event), synced, tasks);
        store
    }

    /// Starts a cache of the pods that have the job label.
    fn pods(&self, api: Api<TolerantObject<Pod>>, synced: &Latch, tasks: &mut JoinSet<()>) -> Pods {
        let mut writer = PodsWriter::default();
        let pods = writer.reader();
        let bare = |metadata| Pod { metadata, ..Pod::default() };
        self.follow(api, bare, prune_pod, move |event| writer.apply_event(event), synced, tasks);
        pods
    }

    /// Watches the objects that have the job label, applies the events to a cache, and sends the job of each changed
    /// object to the controller. If that channel is full the job is dropped, which is harmless: it is reconciled with
    /// its next sample.
    fn follow<K>(
        &self,
        api: Api<TolerantObject<K>>,
        bare: impl Fn(ObjectMeta) -> K + Send + 'static,
        prune: impl Fn(&mut K) + Send + 'static,
        mut apply: impl FnMut(&watcher::Event<K>) + Send + 'static,
        synced: &Latch,
        tasks: &mut JoinSet<()>,
    ) where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let (feed, stop) = (self.feed.clone(), self.stop.clone());
        let mut latch = open_when_listed(synced);
        tasks.spawn(async move {
            let changes = watcher(api, watcher::Config::default().labels(JOB_LABEL))
                .default_backoff()
                .map_ok(move |event| map_event(event, |object| object.into_object_or(&bare)))
                .modify(prune);
            let mut changes = std::pin::pin!(changes.take_until(stop.cancelled()));
            while let Some(change) = changes.next().await {
                if let Ok(event) = &change {
                    apply(event);
                }
                latch(&change);
                match change {
                    Ok(
                        watcher::Event::Apply(object)
                        | watcher::Event::InitApply(object)
                        | watcher::Event::Delete(object),
                    ) => {
                        let Some(name) = object.labels().get(JOB_LABEL) else { continue };
                        let key = JobKey { namespace: object.namespace().unwrap_or_default(), name: name.clone() };
                        let _ = feed.try_send(key);
                    }
                    Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                    Err(error) => tracing::warn!(error = %error, "watch interrupted; reconnecting"),
                }
            }
        });
    }
}

/// Drops the managedFields of a job: they are not used, and are larger than the rest of the object.
fn prune_job(job: &mut DeserializeGuard<StreamJob>) {
    if let Ok(job) = &mut job.0 {
        job.managed_fields_mut().clear();
    }
}

/// Keeps only the entry for `spec.replicas` of a workload's managedFields, for the same reason.
fn prune_workload(workload: &mut DynamicObject) {
    for entry in workload.managed_fields_mut() {
        entry.fields_v1 =
            entry.fields_v1.take().filter(owns_replicas).map(|_| FieldsV1(json!({REPLICAS[0]: {REPLICAS[1]: {}}})));
    }
}

/// Keeps only the used fields of a pod: with thousands of pods the rest would be most of the operator's memory.
fn prune_pod(pod: &mut Pod) {
    pod.managed_fields_mut().clear();
    pod.annotations_mut().retain(|name, _| name == POD_DELETION_COST);
    if let Some(spec) = pod.spec.take() {
        let bare = |container: Container| Container {
            name: container.name,
            ports: container.ports,
            restart_policy: container.restart_policy,
            ..Container::default()
        };
        let sidecars: Vec<_> = spec.init_containers.into_iter().flatten().filter(is_sidecar).map(bare).collect();
        let containers = spec.containers.into_iter().map(bare).collect();
        let init_containers = (!sidecars.is_empty()).then_some(sidecars);
        pod.spec = Some(PodSpec { containers, init_containers, ..PodSpec::default() });
    }
}

/// Forgets jobs that are gone, by comparing with the store, because a watch may miss a deletion.
async fn sweep(
    scope: Scope,
    store: Store<DeserializeGuard<StreamJob>>,
    synced: Latch,
    context: Context,
    stop: CancellationToken,
) {
    tokio::select! {
        () = synced.cancelled() => {}
        () = stop.cancelled() => return,
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_PERIOD) => {}
            () = stop.cancelled() => return,
        }
        let exists = |key: &JobKey| store.get(&ObjectRef::new(&key.name).within(&key.namespace)).is_some();
        // This includes metrics and watches that a concurrent reconcile has created again after the job was forgotten.
        let gone = |key: &JobKey| scope.covers(key) && !exists(key);
        let mut forgotten: BTreeSet<JobKey> = context.jobs.sweep(|key| !gone(key)).into_iter().collect();
        forgotten.extend(context.signals.jobs().into_iter().chain(context.metrics.jobs()).filter(gone));
        for key in forgotten {
            context.signals.forget(&key);
            context.metrics.forget(&key);
            tracing::info!(job = %key, "forgot deleted job");
        }
    }
}

/// Time until an object that cannot be decoded is tried again without a change of it.
const UNDECODABLE_RETRY: Duration = Duration::from_mins(5);

/// Handles an object that cannot be decoded. `reconcile` handles all other failures itself.
#[allow(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
fn on_error(object: Arc<DeserializeGuard<StreamJob>>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.reconcile_error(error.category());
    let (namespace, name) =
        (object.meta().namespace.as_deref().unwrap_or(""), object.meta().name.as_deref().unwrap_or(""));
    tracing::warn!(namespace, name, error = %error, "cannot decode StreamJob; check the version of the CRD");
    Action::requeue(UNDECODABLE_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruned_pod_keeps_the_ports_of_native_sidecars() {
        let ports = json!([{"name": "exporter", "containerPort": 9100}]);
        let sidecar = json!({"name": "exporter", "image": "i", "restartPolicy": "Always", "ports": ports, "env": [{"name": "A"}]});
        let first = json!({"name": "first", "image": "i"});
        let spec = json!({"containers": [{"name": "app", "image": "i"}], "initContainers": [first, sidecar]});
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {"name": "w-0"}, "spec": spec})).unwrap();
        prune_pod(&mut pod);
        let kept = serde_json::to_value(pod.spec.unwrap()).unwrap();
        let sidecar = json!({"name": "exporter", "ports": [{"name": "exporter", "containerPort": 9100}], "restartPolicy": "Always"});
        assert_eq!(kept, json!({"containers": [{"name": "app"}], "initContainers": [sidecar]}));
    }
}
