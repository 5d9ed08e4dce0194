//! One run of the demo: creates everything in order, and cleans up whatever happened.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use kube::ResourceExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::cluster::{Cluster, JobEvent};
use super::completion::Completion;
use super::environment::Environment;
use super::in_process::InProcess;
use super::job::{JobParameters, build_job};
use super::observer::Observer;
use super::scenario::{BrokerFault, Load};
use super::tasks::BackgroundTask;
use super::topic::Topic;
use super::view::{Snapshot, View};
use super::{Args, Failure, print_message};
use crate::cli::operator::{Setup, operate};
use sluice_api::StreamJob;
use sluice_api::fields::PercentileBasisPoints;
use sluice_base::clock::Clock;
use sluice_operator::Stopped;
use sluice_report::run::{Point, Run, RunReport, Target};
use sluice_signals::{Egress, Limits};
use sluice_worker::load::{self, Progress};

/// Size of each record's value, bytes.
const RECORD_BYTES: usize = 100;

/// Timeout for the operator to respond.
const OPERATOR_START_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for the first worker to be ready; its image may have to be pulled.
const FIRST_WORKER_TIMEOUT: Duration = Duration::from_mins(2);
/// The load reports its progress each second. A report older than this is not used, seconds.
const STALE_SECONDS: f64 = 3.0;
/// Timeout for workers to stop; more than their grace period.
const WORKER_STOP_TIMEOUT: Duration = Duration::from_secs(45);

/// Everything that a run has created so far; [`Session::clean_up`] deletes it.
pub(super) struct Session {
    args: Args,
    clock: Clock,
    /// Start of the run, Unix seconds.
    began: f64,
    load: Option<BackgroundTask<Progress>>,
    /// The newest progress report of the load.
    progress: watch::Sender<Option<Progress>>,
    operator: Option<BackgroundTask<Stopped>>,
    topic: Option<Topic>,
    cluster: Option<Cluster>,
    namespace_created: bool,
    job: Option<String>,
    group: String,
    /// The cluster and the broker in this process, which are stopped last.
    in_process: Option<InProcess>,
}

impl Session {
    pub(super) fn new(args: Args) -> Self {
        let clock = Clock::system();
        Self {
            args,
            began: clock.now().0,
            clock,
            load: None,
            progress: watch::Sender::new(None),
            operator: None,
            topic: None,
            cluster: None,
            namespace_created: false,
            job: None,
            group: String::new(),
            in_process: None,
        }
    }

    /// Runs the demo from an empty cluster to the report.
    pub(super) async fn run(&mut self) -> Result<(RunReport, Vec<JobEvent>), Failure> {
        let args = &self.args;
        let load = Load::new(args.scenario, args.trace.as_ref(), args.duration, args.peak)?;
        let environment = self.environment().await?;
        let cluster = Cluster::connect(environment.client.clone(), &self.args.namespace).await?;
        self.cluster = Some(cluster.clone());
        let job = build_job(&self.job_parameters(&environment))?;
        let target = target(&job)?;
        self.prepare(&cluster, &job, &environment).await?;

        let mut observer = self.start_operator(&cluster, &job).await?;
        self.job = Some(job.name_any());
        cluster.apply(&job).await?;
        self.wait_for_first_worker(&mut observer).await?;

        let mut points = Vec::new();
        let start = self.clock.now().0;
        self.start_load(&load, &environment);
        let uncommitted = self.observe_load(&mut observer, start, &load, target, &mut points).await?;
        let events = self.stop_workers(&cluster, &mut observer, &job.name_any()).await;
        let produced = self.produced().await;

        let history = observer.observed();
        let report = RunReport::from_run(Run {
            job: job.name_any(),
            load: load.description,
            target,
            produced,
            uncommitted,
            work: history.ledger.work(target.latency_seconds),
            points,
            changes: history.changes(start),
        });
        Ok((report, events))
    }

