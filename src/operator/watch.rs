//! Watches: the caches of one scope, and the controller that reconciles its jobs.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::core::{ApiResource, DeserializeGuard, DynamicObject};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::events::Recorder;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{JOB_LABEL, StreamJob};
use crate::clock::Clock;
use crate::serve::metrics::Metrics;
use crate::signals::{JobKey, Signals};

use super::apply::Applier;
use super::context::{Context, Jobs};
use super::error::{Error, retry_after};
use super::observe::Caches;
use super::reconcile::reconcile;

/// Jobs that are reconciled at the same time, in each scope. Most of a reconcile is waiting for the API server, and a
/// job whose writes hang must not hold up the others.
const CONCURRENCY: u16 = 16;
/// How often it is looked for jobs that are gone.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// What one controller watches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
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

    fn dynamic(&self, client: &Client, kind: &ApiResource) -> Api<DynamicObject> {
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
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) signals: Arc<dyn Signals>,
    pub(super) applier: Applier,
    pub(super) metrics: Metrics,
    pub(super) recorder: Recorder,
    pub(super) jobs: Jobs,
}

impl Shared {
    /// Starts the caches and the controller of a scope. What is returned ends when they are synced.
    pub(super) fn start(
        &self,
        scope: &Scope,
        feed: mpsc::Sender<JobKey>,
        news: mpsc::Receiver<JobKey>,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> impl Future<Output = ()> + Send + 'static + use<> {
        let client = &self.client;
        let deployment = ApiResource::erase::<Deployment>(&());
        let stateful_set = ApiResource::erase::<StatefulSet>(&());
        let keep = |_: &mut DynamicObject| {};
        let caches = Caches {
            deployments: cache(scope.dynamic(client, &deployment), deployment, keep, &feed, stop, tasks),
            stateful_sets: cache(scope.dynamic(client, &stateful_set), stateful_set, keep, &feed, stop, tasks),
            pods: cache(scope.api::<Pod>(client), (), prune_pod, &feed, stop, tasks),
        };
        let news = futures::stream::unfold(news, |mut news| async move { news.recv().await.map(|key| (key, news)) });
        let jobs: Api<DeserializeGuard<StreamJob>> = scope.api(client);
        let graceful = stop.clone();
        let controller = Controller::new(jobs, watcher::Config::default())
            .with_config(controller::Config::default().concurrency(CONCURRENCY))
            .reconcile_on(news.map(|key| ObjectRef::new(&key.name).within(&key.namespace)))
            .graceful_shutdown_on(async move { graceful.cancelled().await });
        let store = controller.store();
        let context = Context {
            client: self.client.clone(),
            clock: self.clock.clone(),
            caches: caches.clone(),
            signals: Arc::clone(&self.signals),
            applier: self.applier.clone(),
            metrics: self.metrics.clone(),
            recorder: self.recorder.clone(),
            jobs: self.jobs.clone(),
        };
        tasks.spawn(sweep(scope.clone(), store.clone(), context.clone(), stop.clone()));
        let (waiting, stopping) = (caches.clone(), stop.clone());
        tasks.spawn(async move {
            // Deciding on half a cache would take workloads for missing.
            tokio::select! {
                () = workloads_synced(&waiting) => {}
                () = stopping.cancelled() => return,
            }
            controller.run(reconcile, on_error, Arc::new(context)).for_each(|_| std::future::ready(())).await;
        });
        async move {
            workloads_synced(&caches).await;
            let _ = store.wait_until_ready().await;
        }
    }
}

async fn workloads_synced(caches: &Caches) {
    let _ = caches.deployments.wait_until_ready().await;
    let _ = caches.stateful_sets.wait_until_ready().await;
    let _ = caches.pods.wait_until_ready().await;
}

/// A cache of what carries the job label; each change tells the job. Losing such news is harmless: the next sample of
/// the job comes soon.
fn cache<K>(
    api: Api<K>,
    kind: K::DynamicType,
    prune: impl Fn(&mut K) + Send + 'static,
    feed: &mpsc::Sender<JobKey>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Store<K>
where
    K: Resource<DynamicType: Clone + Debug + Eq + Hash + Unpin + Send + Sync + 'static>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let writer = reflector::store::Writer::new(kind);
    let store = writer.as_reader();
    let (feed, stop) = (feed.clone(), stop.clone());
    tasks.spawn(async move {
        let changes = watcher(api, watcher::Config::default().labels(JOB_LABEL))
            .default_backoff()
            .modify(prune)
            .reflect(writer)
            .touched_objects();
        let mut changes = std::pin::pin!(changes.take_until(stop.cancelled()));
        while let Some(change) = changes.next().await {
            match change {
                Ok(object) => {
                    let Some(name) = object.labels().get(JOB_LABEL) else { continue };
                    let key = JobKey { namespace: object.namespace().unwrap_or_default(), name: name.clone() };
                    let _ = feed.try_send(key);
                }
                Err(error) => tracing::warn!(error = %error, "a watch was interrupted; it goes on by itself"),
            }
        }
    });
    store
}

/// Leaves of a pod what is looked at: with thousands of pods the rest is most of the operator's memory.
fn prune_pod(pod: &mut Pod) {
    pod.managed_fields_mut().clear();
    pod.annotations_mut().clear();
    if let Some(spec) = pod.spec.take() {
        let mut containers = spec.containers;
        for container in &mut containers {
            *container = k8s_openapi::api::core::v1::Container {
                name: std::mem::take(&mut container.name),
                ports: container.ports.take(),
                ..Default::default()
            };
        }
        pod.spec = Some(PodSpec { containers, ..PodSpec::default() });
    }
}

/// Forgets jobs that are gone. A watch may miss a deletion; a look at what there is does not.
async fn sweep(scope: Scope, store: Store<DeserializeGuard<StreamJob>>, context: Context, stop: CancellationToken) {
    if store.wait_until_ready().await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_PERIOD) => {}
            () = stop.cancelled() => return,
        }
        let exists = |key: &JobKey| store.get(&ObjectRef::new(&key.name).within(&key.namespace)).is_some();
        for key in context.jobs.sweep(|key| !scope.covers(key) || exists(key)) {
            context.signals.forget(&key);
            context.metrics.forget(&key);
            tracing::info!(job = %key, "forgot a job that is gone");
        }
    }
}

/// `reconcile` answers its own failures; what comes here is an object that cannot be read at all.
fn on_error(object: Arc<DeserializeGuard<StreamJob>>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.reconcile_error(error.category());
    let (namespace, name) =
        (object.meta().namespace.as_deref().unwrap_or(""), object.meta().name.as_deref().unwrap_or(""));
    tracing::warn!(namespace, name, error = %error, "a StreamJob cannot be read; is the custom resource definition of another version?");
    Action::requeue(retry_after(error, 0))
}
