//! Builds the [`Observation`] for the decision core from pods and samples. Pure.

use std::collections::HashMap;

use sluice_api::v1alpha1::OffsetReset;
use sluice_base::units::Seconds;
use sluice_policy::{Group, Limits, Observation, Partition, Replicas, Source, Worker};
use sluice_signals::{JobSamples, PartitionSample, SourceSpec, WorkerSample};

use crate::observe::live::PodFacts;
use crate::observe::members::{Members, PodIndex};
use crate::validate::Job;

/// Maximum age of a position that a worker reports. An older one may come from a worker that is dead.
const POSITION_MAX_AGE: Seconds = Seconds(10.0);

/// Replica counts of a job's workload.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WorkloadNumbers {
    /// Replica count that the workload asks for.
    pub(crate) desired: Option<u32>,
    /// Number of workers that the cluster grants while it refuses more.
    pub(crate) granted: Option<u32>,
    /// It is unknown which pods belong to the workload, so an empty list of pods does not mean that there are none.
    pub(crate) pods_unknown: bool,
    /// Number of workers in the status of the workload's scale subresource.
    pub(crate) counted: Option<u32>,
}

/// Builds the observation for the decision core.
pub(crate) fn observation(
    job: &Job,
    numbers: WorkloadNumbers,
    pods: &[PodFacts],
    samples: &JobSamples,
    now: Seconds,
) -> Observation {
    let workers = Workers::new(samples, now);
    let pod_index = PodIndex::new(pods);
    let several = job.sources.len() > 1;
    let (mut sources, mut partitions, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for spec in &job.sources {
        let reading = samples.sources.iter().find(|reading| reading.name == spec.name);
        let sample = reading.and_then(|reading| reading.sample.as_deref());
        let name = several.then(|| spec.name.clone());
        sources.push(source(spec, name.clone(), sample.is_some()));
        let Some(sample) = sample else { continue };
        let members = Members::new(sample, &pod_index);
        let of_source = sample.partitions.iter().map(|each| partition(each, sample.at, &members, &workers));
        partitions.extend(of_source.map(|partition| Partition { source: name.clone(), ..partition }));
        groups.extend(sample.group.as_ref().map(|group| Group {
            source: name.clone(),
            state: Some(group.state.clone()),
            assignor: group.assignor.clone(),
            members: members.counts.ours,
            idle_members: members.counts.idle,
            strangers: members.counts.strangers,
        }));
    }
    let number = |wanted: fn(&PodFacts) -> bool| {
        let count = pods.iter().filter(|pod| wanted(pod)).count();
        u32::try_from(count).ok().filter(|_| !numbers.pods_unknown)
    };
    Observation {
        at: now,
        replicas: Replicas {
            desired: numbers.desired,
            existing: number(|pod| !pod.terminating).or(numbers.counted),
            ready: number(|pod| pod.ready && !pod.terminating),
        },
        sources,
        partitions,
        groups,
        workers: pods.iter().map(|pod| workers.worker(pod)).collect(),
        limits: Limits {
            granted: numbers.granted,
            unschedulable: number(|pod| pod.unschedulable.is_some()),
            crash_looping: number(|pod| pod.crash_looping.is_some()),
            failing: number(|pod| pod.failing.is_some() && !pod.terminating),
        },
    }
}

/// Describes a source of the spec. Every source is part of the observation, whether or not it was ever read.
fn source(spec: &SourceSpec, name: Option<String>, read: bool) -> Source {
    let starts = spec.kafka.offset_reset;
    Source { name, read: Some(read), starts_at_earliest: starts.map(|starts| starts == OffsetReset::Earliest) }
}

/// Metrics and positions that the workers publish.
struct Workers<'a> {
    samples: HashMap<&'a str, &'a WorkerSample>,
    positions: HashMap<&'a str, (Seconds, i64)>,
}

