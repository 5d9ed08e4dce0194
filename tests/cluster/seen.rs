//! What a watch has shown: nothing in between is missed, as it would be by looking now and then.

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

/// Watches of two kinds need not keep pace: what one shows because of the other may be there first.
pub(crate) const A_MOMENT: Duration = Duration::from_secs(1);

/// Now, in real time.
#[allow(clippy::disallowed_methods, reason = "a test against a real cluster measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Every number that a Deployment has asked for, and when that was seen, as long as this is held.
pub(crate) struct Numbers {
    seen: Arc<Mutex<Vec<(Instant, i32)>>>,
    task: JoinHandle<()>,
}

impl Numbers {
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

    /// One after another.
    pub(crate) fn all(&self) -> Vec<i32> {
        self.seen.lock().unwrap().iter().map(|seen| seen.1).collect()
    }

    /// When the first number above this one was seen; it is waited for.
    pub(crate) async fn first_above(&self, number: i32) -> Instant {
        for _ in 0..50 {
            let first = self.seen.lock().unwrap().iter().find(|seen| seen.1 > number).map(|seen| seen.0);
            if let Some(first) = first {
                return first;
            }
            tokio::time::sleep(A_MOMENT / 10).await;
        }
        panic!("no number above {number}: {:?}", self.all());
    }

    /// Each after `start`, with the seconds since then.
    pub(crate) fn after(&self, start: Instant) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let later = seen.iter().filter(|seen| seen.0 > start);
        later.map(|(at, number)| format!("{number} at {:.1} s", (*at - start).as_secs_f64())).collect()
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Every pod as it was last, those that are gone too, as long as this is held.
pub(crate) struct Pods {
    seen: Arc<Mutex<BTreeMap<String, Pod>>>,
    task: JoinHandle<()>,
}

impl Pods {
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

    /// Those that are so, by name.
    pub(crate) fn that(&self, are: impl Fn(&Pod) -> bool) -> Vec<Pod> {
        self.seen.lock().unwrap().values().filter(|pod| are(pod)).cloned().collect()
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.task.abort();
    }
}
