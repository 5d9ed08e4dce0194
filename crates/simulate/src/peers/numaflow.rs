//! Numaflow's formula.

use std::collections::VecDeque;

use super::signals::{Counters, at_work, ready, uncommitted};
use super::{Limits, with_seconds};
use crate::rule::Rule;
use sluice_base::num;
use sluice_policy::Observation;

/// The rater's scrape interval, seconds.
const SCRAPE: f64 = 5.0;
/// Time between two decisions for a vertex, seconds.
const TASK: f64 = 30.0;
/// `lookbackSeconds`.
const LOOKBACK: f64 = 120.0;
/// `scaleUpCooldownSeconds` and `scaleDownCooldownSeconds`.
const COOLDOWN: f64 = 90.0;
/// `replicasPerScaleUp` and `replicasPerScaleDown`.
const STEP: u32 = 2;
/// Default `targetProcessingSeconds`.
pub(super) const TARGET: f64 = 20.0;

/// Numaflow's autoscaler of a `MonoVertex`: source, work and sink in one kind of pod.
///
/// Source: numaproj/numaflow `pkg/reconciler/monovertex/scaling/scaling.go` (`scaleOneMonoVertex`, `desiredReplicas`),
/// `pkg/mvtxdaemon/server/service/rater/helper.go` and `pkg/apis/numaflow/v1alpha1/const.go` at 63ba4e8 (August 2026).
/// `n' = round(pending / rate / targetProcessingSeconds * ready)`, at least 1 and no more than pending; `pending`
/// (behind the commits) and `rate` (processed) are means over 120 s of samples 5 s apart; at most 2 up or down at a
/// time, 90 s apart; nothing while the number of pods is not the one asked for.
///
/// Missing data: without a rate or pending, or with a rate of 0 and something pending, the original holds; so does
/// this.
///
/// Left out: scale to zero, cron bounds, rate limits, the lookback that grows for slow jobs, roll-outs. A pod that
/// misses one scrape makes the original's rate jump by all that the pod ever did; here its growth is missing.
#[derive(Debug)]
pub struct Numaflow {
    target: f64,
    limits: Limits,
    counters: Counters,
    samples: VecDeque<Sample>,
    judged_at: f64,
    scaled_at: f64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: f64,
    /// Records per second; `None`: no worker reported it.
    rate: Option<f64>,
    pending: Option<f64>,
}

impl Numaflow {
    /// `target`: time in which pending records should be processed, seconds.
    pub fn new(target: f64, limits: Limits) -> Self {
        Self {
            target,
            limits,
            counters: Counters::new(SCRAPE),
            samples: VecDeque::new(),
            judged_at: f64::NEG_INFINITY,
            scaled_at: f64::NEG_INFINITY,
        }
    }

    fn record_sample(&mut self, observation: &Observation) {
        let now = observation.at.0;
        self.counters.record(observation);
        let rates: Vec<f64> = at_work(observation)
            .filter_map(|w| self.counters.over(w, SCRAPE))
            .filter_map(|g| Some(g.processed? / g.seconds))
            .collect();
        let rate = (!rates.is_empty()).then(|| rates.iter().sum());
        self.samples.push_back(Sample { at: now, rate, pending: uncommitted(observation) });
        while self.samples.front().is_some_and(|s| now - s.at > LOOKBACK) {
            self.samples.pop_front();
        }
    }

    fn mean(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.samples.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / num::of_usize(values.len()))
    }

    fn desired(&self, current: u32, ready: u32, rate: f64, pending: f64) -> u32 {
        if rate <= 0.0 {
            return if pending <= 0.0 { 0 } else { current };
        }
        let wanted = (pending / rate / self.target * f64::from(ready)).round();
        let wanted = num::floor_u32(wanted).max(1);
        if pending > 0.0 { wanted.min(num::floor_u32(pending)) } else { wanted }
    }

    fn judge(&self, observation: &Observation) -> Option<u32> {
        let current = observation.replicas.desired.filter(|n| *n > 0)?;
        let ready = ready(observation);
        let mismatch = observation.replicas.existing.is_some_and(|e| e != current);
        if observation.at.0 - self.scaled_at < COOLDOWN || mismatch || ready == 0 {
            return None;
        }
        let (rate, pending) = (self.mean(|s| s.rate)?, self.mean(|s| s.pending)?.trunc());
        let desired = self.limits.clamp(self.desired(current, ready, rate, pending));
        if self.limits.clamp(current) != current {
            return Some(desired);
        }
        Some(desired.clamp(current.saturating_sub(STEP), current.saturating_add(STEP)))
    }
}

