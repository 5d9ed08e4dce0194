//! The run itself: what is made, in which order, and how it is taken away whatever has happened.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use kube::ResourceExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::cluster::{Cluster, JobEvent};
use super::drain::Drain;
use super::here::Here;
use super::job::{Places, job};
use super::part::Part;
use super::place::Place;
use super::scenario::{Load, Mischief};
use super::topic::Topic;
use super::view::{Scene, View};
use super::watch::Watch;
use super::{Args, Failure, say};
use crate::cli::operator::{Setup, operate};
use sluice_api::StreamJob;
use sluice_api::fields::PercentileBasisPoints;
use sluice_base::clock::Clock;
use sluice_operator::Stopped;
use sluice_report::run::{Point, Run, RunReport, Target};
use sluice_signals::{Egress, Limits};
use sluice_worker::load::{self, Progress};

const RECORD_BYTES: usize = 100;

/// For the operator to answer.
const OPERATOR_START: Duration = Duration::from_secs(30);
/// For the first worker to be ready: an image may have to be pulled.
const FIRST_WORKER: Duration = Duration::from_mins(2);
/// Seconds after which the load's progress, which it tells each second, is none any more.
const STALE: f64 = 3.0;
/// For workers to finish and leave: more than their grace period.
const WORKERS_LEAVE: Duration = Duration::from_secs(45);

/// What a run has made so far. [`Stage::clean_up`] takes away what is there.
pub(super) struct Stage {
    args: Args,
    clock: Clock,
    /// Seconds of the clock when everything began.
    began: f64,
    load: Option<Part<Progress>>,
    /// The newest of the load.
    progress: watch::Sender<Option<Progress>>,
    operator: Option<Part<Stopped>>,
    topic: Option<Topic>,
    cluster: Option<Cluster>,
    namespace_made: bool,
    job: Option<String>,
    group: String,
    /// The last to go.
    here: Option<Here>,
}

