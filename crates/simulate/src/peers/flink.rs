//! The autoscaler of the Flink Kubernetes operator.

use std::collections::VecDeque;

pub use super::flink_model::Options;
use super::flink_model::Window;
use super::signals::{Counters, at_work, incarnation, settled, waiting};
use super::{Limits, percent};
use crate::rule::Rule;
use sluice_base::num;
use sluice_policy::Observation;

/// Interval at which metrics are collected: `kubernetes.operator.reconcile.interval`, seconds.
const TICK: f64 = 60.0;
/// Interval at which the end of a rescale is checked: `kubernetes.operator.observer.progress-check.interval`, seconds.
const PROGRESS: f64 = 10.0;
/// `observed-true-processing-rate.lag-threshold`, seconds.
const OBSERVE_LAG: f64 = 30.0;
/// `observed-true-processing-rate.min-observations`.
const OBSERVATIONS: usize = 2;

/// The autoscaler for a job of one vertex, the source.
///
/// Source: see `flink_model`, and `ScalingMetricCollector.java`, `metrics/ScalingMetrics.java`, `ScalingExecutor.java`,
/// `DelayedScaleDown.java` at the same revision. Each minute: the true processing rate is records per second over the
/// busy fraction of the busiest worker, both over `metrics.window`; what is needed is `lag / catch-up + rate * restart
/// / catch-up + rate / utilization`. Nothing happens inside the band; down waits for `scale-down.interval` and takes
/// the highest of it. Each rescale, and each worker that starts again, throws the window away: then
/// `stabilization.interval` and a whole window pass before the next decision. While `lag / rate` is above five minutes
/// only up.
///
/// Missing data: without records or busy time of every worker the original raises an error, and this holds; without lag
/// it takes the lag for 0, and so does this.
///
/// Left out: more than one vertex, restart-time tracking, the detection of scale-ups that do nothing, observed
/// scalability (all off by default), memory, quotas, excluded periods. The lag is behind the position, as the Kafka
/// source reports it, where the worker reports one. Busy time is a gauge of the last minute.
#[derive(Debug)]
pub struct Flink {
    name: String,
    options: Options,
    limits: Limits,
    counters: Counters,
    crew: Vec<(String, u64)>,
    running_since: f64,
    ticked_at: f64,
    history: VecDeque<Sample>,
    delayed: Option<Delay>,
}

/// The result of one collection.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: f64,
    /// Records since the workers started.
    records: f64,
    lag: f64,
    load: f64,
    observed: Option<f64>,
}

/// A scale-down that is being delayed.
#[derive(Debug)]
struct Delay {
    since: f64,
    /// Recommendations: when, how many, whether outside the band; each lower than the previous one.
    recommended: VecDeque<(f64, u32, bool)>,
}

impl Flink {
    /// `name`: name without the target, which is added if it is not the usual one.
    pub fn new(name: &str, options: Options, usual: f64, limits: Limits) -> Self {
        let target = percent(options.target);
        Self {
            name: if target == percent(usual) { name.to_owned() } else { format!("{name}-{target}") },
            options,
            limits,
            counters: Counters::new(TICK),
            crew: Vec::new(),
            running_since: f64::INFINITY,
            ticked_at: f64::NEG_INFINITY,
            history: VecDeque::new(),
            delayed: None,
        }
    }

    /// Returns whether the job runs as requested, and notices when it began to.
    fn running(&mut self, observation: &Observation) -> bool {
        let mut crew: Vec<_> = at_work(observation).map(|w| (w.id.clone(), incarnation(w))).collect();
        crew.sort_unstable();
        if crew != self.crew {
            self.crew = crew;
            self.running_since = observation.at.0;
            self.ticked_at = f64::NEG_INFINITY;
            self.history.clear();
        }
        settled(observation)
    }

