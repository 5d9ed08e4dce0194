//! Parses and checks a StreamJob once, into a [`Job`], so that no later step needs the raw spec. Pure.
//!
//! The API server enforces the schema and the CEL rules. This module checks again what would do harm if it got past
//! them (an old definition in the cluster, a disabled rule), and what CEL cannot express (cron patterns, time zones,
//! ports).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Resource as _, ResourceExt as _};

use sluice_api::fields::PercentileBasisPoints;
use sluice_api::v1alpha1::{
    Metrics, Objective, Scaling, Source, StreamJob, StreamJobSpec, TargetRef, Workload, WorkloadKind,
};
use sluice_api::{RESUME_ANNOTATION, v1alpha1};
use sluice_base::units::Seconds;
use sluice_policy::{Mode, Schedule, Settings, Step};
use sluice_signals::{JobKey, SourceSpec};

use crate::apply::attempts::RequestKey;
use crate::apply::processing::ProcessingFile;
use crate::apply::template;

/// A StreamJob whose spec can be used.
#[derive(Debug, Clone)]
pub struct Job {
    /// Namespace and name of the StreamJob.
    pub key: JobKey,
    /// Uid of the StreamJob, the only proof that a workload belongs to it.
    pub uid: String,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// Value of the annotation that `sluice resume` writes. A new value has the effect of a change of the spec.
    pub resume: Option<String>,
    /// Owner reference of the job's workload.
    pub owner: OwnerReference,
    /// Settings of the decision core.
    pub settings: Settings,
    /// The objective's latency.
    pub latency: Duration,
    /// Sources of the records.
    pub sources: Vec<SourceSpec>,
    /// The workload that is scaled.
    pub target: Target,
    /// Where the workers publish their metrics.
    pub metrics: Option<Metrics>,
    /// Settings for the workers.
    pub processing: ProcessingFile,
}

impl Job {
    /// Returns the identity of a request for this job. `body` distinguishes it from other requests of its kind.
    pub(crate) fn request_key(&self, body: &str) -> RequestKey {
        RequestKey { spec: (self.generation, self.resume.clone()), body: body.to_owned() }
    }
}

/// The workload that is scaled.
#[derive(Debug, Clone)]
pub enum Target {
    /// A workload that Sluice creates, with the job's name.
    Owned(Box<OwnedWorkload>),
    /// An existing workload.
    Existing {
        /// Type of the workload. The plural is a guess for kinds outside the group apps.
        resource: ApiResource,
        /// Name of the workload.
        name: String,
    },
}

/// A workload that Sluice creates.
#[derive(Debug, Clone)]
pub struct OwnedWorkload {
    /// The workload as the user has specified it.
    pub workload: Workload,
    /// Replica count at creation.
    pub initial_replicas: u32,
}

/// One problem of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field from the object's root.
    pub field: String,
    /// The problem, and how to correct it.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.field, self.message)
    }
}

/// Parses and checks a StreamJob. Returns all problems, not only the first.
pub fn validate(object: &StreamJob) -> Result<Job, Vec<Problem>> {
    let mut problems = Problems::default();
    let spec = &object.spec;
    let key = JobKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    let uid = object.uid().unwrap_or_default();
    let owner = object.controller_owner_ref(&());
    if key.namespace.is_empty() || uid.is_empty() {
        problems.add("metadata", "has no namespace or uid: this object does not come from an API server");
    }
    let (latency, settings) = settings(spec, &mut problems);
    let sources = sources(&spec.sources, &mut problems);
    let target = target(spec, &settings, &mut problems);
    let is_set = spec.workload.as_ref().is_some_and(|workload| workload.kind == WorkloadKind::StatefulSet);
    if is_set && key.name.contains('.') {
        problems.add(
            "metadata.name",
            "must not contain a dot with workload.kind: StatefulSet, because the names of its pods are host names: use another name",
        );
    }
    if let Some(metrics) = &spec.metrics {
        check_metrics(metrics, spec.workload.as_ref(), &mut problems);
    }
    match (problems.0.is_empty(), target, owner) {
        (true, Some(target), Some(owner)) => Ok(Job {
            processing: ProcessingFile::new(latency, spec.processing.as_ref()),
            generation: object.meta().generation,
            resume: object.annotations().get(RESUME_ANNOTATION).cloned(),
            metrics: spec.metrics.clone(),
            key,
            uid,
            owner,
            settings,
            latency,
            sources,
            target,
        }),
        _ => Err(problems.0),
    }
}

