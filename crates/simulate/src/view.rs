//! The rule's view of the plant: one `Observation`, created once and updated for each decision.

use super::assign::NO_OWNER;
use super::plant::Plant;
use super::pods::Pod;
use super::random::Random;
use sluice_base::units::Seconds;
use sluice_policy::{Group, Observation, Partition, Replicas, Worker};

/// Unix time at which the load begins.
pub(crate) const BEGIN: f64 = 1_764_000_000.0;

/// The observation, and what is needed to update it in place.
pub(crate) struct View {
    pub(crate) observation: Observation,
    /// Partition of each entry of `observation.partitions`; differs from its index once some were left out.
    numbers: Vec<u32>,
    /// Entries that are left out, with their partition.
    absent: Vec<(u32, Partition)>,
    /// `uid` of the owner that each partition is shown with.
    owners: Vec<u32>,
    /// `uid` of the pod of each entry of `observation.workers`.
    pods: Vec<u32>,
    /// When the source was last sampled.
    sampled: f64,
    /// When each worker was last sampled.
    scraped: Vec<f64>,
    random: Random,
}

impl View {
    pub(crate) fn new(plant: &Plant) -> Self {
        let count = plant.parts.count();
        let partition = |p| Partition { id: format!("orders/{p}"), ..Partition::default() };
        let observation = Observation {
            partitions: (0..count).map(partition).collect(),
            groups: vec![Group {
                source: None,
                state: None,
                assignor: Some("cooperative-sticky".to_owned()),
                ..Group::default()
            }],
            ..Observation::default()
        };
        Self {
            observation,
            numbers: (0..count as u32).collect(),
            absent: Vec::new(),
            owners: vec![NO_OWNER; count],
            pods: Vec::new(),
            sampled: f64::NEG_INFINITY,
            scraped: Vec::new(),
            random: Random::new(plant.scenario.seed, 6),
        }
    }

    /// Updates the observation to the end of second `second`.
    pub(crate) fn update(&mut self, plant: &Plant, second: usize) -> &Observation {
        let now = (second + 1) as f64;
        let faults = &plant.scenario.faults;
        self.observation.at = Seconds(BEGIN + now);
        let live = &plant.pods.live;
        self.observation.replicas = Replicas {
            desired: Some(plant.desired),
            existing: Some(live.len() as u32),
            ready: Some(plant.pods.ready() as u32),
        };
        let limits = &mut self.observation.limits;
        limits.granted = faults.quota.and_then(|quota| quota.at(now));
        limits.unschedulable = Some(live.iter().filter(|pod| !pod.scheduled).count() as u32);
        limits.crash_looping = Some(live.iter().filter(|pod| pod.crashing).count() as u32);
        self.partitions(plant, second, now);
        self.workers(plant, now);
        &self.observation
    }

    fn partitions(&mut self, plant: &Plant, second: usize, now: f64) {
        let faults = &plant.scenario.faults;
        if !self.absent.is_empty() {
            for (number, partition) in self.absent.drain(..) {
                self.numbers.push(number);
                self.observation.partitions.push(partition);
            }
        }
        // The group's state comes from the same source as the offsets: without a new sample it is shown unchanged.
        if now - self.sampled >= faults.staleness && (faults.dropped <= 0.0 || self.random.uniform() >= faults.dropped)
        {
            self.sampled = now;
            let restarting = plant.restarting_until > now;
            if let Some(group) = self.observation.groups.first_mut() {
                let state = group.state.get_or_insert_default();
                state.clear();
                state.push_str(if restarting { "PreparingRebalance" } else { "Stable" });
            }
            let (parts, due) = (&plant.parts, plant.parts.due(second));
            for (entry, number) in self.observation.partitions.iter_mut().zip(&self.numbers) {
                let p = *number as usize;
                entry.at = Some(Seconds(BEGIN + now));
                entry.end = Some(offset(parts.end[p]));
                entry.committed = Some(offset(parts.committed[p]));
                entry.position = plant.scenario.position.then(|| offset(parts.position[p]));
                entry.due_end = Some(due.map_or(0, |due| offset(due[p])));
                let owner = parts.owner[p];
                // The group names a dead owner until it notices the death.
                if self.owners[p] != owner && owner != NO_OWNER {
                    self.owners[p] = owner;
                    let id = entry.owner.get_or_insert_default();
                    id.clear();
                    push_id(id, owner);
                }
            }
        }
        if faults.outage.and_then(|outage| outage.at(now)).is_some() {
            self.leave_out(1.0);
        } else if let Some(share) = faults.partial.and_then(|partial| partial.at(now)) {
            self.leave_out(share);
        }
    }

