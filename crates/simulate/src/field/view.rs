//! The rule's view of the plant: one `Observation`, updated for each decision.

use super::fleet::Pod;
use super::plant::Plant;
use super::world::{Handover, History, Owners, Signals};
use crate::assign::NO_OWNER;
use crate::random::Random;
use sluice_base::units::Seconds;
use sluice_policy::{Group, Limits, Observation, Partition, Replicas, Source, Worker};

/// Unix time at which the load begins.
pub(crate) const BEGIN: f64 = 1_764_000_000.0;
/// Time for which a reported position is valid, as in the operator.
const POSITION_HOLDS: f64 = 10.0;

/// How a rule observes the plant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Eyes {
    pub(crate) signals: Signals,
    /// Seconds between two observations; the share by which that varies; the share of samples that get lost.
    pub(crate) interval: f64,
    pub(crate) jitter: f64,
    pub(crate) missed: f64,
    /// Whether workers are read at moments of their own, not together with the log.
    pub(crate) own_moments: bool,
    /// Whether CPU is reported, per lane.
    pub(crate) cpu: bool,
}

/// The observation, and what is needed to update it in place.
pub(crate) struct View {
    eyes: Eyes,
    observation: Observation,
    /// `uid` of the owner that each partition is shown with.
    owners: Vec<u32>,
    /// `uid` of the pod of each entry of `observation.workers`.
    pods: Vec<u32>,
    random: Random,
}

impl View {
    pub(crate) fn new(plant: &Plant, eyes: Eyes) -> Self {
        let count = plant.logs.count();
        let partition = |p| Partition { id: format!("orders/{p}"), ..Partition::default() };
        let latest = matches!(plant.world.history, History::Latest { .. });
        let source =
            Source { name: None, read: Some(true), starts_at_earliest: eyes.signals.offset_reset.then_some(!latest) };
        let group = Group { assignor: Some(plant.world.assignor.as_str().to_owned()), ..Group::default() };
        let observation = Observation {
            partitions: (0..count).map(partition).collect(),
            sources: vec![source],
            groups: vec![group],
            limits: Limits { granted: None, unschedulable: Some(0), crash_looping: Some(0), failing: Some(0) },
            ..Observation::default()
        };
        let random = Random::new(plant.world.seed, 25);
        Self { eyes, observation, owners: vec![NO_OWNER; count], pods: Vec::new(), random }
    }

    /// Returns the time of the next observation.
    pub(crate) fn next(&mut self, now: f64) -> f64 {
        now + self.eyes.interval * (1.0 + self.eyes.jitter * (2.0 * self.random.uniform() - 1.0))
    }

    /// Reads the workers whose time has come.
    pub(crate) fn scrape(&mut self, plant: &mut Plant, now: f64) {
        if !self.eyes.own_moments {
            return;
        }
        for index in 0..plant.fleet.live.len() {
            if now < plant.fleet.live[index].scraped_at {
                continue;
            }
            let next = self.next(now);
            plant.fleet.live[index].scraped_at = next;
            if self.random.uniform() >= self.eyes.missed {
                plant.scrape(index, now);
            }
        }
    }

    /// Updates the observation.
    pub(crate) fn update(&mut self, plant: &mut Plant, now: f64) -> &Observation {
        if !self.eyes.own_moments {
            (0..plant.fleet.live.len()).for_each(|index| plant.scrape(index, now));
        }
        self.observation.at = Seconds(BEGIN + now);
        self.observation.replicas = Replicas {
            desired: Some(plant.desired),
            existing: Some(plant.fleet.live.len() as u32),
            ready: Some(plant.fleet.ready(now) as u32),
        };
        if self.random.uniform() >= self.eyes.missed {
            self.partitions(plant, now);
            self.group(plant, now);
        }
        self.workers(plant, now);
        &self.observation
    }