/// The problems of a spec that were found so far.
#[derive(Default)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, field: &str, message: &str) {
        self.0.push(Problem { field: field.to_owned(), message: message.to_owned() });
    }

    /// Returns a duration between two bounds. Outside of them it adds a problem and returns the lower bound.
    fn duration(
        &mut self,
        field: &str,
        value: sluice_api::fields::Duration,
        low: Duration,
        high: Duration,
    ) -> Duration {
        let plain = Duration::from(value);
        if value.is_negative() || plain < low || plain > high {
            self.add(field, &format!("must lie between {} and {}", words(low), words(high)));
            return low;
        }
        plain
    }

    /// Returns a count. If it is negative, it adds a problem and returns 0.
    fn count(&mut self, field: &str, value: i32) -> u32 {
        u32::try_from(value).unwrap_or_else(|_| {
            self.add(field, "must not be negative");
            0
        })
    }
}

fn words(duration: Duration) -> String {
    sluice_base::words::seconds(duration.as_secs_f64())
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

fn settings(spec: &StreamJobSpec, problems: &mut Problems) -> (Duration, Settings) {
    let Objective { latency, percentile, window } = &spec.objective;
    let latency = problems.duration("spec.objective.latency", *latency, SECOND / 10, HOUR * 24);
    let window = problems.duration("spec.objective.window", *window, SECOND * 60, HOUR * 720);
    let percentile = PercentileBasisPoints::parse(percentile).map_or_else(
        || {
            problems.add("spec.objective.percentile", "must lie between 50 and 99.99, with at most two decimals");
            0.99
        },
        PercentileBasisPoints::fraction,
    );
    let min_replicas = problems.count("spec.minReplicas", spec.min_replicas);
    let max_replicas = problems.count("spec.maxReplicas", spec.max_replicas);
    if max_replicas == 0 {
        problems.add("spec.maxReplicas", "must be at least 1");
    }
    if min_replicas > max_replicas {
        problems.add("spec.minReplicas", "must not be larger than maxReplicas");
    }
    let pinned = spec.replicas.map(|replicas| problems.count("spec.replicas", replicas));
    if pinned.is_some_and(|replicas| replicas > max_replicas) {
        problems
            .add("spec.replicas", "must not be larger than maxReplicas: raise maxReplicas first, it is the cost bound");
    }
    let default = Scaling::default();
    let scaling = spec.scaling.as_ref().unwrap_or(&default);
    let step = |problems: &mut Problems, field: &str, value: &IntOrString| {
        parse_step(value).unwrap_or_else(|| {
            problems.add(field, "must be a number of at least 1, or a percentage between 1% and 1000%");
            Step::Workers(1)
        })
    };
    let fallback = scaling.fallback.clone().unwrap_or_default();
    let fallback_after = problems.duration("spec.scaling.fallback.after", fallback.after, SECOND * 30, HOUR * 24);
    let processing = spec.processing.as_ref();
    let batch_interval = processing.and_then(|processing| processing.batch_interval);
    let settings = Settings {
        latency: Seconds(latency.as_secs_f64()),
        percentile,
        window: Seconds(window.as_secs_f64()),
        min_replicas,
        max_replicas,
        pinned,
        suspend: spec.suspend,
        mode: mode(scaling.mode),
        max_step_up: scaling.max_step_up.as_ref().map(|value| step(problems, "spec.scaling.maxStepUp", value)),
        max_step_down: step(problems, "spec.scaling.maxStepDown", &scaling.max_step_down),
        max_rescales_per_hour: problems.count("spec.scaling.maxRescalesPerHour", scaling.max_rescales_per_hour).max(1),
        schedules: schedules(&scaling.schedules, problems),
        fallback_after: Seconds(fallback_after.as_secs_f64()),
        fallback_replicas: fallback.replicas.map(|replicas| problems.count("spec.scaling.fallback.replicas", replicas)),
        batch_interval: batch_interval.map(|interval| {
            let interval = problems.duration("spec.processing.batchInterval", interval, SECOND / 10, HOUR);
            Seconds(interval.as_secs_f64())
        }),
        max_records_per_second: processing
            .and_then(|processing| processing.max_records_per_second)
            .map(|rate| f64::from(problems.count("spec.processing.maxRecordsPerSecond", rate))),
        concurrency: processing
            .and_then(|processing| processing.concurrency)
            .map(|lanes| problems.count("spec.processing.concurrency", lanes)),
    };
    (latency, settings)
}

fn schedules(schedules: &[v1alpha1::Schedule], problems: &mut Problems) -> Vec<Schedule> {
    let mut parsed = Vec::with_capacity(schedules.len());
    for (index, schedule) in schedules.iter().enumerate() {
        let field = |name: &str| format!("spec.scaling.schedules[{index}].{name}");
        let duration = problems.duration(&field("duration"), schedule.duration, SECOND * 60, HOUR * 168);
        // Five fields: a pattern with seconds would start a schedule every few seconds, which is hardly intended.
        let cron = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Disallowed)
            .build()
            .parse(&schedule.schedule)
            .map_err(|error| {
                let message = format!("{:?} is not a cron pattern of five fields: {error}", schedule.schedule);
                problems.add(&field("schedule"), &message);
            });
        let time_zone = TimeZone::get(&schedule.time_zone).map_err(|_| {
            let message = format!("{:?} is not an IANA time zone, such as Europe/Berlin", schedule.time_zone);
            problems.add(&field("timeZone"), &message);
        });
        let bound = |problems: &mut Problems, name: &str, value: Option<i32>| {
            value.map(|value| problems.count(&field(name), value))
        };
        let min_replicas = bound(problems, "minReplicas", schedule.min_replicas);
        let max_replicas = bound(problems, "maxReplicas", schedule.max_replicas);
        if let (Ok(cron), Ok(time_zone)) = (cron, time_zone) {
            let duration = Seconds(duration.as_secs_f64());
            parsed.push(Schedule {
                name: schedule.name.clone(),
                cron,
                time_zone,
                duration,
                min_replicas,
                max_replicas,
            });
        }
    }
    parsed
}