impl Rule for Numaflow {
    fn name(&self) -> String {
        with_seconds("numaflow", self.target, TARGET)
    }

    fn every(&self) -> f64 {
        SCRAPE
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        let now = observation.at.0;
        self.record_sample(observation);
        if now - self.judged_at < TASK - SCRAPE / 2.0 {
            return None;
        }
        self.judged_at = now;
        let wanted = self.judge(observation)?;
        if observation.replicas.desired != Some(wanted) {
            self.scaled_at = now;
        }
        Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Scene;
    use super::*;

    const LIMITS: Limits = Limits { min: 1, max: 50, partitions: 24 };

    /// `TestDesiredReplicas` of `monovertex/scaling/scaling_test.go`, and the source cases of
    /// `vertex/scaling/scaling_test.go` for one partition.
    #[test]
    fn formula_matches_the_originals_tests() {
        for (what, pending, rate, target, ready, current, wanted) in [
            ("both zero", 0.0, 0.0, 20.0, 1, 1, 0),
            ("rate zero", 100.0, 0.0, 20.0, 1, 3, 3),
            ("normal", 100.0, 5.0, 20.0, 1, 1, 1),
            ("rounds to zero", 1.0, 1000.0, 20.0, 1, 1, 1),
            ("less than pending", 3.0, 0.5, 20.0, 1, 1, 1),
            ("capped by pending", 3.0, 0.01, 1.0, 5, 5, 3),
            ("numaflow#3415", 100_000.0, 0.001, 20.0, 1, 1, 100_000),
            ("extreme", 1e6, 0.0001, 1.0, 10, 10, 1_000_000),
            ("vertex: 10010 at 250/s", 10_010.0, 250.0, 5.0, 2, 2, 16),
            ("vertex: 10010 at 450/s", 10_010.0, 450.0, 5.0, 2, 2, 9),
        ] {
            let rule = Numaflow::new(target, LIMITS);
            assert_eq!(rule.desired(current, ready, rate, pending), wanted, "{what}");
        }
    }

    #[test]
    fn moves_by_two_and_waits_ninety_seconds() {
        let (mut rule, mut scene) = (Numaflow::new(20.0, LIMITS), Scene::new(4, 24));
        (scene.rate, scene.lag) = (1000.0, 400_000); // 100 s of work: asks for 20
        let mut workers = 4;
        let mut changes = Vec::new();
        for _ in 0..60 {
            let observation = scene.pass(5.0);
            if let Some(wanted) = rule.decide(&observation).filter(|n| *n != workers) {
                changes.push((observation.at.0, wanted));
                workers = wanted;
                scene.resize(usize::try_from(wanted).unwrap());
            }
        }
        let numbers: Vec<u32> = changes.iter().map(|c| c.1).collect();
        assert_eq!(numbers, [6, 8, 10], "{changes:?}");
        assert!(changes.windows(2).all(|c| (c[1].0 - c[0].0 - 90.0).abs() < 1e-9), "{changes:?}");
    }

    #[test]
    fn holds_without_data_and_while_pods_start() {
        let mut scene = Scene::new(4, 24);
        (scene.rate, scene.lag) = (1000.0, 400_000);
        for what in ["counters", "commits", "pods"] {
            let mut rule = Numaflow::new(20.0, LIMITS);
            for _ in 0..30 {
                let mut observation = scene.pass(5.0);
                match what {
                    "counters" => observation.workers.iter_mut().for_each(|w| w.at = None),
                    "commits" => observation.partitions[7].committed = None,
                    _ => observation.replicas.existing = Some(3),
                }
                assert_eq!(rule.decide(&observation), None, "{what}");
            }
        }
    }
}
