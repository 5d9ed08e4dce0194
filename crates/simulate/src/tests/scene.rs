//! What a scene is: a job, a load, what goes wrong from when to when, and what Sluice's decisions may and must be then.

use std::fmt::Write as _;

use super::super::{During, Faults, Load, Rule, Run, Scenario, Sluice, run, shape};
use sluice_policy::{Action, Limit, Observation, Reason};

/// Begin and end of what goes wrong, seconds; before it the core has the time to learn that law 5 gives it.
pub(super) const FROM: f64 = 600.0;
pub(super) const UNTIL: f64 = 1200.0;
/// For so long after its end may its effects last, seconds.
const AFTER: f64 = 120.0;

/// Something that a decision says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    Limit(Limit),
    Reason(Reason),
}

/// One row.
pub(super) struct Scene {
    load: &'static str,
    job: Scenario,
    says: Option<Says>,
    /// For so long may it go unsaid, seconds.
    within: f64,
    /// It is said while it lasts, and no longer when the run ends.
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

/// Under this load (`shape`), with nothing wrong: 48 partitions of uneven weight, and workers that do 1000 records per
/// second. It must meet its objective, and say nothing.
pub(super) fn under(load: &'static str) -> Scene {
    Scene {
        load,
        job: Scenario { partitions: 48, weight_sigma: 0.2, ..Scenario::default() },
        says: None,
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

/// For the whole time of trouble.
#[allow(clippy::unnecessary_wraps, reason = "the fields of `Faults` are options")]
pub(super) fn during<T: Copy>(value: T) -> Option<During<T>> {
    Some(During::new(FROM, UNTIL, value))
}

impl Scene {
    /// The job is another one.
    pub(super) fn job(mut self, change: impl FnOnce(&mut Scenario)) -> Self {
        change(&mut self.job);
        self
    }

    /// This goes wrong.
    pub(super) fn fault(mut self, change: impl FnOnce(&mut Faults)) -> Self {
        change(&mut self.job.faults);
        self
    }

    /// A decision must say this so many seconds after the trouble's begin at the latest, and none when the run ends.
    pub(super) fn says(mut self, what: Says, within: f64) -> Self {
        (self.says, self.within) = (Some(what), within);
        self
    }

    /// It is still said when the run ends, for it is still so.
    pub(super) fn still_said(mut self) -> Self {
        self.passes = false;
        self
    }

    /// The trouble ends at another time, seconds.
    pub(super) fn until(mut self, until: f64) -> Self {
        self.until = until;
        self
    }

    /// Most decisions to add workers while the trouble lasts.
    pub(super) fn ups(mut self, most: usize) -> Self {
        self.ups = most;
        self
    }

    /// Nor any within two minutes after its end.
    pub(super) fn none_after(mut self) -> Self {
        self.ups_after = 0;
        self
    }

    /// Most voluntary ones to take workers away, from its begin until two minutes after its end.
    pub(super) fn downs(mut self, most: usize) -> Self {
        self.downs = most;
        self
    }

    /// Most workers at any time.
    pub(super) fn workers(mut self, most: u32) -> Self {
        self.workers = most;
        self
    }

    /// Most workers when the trouble ends.
    pub(super) fn left(mut self, most: u32) -> Self {
        self.left = most;
        self
    }

    /// Most records that may be late, as a share of all; the objective allows 0.01.
    pub(super) fn late(mut self, most: f64) -> Self {
        self.late = most;
        self
    }

    /// The longest that a handover may be taken to last in the end, seconds.
    pub(super) fn handover(mut self, most: f64) -> Self {
        self.handover = most;
        self
    }

    /// What a worker must be taken to do in the end, records per second.
    pub(super) fn capacity(mut self, least: f64, most: f64) -> Self {
        self.capacity = (least, most);
        self
    }

    /// Runs it.
    pub(super) fn play(&self) -> (Watch, Run) {
        let shape: shape::Load = self.load.parse().unwrap_or_else(|error| panic!("{error}"));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a load of minutes")]
        let load = Load::from_points(&shape.points()).cut(shape.seconds() as usize);
        let mut watch = Watch { sluice: Sluice::for_scenario(&self.job), looks: Vec::new() };
        let run = run(&load, &self.job, &mut watch);
        // What follows the load is the drain: nothing arrives, and nobody is needed.
        let end = load.seconds() as f64;
        watch.looks.retain(|look| look.at <= end);
        (watch, run)
    }

    /// Runs it with each seed and answers what is wrong.
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
        let between = |from: f64, until: f64| watch.looks.iter().filter(move |look| (from..until).contains(&look.at));
        let trouble = || between(FROM, self.until + AFTER);
        let ups = |from, until| between(from, until).filter(|look| look.action == Action::Up).count();
        let (meanwhile, after) = (ups(FROM, self.until), ups(self.until, self.until + AFTER));
        check(meanwhile <= self.ups, format!("{meanwhile} decisions to add workers, at most {}", self.ups));
        check(after <= self.ups_after, format!("{after} decisions to add workers when it is over"));
        let voluntary = |look: &&Look| look.action == Action::Down && look.reason == Reason::LowerDemand;
        let downs = trouble().filter(voluntary).count();
        check(downs <= self.downs, format!("{downs} voluntary decisions to take workers away, at most {}", self.downs));
        let most = watch.looks.iter().map(|look| look.to).max().unwrap_or(0);
        check(most <= self.workers, format!("{most} workers, at most {}", self.workers));
        let left = between(FROM, self.until).next_back().map_or(0, |look| look.to);
        check(left <= self.left, format!("{left} workers when it is over, at most {}", self.left));
        let late = run.scores.late;
        check(late <= self.late, format!("{:.2} % late, at most {:.2} %", late * 100.0, self.late * 100.0));
        let model = watch.sluice.memory.model();
        let handover = model.handover_seconds.unwrap_or(0.0);
        check(handover <= self.handover, format!("a handover takes {handover:.0} s, at most {:.0} s", self.handover));
        let capacity = model.capacity_per_worker.unwrap_or(f64::NAN);
        let (least, most) = self.capacity;
        check((least..most).contains(&capacity), format!("a worker does {capacity:.0}/s, {least:.0} to {most:.0}"));
        if let Some(what) = self.says {
            let first = trouble().find(|look| look.says(what)).map(|look| look.at - FROM);
            let in_time = first.is_some_and(|first| first <= self.within);
            check(in_time, format!("{what:?} within {:.0} s, but {first:?}", self.within));
            let at_the_end = watch.looks.last().is_some_and(|look| look.says(what));
            check(at_the_end != self.passes, format!("{what:?} when the run ends: {at_the_end}"));
        } else {
            // A step that is limited is taken in two: no trouble.
            let limits = |look: &Look| look.limit.filter(|limit| *limit != Limit::StepLimit);
            let told = trouble().find_map(|look| limits(look).map(|limit| (look.at, limit)));
            check(told.is_none(), format!("nothing limits, but {told:?}"));
        }
        wrong
    }
}

/// Sluice, and everything that it decided.
pub(super) struct Watch {
    sluice: Sluice,
    looks: Vec<Look>,
}

struct Look {
    /// Seconds since the begin of the load.
    at: f64,
    to: u32,
    action: Action,
    reason: Reason,
    limit: Option<Limit>,
    message: String,
}

impl Look {
    fn says(&self, what: Says) -> bool {
        match what {
            Says::Limit(limit) => self.limit == Some(limit),
            Says::Reason(reason) => self.reason == reason,
        }
    }
}

impl Watch {
    /// Every change, and every time that the limit is another one.
    fn story(&self) -> String {
        let mut story = String::new();
        let mut limit = None;
        for look in &self.looks {
            if look.action != Action::Hold || look.limit != limit {
                let said = look.limit.map_or_else(String::new, |limit| format!(" [{limit:?}]"));
                let _ = writeln!(story, "  {:6.0} s {:?}{said}: {}", look.at, look.reason, look.message);
            }
            limit = look.limit;
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
            self.looks.push(Look {
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