    fn partitions(&mut self, plant: &Plant, now: f64) {
        let signals = self.eyes.signals;
        let (logs, world) = (&plant.logs, plant.world);
        let retained = match world.history {
            History::Latest { retained } => i64::from(retained),
            _ => 0,
        };
        let size = world.records_per_transaction;
        let due = if signals.due_end { logs.due(now) } else { None };
        for (p, entry) in self.observation.partitions.iter_mut().enumerate() {
            entry.at = Some(Seconds(BEGIN + now));
            entry.end = Some(retained + after_marker(logs.end[p], size));
            entry.high_watermark = entry.end;
            entry.committed =
                Some(if logs.committed[p] < 0.0 { -1 } else { retained + before_marker(logs.committed[p], size) });
            entry.start = signals.start.then_some(0);
            entry.due_end = due.map(|due| retained + after_marker(due[p], size));
            let (position, at) = logs.reported[p];
            let holds = signals.positions && now - at < POSITION_HOLDS;
            entry.position = holds.then(|| retained + after_marker(position, size));
            let owner = logs.owner[p];
            match signals.owners {
                Owners::OneName if entry.owner.is_none() => entry.owner = Some("consumer-orders-1".to_owned()),
                // The group names a dead owner until it notices the death.
                Owners::Known if self.owners[p] != owner && owner != NO_OWNER => {
                    self.owners[p] = owner;
                    entry.owner = Some(name(owner));
                }
                _ => {}
            }
        }
    }

    fn group(&mut self, plant: &Plant, now: f64) {
        let Some(group) = self.observation.groups.first_mut() else { return };
        let members = plant.fleet.joined() as u32;
        let state = match plant.world.handover {
            _ if members == 0 => "Empty",
            _ if now >= plant.dealing_until => "Stable",
            Handover::Kip848 => "Reconciling",
            _ => "PreparingRebalance",
        };
        group.state = Some(state.to_owned());
        if self.eyes.signals.owners == Owners::Known {
            let idle = plant.fleet.live.iter().filter(|pod| pod.joined && pod.mine.is_empty()).count();
            (group.members, group.idle_members, group.strangers) = (Some(members), Some(idle as u32), Some(0));
        }
    }

    fn workers(&mut self, plant: &Plant, now: f64) {
        let fleet = &plant.fleet;
        let pods = || fleet.live.iter().map(|pod| (pod, false)).chain(fleet.leaving.iter().map(|pod| (pod, true)));
        let mut index = 0;
        while index < self.pods.len() {
            if pods().any(|(pod, _)| pod.uid == self.pods[index]) {
                index += 1;
            } else {
                self.pods.remove(index);
                self.observation.workers.remove(index);
            }
        }
        for (pod, leaving) in pods() {
            let index = self.pods.iter().position(|uid| *uid == pod.uid).unwrap_or_else(|| {
                self.pods.push(pod.uid);
                self.observation.workers.push(born(pod));
                self.pods.len() - 1
            });
            let entry = &mut self.observation.workers[index];
            entry.ready = Some(pod.ready_at <= now && !leaving);
            entry.terminating = Some(leaving);
            entry.started_at = (pod.started <= now).then_some(Seconds(BEGIN + pod.started));
            self.counters(pod, plant.world.lanes, index);
        }
    }

    fn counters(&mut self, pod: &Pod, lanes: u32, index: usize) {
        let Eyes { signals, cpu, .. } = self.eyes;
        let entry = &mut self.observation.workers[index];
        let reported = pod.reported.filter(|_| signals.processed || signals.busy || cpu);
        entry.at = reported.map(|reported| Seconds(BEGIN + reported.at));
        entry.processed = reported.filter(|_| signals.processed).map(|reported| reported.processed.floor());
        entry.in_time = reported.filter(|_| signals.processed && signals.busy).map(|reported| reported.in_time.floor());
        entry.busy_seconds = reported.filter(|_| signals.busy).map(|reported| reported.busy);
        entry.cpu_seconds = reported.filter(|_| cpu).map(|reported| reported.busy / f64::from(lanes));
        entry.concurrency = reported.filter(|_| signals.concurrency).map(|_| lanes);
    }
}

/// Returns the offset after a number of whole records, and after the marker of a transaction that ends with them.
fn after_marker(records: f64, per_transaction: Option<f64>) -> i64 {
    let records = whole(records);
    records + per_transaction.map_or(0, |size| (records as f64 / size) as i64)
}

/// Returns the offset after the last of a number of whole records, which is before the marker.
fn before_marker(records: f64, per_transaction: Option<f64>) -> i64 {
    let records = whole(records);
    records + per_transaction.map_or(0, |size| ((records - 1).max(0) as f64 / size) as i64)
}

/// Rounds down to whole records; rounding errors of sums are not records.
fn whole(records: f64) -> i64 {
    (records + 1e-6).floor() as i64
}

fn born(pod: &Pod) -> Worker {
    Worker {
        id: name(pod.uid),
        created_at: Some(Seconds(BEGIN + pod.created)),
        template: Some(if pod.version == 0 { "a" } else { "b" }.to_owned()),
        ..Worker::default()
    }
}

fn name(uid: u32) -> String {
    format!("w-{uid}")
}
