//! When each pod came and went: what is paid for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

/// From creation to end, in Unix seconds.
#[derive(Debug, Clone, Copy)]
struct Life {
    created: f64,
    ended: Option<f64>,
}

/// Every pod that ever was.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    lives: BTreeMap<String, Life>,
    /// Those that a list under way has shown.
    listed: Option<Vec<String>>,
}

impl Pods {
    /// Takes down what the watch has shown at `now`. Returns a pod that was not known.
    pub(crate) fn note(&mut self, event: &Event<Pod>, now: f64) -> Option<Pod> {
        match event {
            Event::Init => self.listed = Some(Vec::new()),
            Event::Apply(pod) | Event::InitApply(pod) => {
                let uid = pod.uid()?;
                if let Some(listed) = &mut self.listed {
                    listed.push(uid.clone());
                }
                let is_new = !self.lives.contains_key(&uid);
                // It is told by the second, and what is seen now may be late.
                let told = pod.creation_timestamp().map_or(now, |time| time.0.as_duration().as_secs_f64());
                let created = now.clamp(told, told + 1.0);
                self.lives.entry(uid).or_insert(Life { created, ended: None });
                return is_new.then(|| pod.clone());
            }
            Event::Delete(pod) => self.end(&pod.uid()?, now),
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone: Vec<String> = self.lives.keys().filter(|uid| !listed.contains(uid)).cloned().collect();
                for uid in gone {
                    self.end(&uid, now);
                }
            }
        }
        None
    }

    fn end(&mut self, uid: &str, now: f64) {
        if let Some(life) = self.lives.get_mut(uid) {
            life.ended.get_or_insert(now);
        }
    }

    /// Those that exist.
    pub(crate) fn existing(&self) -> usize {
        self.lives.values().filter(|life| life.ended.is_none()).count()
    }

    /// Pods times seconds between two moments.
    pub(crate) fn seconds(&self, from: f64, to: f64) -> f64 {
        let part = |life: &Life| (life.ended.unwrap_or(to).min(to) - life.created.max(from)).max(0.0);
        self.lives.values().map(part).sum()
    }
}
