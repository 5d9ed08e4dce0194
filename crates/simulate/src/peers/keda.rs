//! KEDA with the lag of a Kafka consumer group.

use super::Limits;
use super::behaviour::{Behaviour, SYNC, within_tolerance};
use crate::rule::Rule;
use sluice_base::num;
use sluice_policy::Observation;

/// KEDA's default `lagThreshold`, records.
const DEFAULT_THRESHOLD: f64 = 10.0;

/// KEDA's Kafka scaler with its `lagThreshold` as the HPA's average value.
///
/// Source: kedacore/keda `pkg/scalers/kafka_scaler.go` (`getTotalLag`, `getLagForPartition`) and
/// `pkg/scaling/scale_handler.go` at 8b4f083 (August 2026, after 2.20.2); kubernetes/kubernetes
/// `pkg/controller/podautoscaler/replica_calculator.go` (`GetExternalPerPodMetricReplicas`). The HPA asks KEDA at every
/// sync of 15 s and KEDA asks Kafka there and then (`useCachedMetrics` is off by default): the polling interval of 30 s
/// only drives waking from and going to zero. `n' = ceil(lag / threshold)`, nothing if lag is within 10 % of what `n`
/// workers may have; a partition without a commit counts 1 (`offsetResetPolicy: latest`); lag is capped at what all
/// partitions may have (`allowIdleConsumers: false`).
///
/// Missing data: without a committed offset the scaler returns an error and the HPA holds, as does this; a partition
/// without an end offset counts 0.
///
/// Left out: scale to and from zero, `fallback`, `excludePersistentLag`, `limitToPartitionsWithLag`,
/// `ensureEvenDistributionOfPartitions` (all off by default).
#[derive(Debug)]
pub struct Keda {
    name: String,
    threshold: f64,
    limits: Limits,
    behaviour: Behaviour,
}

impl Keda {
    /// Returns a scaler with a threshold of `seconds` of the work of one worker, as a whole number of records.
    pub fn new(seconds: f64, capacity: f64, limits: Limits) -> Self {
        Self::with_threshold(format!("keda-{seconds}s"), seconds * capacity, limits)
    }

    /// Returns a scaler with KEDA's default threshold.
    pub fn shipped(limits: Limits) -> Self {
        Self::with_threshold("keda-default".to_owned(), DEFAULT_THRESHOLD, limits)
    }

    fn with_threshold(name: String, threshold: f64, limits: Limits) -> Self {
        Self { name, threshold: threshold.round().max(1.0), limits, behaviour: Behaviour::default() }
    }

    fn metric(&self, observation: &Observation) -> Option<f64> {
        if observation.partitions.is_empty() {
            return None;
        }
        let lag: f64 = observation
            .partitions
            .iter()
            .map(|p| match (p.committed?, p.end) {
                (..0, _) => Some(1.0),
                (_, None) => Some(0.0),
                (committed, Some(end)) => Some(num::diff(end, committed)),
            })
            .sum::<Option<f64>>()?;
        let partitions = num::of_usize(observation.partitions.len());
        let over = (lag / self.threshold).floor() > partitions;
        Some(if over { partitions * self.threshold } else { lag.max(0.0) })
    }
}

impl Rule for Keda {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn every(&self) -> f64 {
        SYNC
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        let current = observation.replicas.desired.filter(|n| *n > 0)?;
        let now = observation.at.0;
        self.behaviour.begin(now, current);
        if self.limits.clamp(current) != current {
            return Some(self.limits.clamp(current));
        }
        let lag = self.metric(observation)?;
        let there = observation.replicas.existing.unwrap_or(current);
        let ratio = lag / (self.threshold * f64::from(there));
        let proposal = if within_tolerance(ratio) { there } else { num::ceil_u32(lag / self.threshold) };
        Some(self.behaviour.settle(now, current, proposal, self.limits))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Scene;
    use super::*;

    const LIMITS: Limits = Limits { min: 1, max: 100, partitions: 24 };

    #[test]
    fn size_is_total_lag_over_the_threshold() {
        for (workers, lag, wanted) in [
            (4, 5_000, 5), // ceil(5000/1000)
            (4, 4_001, 4), // within 10 % of 4 * 1000
            (4, 4_400, 4), // 1.1 is within
            (4, 4_401, 5),
            (4, 900_000, 8), // the cap of 24 partitions, but no more than twice
            (20, 900_000, 24),
            (23, 24_900, 23), // 24.9 thresholds are within 10 % of 23
        ] {
            let mut scene = Scene::new(workers, 24);
            scene.lag = lag;
            assert_eq!(Keda::new(1.0, 1000.0, LIMITS).decide(&scene.pass(15.0)), Some(wanted), "{lag} at {workers}");
        }
    }

    #[test]
    fn missing_data_is_treated_as_the_scaler_does() {
        let mut scene = Scene::new(4, 24);
        scene.lag = 24 * 500;
        let whole = scene.pass(15.0);
        let mut holds = whole.clone();
        holds.partitions[3].committed = None;
        assert_eq!(Keda::new(1.0, 1000.0, LIMITS).decide(&holds), None, "an error, and the HPA holds");
        assert_eq!(Keda::new(1.0, 1000.0, LIMITS).decide(&Observation::default()), None);

        let rule = Keda::new(1.0, 1000.0, LIMITS);
        let (mut fresh, mut partial) = (whole.clone(), whole.clone());
        for partition in &mut fresh.partitions {
            partition.committed = Some(-1);
        }
        partial.partitions[0].end = None;
        assert_eq!(rule.metric(&whole), Some(12_000.0));
        assert_eq!(rule.metric(&fresh), Some(24.0), "no commit: 1 a partition");
        assert_eq!(rule.metric(&partial), Some(11_500.0));
        scene.lag = 1_000_000;
        assert_eq!(rule.metric(&scene.pass(15.0)), Some(24_000.0), "no more than a threshold a partition");
    }

    #[test]
    fn goes_to_the_floor_without_lag_after_the_window() {
        let (mut rule, mut scene) = (Keda::new(1.0, 1000.0, LIMITS), Scene::new(8, 24));
        let answers: Vec<_> = (0..22).map(|_| rule.decide(&scene.pass(15.0))).collect();
        assert_eq!((answers[0], answers[20], answers[21]), (Some(8), Some(8), Some(1)));
    }
}
