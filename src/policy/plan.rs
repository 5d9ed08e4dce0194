//! How many workers are needed, and the numbers that this rests on.
//!
//! Everything learned is what was known before this look: with fixed memory the need never falls when arrivals, the
//! backlog or 1/mu grow (law 3), nor when worker metrics go missing (law 2).

use std::sync::Arc;

use super::crew::{self, Crew, Load};
use super::demand::{Demand, recovery};
use super::learn::CAREFUL_HANDOVER;
use super::learning;
use super::look::{Owner, View};
use super::memory::Memory;
use super::num;
use super::pieces::Piece;
use super::settings::Settings;
use super::staircase::Staircase;
use super::weigh::Weigh;

/// Utilisation that a number of workers is worked out with where no queue is followed.
const RHO: f64 = 0.9;
/// What a worker may be able to do beyond what it was seen to do: a mistake of a third can be mended in time.
const TRIAL: f64 = 1.35;

/// What is needed. Rates in records per second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) stairs: Arc<Staircase>,
    pub(crate) demand: Demand,
    /// Capacity of one worker, if known.
    pub(crate) mu: Option<f64>,
    /// Workers needed, within what the partitions can feed. `None`: not known.
    pub(crate) need: Option<u32>,
    /// Workers that the demand alone needs.
    pub(crate) for_demand: Option<u32>,
    /// Workers that would be needed if partitions did not matter.
    pub(crate) wanted: Option<u32>,
    /// The partitions cannot feed enough workers.
    pub(crate) unmet: bool,
    /// Workers that a Down must leave.
    pub(crate) keep: Option<u32>,
    /// Keeping fewer is a trial: capacity is not known, only what workers were seen to do.
    pub(crate) trial: bool,
    /// What the present workers can do before the hottest is too hot.
    pub(crate) capacity: Option<f64>,
    /// Without more workers records will be late.
    pub(crate) urgent: bool,
    /// Objective less what processing takes anyway, seconds.
    pub(crate) latency: f64,
    pub(crate) reaction: f64,
    /// Longest wait if nothing is changed, within the reaction time, seconds.
    pub(crate) staying: Option<f64>,
    /// See [`dear`](super::weigh::dear).
    pub(crate) dear: f64,
    /// Where changes are dear: the number at which workers and late records cost least, at most `need`.
    pub(crate) worth: Option<u32>,
}

/// Works out the need. `current`: workers asked for now.
pub(crate) fn plan(memory: &Memory, view: &View, settings: &Settings, current: Option<u32>) -> Plan {
    let stairs = Arc::clone(&memory.stairs);
    let floor = latency_floor(memory, settings);
    let mut plan = Plan {
        demand: view.rates.map(|rates| Demand::of(memory, rates)).unwrap_or_default(),
        mu: memory.capacity.per_worker(settings.max_records_per_second).filter(|mu| *mu > 1e-9),
        latency: (settings.latency.0 - floor).max(0.1 * settings.latency.0),
        reaction: memory.reaction(),
        stairs,
        ..Plan::default()
    };
    // How old records are beyond what processing takes anyway.
    let age = (view.settled_age - floor).max(0.0);
    match (plan.mu, view.rates, current) {
        (Some(mu), Some(_), Some(0)) => asleep(memory, view, settings, &mut plan, mu),
        (Some(mu), Some(_), Some(current)) => weigh(memory, view, settings, &mut plan, mu, current),
        (None, _, _) | (_, None, _) => unknown(memory, view, &mut plan, age, current),
        _ => {}
    }
    let over = |capacity: f64| plan.demand.level > 0.98 * capacity;
    plan.urgent = age > 0.5 * plan.latency || (view.rates.is_some() && plan.capacity.is_some_and(over));
    plan
}

