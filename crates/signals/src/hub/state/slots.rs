//! The schedule: which source is read from which cluster, and when.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Cluster, ClusterKey, MOST_SLOTS, NewCluster, Outcome, PAUSE, Plan, Shared, Slot, SlotId, Started, State, When,
    pace, update,
};
use crate::limits::Kept;
use crate::sample::{JobKey, SourceSample, Watch};
use crate::source::GroupTopic;

impl State {
    /// Schedules each source of the watch at its cluster. Sources that were scheduled before keep their turn. A source
    /// gets an error if there are too many clusters.
    pub(super) fn place(
        &mut self,
        job: &JobKey,
        watch: &Watch,
        old: Vec<Option<(ClusterKey, SlotId)>>,
        shared: &Shared,
        started: &mut Started,
    ) -> Vec<Result<(ClusterKey, SlotId), String>> {
        let keys: Vec<ClusterKey> = watch
            .sources
            .iter()
            .map(|spec| Arc::new(shared.connect.place(&job.namespace, &spec.kafka.bootstrap_servers)))
            .collect();
        let mut old = self.take_slots(job, old);
        let before: Vec<ClusterKey> = old.iter().map(|(key, ..)| Arc::clone(key)).collect();
        let left: Vec<ClusterKey> = before.iter().filter(|key| !keys.contains(key)).cloned().collect();
        self.let_go(&left);
        let interval = pace::interval(watch.latency);
        let now = shared.clock.monotonic();
        let mut places = Vec::new();
        for (source, (spec, key)) in watch.sources.iter().zip(keys).enumerate() {
            if let Err(detail) = self.admit(job, &key) {
                places.push(Err(detail));
                continue;
            }
            let cluster = self.clusters.entry(Arc::clone(&key)).or_insert_with(|| {
                let stop = shared.stop.child_token();
                let wake = Arc::new(Notify::new());
                started.clusters.push(NewCluster {
                    key: Arc::clone(&key),
                    wake: Arc::clone(&wake),
                    stop: stop.clone(),
                });
                Cluster::new(wake, stop.drop_guard())
            });
            let request = GroupTopic {
                topic: spec.kafka.topic.clone(),
                group: spec.kafka.consumer_group.clone(),
                latency: watch.latency,
            };
            let kept = old.iter().position(|(at, _, slot)| *at == key && slot.request == request);
            let (id, slot) = if let Some(place) = kept {
                let (_, id, slot) = old.swap_remove(place);
                (id, Slot { source, ..slot })
            } else {
                self.next += 1;
                let due = now + shared.dice.phase(interval);
                (self.next, Slot { job: job.clone(), source, request, interval, due, failures: 0 })
            };
            cluster.insert(id, slot);
            cluster.wake.notify_one();
            *self.namespaces.entry(job.namespace.clone()).or_default().clusters.entry(Arc::clone(&key)).or_default() +=
                1;
            places.push(Ok((key, id)));
        }
        // A cluster that was used before may have been refused in favour of a new one.
        self.let_go(&before);
        places
    }

    /// Removes a job's sources from the schedules of their clusters. The clusters remain.
    pub(super) fn take_slots(
        &mut self,
        job: &JobKey,
        places: Vec<Option<(ClusterKey, SlotId)>>,
    ) -> Vec<(ClusterKey, SlotId, Slot)> {
        let mut taken = Vec::new();
        for (key, id) in places.into_iter().flatten() {
            if let Some(namespace) = self.namespaces.get_mut(&job.namespace)
                && let Some(number) = namespace.clusters.get_mut(&key)
            {
                *number = number.saturating_sub(1);
                if *number == 0 {
                    namespace.clusters.remove(&key);
                }
            }
            let slot = self.clusters.get_mut(&key).and_then(|cluster| cluster.remove(id));
            taken.extend(slot.map(|slot| (key, id, slot)));
        }
        taken
    }

    /// Stops those of these clusters from which nothing is read any more.
    pub(super) fn let_go(&mut self, keys: &[ClusterKey]) {
        for key in keys {
            if self.clusters.get(key).is_some_and(|cluster| cluster.slots.is_empty()) {
                self.clusters.remove(key);
            }
        }
    }

    /// Returns what is due at a cluster. Once a source is due, sources that are due within half an interval are read
    /// along with it, so that the jobs of one cluster come to share their rounds.
    pub(in super::super) fn plan(&self, key: &ClusterKey, stop: &CancellationToken, now: Instant) -> Plan {
        let Some(cluster) = self.clusters.get(key).filter(|_| !stop.is_cancelled()) else { return Plan::Stop };
        let Some((next, _)) = cluster.due.first() else { return Plan::Stop };
        let next = cluster.not_before.map_or(*next, |not_before| not_before.max(*next));
        if next > now {
            return Plan::Wait(next);
        }
        let until = |last: Instant| {
            let due = cluster.due.range(..=(last, SlotId::MAX));
            due.filter_map(|(_, id)| Some((*id, cluster.slots.get(id)?)))
        };
        // Half of the shortest interval that is due, so that a fast job does not read a slow one early in each of its
        // rounds.
        let near = until(now).map(|(_, slot)| slot.interval).min().unwrap_or_default() / 2;
        let along = until(now + near).filter(|(_, slot)| slot.due <= now + near.min(slot.interval / 2));
        Plan::Round(along.take(cluster.at_once).map(|(id, slot)| (id, slot.clone())).collect())
    }

    /// Records the outcome for one source; returns `false` if it is not watched any more. Without an outcome the round
    /// did not reach it, and it keeps its turn.
    pub(in super::super) fn sampled(
        &mut self,
        key: &ClusterKey,
        id: SlotId,
        outcome: Option<Outcome<SourceSample>>,
        when: &When,
    ) -> bool {
        let Some(cluster) = self.clusters.get_mut(key) else { return false };
        let Some((job, source)) = cluster.slots.get(&id).map(|slot| (slot.job.clone(), slot.source)) else {
            return false;
        };
        let Some(outcome) = outcome else {
            cluster.not_before = Some(when.ended + PAUSE);
            return true;
        };
        let before = self.jobs.get(&job).and_then(|job| job.sources.get(source)?.sample.as_ref());
        let before = before.map_or(0, Kept::kept_bytes);
        let outcome = outcome.and_then(|sample| self.make_room(&job, before, sample.kept_bytes()).map(|()| sample));
        let Some(cluster) = self.clusters.get_mut(key) else { return false };
        if let Some(mut slot) = cluster.remove(id) {
            let wait = match &outcome {
                Ok(_) => {
                    slot.failures = 0;
                    slot.interval
                }
                Err((category, _)) => {
                    slot.failures = slot.failures.saturating_add(1);
                    pace::back_off(slot.interval, slot.failures, *category)
                }
            };
            slot.due = when.next(wait, slot.interval);
            cluster.insert(id, slot);
        }
        let reading = self.jobs.get_mut(&job).and_then(|job| job.sources.get_mut(source));
        if let Some(reading) = reading {
            update(&mut reading.sample, &mut reading.failure, outcome, when.at);
        }
        true
    }

    /// Records whether the answers of a round were too large together. If so, fewer sources go into the next round,
    /// until it shows which of them are too large.
    pub(in super::super) fn sized(&mut self, key: &ClusterKey, slots: usize, too_large: bool) {
        let Some(cluster) = self.clusters.get_mut(key) else { return };
        cluster.at_once = if too_large {
            (slots / 2).max(1)
        } else {
            (cluster.at_once + cluster.at_once.div_ceil(8)).min(MOST_SLOTS)
        };
    }
}
