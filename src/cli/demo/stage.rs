//! The run itself: what is made, in which order, and how it is taken away whatever has happened.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use kube::ResourceExt as _;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::child::Child;
use super::cluster::{Cluster, JobEvent};
use super::drain::Drain;
use super::job::{Places, job};
use super::topic::Topic;
use super::view::{Scene, View};
use super::watch::Watch;
use super::{Args, Failure, say};
use crate::api::StreamJob;
use crate::api::fields::PercentileBasisPoints;
use crate::clock::Clock;
use crate::report::run::{Point, Run, RunReport, Target};
use crate::simulate::trace::{self, Gaps};
use crate::worker::load::pace::{Course, steps};

/// The trace that is replayed unless another is given. Its origin and licence: examples/traces/README.md.
const TRACE: &str = include_str!("../../../examples/traces/diurnal-ads-18h.csv");
const RECORD_BYTES: u32 = 100;

/// For the operator to answer.
const OPERATOR_START: Duration = Duration::from_secs(30);
/// For the first worker to be ready: an image may have to be pulled.
const FIRST_WORKER: Duration = Duration::from_mins(2);
/// For workers to finish and leave: more than their grace period.
const WORKERS_LEAVE: Duration = Duration::from_secs(45);

/// What a run has made so far. [`Stage::clean_up`] takes away what is there.
pub(super) struct Stage {
    args: Args,
    clock: Clock,
    cluster: Option<Cluster>,
    namespace_made: bool,
    topic: Option<Topic>,
    operator: Option<Child>,
    load: Option<Child>,
    job: Option<String>,
    group: String,
}

impl Stage {
    pub(super) fn new(args: Args) -> Self {
        Self {
            args,
            clock: Clock::system(),
            cluster: None,
            namespace_made: false,
            topic: None,
            operator: None,
            load: None,
            job: None,
            group: String::new(),
        }
    }

    /// Everything from the empty cluster to the report.
    pub(super) async fn perform(&mut self) -> Result<(RunReport, Vec<JobEvent>), Failure> {
        let (trace, length) = self.trace()?;
        let cluster = Cluster::connect(self.args.kubeconfig.as_deref(), &self.args.namespace).await?;
        self.cluster = Some(cluster.clone());
        let job = job(&self.places())?;
        let target = target(&job)?;
        self.prepare(&cluster, &job).await?;

        let mut watch = self.start_operator(&cluster, &job).await?;
        self.job = Some(job.name_any());
        cluster.apply(&job).await?;
        self.first_worker(&mut watch).await?;

        let mut points = Vec::new();
        let start = self.clock.now().0;
        let uncommitted = self.replay(&mut watch, &trace, start, length, target, &mut points).await?;
        let events = self.workers_leave(&cluster, &mut watch, &job.name_any()).await;
        let produced = self.produced().await;

        let seen = watch.seen();
        let report = RunReport::of(Run {
            job: job.name_any(),
            load: self.load_in_words(length),
            target,
            produced,
            uncommitted,
            work: seen.ledger.work(target.latency_seconds),
            points,
            changes: seen.changes(start),
        });
        Ok((report, events))
    }

    fn places(&self) -> Places {
        // Names of this run alone: what is in the broker already is neither read nor deleted.
        let run = format!("{:.0}", self.clock.now().0.floor());
        let hosts = &self.args.kafka_host;
        let pods = self.args.kafka_pod.clone().filter(|brokers| !brokers.is_empty());
        Places {
            namespace: self.args.namespace.clone(),
            brokers: hosts.split(',').map(|broker| broker.trim().to_owned()).collect(),
            brokers_in_pods: pods.unwrap_or_else(|| hosts.clone()),
            image: self.args.image.clone(),
            topic: format!("orders-{run}"),
            group: format!("orders-enricher-{run}"),
            max_replicas: self.args.max_replicas,
        }
    }

    /// Definitions, namespace, topic.
    async fn prepare(&mut self, cluster: &Cluster, job: &StreamJob) -> Result<(), Failure> {
        cluster.define().await?;
        cluster.make_namespace(&mut self.namespace_made).await?;
        let topic = kafka(job)?.topic.clone();
        self.group.clone_from(&kafka(job)?.consumer_group);
        self.topic = Some(Topic::create(&self.args.kafka_host, &topic, self.args.partitions).await?);
        say(&format!("made the namespace {} and the topic {topic}", cluster.namespace));
        Ok(())
    }