    fn leave_out(&mut self, share: f64) {
        let mut index = 0;
        while index < self.numbers.len() {
            if self.random.uniform() < share {
                let number = self.numbers.swap_remove(index);
                self.absent.push((number, self.observation.partitions.swap_remove(index)));
            } else {
                index += 1;
            }
        }
    }

    fn workers(&mut self, plant: &Plant, now: f64) {
        let faults = &plant.scenario.faults;
        let missing = faults.workers_missing.and_then(|missing| missing.at(now)).is_some();
        let frozen = faults.workers_frozen.and_then(|frozen| frozen.at(now)).is_some();
        let pods = &plant.pods;
        let known = |uid: u32| pods.live.iter().chain(&pods.leaving).any(|pod| pod.uid == uid);
        let mut index = 0;
        while index < self.pods.len() {
            if known(self.pods[index]) {
                index += 1;
            } else {
                self.pods.remove(index);
                self.scraped.remove(index);
                self.observation.workers.remove(index);
            }
        }
        let all_pods = pods.live.iter().map(|pod| (pod, false)).chain(pods.leaving.iter().map(|pod| (pod, true)));
        for (pod, leaving) in all_pods {
            let index = self.pods.iter().position(|uid| *uid == pod.uid).unwrap_or_else(|| {
                self.pods.push(pod.uid);
                self.scraped.push(f64::NEG_INFINITY);
                self.observation.workers.push(born(pod));
                self.pods.len() - 1
            });
            let entry = &mut self.observation.workers[index];
            // These come from Kubernetes.
            entry.ready = Some(pod.joined && !leaving);
            entry.terminating = Some(leaving);
            let started = (pod.started <= now).then_some(Seconds(BEGIN + pod.started));
            if entry.started_at != started {
                entry.started_at = started;
                self.scraped[index] = f64::NEG_INFINITY;
            }
            if missing || !(pod.joined || leaving) {
                (entry.at, entry.processed, entry.in_time) = (None, None, None);
                (entry.busy_seconds, entry.cpu_seconds) = (None, None);
                continue;
            }
            let due = now - self.scraped[index] >= faults.staleness && !leaving;
            if !due || (faults.dropped > 0.0 && self.random.uniform() < faults.dropped) {
                continue;
            }
            self.scraped[index] = now;
            entry.at = Some(Seconds(BEGIN + now));
            if !(frozen && entry.processed.is_some()) {
                entry.processed = Some(pod.processed.floor());
                entry.in_time = Some(pod.in_time.floor());
                entry.busy_seconds = Some(pod.busy);
                entry.cpu_seconds = Some(pod.cpu);
            }
        }
    }
}

/// Rounds a position in the fluid to an offset; the rounding error of sums is not a record.
fn offset(records: f64) -> i64 {
    (records + 1e-6).floor() as i64
}

fn born(pod: &Pod) -> Worker {
    let mut id = String::new();
    push_id(&mut id, pod.uid);
    Worker {
        id,
        created_at: Some(Seconds(BEGIN + pod.created)),
        template: Some(if pod.version == 0 { "a" } else { "b" }.to_owned()),
        ..Worker::default()
    }
}

fn push_id(id: &mut String, uid: u32) {
    id.push_str("w-");
    id.push_str(&uid.to_string());
}
