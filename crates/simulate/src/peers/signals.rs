//! Signals that a rule can derive from an observation: sums over the partitions, and growth of the workers' counters.

use std::collections::{BTreeMap, VecDeque};

use sluice_base::num::{self, diff};
use sluice_policy::{Observation, Partition, Worker};

/// Share by which a window may be shorter than requested, because observations are not exactly evenly spaced.
const SLACK: f64 = 0.1;

/// Returns the records behind the commits of all partitions; a partition without a commit is behind by its whole log.
/// `None` if the lag of one of them is not known, or there are no partitions.
pub(super) fn uncommitted(observation: &Observation) -> Option<f64> {
    sum(observation, |p| behind(p, p.committed?))
}

/// Returns the records that no worker has taken yet: behind the position where the worker reports it, else behind the
/// commit.
pub(super) fn waiting(observation: &Observation) -> Option<f64> {
    sum(observation, |p| behind(p, p.position.or(p.committed)?))
}

fn behind(partition: &Partition, offset: i64) -> Option<f64> {
    let from = if offset < 0 { partition.start.unwrap_or(0) } else { offset };
    Some(diff(partition.end?, from).max(0.0))
}

/// Returns the sum of the log-end offsets, records.
pub(super) fn appended(observation: &Observation) -> Option<f64> {
    sum(observation, |p| p.end.map(num::of_i64))
}

fn sum(observation: &Observation, of: impl Fn(&Partition) -> Option<f64>) -> Option<f64> {
    if observation.partitions.is_empty() {
        return None;
    }
    observation.partitions.iter().map(of).sum()
}

/// Returns the workers that are not terminating.
pub(super) fn staying(observation: &Observation) -> impl Iterator<Item = &Worker> {
    observation.workers.iter().filter(|w| w.terminating != Some(true))
}

/// Returns the workers that are ready and not terminating.
pub(super) fn at_work(observation: &Observation) -> impl Iterator<Item = &Worker> {
    staying(observation).filter(|w| w.ready == Some(true))
}

/// Returns how many workers are ready; counted from the pods if the workload does not report it.
pub(super) fn ready(observation: &Observation) -> u32 {
    observation.replicas.ready.unwrap_or_else(|| num::u32_of(at_work(observation).count()))
}

/// Returns whether as many workers are present and ready as are requested.
pub(super) fn settled(observation: &Observation) -> bool {
    let replicas = observation.replicas;
    let there = replicas.existing.is_none_or(|e| replicas.desired == Some(e));
    replicas.desired == Some(ready(observation)) && there
}

/// Returns when this run of the process started, as bits; 0 if that is not known.
pub(super) fn incarnation(worker: &Worker) -> u64 {
    worker.started_at.map_or(0, |s| s.0.to_bits())
}

/// Growth of a worker's counters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Growth {
    /// Period of the growth, seconds; above 0.
    pub(super) seconds: f64,
    /// Records processed.
    pub(super) processed: Option<f64>,
    /// Seconds busy, summed over its threads.
    pub(super) busy: Option<f64>,
    /// CPU seconds.
    pub(super) cpu: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: f64,
    processed: Option<f64>,
    busy: Option<f64>,
    cpu: Option<f64>,
}

impl Reading {
    fn of(worker: &Worker) -> Option<Self> {
        let number = |value: Option<f64>| value.and_then(num::finite).filter(|v| *v >= 0.0);
        let (processed, busy) = (number(worker.processed), number(worker.busy_seconds));
        let cpu = number(worker.cpu_seconds);
        processed.or(busy).or(cpu)?;
        Some(Self { at: num::finite(worker.at?.0)?, processed, busy, cpu })
    }

    fn fell(&self, before: &Self) -> bool {
        let fell = |now: Option<f64>, then: Option<f64>| now.zip(then).is_some_and(|(n, t)| n < t);
        fell(self.processed, before.processed) || fell(self.busy, before.busy) || fell(self.cpu, before.cpu)
    }
}

#[derive(Debug, Default)]
struct Track {
    incarnation: u64,
    there: bool,
    reported: bool,
    readings: VecDeque<Reading>,
}

/// The workers' recent counters. Readings of another run of the process, or from before a decrease, are forgotten.
#[derive(Debug)]
pub(super) struct Counters {
    keep: f64,
    tracks: BTreeMap<String, Track>,
}

impl Counters {
    /// Returns counters that are kept for `keep` seconds.
    pub(super) fn new(keep: f64) -> Self {
        Self { keep, tracks: BTreeMap::new() }
    }