    async fn start_operator(&mut self, cluster: &Cluster, job: &StreamJob) -> Result<Watch, Failure> {
        let address = free_address()?;
        let mut arguments: Vec<OsString> = vec!["operator".into()];
        if let Some(path) = &self.args.kubeconfig {
            arguments.extend(["--kubeconfig".into(), path.into()]);
        }
        arguments.extend(["--listen", &address, "--watch-namespaces", &cluster.namespace].map(OsString::from));
        let operator = self.operator.insert(Child::start("operator", arguments, self.args.out.join("operator.log"))?);
        let watch = Watch::start(cluster, &job.name_any(), format!("http://{address}/metrics"));
        let answers = async {
            while !watch.operator_answers().await {
                operator.must_run()?;
                sleep(Duration::from_millis(200)).await;
            }
            Ok::<_, Failure>(())
        };
        timeout(OPERATOR_START, answers).await.map_err(|_| {
            format!("the operator did not answer at http://{address}/metrics within {OPERATOR_START:?}")
        })??;
        say(&format!("the operator runs; its metrics: http://{address}/metrics"));
        Ok(watch)
    }

    async fn first_worker(&mut self, watch: &mut Watch) -> Result<(), Failure> {
        say("waiting for the first worker");
        let operator = self.operator.as_mut();
        let ready = async {
            let Some(operator) = operator else { return Ok(()) };
            while watch.look(0.0).await.ready.is_none_or(|ready| ready == 0) {
                operator.must_run()?;
                sleep(Duration::from_millis(500)).await;
            }
            Ok::<_, Failure>(())
        };
        match timeout(FIRST_WORKER, ready).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no worker was ready after {FIRST_WORKER:?}: {}", watch.seen().trouble()).into()),
        }
    }

    /// Sends the load and looks on, until the workers are through with it. Returns the records that they had not committed
    /// by then; that is asked of the brokers, because the operator is what is judged here.
    async fn replay(
        &mut self,
        watch: &mut Watch,
        trace: &std::path::Path,
        start: f64,
        length: f64,
        target: Target,
        points: &mut Vec<Point>,
    ) -> Result<Option<u64>, Failure> {
        self.start_load(trace)?;
        let mut view = View::on_stderr(self.args.no_color);
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drain = Drain::default();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                status = ended(&mut self.load) => {
                    if !status?.success() {
                        say(&format!("the load did not keep its pace; see {}", self.args.out.join("load.log").display()));
                    }
                    self.load = None;
                    drain.began = Some(self.clock.now().0);
                    continue;
                }
            }
            if let Some(operator) = &mut self.operator {
                operator.must_run()?;
            }
            let now = self.clock.now().0;
            let point = watch.look(now - start).await;
            points.push(point);
            let (changes, processed, state) = {
                let seen = watch.seen();
                (seen.changes(start), seen.ledger.processed(), state(&seen.status.conditions))
            };
            let scene = Scene { point, length, target, changes: &changes, processed, state: &state };
            // A view that cannot be shown is no reason to stop.
            let _ = view.show(&scene);
            let uncommitted = if drain.began.is_some() { self.uncommitted().await } else { None };
            if drain.is_over(now, uncommitted, processed) {
                return Ok(uncommitted);
            }
        }
    }

    fn start_load(&mut self, trace: &std::path::Path) -> Result<(), Failure> {
        let topic = self.topic.as_ref().map(|topic| topic.name().to_owned()).unwrap_or_default();
        let number = |number: &dyn ToString| OsString::from(number.to_string());
        let arguments: [OsString; 13] = [
            "load".into(),
            "--bootstrap-servers".into(),
            self.args.kafka_host.clone().into(),
            "--topic".into(),
            topic.into(),
            "--trace".into(),
            trace.into(),
            "--compress".into(),
            number(&self.args.compress),
            "--peak".into(),
            number(&self.args.peak),
            "--record-bytes".into(),
            number(&RECORD_BYTES),
        ];
        self.load = Some(Child::start("load", arguments, self.args.out.join("load.log"))?);
        Ok(())
    }

    /// Lets the workers stop in good order, so that each says its last totals. The events go with the namespace, so they
    /// are read first.
    async fn workers_leave(&self, cluster: &Cluster, watch: &mut Watch, job: &str) -> Vec<JobEvent> {
        say("the load is over; letting the workers leave");
        let events = cluster.events(job).await.map_err(|error| say(&error.to_string())).unwrap_or_default();
        if let Err(error) = cluster.delete_job(job, WORKERS_LEAVE).await {
            say(&error.to_string());
        }
        watch.last_logs(Duration::from_secs(10)).await;
        events
    }

    /// Records produced, by the brokers' count.
    async fn produced(&self) -> Option<u64> {
        self.topic.as_ref()?.records().await.map_err(|error| say(&error.to_string())).ok()
    }

    async fn uncommitted(&self) -> Option<u64> {
        let outcome = self.topic.as_ref()?.uncommitted(&self.group).await;
        outcome.map_err(|error| say(&error.to_string())).ok()
    }

    /// Takes away whatever there is. Each step is tried, whatever became of the others.
    pub(super) async fn clean_up(&mut self) {
        let tell = |outcome: Result<(), Failure>| {
            if let Err(error) = outcome {
                say(&error.to_string());
            }
        };
        if let Some(load) = self.load.take() {
            load.stop(Duration::from_secs(10)).await;
        }
        if let (Some(cluster), Some(job)) = (&self.cluster, self.job.take()) {
            tell(cluster.delete_job(&job, WORKERS_LEAVE).await);
        }
        if let Some(operator) = self.operator.take() {
            operator.stop(Duration::from_secs(10)).await;
        }
        if let Some(topic) = self.topic.take() {
            tell(topic.delete().await);
        }
        if let (Some(cluster), true) = (&self.cluster, std::mem::take(&mut self.namespace_made)) {
            say(&format!("deleting the namespace {}", cluster.namespace));
            tell(cluster.delete_namespace(Duration::from_secs(90)).await);
        }
    }

    /// The file to replay, and how long the replay takes in seconds.
    fn trace(&self) -> Result<(PathBuf, f64), Failure> {
        let (path, text) = if let Some(path) = &self.args.trace {
            let read = std::fs::read_to_string(path);
            (path.clone(), read.map_err(|error| format!("failed to read {}: {error}", path.display()))?)
        } else {
            let path = self.args.out.join("trace.csv");
            std::fs::write(&path, TRACE).map_err(|error| format!("failed to write {}: {error}", path.display()))?;
            (path, TRACE.to_owned())
        };
        let points = trace::parse(&path.display().to_string(), &text, Gaps::Allowed)?;
        let seconds = Course::new(&steps(&points)).seconds();
        Ok((path, seconds / self.args.compress))
    }

    fn load_in_words(&self, length: f64) -> String {
        let name = match &self.args.trace {
            Some(path) => path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            None => "a day of advertisements".to_owned(),
        };
        let words = crate::report::words::seconds;
        format!(
            "{name}, {} in {}, up to {}",
            words((length * self.args.compress).round()),
            words(length.round()),
            crate::report::words::rate(self.args.peak)
        )
    }
}