    /// Connects to the environment that the arguments name, or starts one in this process.
    async fn environment(&mut self) -> Result<Environment, Failure> {
        let named = Environment::from_args(&self.args).await?;
        let length = self.args.duration.as_secs_f64();
        if named.is_some() && self.args.scenario.broker_fault(length) != BrokerFault::None {
            return Err("this scenario needs the broker in this process; leave out --kubeconfig and --context".into());
        }
        match named {
            Some(environment) => Ok(environment),
            None => Ok(self.in_process.insert(InProcess::start(self.clock.clone()).await?).environment()),
        }
    }

    fn job_parameters(&self, environment: &Environment) -> JobParameters {
        // The names are unique to this run, so that existing topics and groups are neither read nor deleted.
        let run = format!("{:.0}", self.began.floor());
        JobParameters {
            namespace: self.args.namespace.clone(),
            brokers: environment.brokers.split(',').map(|broker| broker.trim().to_owned()).collect(),
            brokers_in_pods: environment.brokers_in_pods.clone(),
            image: environment.image.clone(),
            topic: format!("orders-{run}"),
            group: format!("orders-enricher-{run}"),
            max_replicas: self.args.max_replicas,
            group_protocol: environment.group_protocol,
            slow_start: self.args.scenario.slow_start(),
        }
    }

    /// Installs the definitions and creates the namespace and the topic.
    async fn prepare(&mut self, cluster: &Cluster, job: &StreamJob, environment: &Environment) -> Result<(), Failure> {
        cluster.install_definitions().await?;
        cluster.create_namespace(&mut self.namespace_created).await?;
        let topic = kafka(job)?.topic.clone();
        self.group.clone_from(&kafka(job)?.consumer_group);
        self.topic = Some(Topic::create(&environment.brokers, &topic, self.args.partitions).await?);
        print_message(&format!("created the namespace {} and the topic {topic}", cluster.namespace));
        Ok(())
    }

