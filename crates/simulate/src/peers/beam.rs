//! The rule with which Palo Alto Networks run their Beam jobs.

use super::signals::{Counters, at_work, settled, waiting};
use super::{Limits, percent};
use crate::rule::Rule;
use sluice_base::num;
use sluice_policy::Observation;

/// Time between two decisions, seconds; not published.
const INTERVAL: f64 = 60.0;
/// Time in which a backlog is to be worked off, seconds.
const REDUCE: f64 = 60.0;
/// Longest time to work off the backlog that allows scaling down, seconds.
const SHORT: f64 = 10.0;
/// Difference between the CPU utilisations for scaling up and down.
const CPU_BAND: f64 = 0.2;
/// Backlog time above which the rule scales up, seconds.
pub(super) const BACKLOG: f64 = 120.0;
/// CPU utilisation above which the rule scales up.
pub(super) const CPU: f64 = 0.9;

/// Backlog time, backlog growth and CPU of Beam jobs on Flink.
///
/// Source: apache/beam `website/www/site/content/en/blog/apache-beam-flink-and-kubernetes-part3.md` (December 2023).
/// Up if backlog / throughput is above 120 s or CPU above 90 %: `n' = n (growth + throughput) / throughput + n
/// (backlog / throughput) / 60 s`. Down if CPU is below 70 %, the backlog does not grow and is worked off within 10 s,
/// to where CPU would be at those 70 %.
///
/// Missing data is not described; this rule holds.
///
/// Not published, and chosen here: one decision a minute, rates over that minute, rounding up, no decision while
/// workers come or go, how far to scale down. Left out: backlogs of inner stages.
#[derive(Debug)]
pub struct Beam {
    backlog: f64,
    cpu: f64,
    limits: Limits,
    counters: Counters,
    /// When the backlog was last known, and its size in records.
    before: Option<(f64, f64)>,
}

/// The signals of the rule.
#[derive(Debug, Clone, Copy)]
struct Signals {
    /// Records waiting.
    backlog: f64,
    /// Growth of the backlog, records per second.
    growth: f64,
    /// Records processed per second.
    throughput: f64,
    /// Utilisation, 0 to 1.
    cpu: f64,
}

impl Beam {
    /// `backlog`: time to work it off above which to scale up, seconds. `cpu`: utilisation above which to scale up.
    pub fn new(backlog: f64, cpu: f64, limits: Limits) -> Self {
        Self { backlog, cpu, limits, counters: Counters::new(INTERVAL), before: None }
    }

    fn signals(&mut self, observation: &Observation) -> Option<Signals> {
        let now = observation.at.0;
        let backlog = waiting(observation);
        let before = std::mem::replace(&mut self.before, backlog.map(|b| (now, b)));
        let (mut processed, mut used, mut workers) = (0.0, 0.0, 0.0);
        for worker in at_work(observation) {
            let grown = self.counters.over(worker, INTERVAL)?;
            processed += grown.processed? / grown.seconds;
            used += grown.cpu.or(grown.busy)? / grown.seconds;
            workers += 1.0;
        }
        let (then, was) = before.filter(|b| b.0 < now)?;
        let growth = (backlog? - was) / (now - then);
        (workers > 0.0).then_some(Signals { backlog: backlog?, growth, throughput: processed, cpu: used / workers })
    }

    fn judge(&self, current: u32, signals: Signals) -> u32 {
        let Signals { backlog, growth, throughput, cpu } = signals;
        let n = f64::from(current);
        let backlog_time = if backlog > 0.0 { backlog / throughput } else { 0.0 };
        let low = self.cpu - CPU_BAND;
        if backlog_time > self.backlog || cpu > self.cpu {
            let required = n * (growth.max(0.0) + throughput) / throughput;
            let extra = n * backlog_time / REDUCE;
            let wanted = required + extra;
            // Nothing was processed, so there is no ratio to apply.
            return if wanted.is_finite() { num::ceil_u32(wanted).max(current) } else { current };
        }
        if cpu < low && growth <= 0.0 && backlog_time < SHORT {
            return num::ceil_u32(n * cpu / low).min(current);
        }
        current
    }
}

impl Rule for Beam {
    fn name(&self) -> String {
        match (self.backlog.to_bits() == BACKLOG.to_bits(), percent(self.cpu) == percent(CPU)) {
            (true, true) => "beam".to_owned(),
            (false, true) => format!("beam-{}s", self.backlog),
            (_, false) => format!("beam-{}s-{}", self.backlog, percent(self.cpu)),
        }
    }

    fn every(&self) -> f64 {
        INTERVAL
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        self.counters.record(observation);
        let signals = self.signals(observation);
        let current = observation.replicas.desired.filter(|n| *n > 0)?;
        if !settled(observation) {
            return None;
        }
        Some(self.limits.clamp(self.judge(current, signals?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Scene;
    use super::*;

    const LIMITS: Limits = Limits { min: 1, max: 40, partitions: 120 };

    #[test]
    fn published_formulas_hold() {
        let rule = Beam::new(BACKLOG, CPU, LIMITS);
        for (what, backlog, growth, throughput, cpu, wanted) in [
            ("keeping up: half as much again", 0.0, 5_000.0, 10_000.0, 0.95, 15),
            ("catching up: 180 s in 60 s", 1_800_000.0, 0.0, 10_000.0, 0.5, 40),
            ("both", 1_260_000.0, 5_000.0, 10_000.0, 0.95, 36),
            ("a backlog that shrinks needs no more for growth", 1_260_000.0, -5_000.0, 10_000.0, 0.95, 31),
            ("busy without backlog", 0.0, 0.0, 10_000.0, 0.95, 10),
            ("between the bounds", 0.0, 0.0, 8_000.0, 0.8, 10),
            ("idle enough", 0.0, 0.0, 3_500.0, 0.35, 5),
            ("idle but growing", 0.0, 1.0, 3_500.0, 0.35, 10),
            ("idle with a backlog of 10 s", 35_000.0, 0.0, 3_500.0, 0.35, 10),
            ("nothing processed", 1_000.0, 0.0, 0.0, 0.95, 10),
            ("nothing processed and growing", 1_000.0, 5.0, 0.0, 0.95, 10),
        ] {
            let judged = rule.judge(10, Signals { backlog, growth, throughput, cpu });
            assert_eq!(judged, wanted, "{what}");
        }
    }

    #[test]
    fn measures_over_a_minute_and_holds_without_data() {
        let (mut rule, mut scene) = (Beam::new(BACKLOG, CPU, LIMITS), Scene::new(10, 120));
        (scene.busy, scene.rate) = (1.0, 1000.0);
        assert_eq!(rule.decide(&scene.pass(60.0)), None, "nothing to compare with yet");
        scene.lag += 300_000; // 5,000 a second more than the 10,000 that are processed
        assert_eq!(rule.decide(&scene.pass(60.0)), Some(20), "15 for the growth, 5 for 30 s of backlog");
        let mut silent = scene.pass(60.0);
        silent.workers[4].at = None;
        assert_eq!(rule.decide(&silent), None);
        let mut blind = scene.pass(60.0);
        blind.partitions[0].committed = None;
        assert_eq!(rule.decide(&blind), None);
    }
}
