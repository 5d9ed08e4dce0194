//! The Knative pod autoscaler.

use std::collections::VecDeque;

use super::signals::{Counters, at_work, ready, waiting};
use super::{Limits, with_percent};
use crate::rule::Rule;
use sluice_base::num;
use sluice_policy::Observation;

/// `tickInterval`, seconds.
const TICK: f64 = 2.0;
/// `stable-window`, seconds.
const STABLE: f64 = 60.0;
/// `panic-window-percentage` of it, seconds.
const PANIC: f64 = 6.0;
/// `panic-threshold-percentage`, as a ratio.
const PANIC_THRESHOLD: f64 = 2.0;
/// `max-scale-up-rate`.
const MAX_UP: f64 = 1000.0;
/// `max-scale-down-rate`.
const MAX_DOWN: f64 = 2.0;
/// Precision to which means are rounded (`aggregation/bucketing.go`, `precision`).
const PRECISION: f64 = 1e6;
/// `container-concurrency-target-percentage` of a container that takes one request at a time.
pub(super) const TARGET: f64 = 0.7;

/// The Knative pod autoscaler (KPA) on concurrency.
///
/// Source: knative/serving `pkg/autoscaler/scaling/autoscaler.go` (`Scale`), `pkg/autoscaler/metrics/collector.go`,
/// `config/core/configmaps/autoscaler.yaml` at 98e5ef9 (August 2026). Every 2 s `ceil(concurrency / target)` over the
/// last 60 s and over the last 6 s; the latter reaching twice the ready pods starts a panic, in which the larger of the
/// two holds and nothing goes down until a stable window after the last such look. It begins in a panic if there is
/// more than one pod. At most a thousand times up, a half down.
///
/// Concurrency counts requests in flight. A stream worker has none: here it is the busy threads of all workers, and the
/// backlog enters as the threads that it would keep busy for a panic window (`waiting / capacity / 6 s`). Without that
/// term a saturated job could never read more than 1 / target, and there would be no panic; counting each waiting
/// record as a request in flight would ask for thousands of pods.
///
/// Missing data: silent pods are taken for the mean of the others, because the original samples pods. If no pod
/// reports, nothing is recorded, and an empty window leads to no decision.
///
/// Left out: activator, burst capacity, scale to zero, `scale-down-delay` (0 by default), weighted averages.
#[derive(Debug)]
pub struct Knative {
    target: f64,
    capacity: f64,
    limits: Limits,
    counters: Counters,
    samples: VecDeque<(f64, f64)>,
    looked: bool,
    panic_since: Option<f64>,
    panic_pods: u32,
}

impl Knative {
    /// `target`: target of busy threads per worker. `capacity`: records per second of a busy thread.
    pub fn new(target: f64, capacity: f64, limits: Limits) -> Self {
        Self {
            target,
            capacity,
            limits,
            counters: Counters::new(TICK),
            samples: VecDeque::new(),
            looked: false,
            panic_since: None,
            panic_pods: 0,
        }
    }

    fn record_samples(&mut self, observation: &Observation) {
        let now = observation.at.0;
        self.counters.record(observation);
        if let Some(value) = self.concurrency(observation).and_then(num::finite) {
            self.samples.push_back((now, value));
        }
        while self.samples.front().is_some_and(|s| now - s.0 >= STABLE) {
            self.samples.pop_front();
        }
    }

    fn concurrency(&self, observation: &Observation) -> Option<f64> {
        let busy: Vec<f64> = at_work(observation)
            .filter_map(|w| self.counters.over(w, TICK))
            .filter_map(|g| Some(g.busy? / g.seconds))
            .collect();
        if busy.is_empty() {
            return None;
        }
        let mean = busy.iter().sum::<f64>() / num::of_usize(busy.len());
        let queued = waiting(observation).unwrap_or(0.0) / self.capacity / PANIC;
        Some(mean * f64::from(ready(observation)) + queued)
    }

    fn mean(&self, now: f64, window: f64) -> f64 {
        let recent = self.samples.iter().rev().take_while(|s| now - s.0 < window).map(|s| s.1);
        let (sum, n) = recent.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
        if n > 0.0 { (sum / n * PRECISION).round() / PRECISION } else { 0.0 }
    }

    /// `stable` and `panic`: mean concurrency over the two windows.
    fn judge(&mut self, now: f64, ready: u32, stable: f64, panic: f64) -> u32 {
        let pods = f64::from(ready.max(1));
        let (lowest, highest) = ((pods / MAX_DOWN).floor(), (pods * MAX_UP).ceil());
        let (for_stable, for_panic) = ((stable / self.target).ceil(), (panic / self.target).ceil());
        let limited = |wanted: f64| num::ceil_u32(wanted.max(lowest).min(highest));
        if for_panic / pods >= PANIC_THRESHOLD {
            self.panic_since = Some(now);
        } else if self.panic_since.is_some_and(|since| now - since > STABLE) {
            self.panic_since = None;
            self.panic_pods = 0;
        }
        if self.panic_since.is_none() {
            return limited(for_stable);
        }
        self.panic_pods = self.panic_pods.max(limited(for_stable)).max(limited(for_panic));
        self.panic_pods
    }
}