    async fn start_operator(&mut self, cluster: &Cluster, job: &StreamJob) -> Result<Observer, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(|error| format!("failed to find a free port: {error}"))?;
        let metrics_url = format!("http://{}/metrics", listener.local_addr()?);
        let namespaces = vec![cluster.namespace.clone()];
        // All addresses are on this computer or come from the command line, so no egress policy is needed.
        let egress = Egress::allow_loopback();
        let setup = Setup {
            client: cluster.client(),
            namespaces,
            excluded: BTreeSet::new(),
            election: None,
            listener,
            egress,
            limits: Limits::default(),
            in_cluster: false,
            metrics_auth: false,
            tls: None,
        };
        let operator = self.operator.insert(BackgroundTask::start("operator", |stop| operate(setup, stop)));
        let observer = Observer::start(cluster, &job.name_any(), metrics_url.clone());
        let responds = async {
            while !observer.operator_responds().await {
                operator.check_running()?;
                sleep(Duration::from_millis(200)).await;
            }
            Ok::<_, Failure>(())
        };
        timeout(OPERATOR_START_TIMEOUT, responds).await.map_err(|_| {
            format!("the operator did not respond at {metrics_url} within {OPERATOR_START_TIMEOUT:?}")
        })??;
        print_message(&format!("the operator is running; its metrics: {metrics_url}"));
        Ok(observer)
    }

    async fn wait_for_first_worker(&mut self, observer: &mut Observer) -> Result<(), Failure> {
        print_message("waiting for the first worker");
        let operator = self.operator.as_mut();
        let ready = async {
            let Some(operator) = operator else { return Ok(()) };
            while observer.measure(0.0, None).await.ready.is_none_or(|ready| ready == 0) {
                operator.check_running()?;
                sleep(Duration::from_millis(200)).await;
            }
            Ok::<_, Failure>(())
        };
        let Ok(outcome) = timeout(FIRST_WORKER_TIMEOUT, ready).await else {
            let cause = observer.observed().unready_cause();
            return Err(format!("no worker was ready after {FIRST_WORKER_TIMEOUT:?}: {cause}").into());
        };
        outcome?;
        print_message(&format!("the first worker is ready, {:.1} s after the start", self.clock.now().0 - self.began));
        Ok(())
    }

    /// Measures and displays the job each second until the workers have processed the load. Returns the number of
    /// records not committed by then, as counted by the brokers: the demo measures the operator and must not rely on
    /// its numbers.
    async fn observe_load(
        &mut self,
        observer: &mut Observer,
        start: f64,
        load: &Load,
        target: Target,
        points: &mut Vec<Point>,
    ) -> Result<Option<u64>, Failure> {
        let length = load.course.seconds();
        let title = format!("{}: {}", self.args.scenario.name(), load.description);
        let kubectl_hint = self.in_process.as_ref().map(InProcess::kubectl_hint);
        let mut view = View::on_stderr(self.args.no_color);
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut completion = Completion::default();
        let mut fault = self.args.scenario.broker_fault(length);
        loop {
            let is_tick = tokio::select! {
                _ = ticks.tick() => true,
                () = view.resized() => false,
                end = load_finished(&mut self.load) => {
                    let end = end?;
                    if !end.kept_pace() {
                        print_message(&format!(
                            "the load fell behind: {:.0} records were due, {} were acknowledged, {} failed",
                            end.due, end.acknowledged, end.failed
                        ));
                    }
                    self.load = None;
                    completion.load_ended = Some(self.clock.now().0);
                    continue;
                }
                why = cluster_failed(&mut self.in_process) => return Err(why),
            };
            let now = self.clock.now().0;
            if is_tick {
                if let Some(operator) = &mut self.operator {
                    operator.check_running()?;
                }
                if let Some(in_process) = &self.in_process {
                    in_process.inject(&mut fault, now - start);
                }
                points.push(observer.measure(now - start, self.arrival_rate(now - start)).await);
            }
            let (changes, work, state) = {
                let history = observer.observed();
                let work = history.ledger.work(target.latency_seconds);
                (history.changes(start), work, state(&history.status.conditions))
            };
            let (changes, work, kubectl_hint) = (&changes, &work, kubectl_hint.as_deref());
            let snapshot =
                Snapshot { title: &title, kubectl_hint, length, target, points, changes, work, state: &state };
            // The demo continues even if the view cannot be displayed.
            let _ = view.show(&snapshot);
            if !is_tick {
                continue;
            }
            let uncommitted = if completion.load_ended.is_some() { self.uncommitted().await } else { None };
            if completion.is_reached(now, uncommitted, work.processed) {
                return Ok(uncommitted);
            }
        }
    }

    fn start_load(&mut self, load: &Load, environment: &Environment) {
        let target = load::Target {
            bootstrap_servers: environment.brokers.clone(),
            topic: self.topic.as_ref().map(|topic| topic.name().to_owned()).unwrap_or_default(),
            create_partitions: None,
            record_bytes: RECORD_BYTES,
            keys: None,
            skew: self.args.scenario.skew(),
        };
        let (course, clock, progress) = (load.course.clone(), self.clock.clone(), self.progress.clone());
        let run = async move |stop| {
            let on_progress = |now: &Progress| {
                tracing::info!(progress = ?now, "load");
                progress.send_replace(Some(*now));
            };
            load::replay(&course, &target, clock, stop, on_progress).await.map_err(Failure::from)
        };
        self.load = Some(BackgroundTask::start("load", run));
    }

    /// Returns the rate of records acknowledged by the brokers over the last second. It is measured at the producer,
    /// like the totals of the report, and is independent of the operator. `at` is in seconds since the load began.
    fn arrival_rate(&self, at: f64) -> Option<f64> {
        if self.load.is_none() {
            return Some(0.0);
        }
        let progress = *self.progress.borrow();
        progress.filter(|progress| at - progress.seconds < STALE_SECONDS).map(|progress| progress.actual_rate)
    }

    /// Stops the workers gracefully, so that each prints its final totals. The events are read first, because they are
    /// deleted with the namespace.
    async fn stop_workers(&self, cluster: &Cluster, observer: &mut Observer, job: &str) -> Vec<JobEvent> {
        print_message("the load is over; stopping the workers");
        let events = cluster.events(job).await.map_err(|error| print_message(&error.to_string())).unwrap_or_default();
        if let Err(error) = cluster.delete_job(job, WORKER_STOP_TIMEOUT).await {
            print_message(&error.to_string());
        }
        observer.finish_logs(Duration::from_secs(10)).await;
        events
    }

    /// Returns the number of records produced, as counted by the brokers.
    async fn produced(&self) -> Option<u64> {
        self.topic.as_ref()?.records().await.map_err(|error| print_message(&error.to_string())).ok()
    }

    async fn uncommitted(&self) -> Option<u64> {
        let outcome = self.topic.as_ref()?.uncommitted(&self.group).await;
        outcome.map_err(|error| print_message(&error.to_string())).ok()
    }

    /// Deletes everything that was created. Each step is tried even if an earlier one failed.
    pub(super) async fn clean_up(&mut self) {
        let print_error = |outcome: Result<(), Failure>| {
            if let Err(error) = outcome {
                print_message(&error.to_string());
            }
        };
        if let Some(load) = self.load.take() {
            load.stop(Duration::from_secs(10)).await;
        }
        if let Some(in_process) = self.in_process.take() {
            // Stopping the cluster in this process removes everything in it.
            if let Some(operator) = self.operator.take() {
                operator.stop(Duration::from_secs(10)).await;
            }
            in_process.stop().await;
            return;
        }
        if let (Some(cluster), Some(job)) = (&self.cluster, self.job.take()) {
            print_error(cluster.delete_job(&job, WORKER_STOP_TIMEOUT).await);
        }
        if let Some(operator) = self.operator.take() {
            operator.stop(Duration::from_secs(10)).await;
        }
        if let Some(topic) = self.topic.take() {
            print_error(topic.delete().await);
        }
        if let (Some(cluster), true) = (&self.cluster, std::mem::take(&mut self.namespace_created)) {
            print_message(&format!("deleting the namespace {}", cluster.namespace));
            print_error(cluster.delete_namespace(Duration::from_secs(90)).await);
        }
    }
}