impl<'a> Workers<'a> {
    fn new(samples: &'a JobSamples, now: Seconds) -> Self {
        let newest =
            samples.workers.iter().filter_map(|reading| Some((reading.uid.as_str(), reading.sample.as_deref()?)));
        let samples: HashMap<&str, &WorkerSample> = newest.collect();
        let mut positions = HashMap::<&str, (Seconds, i64)>::new();
        for sample in samples.values().filter(|sample| now - sample.at < POSITION_MAX_AGE) {
            for (partition, position) in &sample.positions {
                // While a partition moves, two workers may report its position. The larger one is newer.
                let known = positions.entry(partition).or_insert((sample.at, *position));
                if *position > known.1 {
                    *known = (sample.at, *position);
                }
            }
        }
        Self { samples, positions }
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
            concurrency: sample.and_then(|sample| sample.concurrency),
        }
    }
}

fn partition<'a>(
    partition: &'a PartitionSample,
    at: Seconds,
    members: &Members<'a>,
    workers: &Workers<'_>,
) -> Partition {
    Partition {
        id: partition.id.clone(),
        source: None,
        at: Some(at),
        end: partition.end,
        committed: partition.committed,
        position: workers.positions.get(partition.id.as_str()).map(|(_, position)| *position),
        due_end: partition.due_end,
        start: partition.start,
        high_watermark: partition.high_watermark,
        owner: partition.owner.as_ref().map(|owner| members.name(owner).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::validate::validate;
    use sluice_signals::{GroupSample, Owner, SourceReading, SourceSample, WorkerReading};

    fn job(sources: &[&str], offset_reset: Option<&str>) -> Job {
        let source = |name: &&str| {
            let mut kafka = json!({"bootstrapServers": ["kafka:9092"], "topic": name, "consumerGroup": "g"});
            if let Some(reset) = offset_reset {
                kafka["offsetReset"] = reset.into();
            }
            json!({"name": name, "kafka": kafka})
        };
        let sources: Vec<_> = sources.iter().map(source).collect();
        let spec = json!({
            "objective": {"latency": "10s"}, "maxReplicas": 9, "sources": sources,
            "workload": {"template": {"spec": {"containers": [{"name": "app", "image": "i"}]}}},
        });
        let object = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob",
            "metadata": {"name": "orders", "namespace": "team", "uid": "u"}, "spec": spec,
        });
        validate(&serde_json::from_value(object).unwrap()).unwrap()
    }

    fn pod(name: &str) -> PodFacts {
        PodFacts { name: name.to_owned(), uid: format!("uid-{name}"), ..PodFacts::default() }
    }

    fn reading(name: &str, owner: Option<Owner>) -> SourceReading {
        let partition = PartitionSample {
            id: format!("{name}/0"),
            end: Some(5),
            high_watermark: Some(8),
            owner: owner.clone(),
            ..PartitionSample::default()
        };
        let group =
            GroupSample { state: "Stable".to_owned(), members: owner.into_iter().collect(), ..GroupSample::default() };
        let sample = SourceSample { partitions: vec![partition], group: Some(group), ..SourceSample::default() };
        SourceReading { name: name.to_owned(), sample: Some(Arc::new(sample)), failure: None }
    }

    fn observed(job: &Job, pods: &[PodFacts], sources: Vec<SourceReading>) -> Observation {
        let samples = JobSamples { sources, workers: Vec::new() };
        observation(job, WorkloadNumbers::default(), pods, &samples, Seconds(1.0))
    }

    #[test]
    fn unread_source_is_part_of_the_observation() {
        let unread = SourceReading { name: "b".to_owned(), sample: None, failure: None };
        let observation = observed(&job(&["a", "b", "c"], None), &[], vec![reading("a", None), unread]);
        let sources: Vec<_> = observation.sources.iter().map(|source| (source.name.as_deref(), source.read)).collect();
        assert_eq!(sources, [(Some("a"), Some(true)), (Some("b"), Some(false)), (Some("c"), Some(false))]);
        assert_eq!(observation.partitions[0].source.as_deref(), Some("a"));
        assert_eq!(observation.groups[0].source.as_deref(), Some("a"));
        // Sources are named before the first read, too.
        assert_eq!(observed(&job(&["a", "b"], None), &[], Vec::new()).sources.len(), 2);
    }

    #[test]
    fn only_source_of_a_job_has_no_name() {
        let observation = observed(&job(&["a"], None), &[], vec![reading("a", None)]);
        assert_eq!((observation.sources[0].name.as_ref(), observation.sources[0].read), (None, Some(true)));
        assert_eq!((&observation.partitions[0].source, &observation.groups[0].source), (&None, &None));
        assert_eq!(observation.partitions[0].high_watermark, Some(8));
    }

    #[test]
    fn offset_reset_of_the_spec_is_passed_on() {
        let starts = |reset| observed(&job(&["a"], reset), &[], Vec::new()).sources[0].starts_at_earliest;
        assert_eq!((starts(None), starts(Some("earliest")), starts(Some("latest"))), (None, Some(true), Some(false)));
    }

    #[test]
    fn members_have_the_names_of_their_pods_and_are_counted() {
        let owner = Owner { member_id: "m-1".to_owned(), client_id: "w-0".to_owned(), ..Owner::default() };
        let stranger = Owner { member_id: "m-2".to_owned(), client_id: "kcat".to_owned(), ..Owner::default() };
        let mut source = reading("a", Some(owner.clone()));
        let sample = Arc::make_mut(source.sample.as_mut().unwrap());
        sample.group.as_mut().unwrap().members.push(stranger.clone());
        sample.partitions.push(PartitionSample { owner: Some(stranger), ..PartitionSample::default() });
        let observation = observed(&job(&["a"], None), &[pod("w-0")], vec![source]);
        let owners: Vec<_> =
            observation.partitions.iter().map(|partition| partition.owner.as_deref().unwrap()).collect();
        assert_eq!(owners, ["w-0", "m-2"]);
        let group = &observation.groups[0];
        assert_eq!((group.members, group.idle_members, group.strangers), (Some(1), None, Some(1)));
    }

    #[test]
    fn limits_of_the_cluster_are_passed_on() {
        let failing = || PodFacts { failing: Some("ErrImagePull".to_owned()), ..pod("w-0") };
        let leaving = PodFacts { terminating: true, ..failing() };
        let crashing = PodFacts { crash_looping: Some("exit code 1".to_owned()), ..pod("w-2") };
        let wanted = WorkloadNumbers { desired: Some(6), granted: Some(3), ..WorkloadNumbers::default() };
        let pods = [failing(), leaving, crashing];
        let observation = observation(&job(&["a"], None), wanted, &pods, &JobSamples::default(), Seconds(1.0));
        let limits = Limits { granted: Some(3), unschedulable: Some(0), crash_looping: Some(1), failing: Some(1) };
        assert_eq!((observation.limits, observation.replicas.desired), (limits, Some(6)));
    }

    #[test]
    fn unknown_pods_are_not_counted_as_zero() {
        let wanted = WorkloadNumbers { desired: Some(6), pods_unknown: true, ..WorkloadNumbers::default() };
        let replicas =
            |wanted| observation(&job(&["a"], None), wanted, &[], &JobSamples::default(), Seconds(1.0)).replicas;
        assert_eq!((replicas(wanted).existing, replicas(wanted).ready), (None, None));
        assert_eq!(
            replicas(WorkloadNumbers { counted: Some(4), ..wanted }).existing,
            Some(4),
            "the scale subresource counts the pods"
        );
    }

    #[test]
    fn concurrency_of_a_worker_is_passed_on() {
        let sample = WorkerSample { concurrency: Some(4), ..WorkerSample::default() };
        let (id, uid) = ("w-0".to_owned(), "uid-w-0".to_owned());
        let reading = WorkerReading { id, uid, sample: Some(Arc::new(sample)), failure: None };
        let samples = JobSamples { sources: Vec::new(), workers: vec![reading] };
        let observation = observation(
            &job(&["a"], None),
            WorkloadNumbers::default(),
            &[pod("w-0"), pod("w-1")],
            &samples,
            Seconds(1.0),
        );
        assert_eq!((observation.workers[0].concurrency, observation.workers[1].concurrency), (Some(4), None));
    }
}
