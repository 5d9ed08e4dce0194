//! A scene: a job, a load, a fault with its period, and what Sluice's decisions may and must be meanwhile.

use std::fmt::Write as _;

use super::super::{During, Faults, Load, Rule, Run, Scenario, Sluice, run, shape};
use sluice_policy::{Action, Limit, Observation, Reason};

/// Beginning and end of the fault, seconds; before it the core has the time to learn that law 5 allows.
pub(super) const FROM: f64 = 600.0;
pub(super) const UNTIL: f64 = 1200.0;
/// Time for which effects may last after its end, seconds.
const AFTER: f64 = 120.0;

/// A property of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Limit(Limit),
    Reason(Reason),
}

/// One row.
pub(super) struct Scene {
    load: &'static str,
    job: Scenario,
    expected: Option<Expected>,
    /// Time within which it must be reported, seconds.
    within: f64,
    /// Whether it must not be reported any more when the run ends.
    passes: bool,
    until: f64,
    ups: usize,
    ups_after: usize,
    downs: usize,
    workers: u32,
    left: u32,
    late: f64,
    handover: f64,
    capacity: (f64, f64),
}

/// Returns a scene under this load (`shape`) without a fault: 48 partitions of uneven weight, and workers that process
/// 1000 records per second. It must meet its objective, and report nothing.
pub(super) fn under(load: &'static str) -> Scene {
    Scene {
        load,
        job: Scenario { partitions: 48, weight_sigma: 0.2, ..Scenario::default() },
        expected: None,
        within: f64::INFINITY,
        passes: true,
        until: UNTIL,
        ups: usize::MAX,
        ups_after: usize::MAX,
        downs: usize::MAX,
        workers: u32::MAX,
        left: u32::MAX,
        late: 0.01,
        handover: f64::INFINITY,
        capacity: (0.0, f64::INFINITY),
    }
}

/// Returns a value for the whole period of the fault.
#[allow(clippy::unnecessary_wraps, reason = "the fields of `Faults` are options")]
pub(super) fn during<T: Copy>(value: T) -> Option<During<T>> {
    Some(During::new(FROM, UNTIL, value))
}

impl Scene {
    /// Sets another job.
    pub(super) fn job(mut self, change: impl FnOnce(&mut Scenario)) -> Self {
        change(&mut self.job);
        self
    }

    /// Sets the fault.
    pub(super) fn fault(mut self, change: impl FnOnce(&mut Faults)) -> Self {
        change(&mut self.job.faults);
        self
    }

    /// A decision must report this within this many seconds of the fault's beginning, and none when the run ends.
    pub(super) fn reports(mut self, what: Expected, within: f64) -> Self {
        (self.expected, self.within) = (Some(what), within);
        self
    }

    /// It is still reported when the run ends, because it is still the case.
    pub(super) fn still_reported(mut self) -> Self {
        self.passes = false;
        self
    }

    /// Sets another end of the fault, seconds.
    pub(super) fn until(mut self, until: f64) -> Self {
        self.until = until;
        self
    }

    /// Sets the most decisions to add workers during the fault.
    pub(super) fn ups(mut self, most: usize) -> Self {
        self.ups = most;
        self
    }

    /// Forbids scale-ups within two minutes after its end as well.
    pub(super) fn none_after(mut self) -> Self {
        self.ups_after = 0;
        self
    }

    /// Sets the most voluntary scale-downs from its beginning until two minutes after its end.
    pub(super) fn downs(mut self, most: usize) -> Self {
        self.downs = most;
        self
    }

    /// Sets the most workers at any time.
    pub(super) fn workers(mut self, most: u32) -> Self {
        self.workers = most;
        self
    }

    /// Sets the most workers at the end of the fault.
    pub(super) fn left(mut self, most: u32) -> Self {
        self.left = most;
        self
    }

    /// Sets the share of records that may be late; the objective allows 0.01.
    pub(super) fn late(mut self, most: f64) -> Self {
        self.late = most;
        self
    }

    /// Sets the longest handover that may be learned, seconds.
    pub(super) fn handover(mut self, most: f64) -> Self {
        self.handover = most;
        self
    }

    /// Sets the capacity of a worker that must be learned, records per second.
    pub(super) fn capacity(mut self, least: f64, most: f64) -> Self {
        self.capacity = (least, most);
        self
    }

    /// Runs the scene.
    pub(super) fn play(&self) -> (Watch, Run) {
        let shape: shape::Load = self.load.parse().unwrap_or_else(|error| panic!("{error}"));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a load of minutes")]
        let load = Load::from_points(&shape.points()).cut(shape.seconds() as usize);
        let mut watch = Watch { sluice: Sluice::for_scenario(&self.job), decisions: Vec::new() };
        let run = run(&load, &self.job, &mut watch);
        // After the load the backlog drains: nothing arrives, and no worker is needed.
        let end = load.seconds() as f64;
        watch.decisions.retain(|recorded| recorded.at <= end);
        (watch, run)
    }