/// Waits until the load ends; never returns if there is none.
async fn load_finished(load: &mut Option<BackgroundTask<Progress>>) -> Result<Progress, Failure> {
    match load {
        Some(load) => load.finished().await,
        None => std::future::pending().await,
    }
}

/// Waits until the cluster in this process fails; never returns if there is none.
async fn cluster_failed(in_process: &mut Option<InProcess>) -> Failure {
    match in_process {
        Some(in_process) => in_process.failed().await,
        None => std::future::pending().await,
    }
}

/// Returns the reason of the job's most important condition, as a one-word state.
fn state(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> String {
    use sluice_api::conditions::{READY, SCALING_LIMITED, WITHIN_TARGET};
    let find = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    let (ready, limited, within) = (find(READY), find(SCALING_LIMITED), find(WITHIN_TARGET));
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
    let share = PercentileBasisPoints::parse(&objective.percentile).ok_or("the job's percentile is invalid")?;
    Ok(Target { latency_seconds: latency.as_secs_f64(), share: share.fraction() })
}

fn kafka(job: &StreamJob) -> Result<&sluice_api::v1alpha1::Kafka, Failure> {
    let source = job.spec.sources.first().and_then(|source| source.kafka.as_ref());
    source.ok_or_else(|| "the job has no Kafka source".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_the_reason_of_the_worst_condition() {
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
