//! The pods of the watched namespaces, by the job that they belong to: a look at one job costs its own pods, however
//! many there are. Fed from the watch.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use sluice_api::JOB_LABEL;
use sluice_signals::JobKey;

/// The pods of every job, by name. Cheap to clone; all clones see the same.
#[derive(Clone, Default)]
pub(crate) struct Pods(Arc<RwLock<HashMap<JobKey, ByName>>>);

type ByName = HashMap<String, Arc<Pod>>;

/// Feeds [`Pods`] from a watch. There is one.
#[derive(Default)]
pub(crate) struct PodsWriter {
    pods: Pods,
    /// The job that a pod was last filed under, by namespace and name: its label may change.
    filed: HashMap<(String, String), JobKey>,
    /// What has been listed of a new beginning of the watch: it takes the place of everything once it is whole.
    listed: Vec<Pod>,
}

impl Pods {
    /// The pods of one job, in no order.
    pub(crate) fn of(&self, job: &JobKey) -> Vec<Arc<Pod>> {
        let pods = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pods.get(job).map(|pods| pods.values().cloned().collect()).unwrap_or_default()
    }
}

impl PodsWriter {
    /// What it feeds.
    pub(crate) fn reader(&self) -> Pods {
        self.pods.clone()
    }

    /// Takes over what the watch says.
    pub(crate) fn take(&mut self, event: &Event<Pod>) {
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
        if let Some(of_job) = pods.get_mut(&job) {
            of_job.remove(&pod.name_any());
            if of_job.is_empty() {
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
        let mut names: Vec<String> = pods.of(&key).iter().map(|pod| pod.name_any()).collect();
        names.sort();
        names
    }

    #[test]
    fn each_job_has_its_own_pods_as_they_come_go_and_change_hands() {
        let mut writer = PodsWriter::default();
        let pods = writer.reader();
        writer.take(&Event::Apply(pod("a", "orders")));
        writer.take(&Event::Apply(pod("b", "orders")));
        writer.take(&Event::Apply(pod("c", "refunds")));
        assert_eq!((names(&pods, "orders"), names(&pods, "refunds")), (vec!["a".into(), "b".into()], vec!["c".into()]));
        writer.take(&Event::Apply(pod("b", "refunds")));
        assert_eq!((names(&pods, "orders"), names(&pods, "refunds")), (vec!["a".into()], vec!["b".into(), "c".into()]));
        writer.take(&Event::Delete(pod("a", "orders")));
        assert_eq!(names(&pods, "orders"), Vec::<String>::new());
        assert_eq!(pods.0.read().unwrap().len(), 1, "a job without pods leaves nothing behind");
    }

    #[test]
    fn a_watch_that_begins_anew_takes_the_place_of_everything_once_it_is_whole() {
        let mut writer = PodsWriter::default();
        let pods = writer.reader();
        writer.take(&Event::Apply(pod("gone", "orders")));
        writer.take(&Event::Init);
        writer.take(&Event::InitApply(pod("a", "orders")));
        assert_eq!(names(&pods, "orders"), ["gone"], "half a list would take pods for missing");
        writer.take(&Event::InitDone);
        assert_eq!(names(&pods, "orders"), ["a"]);
        // Deleted unseen in between: its later deletion is no news, and takes nothing with it.
        writer.take(&Event::Delete(pod("gone", "orders")));
        assert_eq!(names(&pods, "orders"), ["a"]);
    }
}