    /// Runs the scene with each seed and returns what is wrong.
    pub(super) fn wrong(&self) -> String {
        // SLUICE_SCENE_SEEDS: more than one, for work on the core.
        let seeds = std::env::var("SLUICE_SCENE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        let mut wrong = String::new();
        for seed in 1..=seeds {
            let scene = Self { job: Scenario { seed, ..self.job.clone() }, ..*self };
            let (watch, run) = scene.play();
            let found = scene.judge(&watch, &run);
            if !found.is_empty() {
                let _ = writeln!(wrong, "seed {seed}:\n  {}\n{}", found.join("\n  "), watch.story());
            }
        }
        wrong
    }

    fn judge(&self, watch: &Watch, run: &Run) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |holds: bool, what: String| wrong.extend((!holds).then_some(what));
        let between =
            |from: f64, until: f64| watch.decisions.iter().filter(move |recorded| (from..until).contains(&recorded.at));
        let trouble = || between(FROM, self.until + AFTER);
        let ups = |from, until| between(from, until).filter(|recorded| recorded.action == Action::Up).count();
        let (meanwhile, after) = (ups(FROM, self.until), ups(self.until, self.until + AFTER));
        check(meanwhile <= self.ups, format!("{meanwhile} decisions to add workers, at most {}", self.ups));
        check(after <= self.ups_after, format!("{after} decisions to add workers when it is over"));
        let voluntary =
            |recorded: &&Recorded| recorded.action == Action::Down && recorded.reason == Reason::LowerDemand;
        let downs = trouble().filter(voluntary).count();
        check(downs <= self.downs, format!("{downs} voluntary decisions to take workers away, at most {}", self.downs));
        let most = watch.decisions.iter().map(|recorded| recorded.to).max().unwrap_or(0);
        check(most <= self.workers, format!("{most} workers, at most {}", self.workers));
        let left = between(FROM, self.until).next_back().map_or(0, |recorded| recorded.to);
        check(left <= self.left, format!("{left} workers when it is over, at most {}", self.left));
        let late = run.scores.late;
        check(late <= self.late, format!("{:.2} % late, at most {:.2} %", late * 100.0, self.late * 100.0));
        let model = watch.sluice.memory.model();
        let handover = model.handover_seconds.unwrap_or(0.0);
        check(handover <= self.handover, format!("a handover takes {handover:.0} s, at most {:.0} s", self.handover));
        let capacity = model.capacity_per_worker.unwrap_or(f64::NAN);
        let (least, most) = self.capacity;
        check((least..most).contains(&capacity), format!("a worker does {capacity:.0}/s, {least:.0} to {most:.0}"));
        if let Some(what) = self.expected {
            let first = trouble().find(|recorded| recorded.has(what)).map(|recorded| recorded.at - FROM);
            let in_time = first.is_some_and(|first| first <= self.within);
            check(in_time, format!("{what:?} within {:.0} s, but {first:?}", self.within));
            let at_the_end = watch.decisions.last().is_some_and(|recorded| recorded.has(what));
            check(at_the_end != self.passes, format!("{what:?} when the run ends: {at_the_end}"));
        } else {
            // A step that is limited is taken in two: no trouble.
            let limits = |recorded: &Recorded| recorded.limit.filter(|limit| *limit != Limit::StepLimit);
            let limited = trouble().find_map(|recorded| limits(recorded).map(|limit| (recorded.at, limit)));
            check(limited.is_none(), format!("nothing limits, but {limited:?}"));
        }
        wrong
    }
}

/// Sluice, with everything that it decided.
pub(super) struct Watch {
    sluice: Sluice,
    decisions: Vec<Recorded>,
}

struct Recorded {
    /// Seconds since the load began.
    at: f64,
    to: u32,
    action: Action,
    reason: Reason,
    limit: Option<Limit>,
    message: String,
}

impl Recorded {
    fn has(&self, what: Expected) -> bool {
        match what {
            Expected::Limit(limit) => self.limit == Some(limit),
            Expected::Reason(reason) => self.reason == reason,
        }
    }
}

impl Watch {
    /// Describes every change, and every change of the limit.
    fn story(&self) -> String {
        let mut story = String::new();
        let mut limit = None;
        for recorded in &self.decisions {
            if recorded.action != Action::Hold || recorded.limit != limit {
                let limit_note = recorded.limit.map_or_else(String::new, |limit| format!(" [{limit:?}]"));
                let _ =
                    writeln!(story, "  {:6.0} s {:?}{limit_note}: {}", recorded.at, recorded.reason, recorded.message);
            }
            limit = recorded.limit;
        }
        story
    }
}

impl Rule for Watch {
    fn name(&self) -> String {
        self.sluice.name()
    }

    fn every(&self) -> f64 {
        self.sluice.every()
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        let desired = self.sluice.decide(observation);
        if let (Some(decision), Some(to)) = (&self.sluice.last, desired) {
            self.decisions.push(Recorded {
                at: observation.at.0 - super::super::view::BEGIN,
                to,
                action: decision.action,
                reason: decision.reason,
                limit: decision.limited.as_ref().map(|limited| limited.by),
                message: decision.message.clone(),
            });
        }
        desired
    }

    fn restart(&mut self) {
        self.sluice.restart();
    }
}