fn sources(sources: &[Source], problems: &mut Problems) -> Vec<SourceSpec> {
    let (mut names, mut topics) = (BTreeSet::new(), BTreeSet::new());
    let mut parsed = Vec::with_capacity(sources.len());
    if sources.is_empty() {
        problems.add("spec.sources", "needs at least one source");
    }
    for (index, source) in sources.iter().enumerate() {
        let field = |name: &str| format!("spec.sources[{index}].{name}");
        if !names.insert(&source.name) {
            problems.add(&field("name"), &format!("{:?} is used twice", source.name));
        }
        let Some(kafka) = &source.kafka else {
            problems.add(&field("kafka"), "is missing: specify the kind of the source");
            continue;
        };
        if !topics.insert(&kafka.topic) {
            let message = format!("{:?} is read by two sources of this job: keep one of them", kafka.topic);
            problems.add(&field("kafka.topic"), &message);
        }
        for server in &kafka.bootstrap_servers {
            if !is_host_port(server) {
                // The text before an @ may be a password, and more people can read the status than the spec.
                let shown = server.rsplit_once('@').map_or_else(|| server.clone(), |(_, host)| format!("…@{host}"));
                problems.add(&field("kafka.bootstrapServers"), &format!("{shown:?} is not host:port"));
            }
        }
        if kafka.bootstrap_servers.is_empty() {
            problems.add(&field("kafka.bootstrapServers"), "needs at least one host:port");
        }
        parsed.push(SourceSpec { name: source.name.clone(), kafka: kafka.clone() });
    }
    parsed
}