impl Rule for Knative {
    fn name(&self) -> String {
        with_percent("knative", self.target, TARGET)
    }

    fn every(&self) -> f64 {
        TICK
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        let (now, ready) = (observation.at.0, ready(observation));
        if !std::mem::replace(&mut self.looked, true) && ready > 1 {
            (self.panic_since, self.panic_pods) = (Some(now), ready);
        }
        self.record_samples(observation);
        observation.replicas.desired?;
        if self.samples.is_empty() {
            return None;
        }
        let (stable, panic) = (self.mean(now, STABLE), self.mean(now, PANIC));
        let wanted = self.judge(now, ready, stable, panic);
        Some(self.limits.clamp(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Scene;
    use super::*;

    const LIMITS: Limits = Limits { min: 1, max: 1000, partitions: 0 };

    /// From `TestAutoscalerScale`, `TestAutoscalerStableMode*` and `TestAutoscalerRateLimit*` of `autoscaler_test.go`;
    /// the originals run with a scale-up rate of 10, which none of these meets.
    #[test]
    fn formula_matches_the_originals_tests() {
        for (what, target, ready, stable, panic, wanted) in [
            ("no data at zero", 10.0, 1, 0.0, 0.0, 0),
            ("increase", 10.0, 1, 50.0, 10.0, 5),
            ("increase again", 10.0, 1, 100.0, 10.0, 10),
            ("no change", 10.0, 5, 50.0, 50.0, 5),
            ("panic takes precedence", 10.0, 1, 50.0, 100.0, 10),
            ("decrease", 10.0, 8, 50.0, 50.0, 5),
            ("no more than half down", 10.0, 100, 1.0, 1.0, 50),
            ("a thousand times up", 1.0, 1, 5000.0, 5000.0, 1000),
        ] {
            let mut rule = Knative::new(target, 1000.0, LIMITS);
            assert_eq!(rule.judge(0.0, ready, stable, panic), wanted, "{what}");
        }
    }

    /// `TestAutoscalerPanicThenUnPanicScaleDown` and `TestAutoscalerPanicStableLargerThanPanic`.
    #[test]
    fn panic_lasts_for_a_stable_window() {
        let mut rule = Knative::new(10.0, 1000.0, LIMITS);
        for (now, ready, stable, panic, wanted) in [
            (0.0, 10, 100.0, 1000.0, 100),
            (30.0, 10, 1.0, 1.0, 100),
            (60.0, 10, 1.0, 1.0, 100),
            (61.0, 10, 1.0, 1.0, 5), // out of it; no more than half down
        ] {
            assert_eq!(rule.judge(now, ready, stable, panic), wanted, "at {now}");
        }
        let mut rule = Knative::new(1.0, 1000.0, LIMITS);
        (rule.panic_since, rule.panic_pods) = (Some(-5.0), 5);
        assert_eq!(rule.judge(0.0, 5, 50.0, 30.0), 50, "the stable value, if it is larger");
    }

    #[test]
    fn concurrency_is_busy_threads_and_backlog() {
        let mut scene = Scene::new(10, 120);
        scene.busy = 0.7;
        let mut rule = Knative::new(0.7, 1000.0, LIMITS);
        let steady: Vec<_> = (0..60).map(|_| rule.decide(&scene.pass(2.0))).collect();
        assert_eq!(steady[0], None, "nothing to compare with yet");
        assert!(steady[1..].iter().all(|n| *n == Some(10)), "{steady:?}");
        scene.busy = 1.0;
        for _ in 0..30 {
            rule.decide(&scene.pass(2.0));
        }
        assert_eq!(rule.decide(&scene.pass(2.0)), Some(15), "saturated: 10 / 0.7");
        scene.lag = 60_000; // 10 threads for 6 s
        for _ in 0..3 {
            rule.decide(&scene.pass(2.0));
        }
        assert_eq!(rule.decide(&scene.pass(2.0)), Some(29), "20 / 0.7: a panic");
        scene.lag = 0;
        scene.busy = 0.1;
        assert_eq!(rule.decide(&scene.pass(30.0)), Some(29), "nothing goes down in a panic");

        let mut rule = Knative::new(0.7, 1000.0, LIMITS);
        let begun: Vec<_> = (0..32).map(|_| rule.decide(&scene.pass(2.0))).collect();
        assert_eq!((begun[1], begun[30], begun[31]), (Some(10), Some(10), Some(5)), "it begins in a panic");

        let mut silent = scene.pass(2.0);
        silent.workers.iter_mut().for_each(|w| w.at = None);
        let mut rule = Knative::new(0.7, 1000.0, LIMITS);
        assert_eq!((rule.decide(&silent), rule.decide(&silent)), (None, None));
    }
}
