//! HPA on CPU utilisation.

use std::collections::BTreeMap;

use super::behaviour::{Behaviour, SYNC, within_tolerance};
use super::signals::{Counters, staying};
use super::{Limits, percent};
use crate::rule::Rule;
use sluice_base::num;
use sluice_policy::{Observation, Worker};

/// Time over which CPU is averaged, seconds: two resolutions of 15 s of the metrics server.
const WINDOW: f64 = 30.0;
/// CPU request of a pod, milli-cores.
const FULL: f64 = 1000.0;
/// `--horizontal-pod-autoscaler-cpu-initialization-period`, seconds.
const INITIALIZATION: f64 = 300.0;

/// The Horizontal Pod Autoscaler on CPU, each worker asking for one core.
///
/// Source: kubernetes/kubernetes `pkg/controller/podautoscaler/replica_calculator.go` (`GetResourceReplicas`,
/// `groupPods`; a revision of 1.33 or later, and 0006726), `metrics/utilization.go` (whole percents, cut off).
/// `n' = ceil(ready * utilisation / target)`, nothing within 10 %. On the way up, pods that are not ready and pods
/// without metrics count as idle; on the way down, pods without metrics count as fully used; a step that this would
/// turn round is not taken. A sample of a pod younger than five minutes counts once it has been ready for a window.
///
/// Missing data: if no ready pod has a metric, the original reports an error and holds; so does this.
///
/// Left out: several metrics, container metrics, requests that differ between pods, phases of a pod other than ready or
/// not, the delay of initial readiness (30 s).
#[derive(Debug)]
pub struct Hpa {
    target: f64,
    limits: Limits,
    counters: Counters,
    /// When each pod was first seen ready.
    ready_since: BTreeMap<String, f64>,
    looked: bool,
    behaviour: Behaviour,
}

/// The pods as `groupPods` sorts them.
#[derive(Debug, Default)]
struct Pods {
    /// CPU use of the pods that count, milli-cores.
    usage: Vec<f64>,
    unready: u32,
    missing: u32,
}

impl Hpa {
    /// `target`: target utilisation of the requested CPU, 0 to 1.
    pub fn new(target: f64, limits: Limits) -> Self {
        Self {
            target,
            limits,
            counters: Counters::new(WINDOW),
            ready_since: BTreeMap::new(),
            looked: false,
            behaviour: Behaviour::default(),
        }
    }

    fn record_samples(&mut self, observation: &Observation) {
        self.counters.record(observation);
        let seen = if self.looked { observation.at.0 } else { f64::NEG_INFINITY };
        self.looked = true;
        let is_ready = |id: &str| staying(observation).any(|w| w.id == id && w.ready == Some(true));
        self.ready_since.retain(|id, _| is_ready(id));
        for worker in staying(observation).filter(|w| w.ready == Some(true)) {
            if !self.ready_since.contains_key(&worker.id) {
                self.ready_since.insert(worker.id.clone(), seen);
            }
        }
    }

    fn pods(&self, observation: &Observation) -> Pods {
        let mut pods = Pods::default();
        for worker in staying(observation) {
            let Some(since) = self.ready_since.get(&worker.id) else {
                pods.unready += 1;
                continue;
            };
            let born = worker.created_at.or(worker.started_at).map_or(f64::NEG_INFINITY, |c| c.0);
            let read = worker.at.map_or(observation.at.0, |a| a.0);
            if observation.at.0 - born < INITIALIZATION && read < since + WINDOW {
                pods.unready += 1;
                continue;
            }
            match self.milli_cores(worker) {
                Some(usage) => pods.usage.push(usage),
                None => pods.missing += 1,
            }
        }
        pods
    }

    fn milli_cores(&self, worker: &Worker) -> Option<f64> {
        let grown = self.counters.over(worker, WINDOW)?;
        Some((FULL * grown.cpu.or(grown.busy)? / grown.seconds).round())
    }

    /// Returns what the metric asks for; `None` is an error of the original.
    fn proposal(&self, current: u32, mut pods: Pods) -> Option<u32> {
        if pods.usage.is_empty() {
            return None;
        }
        let ratio = self.ratio(&pods.usage);
        let up_with_unready = pods.unready > 0 && ratio > 1.0;
        if !up_with_unready && pods.missing == 0 {
            let counted = num::of_usize(pods.usage.len());
            return Some(if within_tolerance(ratio) { current } else { num::ceil_u32(ratio * counted) });
        }
        if ratio < 1.0 {
            pods.usage.extend((0..pods.missing).map(|_| FULL));
        } else if ratio > 1.0 {
            pods.usage.extend((0..pods.missing).map(|_| 0.0));
        }
        if up_with_unready {
            pods.usage.extend((0..pods.unready).map(|_| 0.0));
        }
        let again = self.ratio(&pods.usage);
        let turned = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
        if within_tolerance(again) || turned {
            return Some(current);
        }
        let proposal = num::ceil_u32(again * num::of_usize(pods.usage.len()));
        let turned = (again < 1.0 && proposal > current) || (again > 1.0 && proposal < current);
        Some(if turned { current } else { proposal })
    }

