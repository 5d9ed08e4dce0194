//! How many workers are needed: for what arrives and will arrive, and to work off what waits.
//!
//! ```text
//! demand   = max(rate of half a minute + slope * (15 s + damped horizon), fast rates less their noise)
//! horizon  = detection + start-up + handover                       the reaction time (experiments, point 8)
//! need     = fewest n with demand * share(n) <= mu * rho(n)         and
//!            (level + recovery) * share(n) <= mu * 0.95             (algorithms.md C6)
//! recovery = min((backlog - allowed) / max(2 L, 20 s), 2 * usual rate)
//! ```
//!
//! Everything learned is what was known before this look: with fixed memory the need never falls when arrivals, the
//! backlog or 1/mu grow (law 3), nor when worker metrics go missing (law 2).

use super::learning;
use super::look::{Rates, View};
use super::memory::Memory;
use super::num;
use super::settings::Settings;
use super::staircase::Staircase;

/// Utilisation above which queueing takes over (algorithms.md C4 i); one slow worker is a large share of two.
const RHO: f64 = 0.9;
const RHO_FEW: f64 = 0.85;
/// Utilisation while working off a backlog.
const RHO_RECOVERY: f64 = 0.95;
/// Slopes fade by this per ten seconds (algorithms.md C5).
const DAMPING: f64 = 0.97;
/// Surplus that a Down must leave at least, as a share of demand.
const SURPLUS: f64 = 0.05;

/// What is needed, and the numbers it rests on. Rates in records per second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) stairs: Staircase,
    pub(crate) rates: Option<Rates>,
    /// Arrivals now, and those that are planned for.
    pub(crate) level: f64,
    pub(crate) demand: f64,
    /// Capacity of one worker, if known.
    pub(crate) mu: Option<f64>,
    pub(crate) rho: f64,
    /// Workers for the demand alone, and with the backlog; within what the partitions can feed. `None`: not known.
    pub(crate) for_demand: Option<u32>,
    pub(crate) need: Option<u32>,
    /// Workers that would be needed if partitions did not matter.
    pub(crate) wanted: Option<u32>,
    /// The partitions cannot feed enough workers.
    pub(crate) unmet: bool,
    /// Workers that a Down must leave.
    pub(crate) keep: Option<u32>,
    /// Keeping fewer is a trial: capacity is not known, only what workers were seen to do.
    pub(crate) trial: bool,
    /// Capacity of the present workers, records per second.
    pub(crate) capacity: Option<f64>,
    /// Without more workers records will be late.
    pub(crate) urgent: bool,
    /// Objective less what processing takes anyway, seconds.
    pub(crate) latency: f64,
    pub(crate) reaction: f64,
}

/// Works out the need. `current`: workers asked for now.
pub(crate) fn plan(memory: &Memory, view: &View, settings: &Settings, current: Option<u32>) -> Plan {
    let stairs = Staircase::build(&view.deals, memory.hot);
    let floor = latency_floor(memory, settings);
    let latency = (settings.latency.0 - floor).max(0.1 * settings.latency.0);
    let reaction = memory.reaction();
    let mu = memory.capacity.per_worker(settings.max_records_per_second).filter(|mu| *mu > 1e-9);
    let rho = utilisation(memory, latency);
    let usable = |n: u32, mu: f64| mu * if n <= 2 { rho.min(RHO_FEW) } else { rho };
    let capacity = mu.zip(current).map(|(mu, n)| stairs.capacity(n, mu));
    // How old records are beyond what processing takes anyway.
    let age = (view.settled_age - floor).max(0.0);
    let mut plan = Plan { rates: view.rates, mu, rho, capacity, latency, reaction, ..Plan::default() };

    if let Some(rates) = view.rates {
        plan.level = level(memory, rates);
        plan.demand = (rates.half_minute + slope(memory, rates) * (15.0 + damped(reaction))).max(plan.level);
    }
    let over = |capacity: f64| plan.level > 0.98 * capacity;
    plan.urgent = age > 0.5 * latency || (view.rates.is_some() && capacity.is_some_and(over));
    if let (Some(mu), Some(_)) = (mu, view.rates) {
        let (for_demand, enough) = stairs.fewest(plan.demand, |n| usable(n, mu));
        let recovery = recovery(memory, view, settings, plan.level, capacity.unwrap_or(mu));
        let (for_backlog, caught_up) = stairs.fewest(plan.level + recovery, |_| mu * RHO_RECOVERY);
        plan.for_demand = Some(for_demand);
        plan.need = Some(for_demand.max(for_backlog));
        plan.unmet = !enough || !caught_up;
        let least = (plan.demand / (mu * rho)).max((plan.level + recovery) / (mu * RHO_RECOVERY));
        plan.wanted = Some(num::ceil_u32(least).max(plan.need.unwrap_or(0)));
    } else {
        // What a worker can do is not known. If records grow old, more workers are tried.
        let gaining = learning::processing_rate(memory).is_some_and(|done| done > 1.05 * plan.level);
        let behind = age > 0.4 * latency && view.waiting && !gaining;
        plan.need = current.map(|n| if behind { n.max(1).saturating_mul(2) } else { n });
    }
    if mu.is_none() && plan.need > current {
        plan.wanted = plan.need;
        let fed = stairs.useful().map(|useful| stairs.snap(useful));
        plan.unmet = fed < plan.need && fed.is_some();
        plan.need = plan.need.zip(fed).map(|(need, fed)| need.min(fed).max(current.unwrap_or(0))).or(plan.need);
    }
    keep(memory, view, &mut plan, &stairs, usable);
    plan.stairs = stairs;
    plan
}

