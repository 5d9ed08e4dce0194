//! The schedule: which source is read from which cluster, and when.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    AttemptTimes, Cluster, ClusterKey, EntryId, MAX_ENTRIES_PER_ROUND, NewCluster, NewTasks, NextStep, Outcome,
    PAUSE_AFTER_UNREACHED, ScheduleEntry, Shared, State, pace, record_outcome,
};
use crate::limits::EstimateMemory;
use crate::sample::{JobKey, SourceSample, WatchSpec};
use crate::source::GroupTopic;

impl State {
    /// Schedules each source of the watch at its cluster. Sources that were scheduled before keep their turn. A source
    /// gets an error if there are too many clusters.
    pub(super) fn schedule(
        &mut self,
        job: &JobKey,
        watch: &WatchSpec,
        old: Vec<Option<(ClusterKey, EntryId)>>,
        shared: &Shared,
        started: &mut NewTasks,
    ) -> Vec<Result<(ClusterKey, EntryId), String>> {
        let keys: Vec<ClusterKey> = watch
            .sources
            .iter()
            .map(|spec| Arc::new(shared.connect.address(&job.namespace, &spec.kafka.bootstrap_servers)))
            .collect();
        let mut old = self.remove_entries(job, old);
        let before: Vec<ClusterKey> = old.iter().map(|(key, ..)| Arc::clone(key)).collect();
        let left: Vec<ClusterKey> = before.iter().filter(|key| !keys.contains(key)).cloned().collect();
        self.stop_unused_clusters(&left);
        let interval = pace::interval(watch.latency);
        let now = shared.clock.monotonic();
        let mut scheduled = Vec::new();
        for (source, (spec, key)) in watch.sources.iter().zip(keys).enumerate() {
            if let Err(detail) = self.check_cluster_limits(job, &key) {
                scheduled.push(Err(detail));
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
            let kept = old.iter().position(|(at, _, entry)| *at == key && entry.request == request);
            let (id, entry) = if let Some(index) = kept {
                let (_, id, entry) = old.swap_remove(index);
                (id, ScheduleEntry { source, ..entry })
            } else {
                self.next += 1;
                let due = now + shared.random.initial_delay(interval);
                (self.next, ScheduleEntry { job: job.clone(), source, request, interval, due, failures: 0 })
            };
            cluster.insert(id, entry);
            cluster.wake.notify_one();
            *self.namespaces.entry(job.namespace.clone()).or_default().clusters.entry(Arc::clone(&key)).or_default() +=
                1;
            scheduled.push(Ok((key, id)));
        }
        // A cluster that was used before may have been refused in favour of a new one.
        self.stop_unused_clusters(&before);
        scheduled
    }

    /// Removes a job's sources from the schedules of their clusters. The clusters remain.
    pub(super) fn remove_entries(
        &mut self,
        job: &JobKey,
        scheduled: Vec<Option<(ClusterKey, EntryId)>>,
    ) -> Vec<(ClusterKey, EntryId, ScheduleEntry)> {
        let mut taken = Vec::new();
        for (key, id) in scheduled.into_iter().flatten() {
            if let Some(namespace) = self.namespaces.get_mut(&job.namespace)
                && let Some(number) = namespace.clusters.get_mut(&key)
            {
                *number = number.saturating_sub(1);
                if *number == 0 {
                    namespace.clusters.remove(&key);
                }
            }
            let entry = self.clusters.get_mut(&key).and_then(|cluster| cluster.remove(id));
            taken.extend(entry.map(|entry| (key, id, entry)));
        }
        taken
    }

    /// Stops those of these clusters from which nothing is read any more.
    pub(super) fn stop_unused_clusters(&mut self, keys: &[ClusterKey]) {
        for key in keys {
            if self.clusters.get(key).is_some_and(|cluster| cluster.entries.is_empty()) {
                self.clusters.remove(key);
            }
        }
    }

    /// Returns what is due at a cluster. Once a source is due, sources that are due within half an interval are read
    /// along with it, so that the jobs of one cluster come to share their rounds.
    pub(in super::super) fn next_step(&self, key: &ClusterKey, stop: &CancellationToken, now: Instant) -> NextStep {
        let Some(cluster) = self.clusters.get(key).filter(|_| !stop.is_cancelled()) else { return NextStep::Stop };
        let Some((next, _)) = cluster.due.first() else { return NextStep::Stop };
        let next = cluster.not_before.map_or(*next, |not_before| not_before.max(*next));
        if next > now {
            return NextStep::Wait(next);
        }
        let until = |last: Instant| {
            let due = cluster.due.range(..=(last, EntryId::MAX));
            due.filter_map(|(_, id)| Some((*id, cluster.entries.get(id)?)))
        };
        // Half of the shortest interval that is due, so that a fast job does not read a slow one early in each of its
        // rounds.
        let near = until(now).map(|(_, entry)| entry.interval).min().unwrap_or_default() / 2;
        let along = until(now + near).filter(|(_, entry)| entry.due <= now + near.min(entry.interval / 2));
        NextStep::Round(along.take(cluster.max_per_round).map(|(id, entry)| (id, entry.clone())).collect())
    }

    /// Records the outcome for one source; returns `false` if it is not watched any more. Without an outcome the round
    /// did not reach it, and it keeps its turn.
    pub(in super::super) fn record_sample(
        &mut self,
        key: &ClusterKey,
        id: EntryId,
        outcome: Option<Outcome<SourceSample>>,
        when: &AttemptTimes,
    ) -> bool {
        let Some(cluster) = self.clusters.get_mut(key) else { return false };
        let Some((job, source)) = cluster.entries.get(&id).map(|entry| (entry.job.clone(), entry.source)) else {
            return false;
        };
        let Some(outcome) = outcome else {
            cluster.not_before = Some(when.ended + PAUSE_AFTER_UNREACHED);
            return true;
        };
        let before = self.jobs.get(&job).and_then(|job| job.sources.get(source)?.sample.as_ref());
        let before = before.map_or(0, EstimateMemory::kept_bytes);
        let outcome =
            outcome.and_then(|sample| self.reserve_memory(&job, before, sample.kept_bytes()).map(|()| sample));
        let Some(cluster) = self.clusters.get_mut(key) else { return false };
        if let Some(mut entry) = cluster.remove(id) {
            let wait = match &outcome {
                Ok(_) => {
                    entry.failures = 0;
                    entry.interval
                }
                Err((category, _)) => {
                    entry.failures = entry.failures.saturating_add(1);
                    pace::back_off(entry.interval, entry.failures, *category)
                }
            };
            entry.due = when.next_due(wait, entry.interval);
            cluster.insert(id, entry);
        }
        let reading = self.jobs.get_mut(&job).and_then(|job| job.sources.get_mut(source));
        if let Some(reading) = reading {
            record_outcome(&mut reading.sample, &mut reading.failure, outcome, when.at);
        }
        true
    }

    /// Records whether the answers of a round were too large together. If so, fewer sources go into the next round,
    /// until it shows which of them are too large.
    pub(in super::super) fn adjust_round_size(&mut self, key: &ClusterKey, entries: usize, too_large: bool) {
        let Some(cluster) = self.clusters.get_mut(key) else { return };
        cluster.max_per_round = if too_large {
            (entries / 2).max(1)
        } else {
            (cluster.max_per_round + cluster.max_per_round.div_ceil(8)).min(MAX_ENTRIES_PER_ROUND)
        };
    }
}