    fn ratio(&self, usage: &[f64]) -> f64 {
        let utilisation = (usage.iter().sum::<f64>() * 100.0 / (FULL * num::of_usize(usage.len()))).floor();
        utilisation / (100.0 * self.target).round()
    }
}

impl Rule for Hpa {
    fn name(&self) -> String {
        format!("hpa-{}", percent(self.target))
    }

    fn every(&self) -> f64 {
        SYNC
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        self.record_samples(observation);
        let current = observation.replicas.desired.filter(|n| *n > 0)?;
        let now = observation.at.0;
        self.behaviour.begin(now, current);
        if self.limits.clamp(current) != current {
            return Some(self.limits.clamp(current));
        }
        let proposal = self.proposal(current, self.pods(observation))?;
        Some(self.behaviour.settle(now, current, proposal, self.limits))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Scene;
    use super::*;

    const LIMITS: Limits = Limits { min: 1, max: 40, partitions: 120 };

    /// Returns the decision for `workers` pods at `busy` after a minute.
    fn answer(target: f64, workers: usize, busy: f64) -> Option<u32> {
        let (mut rule, mut scene) = (Hpa::new(target, LIMITS), Scene::new(workers, 120));
        scene.busy = busy;
        (0..5).map(|_| rule.decide(&scene.pass(15.0))).last().flatten()
    }

    #[test]
    fn size_follows_the_ratio_of_use_to_target() {
        for (target, workers, busy, wanted) in [
            (0.7, 4, 0.9, 6),  // 4 * 90/70 = 5.1
            (0.7, 4, 0.77, 4), // 1.1 is within
            (0.7, 4, 0.63, 4), // 0.9 is within
            (0.7, 10, 0.78, 12),
            (0.5, 10, 1.0, 20),
            (0.3, 10, 1.0, 20), // 34, but no more than twice
            (0.7, 2, 1.0, 3),
            (0.7, 40, 1.0, 40), // the ceiling
        ] {
            assert_eq!(answer(target, workers, busy), Some(wanted), "{workers} at {busy}, target {target}");
        }
    }

    #[test]
    fn down_takes_the_highest_of_five_minutes() {
        let (mut rule, mut scene) = (Hpa::new(0.7, LIMITS), Scene::new(10, 120));
        scene.busy = 0.35; // asks for 5
        let answers: Vec<_> = (0..22).map(|_| rule.decide(&scene.pass(15.0))).collect();
        assert_eq!(answers[0], None, "nothing to compare with yet: holds");
        assert_eq!(answers[20], Some(10), "five minutes after the start");
        assert_eq!(answers[21], Some(5));
    }

    #[test]
    fn unready_and_silent_pods_count_against_the_step() {
        let rule = Hpa::new(0.7, LIMITS);
        let pods = |usage: &[f64], unready, missing| Pods { usage: usage.to_vec(), unready, missing };
        for (what, current, pods, wanted) in [
            ("up with a starting one at 0 %", 4, pods(&[1000.0; 3], 1, 0), Some(4)), // 75/70 is within
            ("up with a starting one at 0 %", 4, pods(&[1000.0; 7], 1, 0), Some(10)), // 87/70 * 8 = 9.9
            ("down ignores the unready", 4, pods(&[300.0; 3], 1, 0), Some(2)),
            ("down with a silent one at 100 %", 4, pods(&[200.0; 3], 0, 1), Some(3)), // 40/70 * 4 = 2.3
            ("up with a silent one at 0 %", 4, pods(&[1000.0; 3], 0, 1), Some(4)),    // 75/70 is within
            ("a silent one turns it round", 4, pods(&[600.0; 2], 0, 2), Some(4)),
            ("no pod reports anything", 4, pods(&[], 0, 4), None),
        ] {
            assert_eq!(rule.proposal(current, pods), wanted, "{what}");
        }
    }

    #[test]
    fn young_pod_counts_after_one_ready_window() {
        let (mut rule, mut scene) = (Hpa::new(0.7, LIMITS), Scene::new(4, 120));
        scene.busy = 1.0;
        for _ in 0..4 {
            rule.decide(&scene.pass(15.0));
        }
        scene.resize(8);
        // Four at 100 % and four that count as idle: 50 %, which would turn the step round.
        assert_eq!(rule.decide(&scene.pass(15.0)), Some(8));
        assert_eq!(rule.decide(&scene.pass(15.0)), Some(8));
        // All eight count: 8 * 100/70.
        assert_eq!(rule.decide(&scene.pass(15.0)), Some(12));
    }
}
