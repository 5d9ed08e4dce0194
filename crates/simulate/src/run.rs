//! Runs a load through a scenario under a rule.

use super::load::Load;
use super::parts::Second;
use super::plant::Plant;
use super::rule::Rule;
use super::scenario::Scenario;
use super::score::{Judgement, ObjectiveScore, Scores, scores};
use super::view::View;

/// Longest time that a run continues without arrivals until the backlog is gone, seconds.
const DRAIN: usize = 7200;

/// One second of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    /// Records that arrived.
    pub arrived: f32,
    /// Records processed for the first time.
    pub done: f32,
    /// Records whose deadline passed.
    pub due: f32,
    /// Records among these that were not processed.
    pub late: f32,
    /// Unprocessed records at the end of the second.
    pub backlog: f32,
    /// Age of the oldest of these, seconds.
    pub age: f32,
    /// Number of billed pods.
    pub billed: u16,
    /// Number of ready workers.
    pub ready: u16,
    /// Replica count that the rule wants.
    pub desired: u16,
}

/// A change of the replica count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Time of the change, seconds since the load began.
    pub at: f64,
    /// Workers before.
    pub from: u32,
    /// Workers after.
    pub to: u32,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Name of the rule.
    pub rule: String,
    /// Every second, including those of draining.
    pub points: Vec<Point>,
    /// Every change that the rule made.
    pub changes: Vec<Change>,
    /// The scores.
    pub scores: Scores,
}

/// Runs a load through a scenario under a rule. After the load the run continues, billed, until the backlog is gone,
/// for at most two hours.
pub fn run(load: &Load, scenario: &Scenario, rule: &mut dyn Rule) -> Run {
    run_judged(load, scenario, rule, &[]).0
}

/// Runs as [`run`] does, and also judges the run by other objectives: for rules that do not know the objective, one run
/// is enough for all of them. Latencies are in seconds, rounded up.
pub fn run_judged(load: &Load, scenario: &Scenario, rule: &mut dyn Rule, others: &[f64]) -> (Run, Vec<ObjectiveScore>) {
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
            let desired = rule.decide(view.update(&plant, second));
            let bounded = desired.map(|to| to.clamp(scenario.min_workers, scenario.max_workers));
            if let Some(to) = bounded.filter(|to| *to != plant.desired) {
                changes.push(Change { at: (second + 1) as f64, from: plant.desired, to });
                plant.desired = to;
            }
        }
    }
    let scores = scores(scenario, &points, &changes, &plant, late_at_the_end);
    let verdicts = judgements.iter().map(|judgement| judgement.score(scores.records, scenario.percentile)).collect();
    (Run { rule: rule.name(), points, changes, scores }, verdicts)
}

/// Returns the workers at the beginning: those of the scenario or the rule, or as many as the mean load of the first
/// five minutes keeps 80 % busy.
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
