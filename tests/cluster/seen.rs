//! Histories from watches, which contain every intermediate state; polling would miss some.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::task::JoinHandle;

use super::bed::Bed;

/// Watches of two kinds are not synchronized: an effect may be observed before its cause. This delay lets both catch
/// up.
pub(crate) const A_MOMENT: Duration = Duration::from_secs(1);

/// Returns the current real time.
#[allow(clippy::disallowed_methods, reason = "a test against a real cluster measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Records every replica count in a Deployment's spec, with the time it was observed, until it is dropped.
pub(crate) struct ReplicaHistory {
    seen: Arc<Mutex<Vec<(Instant, i32)>>>,
    task: JoinHandle<()>,
}

impl ReplicaHistory {
    pub(crate) fn watch(bed: &Bed, name: &str) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (into, name) = (Arc::clone(&seen), name.to_owned());
        let changes = watcher(bed.deployments(), watcher::Config::default()).default_backoff().applied_objects();
        let task = tokio::spawn(changes.for_each(move |change| {
            if let Ok(Deployment { metadata, spec: Some(spec), .. }) = change
                && metadata.name.as_ref() == Some(&name)
            {
                let mut seen: MutexGuard<'_, Vec<(Instant, i32)>> = into.lock().unwrap();
                let last = seen.last().map(|seen| seen.1);
                seen.extend(spec.replicas.filter(|number| last != Some(*number)).map(|number| (now(), number)));
            }
            std::future::ready(())
        }));
        Self { seen, task }
    }

    /// Returns the replica counts in order.
    pub(crate) fn all(&self) -> Vec<i32> {
        self.seen.lock().unwrap().iter().map(|seen| seen.1).collect()
    }

    /// Waits for a replica count above this one and returns the time of the first.
    pub(crate) async fn first_above(&self, number: i32) -> Instant {
        for _ in 0..50 {
            let first = self.seen.lock().unwrap().iter().find(|seen| seen.1 > number).map(|seen| seen.0);
            if let Some(first) = first {
                return first;
            }
            tokio::time::sleep(A_MOMENT / 10).await;
        }
        panic!("no replica count above {number}: {:?}", self.all());
    }

    /// Describes each replica count observed after `start`, with its time since then.
    pub(crate) fn after(&self, start: Instant) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let later = seen.iter().filter(|seen| seen.0 > start);
        later.map(|(at, number)| format!("{number} at {:.1} s", (*at - start).as_secs_f64())).collect()
    }
}

impl Drop for ReplicaHistory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Records the last state of every pod, including deleted ones, until it is dropped.
pub(crate) struct PodHistory {
    seen: Arc<Mutex<BTreeMap<String, Pod>>>,
    task: JoinHandle<()>,
}

impl PodHistory {
    pub(crate) fn watch(bed: &Bed) -> Self {
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let into = Arc::clone(&seen);
        let changes = watcher(bed.pods(), watcher::Config::default()).default_backoff().applied_objects();
        let task = tokio::spawn(changes.for_each(move |change| {
            into.lock().unwrap().extend(change.into_iter().map(|pod| (pod.name_any(), pod)));
            std::future::ready(())
        }));
        Self { seen, task }
    }

    /// Returns the pods that satisfy a condition, by name.
    pub(crate) fn matching(&self, condition: impl Fn(&Pod) -> bool) -> Vec<Pod> {
        self.seen.lock().unwrap().values().filter(|pod| condition(pod)).cloned().collect()
    }
}

impl Drop for PodHistory {
    fn drop(&mut self) {
        self.task.abort();
    }
}