fn weigh(memory: &Memory, view: &View, settings: &Settings, plan: &mut Plan, mu: f64, current: u32) {
    let stairs = Arc::clone(&plan.stairs);
    let crew = crew(memory, view, &stairs, mu, current);
    let inputs = (memory, view, settings);
    let question = Weigh::new(inputs, (&crew, &stairs), plan.demand, (mu, current, plan.latency));
    let answer = question.answer();
    plan.capacity = Some(crew.capacity(current, &stairs, mu));
    plan.staying = Some(answer.staying);
    plan.dear = question.dear;
    plan.worth = answer.worth;
    plan.need = Some(answer.need);
    plan.unmet = answer.unmet;
    plan.for_demand = Some(stairs.fewest(plan.demand.upper, |_| mu * RHO).0);
    plan.wanted = plan.need;
    if answer.unmet {
        plan.wanted = Some(num::ceil_u32(plan.demand.upper / (mu * RHO)).max(answer.need));
    }
    plan.keep = plan.need;
    plan.trial = !memory.knows_capacity();
}

/// Nobody works: enough for what arrives and for what waits.
fn asleep(memory: &Memory, view: &View, settings: &Settings, plan: &mut Plan, mu: f64) {
    let more = recovery(memory, view, settings, plan.demand.level, mu);
    let (need, met) = plan.stairs.fewest(plan.demand.upper.max(plan.demand.level + more), |_| mu * RHO);
    plan.for_demand = Some(need);
    plan.need = Some(need);
    plan.wanted = Some(need);
    plan.unmet = !met;
    plan.keep = plan.need;
}

/// What a worker can do is not known. If records grow old, more workers are tried; if nothing waits, fewer.
fn unknown(memory: &Memory, view: &View, plan: &mut Plan, age: f64, current: Option<u32>) {
    let gaining = learning::processing_rate(memory).is_some_and(|done| done > 1.05 * plan.demand.level);
    // Workers that come or go stop partitions, and what waits is worked off only after that.
    let unsettled = view.unsettled || memory.now - memory.unsettled_at < CAREFUL_HANDOVER;
    let old = if unsettled { 0.8 } else { 0.4 };
    let behind = age > old * plan.latency && view.waiting && !gaining;
    plan.need = current.map(|n| if behind { n.max(1).saturating_mul(2) } else { n });
    if plan.need > current {
        plan.wanted = plan.need;
        let fed = plan.stairs.useful().map(|useful| plan.stairs.snap(useful));
        plan.unmet = fed < plan.need && fed.is_some();
        plan.need = plan.need.zip(fed).map(|(need, fed)| need.min(fed).max(current.unwrap_or(0))).or(plan.need);
    }
    if let (Some(_), Some(least)) = (view.rates, memory.capacity.at_least()) {
        plan.trial = true;
        plan.keep = Some(plan.stairs.fewest(plan.demand.upper, |_| TRIAL * least * RHO).0);
    }
}

/// Who does what now.
fn crew(memory: &Memory, view: &View, stairs: &Staircase, mu: f64, current: u32) -> Crew {
    // What waits while a change takes effect is its own doing, and was reckoned with.
    let counts = if memory.in_flight().is_some() { 0.0 } else { 1.0 };
    let total: f64 = view.by_owner.iter().map(|o| o.weight).sum();
    let seen: f64 = view.by_owner.iter().map(|o| o.count).sum();
    let exact = memory.off.spares(Piece::CREW)
        && view.owners_known
        && view.sticky
        && total > 0.0
        && seen >= num::of_usize(memory.partitions.len())
        && num::u32_of(view.by_owner.len()) <= current;
    if !exact {
        return Crew::hottest(current.max(1), counts * view.settled_lag, stairs);
    }
    let load = |owner: &Owner| {
        let speed = memory.speed_of(owner.hash, mu);
        // More workers do not mend one that does hardly half of what the others do.
        let counts = if memory.is_slow(owner.hash, mu) { 0.0 } else { counts };
        let work = owner.settled_lag / (mu * speed);
        let uneven = if work > 0.2 { (owner.age / work).clamp(1.0, 8.0) } else { crew::UNEVEN };
        let (share, top, count) = (owner.weight / total, owner.top / total, owner.count);
        Load { share, top, count, lag: counts * owner.settled_lag, speed, age: counts * owner.age, uneven }
    };
    Crew::known(view.by_owner.iter().map(load).collect())
}

/// Latency that processing takes anyway, seconds.
pub(crate) fn latency_floor(memory: &Memory, settings: &Settings) -> f64 {
    settings.batch_interval.map_or(0.0, |b| b.0.max(0.0)) + memory.latency_floor.unwrap_or(0.0)
}
