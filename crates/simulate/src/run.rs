//! One run: a load, a scenario and a rule.

use super::load::Load;
use super::parts::Second;
use super::plant::Plant;
use super::rule::Rule;
use super::scenario::Scenario;
use super::score::{Judgement, Scores, Verdict, scores};
use super::view::View;

/// For so long does a run go on without arrivals until the backlog is gone, seconds.
const DRAIN: usize = 7200;

/// One second of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    /// Records that arrived.
    pub arrived: f32,
    /// Records done for the first time.
    pub done: f32,
    /// Records whose deadline passed.
    pub due: f32,
    /// Of these, not done.
    pub late: f32,
    /// Records not done at its end.
    pub backlog: f32,
    /// Age of the oldest of these, seconds.
    pub age: f32,
    /// Pods that are paid for.
    pub billed: u16,
    /// Workers that are ready.
    pub ready: u16,
    /// Workers that the rule wants.
    pub desired: u16,
}

/// A change of the number of workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// When, seconds since the begin of the load.
    pub at: f64,
    /// Workers before.
    pub from: u32,
    /// Workers after.
    pub to: u32,
}

/// What a run gave.
#[derive(Debug, Clone)]
pub struct Run {
    /// The rule's name.
    pub rule: String,
    /// Every second, those of draining included.
    pub points: Vec<Point>,
    /// Every change that the rule made.
    pub changes: Vec<Change>,
    /// The figures.
    pub scores: Scores,
}

/// Runs a load through a scenario under a rule. After the load it goes on, paid for, until the backlog is gone, two
/// hours at most.
pub fn run(load: &Load, scenario: &Scenario, rule: &mut dyn Rule) -> Run {
    run_judged(load, scenario, rule, &[]).0
}

/// [`run`], and what other objectives would say of the same run: for rules that do not know the objective one run will
/// do for all. Latencies in seconds, rounded up.
pub fn run_judged(load: &Load, scenario: &Scenario, rule: &mut dyn Rule, others: &[f64]) -> (Run, Vec<Verdict>) {
    let arrivals = scenario.arrivals(load);
    let mut judgements: Vec<_> = others.iter().map(|latency| Judgement::new(*latency)).collect();
    let longest = judgements.iter().map(|judgement| judgement.deadline).max().unwrap_or(0);
    let mut plant = Plant::new(scenario, first_workers(&arrivals, scenario, rule), longest);
    let mut view = View::new(&plant);
    let every = (rule.every().ceil() as usize).max(1);
    let mut restart = scenario.faults.restart_at;
    let mut points = Vec::with_capacity(arrivals.len() + 600);
    let mut changes = Vec::new();
    let mut late_at_the_end = 0.0;
    for second in 0..arrivals.len() + DRAIN {
        let arrived = arrivals.get(second).copied().unwrap_or(0.0);
        let result = plant.step(second, arrived);
        points.push(point(&plant, arrived, result));
        for judgement in &mut judgements {
            judgement.second(&plant.parts, second, result.backlog);
        }
        if second + 1 >= arrivals.len() && result.backlog < 0.5 {
            break;
        }
        if second + 1 == arrivals.len() + DRAIN {
            late_at_the_end = plant.parts.late_to_come(scenario.deadline(), second);
            for judgement in &mut judgements {
                judgement.end(&plant.parts, second);
            }
            plant.parts.abandon(second, &mut plant.latencies);
        }
        if restart.is_some_and(|at| (second + 1) as f64 >= at) {
            restart = None;
            rule.restart();
        }
        if (second + 1) % every == 0 {
            let desired = rule.look(view.look(&plant, second));
            let bounded = desired.map(|to| to.clamp(scenario.min_workers, scenario.max_workers));
            if let Some(to) = bounded.filter(|to| *to != plant.desired) {
                changes.push(Change { at: (second + 1) as f64, from: plant.desired, to });
                plant.desired = to;
            }
        }
    }
    let scores = scores(scenario, &points, &changes, &plant, late_at_the_end);
    let verdicts = judgements.iter().map(|judgement| judgement.verdict(scores.records, scenario.percentile)).collect();
    (Run { rule: rule.name(), points, changes, scores }, verdicts)
}

/// Workers at the begin: those that the scenario or the rule says, else such that the mean load of the first five minutes
/// keeps them four fifths busy.
fn first_workers(arrivals: &[f64], scenario: &Scenario, rule: &dyn Rule) -> u32 {
    let first = arrivals.get(..300).unwrap_or(arrivals);
    let mean = first.iter().sum::<f64>() / first.len().max(1) as f64;
    let guess = || (mean / (0.8 * scenario.capacity)).ceil() as u32;
    let workers = scenario.start_workers.or_else(|| rule.start()).unwrap_or_else(guess);
    workers.clamp(scenario.min_workers, scenario.max_workers)
}

fn point(plant: &Plant, arrived: f64, second: Second) -> Point {
    Point {
        arrived: arrived as f32,
        done: second.done as f32,
        due: second.due as f32,
        late: second.late as f32,
        backlog: second.backlog as f32,
        age: second.age as f32,
        billed: plant.pods.billed() as u16,
        ready: plant.pods.ready() as u16,
        desired: plant.desired as u16,
    }
}
