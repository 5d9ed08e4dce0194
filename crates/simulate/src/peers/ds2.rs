//! DS2: as many instances as the rate of the source needs.

use super::signals::{Counters, appended, at_work, settled};
use super::{Limits, percent, with_percent};
use crate::rule::Rule;
use sluice_base::num;
use sluice_policy::Observation;

/// `policy_interval`, seconds: one epoch.
const INTERVAL: f64 = 60.0;
/// `warm_up_time`: epochs that are skipped after a change.
const WARM_UP: u32 = 1;
/// Default target utilisation.
pub(super) const TARGET: f64 = 0.7;
/// The band of the variant: utilisations within it change nothing.
const BAND: (f64, f64) = (0.5, 0.85);

/// DS2 for a single operator behind its source.
///
/// Source: strymon-system/ds2 `controller/src/policy/scaling.rs` (`evaluate_scaling_policy_at_epoch`) and
/// `controller/src/bin/manager.rs` (`consider_change`, the loop of `flink`) at e3decca. `n' = ceil(source rate / (true
/// rate / n) * (1 + scaling_factor))`, where the true rate is the sum over instances of records per second of useful
/// time; acted on if it is more, or less by more than one. `scaling_factor` is 1 / target - 1. The backlog does not
/// enter: the source's rate is that of its log.
///
/// Missing data: an epoch without the counters of every instance, or with a rate that is not a number, is not
/// evaluated.
///
/// Left out: several operators, `target_rate_ratio_threshold` (off by default), `activation_time` (1 by default). The
/// interval of 60 s and the warm-up of one epoch are those of the benchmarks; the shipped example has 10 s and two. The
/// variant `ds2-band` is not in the source: it ignores utilisations of 50 to 85 %, as operators built on DS2 do.
#[derive(Debug)]
pub struct Ds2 {
    target: f64,
    band: Option<(f64, f64)>,
    limits: Limits,
    counters: Counters,
    /// When the whole log was last read, and its length in records.
    log: Option<(f64, f64)>,
    epochs: u32,
}

impl Ds2 {
    /// `target`: target utilisation, above 0 to 1.
    pub fn new(target: f64, limits: Limits) -> Self {
        Self { target, band: None, limits, counters: Counters::new(INTERVAL), log: None, epochs: 0 }
    }

    /// Returns the variant that ignores a band of utilisations.
    pub fn with_band(target: f64, limits: Limits) -> Self {
        Self { band: Some(BAND), ..Self::new(target, limits) }
    }

    /// Returns the rate at which records were appended since the last epoch, records per second.
    fn source_rate(&mut self, observation: &Observation) -> Option<f64> {
        let now = observation.at.0;
        let (then, before) = self.log.replace((now, appended(observation)?))?;
        let grown = self.log?.1 - before;
        (now > then && grown >= 0.0).then(|| grown / (now - then))
    }

    /// Returns the mean rate of an instance per second of useful time; instances that processed nothing do not count.
    fn true_rate(&self, observation: &Observation) -> Option<f64> {
        let mut rates = Vec::new();
        for worker in at_work(observation) {
            let grown = self.counters.over(worker, INTERVAL).filter(|g| g.seconds >= 0.8 * INTERVAL)?;
            let rate = grown.processed? / grown.busy?;
            rates.extend((rate > 0.0).then_some(rate).and_then(num::finite));
        }
        (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / num::of_usize(rates.len()))
    }

    fn judge(&self, current: u32, source: f64, each: f64) -> u32 {
        let needed = source / each;
        if let Some((low, high)) = self.band
            && (low..=high).contains(&(needed / f64::from(current)))
        {
            return current;
        }
        let wanted = num::ceil_u32(needed / self.target);
        let considered = wanted > current || current.saturating_sub(1) > wanted;
        self.limits.clamp(if considered { wanted } else { current })
    }
}

impl Rule for Ds2 {
    fn name(&self) -> String {
        match self.band {
            None => with_percent("ds2", self.target, TARGET),
            Some(_) if percent(self.target) == percent(TARGET) => "ds2-band".to_owned(),
            Some(_) => format!("ds2-band-{}", percent(self.target)),
        }
    }

