//! Decides what must be run next. The search for the peers' settings asks for one more run at a time, so that a setting
//! that misses the objective with the second seed is not run with the others.

use std::collections::BTreeSet;

use super::faults;
use super::jobs::{Job, Outcome};
use super::plan::{Group, Plan};
use super::results::{Bound, Key, Results, Who};

/// Largest share of late records for a constant replica count to count as peak provisioning.
pub(crate) const STATIC_BEST: f64 = 0.001;

/// The state of a search for a setting.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Search {
    /// The cheapest one that meets the objective with every seed.
    Found(Who),
    /// No setting does.
    Nothing,
    /// These runs must be done first.
    Needs(Vec<Key>),
}

/// Returns everything that can be run now and has not been. Empty: the benchmark is complete.
pub fn needed(plan: &Plan, results: &Results) -> Vec<Job> {
    let mut jobs = BTreeSet::new();
    for (g, group) in plan.groups.iter().enumerate() {
        for trace in group.traces.iter().copied() {
            jobs.extend(always(plan, g, trace).filter(|job| !results.has(job)));
            for latency in group.latencies.iter().copied() {
                let at = CellView { plan, results, group: g, trace, latency };
                let tuned = group.tuned.iter().map(|family| at.tuned(family));
                let fixed = [at.allowed(), STATIC_BEST].map(|allowed| at.fixed(allowed));
                let searches = tuned.chain(fixed.into_iter().filter(|_| !group.tuned.is_empty()));
                for search in searches {
                    if let Search::Needs(keys) = search {
                        jobs.extend(keys.into_iter().map(Job::Run));
                    }
                }
            }
        }
    }
    if plan.faults {
        jobs.extend(faults::jobs(plan).filter(|job| !results.has(job)));
    }
    let mut jobs: Vec<Job> = jobs.into_iter().collect();
    // Peers before Sluice, because their results stay valid when the policy changes; and long jobs first, so that no
    // thread is left with one at the end.
    let sluice = |job: &Job| matches!(job, Job::Run(Key { who: Who::Sluice(_), .. }));
    jobs.sort_by_key(|job| (sluice(job), std::cmp::Reverse(length(plan, job))));
    jobs
}

/// Returns about how long a job takes.
fn length(plan: &Plan, job: &Job) -> usize {
    let seconds = |trace: usize| plan.traces.get(trace).map_or(0, |trace| trace.load.seconds());
    match job {
        Job::Run(Key { who: Who::Sluice(latency), trace, .. }) => seconds(*trace) * if *latency < 5 { 30 } else { 15 },
        Job::Run(key) => seconds(key.trace),
        Job::Bound(bound) => seconds(bound.trace) * bound.latency as usize,
        Job::Fault { .. } => 0,
    }
}

/// Returns the jobs that are always run.
fn always(plan: &Plan, group: usize, trace: usize) -> impl Iterator<Item = Job> {
    let definition = &plan.groups[group];
    let latencies = &definition.latencies;
    let sluice = latencies.iter().map(|latency| Who::Sluice(*latency));
    let peers = definition.defaults.iter().map(|name| Who::Peer((*name).to_owned()));
    let rules = sluice.chain(peers);
    let runs = rules.flat_map(move |who| plan.seeds.iter().map(move |seed| (who.clone(), *seed)));
    let runs = runs.map(move |(who, seed)| Job::Run(Key { group, trace, who, seed }));
    runs.chain(latencies.iter().flat_map(move |latency| bounds(plan, group, trace, *latency)).map(Job::Bound))
}

/// Returns the fluid bound, and those that know the weights: with every seed where a goal needs it.
pub(crate) fn bounds(plan: &Plan, group: usize, trace: usize, latency: u32) -> Vec<Bound> {
    let id = plan.groups[group].id;
    let bound = |seed, weighted| Bound { group: plan.as_bounded(group, weighted), trace, latency, seed, weighted };
    let mut all = vec![bound(plan.first_seed(), false)];
    if id == "handoff" && latency == 10 {
        all.extend(plan.seeds.iter().map(|seed| bound(*seed, true)));
    } else if plan.groups[group].counts() {
        all.push(bound(plan.first_seed(), true));
    }
    all
}

/// A cell of the plan, and the results known so far.
pub(crate) struct CellView<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) results: &'a Results,
    pub(crate) group: usize,
    pub(crate) trace: usize,
    pub(crate) latency: u32,
}

impl CellView<'_> {
    pub(crate) fn definition(&self) -> &Group {
        &self.plan.groups[self.group]
    }

    /// Returns the share of records that may be late.
    pub(crate) fn allowed(&self) -> f64 {
        1.0 - self.definition().scenario.percentile
    }

    pub(crate) fn key(&self, who: Who, seed: u64) -> Key {
        let group = if matches!(who, Who::Fixed(_)) { self.plan.as_if_fixed(self.group) } else { self.group };
        Key { group, trace: self.trace, who, seed }
    }

    pub(crate) fn outcome(&self, who: &Who, seed: u64) -> Option<Outcome> {
        self.results.run(&self.key(who.clone(), seed), self.latency)
    }

    /// Searches the cheapest setting of a family that meets the objective: by the first seed's cost, and with every
    /// seed.
    pub(crate) fn tuned(&self, family: &str) -> Search {
        let seed = self.plan.first_seed();
        let mut missing = Vec::new();
        let mut met = Vec::new();
        for name in self.definition().settings(family) {
            let who = Who::Peer(name);
            match self.outcome(&who, seed) {
                None => missing.push(self.key(who, seed)),
                Some(outcome) if within(outcome, self.allowed()) => met.push((outcome.worker_seconds, who)),
                Some(_) => {}
            }
        }
        if !missing.is_empty() {
            return Search::Needs(missing);
        }
        met.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        self.first_with_every_seed(met.into_iter().map(|(_, who)| who), self.allowed())
    }

    /// Searches the smallest constant replica count that keeps to the allowance.
    pub(crate) fn fixed(&self, allowed: f64) -> Search {
        let (seed, scenario) = (self.plan.first_seed(), &self.definition().scenario);
        let (mut low, mut high) = (scenario.min_workers, scenario.max_workers);
        while low < high {
            let middle = u32::midpoint(low, high);
            let who = Who::Fixed(middle);
            match self.outcome(&who, seed) {
                None => return Search::Needs(vec![self.key(who, seed)]),
                Some(outcome) if within(outcome, allowed) => high = middle,
                Some(_) => low = middle + 1,
            }
        }
        self.first_with_every_seed((low..=scenario.max_workers).map(Who::Fixed), allowed)
    }

    fn first_with_every_seed(&self, candidates: impl Iterator<Item = Who>, allowed: f64) -> Search {
        'candidates: for who in candidates {
            for seed in self.plan.seeds.iter().copied() {
                match self.outcome(&who, seed) {
                    None => return Search::Needs(vec![self.key(who, seed)]),
                    Some(outcome) if within(outcome, allowed) => {}
                    Some(_) => continue 'candidates,
                }
            }
            return Search::Found(who);
        }
        Search::Nothing
    }
}

/// Returns whether a run kept to an allowance of late records.
pub(crate) fn within(outcome: Outcome, allowed: f64) -> bool {
    // 1 - 0.99 is a little more than a hundredth; a run that was not judged is not a number.
    outcome.late <= allowed + 1e-12
}