fn is_host_port(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains([':', '/', ' ', '@']) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn target(spec: &StreamJobSpec, settings: &Settings, problems: &mut Problems) -> Option<Target> {
    match (&spec.workload, &spec.target_ref) {
        (Some(workload), None) => {
            template::check(&workload.template, problems);
            if workload.kind == WorkloadKind::Deployment
                && (workload.volume_claim_templates.is_some()
                    || workload.persistent_volume_claim_retention_policy.is_some())
            {
                problems.add("spec.workload.volumeClaimTemplates", "needs workload.kind: StatefulSet");
            }
            let initial = spec.scaling.as_ref().and_then(|scaling| scaling.initial_replicas);
            let initial = initial.map(|replicas| problems.count("spec.scaling.initialReplicas", replicas));
            let initial = initial.unwrap_or_else(|| settings.min_replicas.max(1));
            let initial_replicas = match (settings.suspend, settings.pinned) {
                (true, _) => 0,
                (false, Some(pinned)) => pinned,
                (false, None) => initial.clamp(settings.min_replicas.min(settings.max_replicas), settings.max_replicas),
            };
            Some(Target::Owned(Box::new(OwnedWorkload { workload: workload.clone(), initial_replicas })))
        }
        (None, Some(reference)) => Some(existing(reference)),
        _ => {
            problems.add(
                "spec",
                "give exactly one of workload (Sluice runs the workers) and targetRef (an existing workload)",
            );
            None
        }
    }
}

fn existing(reference: &TargetRef) -> Target {
    let (group, version) = reference.api_version.split_once('/').unwrap_or(("", &reference.api_version));
    let gvk = GroupVersionKind::gvk(group, version, &reference.kind);
    // The plural is right for every kind of the group apps; for others the API server is asked. No plural can be formed
    // of a kind of one letter.
    let resource = match reference.kind.len() {
        0 | 1 => ApiResource::from_gvk_with_plural(&gvk, &format!("{}s", reference.kind.to_lowercase())),
        _ => ApiResource::from_gvk(&gvk),
    };
    Target::Existing { resource, name: reference.name.clone() }
}

fn check_metrics(metrics: &Metrics, workload: Option<&Workload>, problems: &mut Problems) {
    match &metrics.port {
        IntOrString::Int(port) if !(1..=65535).contains(port) => {
            problems
                .add("spec.metrics.port", "must be a port number between 1 and 65535, or the name of a container port");
        }
        IntOrString::String(name) => {
            // The ports of an existing workload are known only from its pods.
            let Some(workload) = workload else { return };
            let names =
                crate::observe::workload::container_ports(&workload.template).map(|(name, _)| name).collect::<Vec<_>>();
            if !names.iter().flatten().any(|port| port == name) {
                let message = format!(
                    "no container of spec.workload.template has a port named {name:?}: add it to the container's ports"
                );
                problems.add("spec.metrics.port", &message);
            }
        }
        IntOrString::Int(_) => {}
    }
}

/// Converts the mode of a job to the one of the decision core.
fn mode(mode: sluice_api::v1alpha1::Mode) -> Mode {
    use sluice_api::v1alpha1::Mode as ApiMode;
    match mode {
        ApiMode::Auto => Mode::Auto,
        ApiMode::OutOnly => Mode::OutOnly,
        ApiMode::InOnly => Mode::InOnly,
        ApiMode::Recommend => Mode::Recommend,
    }
}

/// Parses `4` or `"30%"`. Returns `None` for 0, a negative number or any other text.
fn parse_step(value: &IntOrString) -> Option<Step> {
    match value {
        IntOrString::Int(workers) => u32::try_from(*workers).ok().filter(|workers| *workers > 0).map(Step::Workers),
        IntOrString::String(text) => {
            text.strip_suffix('%')?.parse().ok().filter(|percent| (1..=1000).contains(percent)).map(Step::Percent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_is_a_number_of_workers_or_a_percentage() {
        let text = |value: &str| IntOrString::String(value.to_owned());
        assert_eq!(parse_step(&IntOrString::Int(4)), Some(Step::Workers(4)));
        assert_eq!(parse_step(&text("30%")), Some(Step::Percent(30)));
        for bad in [IntOrString::Int(0), IntOrString::Int(-1), text("0%"), text("1001%"), text("30"), text("%")] {
            assert_eq!(parse_step(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_example_is_valid() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let mut job: StreamJob = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
                job.metadata.uid = Some("uid".to_owned());
                job.metadata.namespace = Some("team".to_owned());
                assert!(validate(&job).is_ok(), "{}: {:?}", path.display(), validate(&job).err());
            }
        }
    }
}
