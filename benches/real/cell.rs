//! One cell from beginning to end: a topic, a job, a load, and what came of it.

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
use super::cells::{Cell, fewest, staircase};
use super::job::TARGET_SECONDS;
use super::topic::Topic;
use super::verdict::{Change, Measured, Point, Verdict, late};
use super::watch::{Seen, Watch};
use super::{Failure, job, log, say, unwritten};

const RECORD_BYTES: usize = 100;
/// For the first workers to have joined, besides what they wait by themselves.
const BEGINNING: Duration = Duration::from_mins(2);
/// For what is left over when the load has ended.
const DRAIN_SECONDS: f64 = 120.0;
/// For the last lines of logs.
const LAST_LINES: Duration = Duration::from_secs(15);

pub(crate) async fn run(bed: &Bed, cell: &Cell, args: &Args, clock: &Clock) -> Result<Verdict, Failure> {
    let course = cell.course(args.minutes)?;
    let topic = Topic::create(&bed.kafka, &format!("bench-{}-{:.0}", cell.name, clock.now().0)).await?;
    let initial = fewest(course.rate(0.0));
    bed.apply(&job::job(bed, cell, args, &topic, initial)).await?;
    let watch = Watch::start(bed, clock);
    let ran = measure(bed, cell, &course, &topic, &watch, clock, initial).await;
    // Whatever became of it, the next one begins with nothing.
    let left = bed.delete_job().await;
    let ran = ran?;
    left?;
    let unread_logs = watch.last_logs(LAST_LINES).await;
    let standing = topic.standing().await?;
    topic.delete().await?;

    let measured = {
        let seen = watch.seen();
        Measured {
            produced: standing.produced,
            uncommitted: standing.uncommitted,
            work: seen.ledger.work(TARGET_SECONDS),
            worker_seconds: seen.pods.seconds(ran.began, ran.ended),
            kept_pace: ran.kept_pace,
            unread_logs,
            staircase_ratio: staircase(&course),
            changes: changes(&seen, ran.began),
            points: ran.points,
        }
    };
    let verdict = Verdict::of(cell.name, cell.words(), measured);
    let path = args.out.join(format!("{}.log", cell.name));
    fs::write(&path, log::text(&verdict)).map_err(|error| unwritten(&path, &error))?;
    Ok(verdict)
}

/// What is measured while there is load, or something left of it. Unix seconds.
struct Ran {
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
    watch: &Watch,
    clock: &Clock,
    initial: u32,
) -> Result<Ran, Failure> {
    let patience = BEGINNING + Duration::from_secs(u64::from(cell.join_after));
    timeout(patience, joined(topic, usize::try_from(initial)?))
        .await
        .map_err(|_| format!("{initial} workers had not joined after {patience:?}"))?;
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
        let point = look(&watch.seen(), now - began, progress, load_ended.is_some(), &mut before);
        let all_done = point.processed >= point.produced;
        if points.len() % 60 == 59 {
            say(clock, &format!("{:.0} s: {:.0}/s, {} pods, {} late", point.at, point.rate, point.pods, point.late));
        }
        points.push(point);
        let over = load_ended.is_some_and(|ended| all_done || now - ended > DRAIN_SECONDS);
        if over {
            let kept_pace = load.end().await?.kept_pace();
            return Ok(Ran { began, ended: clock.now().0, kept_pace, points });
        }
    }
}

/// Until every partition has an owner, and this number of workers owns some.
async fn joined(topic: &Topic, workers: usize) {
    loop {
        // A broker that does not answer yet is asked again.
        if topic.standing().await.is_ok_and(|standing| standing.owned && standing.owners >= workers) {
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

fn look(seen: &Seen, at: f64, progress: Option<Progress>, load_ended: bool, before: &mut Work) -> Point {
    let work = seen.ledger.work(TARGET_SECONDS);
    let new = difference(&work, before);
    let produced = progress.map_or(0, |progress| progress.acknowledged);
    let point = Point {
        at,
        rate: progress.filter(|_| !load_ended).map_or(0.0, |progress| progress.actual_rate),
        produced,
        processed: work.processed,
        p99_seconds: new.quantile_seconds(0.99),
        // What is not done yet is not late yet.
        late: late(&work, work.processed, 0),
        wanted: seen.status.desired_replicas,
        pods: seen.pods.existing(),
        ready: seen.status.ready_replicas,
    };
    *before = work;
    point
}

/// What was done in between.
fn difference(work: &Work, before: &Work) -> Work {
    let had = |bound: Option<f64>| {
        let buckets = before.latency_buckets_milliseconds.iter();
        buckets.filter(|(other, _)| *other == bound).map(|(_, count)| count).sum::<u64>()
    };
    let buckets = work.latency_buckets_milliseconds.iter();
    let buckets = buckets.map(|(bound, count)| (*bound, count.saturating_sub(had(*bound)))).collect();
    Work { latency_buckets_milliseconds: buckets, ..Work::default() }
}

fn changes(seen: &Seen, began: f64) -> Vec<Change> {
    let change = |decision: &sluice_api::status::DecisionStatus| Change {
        at: decision.time.0.as_duration().as_secs_f64() - began,
        from: decision.from,
        to: decision.to,
        reason: decision.reason.clone(),
        bound_by: decision.bound_by.clone(),
        message: decision.message.clone(),
    };
    seen.decisions.iter().map(change).collect()
}

/// The load, beside all this. Dropped, it ends.
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
        let (told, progress) = watch::channel(None);
        let (course, clock, stop) = (course.clone(), clock.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            load::replay(&course, &target, clock, stopped, |now| {
                told.send_replace(Some(*now));
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