    fn collect(&self, observation: &Observation) -> Option<Sample> {
        let (mut records, mut rate, mut load) = (0.0, 0.0, 0.0_f64);
        for worker in at_work(observation) {
            let grown = self.counters.over(worker, TICK)?;
            records += worker.processed?;
            rate += grown.processed? / grown.seconds;
            load = load.max(grown.busy? / grown.seconds).min(1.0);
        }
        let lag = waiting(observation).unwrap_or(0.0);
        let observed = if rate <= 0.0 {
            Some(f64::INFINITY)
        } else if lag >= OBSERVE_LAG * rate {
            Some(rate)
        } else {
            self.observed()
        };
        Some(Sample { at: observation.at.0, records, lag, load, observed })
    }

    /// Returns the mean of the observed rates; infinite only if none is finite.
    fn observed(&self) -> Option<f64> {
        let all: Vec<f64> = self.history.iter().filter_map(|s| s.observed).collect();
        let finite: Vec<f64> = all.iter().copied().filter(|o| o.is_finite()).collect();
        if finite.is_empty() {
            return all.first().copied();
        }
        (finite.len() >= OBSERVATIONS).then(|| finite.iter().sum::<f64>() / num::of_usize(finite.len()))
    }

    /// Returns whether the window is full, and forgets older samples.
    fn full(&mut self, now: f64) -> bool {
        let stable = self.running_since + self.options.stabilization;
        let Some(first) = self.history.iter().find(|s| s.at >= stable) else { return false };
        if now < first.at + self.options.window {
            return false;
        }
        while self.history.front().is_some_and(|s| s.at < now - self.options.window) {
            self.history.pop_front();
        }
        true
    }

    fn window(&self) -> Option<Window> {
        let (first, last) = (self.history.front()?, self.history.back()?);
        let seconds = last.at - first.at;
        (seconds > 0.0).then(|| Window {
            input: (last.records - first.records) / seconds,
            lag: last.lag,
            lag_rate: (last.lag - first.lag) / seconds,
            load: self.history.iter().map(|s| s.load).sum::<f64>() / num::of_usize(self.history.len()),
            observed: self.observed(),
        })
    }

    fn choose_parallelism(&mut self, now: f64, current: u32) -> Option<u32> {
        let evaluation = self.window()?.evaluate(&self.options, current, self.limits)?;
        if evaluation.parallelism >= current {
            self.delayed = None;
            return (evaluation.outside && evaluation.parallelism > current).then_some(evaluation.parallelism);
        }
        let (parallelism, outside) = self.delay(now, evaluation.parallelism, evaluation.outside)?;
        if outside {
            self.delayed = None;
        }
        outside.then_some(parallelism)
    }

    /// Returns the highest recommendation of the interval, once it has passed.
    fn delay(&mut self, now: f64, parallelism: u32, outside: bool) -> Option<(u32, bool)> {
        let from = now - self.options.scale_down;
        let delay = self.delayed.get_or_insert_with(|| Delay { since: now, recommended: VecDeque::new() });
        while delay.recommended.back().is_some_and(|r| r.1 <= parallelism) {
            delay.recommended.pop_back();
        }
        delay.recommended.push_back((now, parallelism, outside));
        if from < delay.since {
            return None;
        }
        while delay.recommended.front().is_some_and(|r| r.0 < from) {
            delay.recommended.pop_front();
        }
        delay.recommended.front().map(|r| (r.1, r.2))
    }
}

impl Rule for Flink {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn every(&self) -> f64 {
        PROGRESS
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        let now = observation.at.0;
        self.counters.record(observation);
        let running = self.running(observation);
        let current = observation.replicas.desired.filter(|n| *n > 0)?;
        if !running || now - self.ticked_at < TICK - PROGRESS / 2.0 {
            return None;
        }
        let sample = self.collect(observation)?;
        self.ticked_at = now;
        self.history.push_back(sample);
        if !self.full(now) {
            return None;
        }
        self.choose_parallelism(now, current)
    }
}

#[cfg(test)]
#[path = "flink_test.rs"]
mod tests;