/// Until the load has ended; for ever if there is none.
async fn ended(load: &mut Option<Child>) -> Result<std::process::ExitStatus, Failure> {
    match load {
        Some(load) => load.ended().await,
        None => std::future::pending().await,
    }
}

/// What the operator says of the job, in one word.
fn state(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> String {
    use crate::api::conditions::{READY, SCALING_LIMITED, WITHIN_TARGET};
    let of = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    let (ready, limited, within) = (of(READY), of(SCALING_LIMITED), of(WITHIN_TARGET));
    ready
        .filter(|condition| condition.status != "True")
        .or_else(|| limited.filter(|condition| condition.status == "True"))
        .or(within)
        .or(ready)
        .map_or_else(|| "?".to_owned(), |condition| condition.reason.clone())
}

fn target(job: &StreamJob) -> Result<Target, Failure> {
    let objective = &job.spec.objective;
    let latency = Duration::from(objective.latency);
    let share = PercentileBasisPoints::parse(&objective.percentile).ok_or("the job's percentile cannot be read")?;
    Ok(Target { latency_seconds: latency.as_secs_f64(), share: share.fraction() })
}

fn kafka(job: &StreamJob) -> Result<&crate::api::v1alpha1::Kafka, Failure> {
    let source = job.spec.sources.first().and_then(|source| source.kafka.as_ref());
    source.ok_or_else(|| "the job has no Kafka source".into())
}

/// An address on this computer that nobody listens at. Someone else may take it before the operator does: then the
/// operator says so and the demo with it.
fn free_address() -> Result<String, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address.map_err(|error| format!("failed to find a free port: {error}"))?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_the_worst_that_the_conditions_say() {
        let condition = |type_: &str, status: &str, reason: &str| {
            serde_json::from_value(serde_json::json!({
                "type": type_, "status": status, "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }))
            .unwrap()
        };
        let mut conditions = vec![condition("Ready", "True", "Ready"), condition("WithinTarget", "True", "Met")];
        assert_eq!(state(&conditions), "Met");
        conditions.push(condition("ScalingLimited", "True", "AtMaxReplicas"));
        assert_eq!(state(&conditions), "AtMaxReplicas");
        conditions[0] = condition("Ready", "False", "NoReadyWorkers");
        assert_eq!(state(&conditions), "NoReadyWorkers");
        assert_eq!(state(&[]), "?");
    }
}