/// Workers that a Down must leave: enough for the demand and the surplus that keeps it from being taken back.
fn keep(memory: &Memory, view: &View, plan: &mut Plan, stairs: &Staircase, usable: impl Fn(u32, f64) -> f64) {
    if view.rates.is_none() {
        return;
    }
    let surplus = 1.0 + surplus(memory, plan);
    let known = plan.mu.filter(|_| memory.knows_capacity());
    // Nobody knows how much more than this a worker can do. A quarter is a mistake that can be mended in time.
    let mu = known.or_else(|| memory.capacity.at_least().map(|least| 1.35 * least));
    plan.trial = known.is_none();
    plan.keep = mu.filter(|mu| *mu > 1e-9).map(|mu| {
        let keep = stairs.fewest(plan.demand * surplus, |n| usable(n, mu)).0;
        keep.max(plan.need.filter(|_| known.is_some()).unwrap_or(0))
    });
}

/// Surplus that a Down must leave: three deviations of the rates and of mu, so that noise alone does not undo it (law 5).
fn surplus(memory: &Memory, plan: &Plan) -> f64 {
    let looks = plan.rates.map_or(1.0, |r| (30.0 / r.moment_window.max(0.1)).max(1.0));
    let noise = memory.history.noise() / looks.sqrt();
    let mu = memory.capacity.deviation().min(0.05);
    let caution = if memory.now < memory.caution_until { memory.caution } else { 0.0 };
    SURPLUS.max(3.0 * noise.hypot(mu)) + caution
}

/// Arrivals now: the rate of half a minute, or a faster one if it is higher by more than its noise.
fn level(memory: &Memory, rates: Rates) -> f64 {
    let noise = memory.history.noise() * rates.half_minute;
    let short = noise * (rates.moment_window / rates.short_window).sqrt();
    let calm = rates.half_minute.max(rates.moment - 3.0 * noise).max(rates.short - 2.0 * short);
    // Beyond four deviations it is a step, and a step is taken whole: answering it in slices would move partitions twice.
    if rates.moment - 4.0 * noise > rates.half_minute { calm.max(rates.moment) } else { calm }
}

/// Growth to reckon with: less one deviation of what noise makes of the difference of two quarter minutes.
fn slope(memory: &Memory, rates: Rates) -> f64 {
    let noise = memory.history.noise() * rates.half_minute * (2.0 * rates.moment_window / 15.0).sqrt() / 15.0;
    (rates.slope - noise).max(0.0)
}

/// Seconds that a slope is followed, each ten counting 3 % less than the ten before.
fn damped(horizon: f64) -> f64 {
    10.0 * (1.0 - DAMPING.powf(horizon / 10.0)) / (1.0 - DAMPING)
}

/// Latency that processing takes anyway, seconds.
pub(crate) fn latency_floor(memory: &Memory, settings: &Settings) -> f64 {
    settings.batch_interval.map_or(0.0, |b| b.0.max(0.0)) + memory.latency_floor.unwrap_or(0.0)
}

/// Utilisation to plan with (algorithms.md C4 ii): demand may grow by `g` beyond the forecast before more workers work,
/// and the delay that builds up must stay within the objective.
fn utilisation(memory: &Memory, latency: f64) -> f64 {
    let growth = memory.history.growth().max(1.0);
    let (pause, lead) = (memory.handover.p90(), memory.detection() + memory.start_up.p90());
    let spare = latency - pause;
    let step = if spare <= 0.0 {
        1.0 / growth
    } else if spare >= lead {
        1.0
    } else {
        1.0 / (growth * (1.0 - spare / lead))
    };
    step.clamp(0.3, RHO)
}

/// Records per second beyond the arrivals, to work off what waits. A backlog of hours does not buy a cluster: at most
/// twice the usual rate (C11, pitfall 22).
fn recovery(memory: &Memory, view: &View, settings: &Settings, level: f64, capacity: f64) -> f64 {
    let latency = settings.latency.0;
    // What waits in a healthy job. By the last look's level, so that more arrivals never excuse more backlog.
    let allowed = memory.level * (0.3 * latency).max(1.0);
    let excess = (view.settled_lag - allowed).max(0.0);
    let usual = level.max(memory.history.mean().unwrap_or(0.0)).max(capacity);
    (excess / (2.0 * latency).max(20.0)).min(2.0 * usual)
}