impl Stage {
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
            namespace_made: false,
            job: None,
            group: String::new(),
            here: None,
        }
    }

    /// Everything from the empty cluster to the report.
    pub(super) async fn perform(&mut self) -> Result<(RunReport, Vec<JobEvent>), Failure> {
        let args = &self.args;
        let load = Load::new(args.scenario, args.trace.as_ref(), args.duration, args.peak)?;
        let place = self.place().await?;
        let cluster = Cluster::connect(place.client.clone(), &self.args.namespace).await?;
        self.cluster = Some(cluster.clone());
        let job = job(&self.places(&place))?;
        let target = target(&job)?;
        self.prepare(&cluster, &job, &place).await?;

        let mut watch = self.start_operator(&cluster, &job).await?;
        self.job = Some(job.name_any());
        cluster.apply(&job).await?;
        self.first_worker(&mut watch).await?;

        let mut points = Vec::new();
        let start = self.clock.now().0;
        self.start_load(&load, &place);
        let uncommitted = self.replay(&mut watch, start, &load, target, &mut points).await?;
        let events = self.workers_leave(&cluster, &mut watch, &job.name_any()).await;
        let produced = self.produced().await;

        let seen = watch.seen();
        let report = RunReport::from_run(Run {
            job: job.name_any(),
            load: load.words,
            target,
            produced,
            uncommitted,
            work: seen.ledger.work(target.latency_seconds),
            points,
            changes: seen.changes(start),
        });
        Ok((report, events))
    }

    /// The place that the arguments name; if they name none, one of our own.
    async fn place(&mut self) -> Result<Place, Failure> {
        let named = Place::of(&self.args).await?;
        let length = self.args.duration.as_secs_f64();
        if named.is_some() && self.args.scenario.mischief(length) != Mischief::None {
            return Err(
                "this scenario is only for the broker in this process; leave --kubeconfig and --context out".into()
            );
        }
        match named {
            Some(place) => Ok(place),
            None => Ok(self.here.insert(Here::start(self.clock.clone()).await?).place()),
        }
    }

    fn places(&self, place: &Place) -> Places {
        // Names of this run alone: what is in the broker already is neither read nor deleted.
        let run = format!("{:.0}", self.began.floor());
        Places {
            namespace: self.args.namespace.clone(),
            brokers: place.brokers.split(',').map(|broker| broker.trim().to_owned()).collect(),
            brokers_in_pods: place.brokers_in_pods.clone(),
            image: place.image.clone(),
            topic: format!("orders-{run}"),
            group: format!("orders-enricher-{run}"),
            max_replicas: self.args.max_replicas,
            group_protocol: place.group_protocol,
            slow_start: self.args.scenario.slow_start(),
        }
    }

    /// Definitions, namespace, topic.
    async fn prepare(&mut self, cluster: &Cluster, job: &StreamJob, place: &Place) -> Result<(), Failure> {
        cluster.define().await?;
        cluster.make_namespace(&mut self.namespace_made).await?;
        let topic = kafka(job)?.topic.clone();
        self.group.clone_from(&kafka(job)?.consumer_group);
        self.topic = Some(Topic::create(&place.brokers, &topic, self.args.partitions).await?);
        say(&format!("made the namespace {} and the topic {topic}", cluster.namespace));
        Ok(())
    }

    async fn start_operator(&mut self, cluster: &Cluster, job: &StreamJob) -> Result<Watch, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(|error| format!("failed to find a free port: {error}"))?;
        let page = format!("http://{}/metrics", listener.local_addr()?);
        let namespaces = vec![cluster.namespace.clone()];
        // Everything of the demo is on this machine, or at addresses that whoever runs it has given.
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
        let operator = self.operator.insert(Part::start("operator", |stop| operate(setup, stop)));
        let watch = Watch::start(cluster, &job.name_any(), page.clone());
        let answers = async {
            while !watch.operator_answers().await {
                operator.must_run()?;
                sleep(Duration::from_millis(200)).await;
            }
            Ok::<_, Failure>(())
        };
        timeout(OPERATOR_START, answers)
            .await
            .map_err(|_| format!("the operator did not answer at {page} within {OPERATOR_START:?}"))??;
        say(&format!("the operator runs; its metrics: {page}"));
        Ok(watch)
    }

    async fn first_worker(&mut self, watch: &mut Watch) -> Result<(), Failure> {
        say("waiting for the first worker");
        let operator = self.operator.as_mut();
        let ready = async {
            let Some(operator) = operator else { return Ok(()) };
            while watch.look(0.0, None).await.ready.is_none_or(|ready| ready == 0) {
                operator.must_run()?;
                sleep(Duration::from_millis(200)).await;
            }
            Ok::<_, Failure>(())
        };
        match timeout(FIRST_WORKER, ready).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                return Err(format!("no worker was ready after {FIRST_WORKER:?}: {}", watch.seen().trouble()).into());
            }
        }
        say(&format!("the first worker is ready, {:.1} s after the start", self.clock.now().0 - self.began));
        Ok(())
    }

    /// Looks on while the load is sent, until the workers are through with it. Returns the records that they had not
    /// committed by then; that is asked of the brokers, because the operator is what is judged here.
    async fn replay(
        &mut self,
        watch: &mut Watch,
        start: f64,
        load: &Load,
        target: Target,
        points: &mut Vec<Point>,
    ) -> Result<Option<u64>, Failure> {
        let length = load.course.seconds();
        let title = format!("{}: {}", self.args.scenario.name(), load.words);
        let way_in = self.here.as_ref().map(Here::way_in);
        let mut view = View::on_stderr(self.args.no_color);
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drain = Drain::default();
        let mut mischief = self.args.scenario.mischief(length);
        loop {
            let is_new = tokio::select! {
                _ = ticks.tick() => true,
                () = view.resized() => false,
                end = ended(&mut self.load) => {
                    let end = end?;
                    if !end.kept_pace() {
                        say(&format!(
                            "the load did not keep its pace: {:.0} records were due, {} arrived, {} were refused",
                            end.due, end.acknowledged, end.failed
                        ));
                    }
                    self.load = None;
                    drain.began = Some(self.clock.now().0);
                    continue;
                }
                why = failed(&mut self.here) => return Err(why),
            };
            let now = self.clock.now().0;
            if is_new {
                if let Some(operator) = &mut self.operator {
                    operator.must_run()?;
                }
                if let Some(here) = &self.here {
                    here.play(&mut mischief, now - start);
                }
                points.push(watch.look(now - start, self.arriving(now - start)).await);
            }
            let (changes, work, state) = {
                let seen = watch.seen();
                (seen.changes(start), seen.ledger.work(target.latency_seconds), state(&seen.status.conditions))
            };
            let (changes, work, way_in) = (&changes, &work, way_in.as_deref());
            let scene = Scene { title: &title, way_in, length, target, points, changes, work, state: &state };
            // A view that cannot be shown is no reason to stop.
            let _ = view.show(&scene);
            if !is_new {
                continue;
            }
            let uncommitted = if drain.began.is_some() { self.uncommitted().await } else { None };
            if drain.is_over(now, uncommitted, work.processed) {
                return Ok(uncommitted);
            }
        }
    }

    fn start_load(&mut self, load: &Load, place: &Place) {
        let target = load::Target {
            bootstrap_servers: place.brokers.clone(),
            topic: self.topic.as_ref().map(|topic| topic.name().to_owned()).unwrap_or_default(),
            create_partitions: None,
            record_bytes: RECORD_BYTES,
            keys: None,
            skew: self.args.scenario.skew(),
        };
        let (course, clock, progress) = (load.course.clone(), self.clock.clone(), self.progress.clone());
        let run = async move |stop| {
            let note = |now: &Progress| {
                tracing::info!(progress = ?now, "load");
                progress.send_replace(Some(*now));
            };
            load::replay(&course, &target, clock, stop, note).await.map_err(Failure::from)
        };
        self.load = Some(Part::start("load", run));
    }

    /// Records that the brokers took per second, over the last one: what the report's totals are made of, and not what the
    /// operator makes of it. `at` is in seconds since the load began.
    fn arriving(&self, at: f64) -> Option<f64> {
        if self.load.is_none() {
            return Some(0.0);
        }
        let progress = *self.progress.borrow();
        progress.filter(|progress| at - progress.seconds < STALE).map(|progress| progress.actual_rate)
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
        if let Some(here) = self.here.take() {
            // With our own cluster everything in it goes.
            if let Some(operator) = self.operator.take() {
                operator.stop(Duration::from_secs(10)).await;
            }
            here.stop().await;
            return;
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
}

/// Until the load has ended; for ever if there is none.
async fn ended(load: &mut Option<Part<Progress>>) -> Result<Progress, Failure> {
    match load {
        Some(load) => load.ended().await,
        None => std::future::pending().await,
    }
}

/// Until our own cluster has failed; for ever if there is none.
async fn failed(here: &mut Option<Here>) -> Failure {
    match here {
        Some(here) => here.failed().await,
        None => std::future::pending().await,
    }
}

/// What the operator says of the job, in one word.
fn state(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> String {
    use sluice_api::conditions::{READY, SCALING_LIMITED, WITHIN_TARGET};
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

fn kafka(job: &StreamJob) -> Result<&sluice_api::v1alpha1::Kafka, Failure> {
    let source = job.spec.sources.first().and_then(|source| source.kafka.as_ref());
    source.ok_or_else(|| "the job has no Kafka source".into())
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