    fn every(&self) -> f64 {
        INTERVAL
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        self.counters.record(observation);
        let source = self.source_rate(observation);
        let current = observation.replicas.desired.filter(|n| *n > 0)?;
        if !settled(observation) {
            self.epochs = 0;
            return None;
        }
        if self.epochs < WARM_UP {
            self.epochs += 1;
            return None;
        }
        let (source, each) = (source?, self.true_rate(observation)?);
        let wanted = self.judge(current, source, each);
        if wanted != current {
            self.epochs = 0;
        }
        Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Scene;
    use super::*;

    const LIMITS: Limits = Limits { min: 1, max: 40, partitions: 120 };

    /// The first three cases are `evaluate_scaling_policy_one_source` of `tests/scaling_policy_test.rs`, operator by
    /// operator: the offered rate, the true rate, and the resulting instances.
    #[test]
    fn model_matches_the_originals_tests() {
        let exact = Limits { max: 1000, partitions: 0, ..LIMITS };
        for (target, current, source, each, wanted) in [
            (1.0, 1, 100.0, 50.0, 2),
            (1.0, 1, 800.0, 100.0, 8),
            (1.0, 1, 200.0, 40.0, 5),
            (1.0, 1, 200.0, 10.0, 20),
            (0.7, 10, 7_000.0, 1000.0, 10),
            (0.7, 10, 7_001.0, 1000.0, 11),
            (0.7, 10, 6_000.0, 1000.0, 10), // 9 is one less: not considered
            (0.7, 10, 5_000.0, 1000.0, 8),
        ] {
            assert_eq!(Ds2::new(target, exact).judge(current, source, each), wanted, "{source} at {current}");
        }
        let banded = Ds2::with_band(0.7, exact);
        for (source, wanted) in [(5_000.0, 10), (8_500.0, 10), (4_800.0, 7), (8_600.0, 13)] {
            assert_eq!(banded.judge(10, source, 1000.0), wanted, "{source} with a band");
        }
    }

    #[test]
    fn warms_up_for_an_epoch_and_measures_the_log() {
        let (mut rule, mut scene) = (Ds2::new(0.7, LIMITS), Scene::new(4, 120));
        // Saturated and falling behind: 8,000 records per second arrive, the workers process 4,000.
        (scene.busy, scene.rate, scene.arriving) = (1.0, 1000.0, 8000.0);
        let answers: Vec<_> = (0..2).map(|_| rule.decide(&scene.pass(60.0))).collect();
        assert_eq!(answers, [None, Some(12)]); // 8 / 0.7
        let mut starting = scene.pass(60.0);
        starting.replicas.desired = Some(12);
        assert_eq!(rule.decide(&starting), None, "they are not all there");
        scene.resize(12);
        (scene.busy, scene.rate) = (0.5, 1000.0); // each does 2,000 a second, as it turns out
        assert_eq!(rule.decide(&scene.pass(60.0)), None, "the epoch of warming up");
        assert_eq!(rule.decide(&scene.pass(60.0)), Some(6));
        scene.resize(6);
        (scene.busy, scene.rate) = (0.1, 200.0);
        assert_eq!(rule.decide(&scene.pass(60.0)), None, "warming up again, though all have a whole epoch");
        let mut leaving = scene.pass(60.0);
        leaving.replicas.existing = Some(7);
        assert_eq!(rule.decide(&leaving), None, "one is still there");
    }

    #[test]
    fn incomplete_epoch_is_not_evaluated() {
        let (mut rule, mut scene) = (Ds2::new(0.7, LIMITS), Scene::new(4, 120));
        (scene.busy, scene.rate, scene.arriving) = (1.0, 1000.0, 8000.0);
        for _ in 0..6 {
            let mut observation = scene.pass(60.0);
            observation.workers[2].busy_seconds = None;
            assert_eq!(rule.decide(&observation), None);
        }
    }
}
