//! Pods and samples -> [`Observation`]: what the decision core is told. Pure.

use std::collections::HashMap;

use crate::policy::units::Seconds;
use crate::policy::{Group, Limits, Observation, Partition, Replicas, Worker};
use crate::signals::{JobSamples, Owner, PartitionSample, SourceReading, WorkerSample};

use super::observe::PodFacts;
use super::validate::Job;

/// A worker's word about its position counts for so long; after that it may be dead, and its word old.
const POSITION_HOLDS: Seconds = Seconds(10.0);

/// What the decision core is told.
pub(super) fn observation(
    job: &Job,
    desired: Option<u32>,
    pods: &[PodFacts],
    samples: &JobSamples,
    now: Seconds,
) -> Observation {
    let workers = Workers::new(pods, samples, now);
    let several = job.sources.len() > 1;
    let number = |wanted: fn(&PodFacts) -> bool| u32::try_from(pods.iter().filter(|pod| wanted(pod)).count()).ok();
    Observation {
        at: now,
        replicas: Replicas {
            desired,
            existing: number(|pod| !pod.terminating),
            ready: number(|pod| pod.ready && !pod.terminating),
        },
        partitions: samples.sources.iter().flat_map(|source| partitions(source, several, &workers)).collect(),
        sources: Vec::new(),
        groups: samples.sources.iter().filter_map(|source| group(source, several)).collect(),
        workers: pods.iter().map(|pod| workers.worker(pod)).collect(),
        limits: Limits {
            granted: None,
            unschedulable: number(|pod| pod.unschedulable.is_some()),
            crash_looping: number(|pod| pod.crash_looping),
            failing: None,
        },
    }
}

/// Pods beside what they say themselves.
struct Workers<'a> {
    pods: &'a [PodFacts],
    samples: HashMap<&'a str, &'a WorkerSample>,
    positions: HashMap<&'a str, (Seconds, i64)>,
}

impl<'a> Workers<'a> {
    fn new(pods: &'a [PodFacts], samples: &'a JobSamples, now: Seconds) -> Self {
        let newest =
            samples.workers.iter().filter_map(|reading| Some((reading.uid.as_str(), reading.sample.as_deref()?)));
        let samples: HashMap<&str, &WorkerSample> = newest.collect();
        let mut positions = HashMap::<&str, (Seconds, i64)>::new();
        for sample in samples.values().filter(|sample| now - sample.at < POSITION_HOLDS) {
            for (partition, position) in &sample.positions {
                // While a partition moves, two workers may speak of it; the one that is further on has seen more.
                let known = positions.entry(partition).or_insert((sample.at, *position));
                if *position > known.1 {
                    *known = (sample.at, *position);
                }
            }
        }
        Self { pods, samples, positions }
    }

    fn worker(&self, pod: &PodFacts) -> Worker {
        let sample = self.samples.get(pod.uid.as_str()).copied();
        Worker {
            id: pod.name.clone(),
            at: sample.map(|sample| sample.at),
            created_at: pod.created_at,
            started_at: sample.and_then(|sample| sample.started_at).or(pod.started_at),
            ready: Some(pod.ready),
            terminating: Some(pod.terminating),
            template: pod.template.clone(),
            processed: sample.and_then(|sample| sample.processed),
            in_time: sample.and_then(|sample| sample.in_time),
            busy_seconds: sample.and_then(|sample| sample.busy_seconds),
            cpu_seconds: sample.and_then(|sample| sample.cpu_seconds),
            concurrency: None,
        }
    }

    /// The pod behind a group member: by client id or static id if the worker follows the contract, else by address.
    fn owner(&self, owner: &Owner) -> Option<String> {
        let is = |pod: &&PodFacts| {
            pod.name == owner.client_id
                || owner.instance_id.as_ref() == Some(&pod.name)
                || (!owner.host.is_empty() && pod.ip.as_ref() == Some(&owner.host))
        };
        self.pods.iter().find(is).map(|pod| pod.name.clone())
    }
}

fn partitions(source: &SourceReading, several: bool, workers: &Workers<'_>) -> Vec<Partition> {
    let Some(sample) = &source.sample else { return Vec::new() };
    let partition = |partition: &PartitionSample| Partition {
        id: partition.id.clone(),
        source: several.then(|| source.name.clone()),
        at: Some(sample.at),
        end: partition.end,
        committed: partition.committed,
        position: workers.positions.get(partition.id.as_str()).map(|(_, position)| *position),
        due_end: partition.due_end,
        start: partition.start,
        high_watermark: None,
        owner: partition.owner.as_ref().map(|owner| workers.owner(owner).unwrap_or_else(|| owner.client_id.clone())),
    };
    sample.partitions.iter().map(partition).collect()
}

fn group(source: &SourceReading, several: bool) -> Option<Group> {
    let group = source.sample.as_ref()?.group.as_ref()?;
    Some(Group {
        source: several.then(|| source.name.clone()),
        state: Some(group.state.clone()),
        assignor: group.assignor.clone(),
        ..Group::default()
    })
}
