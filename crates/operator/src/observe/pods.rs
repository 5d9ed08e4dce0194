//! A cache of the pods of the watched namespaces, indexed by job, so that the cost of a reconcile depends on the job's
//! own pods only. Fed from the watch.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use sluice_api::JOB_LABEL;
use sluice_signals::JobKey;

/// The pods of every job, by name. Cheap to clone; all clones share the cache.
#[derive(Clone, Default)]
pub(crate) struct Pods(Arc<RwLock<HashMap<JobKey, ByName>>>);

type ByName = HashMap<String, Arc<Pod>>;

/// Feeds [`Pods`] from a watch. Each cache has exactly one writer.
#[derive(Default)]
pub(crate) struct PodsWriter {
    pods: Pods,
    /// The job under which a pod is stored, by the pod's namespace and name, because its label may change.
    filed: HashMap<(String, String), JobKey>,
    /// Pods listed since the watch has started again. A complete list replaces the whole cache.
    listed: Vec<Pod>,
}

impl Pods {
    /// Returns the pods of one job, in no particular order.
    pub(crate) fn of_job(&self, job: &JobKey) -> Vec<Arc<Pod>> {
        let pods = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pods.get(job).map(|pods| pods.values().cloned().collect()).unwrap_or_default()
    }
}

impl PodsWriter {
    /// Returns the cache that this writer feeds.
    pub(crate) fn reader(&self) -> Pods {
        self.pods.clone()
    }

    /// Applies an event of the watch.
    pub(crate) fn apply_event(&mut self, event: &Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => self.listed.push(pod.clone()),
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let mut fresh = HashMap::<JobKey, ByName>::new();
                self.filed.clear();
                for pod in listed {
                    let Some(job) = job_of(&pod) else { continue };
                    self.filed.insert(name_of(&pod), job.clone());
                    fresh.entry(job).or_default().insert(pod.name_any(), Arc::new(pod));
                }
                *self.pods.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            }
            Event::Apply(pod) => {
                let job = job_of(pod);
                let before = self.filed.get(&name_of(pod));
                if before.is_some() && before != job.as_ref() {
                    self.remove(pod);
                }
                let Some(job) = job else { return };
                self.filed.insert(name_of(pod), job.clone());
                let mut pods = self.pods.0.write().unwrap_or_else(PoisonError::into_inner);
                pods.entry(job).or_default().insert(pod.name_any(), Arc::new(pod.clone()));
            }
            Event::Delete(pod) => self.remove(pod),
        }
    }

    fn remove(&mut self, pod: &Pod) {
        let Some(job) = self.filed.remove(&name_of(pod)) else { return };
        let mut pods = self.pods.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(pods_of_job) = pods.get_mut(&job) {
            pods_of_job.remove(&pod.name_any());
            if pods_of_job.is_empty() {
                pods.remove(&job);
            }
        }
    }
}

fn job_of(pod: &Pod) -> Option<JobKey> {
    let name = pod.labels().get(JOB_LABEL)?.clone();
    Some(JobKey { namespace: pod.namespace().unwrap_or_default(), name })
}

fn name_of(pod: &Pod) -> (String, String) {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, job: &str) -> Pod {
        let metadata = json!({"name": name, "namespace": "payments", "labels": {JOB_LABEL: job}});
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})).unwrap()
    }

    fn names(pods: &Pods, job: &str) -> Vec<String> {
        let key = JobKey { namespace: "payments".to_owned(), name: job.to_owned() };
        let mut names: Vec<String> = pods.of_job(&key).iter().map(|pod| pod.name_any()).collect();
        names.sort();
        names
    }

    #[test]
    fn pods_are_indexed_by_the_job_of_their_label() {
        let mut writer = PodsWriter::default();
        let pods = writer.reader();
        writer.apply_event(&Event::Apply(pod("a", "orders")));
        writer.apply_event(&Event::Apply(pod("b", "orders")));
        writer.apply_event(&Event::Apply(pod("c", "refunds")));
        assert_eq!((names(&pods, "orders"), names(&pods, "refunds")), (vec!["a".into(), "b".into()], vec!["c".into()]));
        writer.apply_event(&Event::Apply(pod("b", "refunds")));
        assert_eq!((names(&pods, "orders"), names(&pods, "refunds")), (vec!["a".into()], vec!["b".into(), "c".into()]));
        writer.apply_event(&Event::Delete(pod("a", "orders")));
        assert_eq!(names(&pods, "orders"), Vec::<String>::new());
        assert_eq!(pods.0.read().unwrap().len(), 1, "a job without pods leaves nothing behind");
    }

    #[test]
    fn complete_list_replaces_the_cache() {
        let mut writer = PodsWriter::default();
        let pods = writer.reader();
        writer.apply_event(&Event::Apply(pod("gone", "orders")));
        writer.apply_event(&Event::Init);
        writer.apply_event(&Event::InitApply(pod("a", "orders")));
        assert_eq!(names(&pods, "orders"), ["gone"], "an incomplete list removes no pod");
        writer.apply_event(&Event::InitDone);
        assert_eq!(names(&pods, "orders"), ["a"]);
        // The pod was deleted while the watch was interrupted: a later deletion event changes nothing.
        writer.apply_event(&Event::Delete(pod("gone", "orders")));
        assert_eq!(names(&pods, "orders"), ["a"]);
    }
}