    /// Records what the workers report now.
    pub(super) fn record(&mut self, observation: &Observation) {
        for track in self.tracks.values_mut() {
            (track.there, track.reported) = (false, false);
        }
        for worker in staying(observation) {
            if !self.tracks.contains_key(&worker.id) {
                self.tracks.insert(worker.id.clone(), Track::default());
            }
            if let Some(track) = self.tracks.get_mut(&worker.id) {
                track.record(worker, self.keep);
            }
        }
        self.tracks.retain(|_, track| track.there);
    }

    /// Returns the growth over the last `window` seconds, or since the first reading; `None` if the worker reported
    /// nothing in this observation or there are not two readings.
    pub(super) fn over(&self, worker: &Worker, window: f64) -> Option<Growth> {
        let track = self.tracks.get(&worker.id).filter(|t| t.reported)?;
        let last = track.readings.back()?;
        let from = last.at - window * (1.0 - SLACK);
        let first = track.readings.iter().rev().find(|r| r.at <= from).or_else(|| track.readings.front())?;
        let grown = |now: Option<f64>, then: Option<f64>| now.zip(then).map(|(n, t)| n - t);
        (last.at > first.at).then(|| Growth {
            seconds: last.at - first.at,
            processed: grown(last.processed, first.processed),
            busy: grown(last.busy, first.busy),
            cpu: grown(last.cpu, first.cpu),
        })
    }
}

impl Track {
    fn record(&mut self, worker: &Worker, keep: f64) {
        self.there = true;
        let incarnation = incarnation(worker);
        if self.incarnation != incarnation {
            self.incarnation = incarnation;
            self.readings.clear();
        }
        let Some(reading) = Reading::of(worker) else { return };
        self.reported = true;
        if let Some(last) = self.readings.back() {
            if reading.at <= last.at {
                return; // a cached sample
            }
            if reading.fell(last) {
                self.readings.clear();
            }
        }
        self.readings.push_back(reading);
        let from = reading.at - keep * (1.0 - SLACK);
        while self.readings.get(1).is_some_and(|r| r.at <= from) {
            self.readings.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Scene;
    use super::*;

    #[test]
    fn growth_never_spans_a_restart() {
        let mut scene = Scene::new(1, 1);
        let mut counters = Counters::new(30.0);
        (scene.busy, scene.rate) = (0.5, 100.0);
        let mut observation = scene.pass(0.0);
        for _ in 0..10 {
            counters.record(&observation);
            observation = scene.pass(15.0);
            scene.busy = 0.8;
        }
        counters.record(&observation);
        let grown = counters.over(&observation.workers[0], 30.0).unwrap();
        assert!((grown.seconds - 30.0).abs() < 1e-9);
        assert!((grown.busy.unwrap() - 24.0).abs() < 1e-9 && (grown.processed.unwrap() - 3000.0).abs() < 1e-6);
        assert!(counters.tracks["w-0"].readings.len() <= 3, "older readings go");

        let mut cached = observation.clone();
        cached.at.0 += 15.0;
        counters.record(&cached);
        assert_eq!(counters.over(&cached.workers[0], 30.0), Some(grown), "a cached answer is not a growth of 0");
        cached.workers[0].at = Some(sluice_base::units::Seconds(scene.at - 15.0));
        counters.record(&cached);
        assert_eq!(counters.over(&cached.workers[0], 30.0), Some(grown), "nor is one that comes late");

        let mut silent = observation.clone();
        silent.workers[0].at = None;
        counters.record(&silent);
        assert_eq!(counters.over(&silent.workers[0], 30.0), None, "silence is not idleness");

        let mut fallen = scene.pass(15.0);
        fallen.workers[0].processed = Some(1.0);
        counters.record(&fallen);
        assert_eq!(counters.over(&fallen.workers[0], 30.0), None, "a counter that fell began again");

        let mut restarted = scene.pass(15.0);
        restarted.workers[0].started_at = Some(sluice_base::units::Seconds(7.0));
        counters.record(&restarted);
        assert_eq!(counters.over(&restarted.workers[0], 30.0), None);
    }

    #[test]
    fn missing_lag_is_not_guessed() {
        let mut scene = Scene::new(2, 4);
        scene.lag = 400;
        let mut observation = scene.pass(1.0);
        assert_eq!(uncommitted(&observation), Some(400.0));
        assert_eq!(waiting(&observation), Some(400.0));
        observation.partitions[0].position = observation.partitions[0].end;
        assert_eq!(waiting(&observation), Some(300.0), "a position sharpens it");
        assert_eq!(uncommitted(&observation), Some(400.0));
        observation.partitions[1].committed = None;
        assert_eq!(uncommitted(&observation), None);
        assert_eq!(uncommitted(&Observation::default()), None);
    }
}
