//! Runs one cell: creates a topic and a job, sends the load, and returns the result.

use std::fs;
use std::time::Duration;

use sluice_base::clock::Clock;
use sluice_report::run::Work;
use sluice_worker::load::profile::LoadProfile;
use sluice_worker::load::{self, Progress, Target};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use super::args::Args;
use super::bed::Bed;
use super::cells::{Cell, min_workers, staircase_ratio};
use super::job::TARGET_SECONDS;
use super::observer::{Observed, Observer};
use super::result::{CellResult, Change, Measured, Point, late};
use super::topic::Topic;
use super::{Failure, job, log, print_progress, write_error};

/// Size of each record's value, bytes.
const RECORD_BYTES: usize = 100;
/// Timeout for the first workers to join, in addition to their own delay.
const JOIN_TIMEOUT: Duration = Duration::from_mins(2);
/// The longest wait for the backlog to be processed after the end of the load, seconds.
const DRAIN_SECONDS: f64 = 120.0;
/// Timeout for reading the logs to their end.
const LOG_TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) async fn run(bed: &Bed, cell: &Cell, args: &Args, clock: &Clock) -> Result<CellResult, Failure> {
    let course = cell.course(args.minutes)?;
    let topic = Topic::create(&bed.kafka, &format!("bench-{}-{:.0}", cell.name, clock.now().0)).await?;
    let initial = min_workers(course.rate(0.0));
    bed.apply(&job::job(bed, cell, args, &topic, initial)).await?;
    let observer = Observer::start(bed, clock);
    let run = measure(bed, cell, &course, &topic, &observer, clock, initial).await;
    // The job is deleted even after an error, so that the next cell starts without workers.
    let deleted = bed.delete_job().await;
    let run = run?;
    deleted?;
    let unread_logs = observer.finish_logs(LOG_TIMEOUT).await;
    let progress = topic.progress().await?;
    topic.delete().await?;

    let measured = {
        let observed = observer.observed();
        Measured {
            produced: progress.produced,
            uncommitted: progress.uncommitted,
            work: observed.ledger.work(TARGET_SECONDS),
            worker_seconds: observed.pods.seconds(run.began, run.ended),
            kept_pace: run.kept_pace,
            unread_logs,
            staircase_ratio: staircase_ratio(&course),
            changes: changes(&observed, run.began),
            points: run.points,
        }
    };
    let result = CellResult::new(cell.name, cell.description(), measured);
    let path = args.out.join(format!("{}.log", cell.name));
    fs::write(&path, log::text(&result)).map_err(|error| write_error(&path, &error))?;
    Ok(result)
}

/// The measurements from the start of the load until the backlog was processed. Times are in Unix seconds.
struct LoadRun {
    began: f64,
    ended: f64,
    kept_pace: bool,
    points: Vec<Point>,
}

async fn measure(
    bed: &Bed,
    cell: &Cell,
    course: &LoadProfile,
    topic: &Topic,
    observer: &Observer,
    clock: &Clock,
    initial: u32,
) -> Result<LoadRun, Failure> {
    let limit = JOIN_TIMEOUT + Duration::from_secs(u64::from(cell.join_after));
    timeout(limit, joined(topic, usize::try_from(initial)?))
        .await
        .map_err(|_| format!("{initial} workers had not joined after {limit:?}"))?;
    let began = clock.now().0;
    let mut load = Load::start(course, bed, topic, clock);
    let mut points: Vec<Point> = Vec::new();
    let mut before = Work::default();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut load_ended = None;
    loop {
        ticks.tick().await;
        let now = clock.now().0;
        let progress = load.progress();
        if load_ended.is_none() && load.is_over() {
            load_ended = Some(now);
        }
        let point = measure_point(&observer.observed(), now - began, progress, load_ended.is_some(), &mut before);
        let all_done = point.processed >= point.produced;
        if points.len() % 60 == 59 {
            print_progress(
                clock,
                &format!("{:.0} s: {:.0}/s, {} pods, {} late", point.at, point.rate, point.pods, point.late),
            );
        }
        points.push(point);
        let over = load_ended.is_some_and(|ended| all_done || now - ended > DRAIN_SECONDS);
        if over {
            let kept_pace = load.end().await?.kept_pace();
            return Ok(LoadRun { began, ended: clock.now().0, kept_pace, points });
        }
    }
}

/// Waits until every partition has an owner and at least this number of workers own partitions.
async fn joined(topic: &Topic, workers: usize) {
    loop {
        // Errors are retried: the broker may not be ready yet.
        if topic.progress().await.is_ok_and(|progress| progress.owned && progress.owners >= workers) {
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

fn measure_point(
    observed: &Observed,
    at: f64,
    progress: Option<Progress>,
    load_ended: bool,
    before: &mut Work,
) -> Point {
    let work = observed.ledger.work(TARGET_SECONDS);
    let new = difference(&work, before);
    let produced = progress.map_or(0, |progress| progress.acknowledged);
    let point = Point {
        at,
        rate: progress.filter(|_| !load_ended).map_or(0.0, |progress| progress.actual_rate),
        produced,
        processed: work.processed,
        p99_seconds: new.quantile_seconds(0.99),
        // Records that are not processed yet are not counted as late yet.
        late: late(&work, work.processed, 0),
        wanted: observed.status.desired_replicas,
        pods: observed.pods.existing(),
        ready: observed.status.ready_replicas,
    };
    *before = work;
    point
}

/// Returns the work done between two points.
fn difference(work: &Work, before: &Work) -> Work {
    let had = |bound: Option<f64>| {
        let buckets = before.latency_buckets_milliseconds.iter();
        buckets.filter(|(other, _)| *other == bound).map(|(_, count)| count).sum::<u64>()
    };
    let buckets = work.latency_buckets_milliseconds.iter();
    let buckets = buckets.map(|(bound, count)| (*bound, count.saturating_sub(had(*bound)))).collect();
    Work { latency_buckets_milliseconds: buckets, ..Work::default() }
}

fn changes(observed: &Observed, began: f64) -> Vec<Change> {
    let change = |decision: &sluice_api::status::DecisionStatus| Change {
        at: decision.time.0.as_duration().as_secs_f64() - began,
        from: decision.from,
        to: decision.to,
        reason: decision.reason.clone(),
        bound_by: decision.bound_by.clone(),
        message: decision.message.clone(),
    };
    observed.decisions.iter().map(change).collect()
}

/// The load, a background task. Dropping it ends the load.
struct Load {
    progress: watch::Receiver<Option<Progress>>,
    task: JoinHandle<Result<Progress, load::Error>>,
    _stop: DropGuard,
}

impl Load {
    fn start(course: &LoadProfile, bed: &Bed, topic: &Topic, clock: &Clock) -> Self {
        let target = Target {
            bootstrap_servers: bed.kafka.clone(),
            topic: topic.name.clone(),
            create_partitions: None,
            record_bytes: RECORD_BYTES,
            keys: None,
            skew: 0.0,
        };
        let (sender, progress) = watch::channel(None);
        let (course, clock, stop) = (course.clone(), clock.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            load::replay(&course, &target, clock, stopped, |now| {
                sender.send_replace(Some(*now));
            })
            .await
        });
        Self { progress, task, _stop: stop.drop_guard() }
    }

    fn progress(&self) -> Option<Progress> {
        *self.progress.borrow()
    }

    fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    async fn end(&mut self) -> Result<Progress, Failure> {
        Ok((&mut self.task).await??)
    }
}
