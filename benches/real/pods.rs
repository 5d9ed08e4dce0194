//! The lifetimes of pods, from which the cost is calculated.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

/// Creation and end of a pod, Unix seconds.
#[derive(Debug, Clone, Copy)]
struct Lifetime {
    created: f64,
    ended: Option<f64>,
}

/// The lifetimes of all pods, including deleted ones, by uid.
#[derive(Debug, Default)]
pub(crate) struct PodLifetimes {
    lifetimes: BTreeMap<String, Lifetime>,
    /// The pods in the list that the watch is reading, if it is.
    listed: Option<Vec<String>>,
}

impl PodLifetimes {
    /// Records an event of the watch at `now`. Returns the pod if it is new.
    pub(crate) fn record(&mut self, event: &Event<Pod>, now: f64) -> Option<Pod> {
        match event {
            Event::Init => self.listed = Some(Vec::new()),
            Event::Apply(pod) | Event::InitApply(pod) => {
                let uid = pod.uid()?;
                if let Some(listed) = &mut self.listed {
                    listed.push(uid.clone());
                }
                let is_new = !self.lifetimes.contains_key(&uid);
                // The timestamp has whole seconds, and the event may be late.
                let timestamp = pod.creation_timestamp().map_or(now, |time| time.0.as_duration().as_secs_f64());
                let created = now.clamp(timestamp, timestamp + 1.0);
                self.lifetimes.entry(uid).or_insert(Lifetime { created, ended: None });
                return is_new.then(|| pod.clone());
            }
            Event::Delete(pod) => self.end(&pod.uid()?, now),
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone: Vec<String> = self.lifetimes.keys().filter(|uid| !listed.contains(uid)).cloned().collect();
                for uid in gone {
                    self.end(&uid, now);
                }
            }
        }
        None
    }

    fn end(&mut self, uid: &str, now: f64) {
        if let Some(lifetime) = self.lifetimes.get_mut(uid) {
            lifetime.ended.get_or_insert(now);
        }
    }

    /// Returns the number of existing pods.
    pub(crate) fn existing(&self) -> usize {
        self.lifetimes.values().filter(|lifetime| lifetime.ended.is_none()).count()
    }

    /// Returns the pod-seconds between two times.
    pub(crate) fn seconds(&self, from: f64, to: f64) -> f64 {
        let part = |pod: &Lifetime| (pod.ended.unwrap_or(to).min(to) - pod.created.max(from)).max(0.0);
        self.lifetimes.values().map(part).sum()
    }
}
