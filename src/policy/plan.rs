//! How many workers are needed: the queues are followed for each number of workers that could be (see `rollout`).
//!
//! ```text
//! reaction  R = noticing + start-up + handover           until another decision could have worked
//! stay      while nobody waits longer than (L - handover) * 0.8 within R, under the upper demand
//! more      fewest n that, joined after the start-up, leave the same for the R after that
//! fewer     fewest n with which, its own handover included, the same holds, and which are not run hot
//! backlog   what is lost already is worked off in max(2 L, 20 s), by at most twice the usual capacity
//! ```
//!
//! The horizon is the reaction time, not a minute (experiments, point 8): growth that can be answered when it comes is not
//! bought now. Everything learned is what was known before this look: with fixed memory the need never falls when
//! arrivals, the backlog or 1/mu grow (law 3), nor when worker metrics go missing (law 2).

use std::sync::Arc;

use super::crew::{Crew, Load};
use super::forecast::damped;
use super::learning;
use super::look::{Rates, View};
use super::memory::Memory;
use super::num;
use super::rollout::{Change, Outcome, Path, rollout};
use super::settings::Settings;
use super::staircase::Staircase;

/// Share of the latency budget that a plan may use: the rest is for what the model does not know.
const USE: f64 = 0.8;
/// The same for a Down, which nobody has asked for.
const USE_DOWN: f64 = 0.6;
/// Utilisation of the hottest worker that an Up leaves, and that a Down may lead to.
const RHO: f64 = 0.97;
const RHO_DOWN: f64 = 0.94;
/// Utilisation while working off a backlog.
const RHO_RECOVERY: f64 = 0.95;
/// Surplus that a Down must leave at least, as a share of demand.
const SURPLUS: f64 = 0.0;

/// What is needed, and the numbers it rests on. Rates in records per second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) stairs: Arc<Staircase>,
    pub(crate) crew: Crew,
    pub(crate) rates: Option<Rates>,
    /// Arrivals now, and the most that is planned for within the reaction time.
    pub(crate) level: f64,
    pub(crate) slope: f64,
    pub(crate) demand: f64,
    /// Mean of what is forecast for the end of the reaction time.
    pub(crate) expected: f64,
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
    /// Longest wait if nothing is changed, within the reaction time, seconds.
    pub(crate) staying: Option<f64>,
}

/// Works out the need. `current`: workers asked for now.
pub(crate) fn plan(memory: &Memory, view: &View, settings: &Settings, current: Option<u32>) -> Plan {
    let stairs = Arc::clone(&memory.stairs);
    let floor = latency_floor(memory, settings);
    let latency = (settings.latency.0 - floor).max(0.1 * settings.latency.0);
    let reaction = memory.reaction();
    let mu = memory.capacity.per_worker(settings.max_records_per_second).filter(|mu| *mu > 1e-9);
    let capacity = mu.zip(current).map(|(mu, n)| stairs.capacity(n, mu));
    // How old records are beyond what processing takes anyway.
    let age = (view.settled_age - floor).max(0.0);
    let mut plan = Plan { rates: view.rates, mu, rho: RHO, capacity, latency, reaction, ..Plan::default() };

    if let Some(rates) = view.rates {
        plan.level = level(memory, rates);
        plan.slope = slope(memory, rates);
        plan.expected = plan.level + plan.slope * damped(reaction);
        plan.demand = plan.expected * (1.0 + memory.forecast.excess(reaction));
    }
    let over = |capacity: f64| plan.level > 0.98 * capacity;
    plan.urgent = age > 0.5 * latency || (view.rates.is_some() && capacity.is_some_and(over));
    if let (Some(mu), Some(_), Some(current)) = (mu, view.rates, current) {
        plan.crew = crew(memory, view, &stairs, mu, current);
        weigh(memory, view, settings, &mut plan, &stairs, mu, current);
    } else if mu.is_none() || view.rates.is_none() {
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
    if let (None, Some(_), Some(least)) = (mu, view.rates, memory.capacity.at_least()) {
        // Nobody knows how much more than this a worker can do. A quarter is a mistake that can be mended in time.
        plan.trial = true;
        plan.keep = Some(stairs.fewest(plan.demand * 1.1, |_| 1.35 * least * 0.9).0);
    }
    plan.stairs = stairs;
    plan
}

/// The weighing itself: what staying does, how many more it takes, how many fewer would do.
fn weigh(memory: &Memory, view: &View, settings: &Settings, plan: &mut Plan, stairs: &Staircase, mu: f64, current: u32) {
    let (start_up, handover) = (memory.start_up.p90(), memory.handover.p90());
    let (level, slope) = (plan.level, plan.slope);
    let upper = |t: f64| {
        let mean = level * t + slope * damped_sum(t);
        mean + memory.forecast.excess(t) * level * t
    };
    let reach = plan.reaction + memory.interval;
    let path = Path::new(start_up + handover + reach, upper);
    // A change that takes effect later makes its own partitions wait: room for that is kept.
    let room = if handover < 0.8 * plan.latency { plan.latency - handover } else { plan.latency };
    let limit = knob("use", USE) * room;
    let mut parts = Vec::new();
    let change = Change { at: 0.0, pause: handover, all_stop: false };
    let joining = Change { at: start_up, ..change };

    plan.crew.after(current.max(1), stairs, &mut parts);
    // Newcomers under way: when they come is not known exactly; not later than had they been asked for now.
    let under_way = plan.crew.workers() < current;
    let change_now = under_way.then_some(joining);
    let staying = rollout(&plan.crew, &parts, change_now, &path, (mu, reach, plan.latency));
    plan.staying = Some(staying.worst);
    let recovery = if memory.flight.is_some() { 0.0 } else { recovery(memory, view, settings, level, plan.capacity.unwrap_or(mu)) };
    let most = stairs.useful().unwrap_or(u32::MAX);

    let hot = |parts: &[super::crew::Part], crew: &Crew| {
        let pool = crew.pool(parts);
        parts
            .iter()
            .map(|p| {
                let kept = p.from.and_then(|i| crew.loads.get(i)).map_or(0.0, |l| l.share * p.kept);
                (kept + pool * p.pool) / p.speed.max(1e-9)
            })
            .fold(0.0, f64::max)
    };
    // More: as few as keep the queues short once they have joined.
    let later = level + slope * damped(start_up + handover + knob("later", 1.0) * plan.reaction);
    let enough = |n: u32, parts: &mut Vec<super::crew::Part>| {
        plan.crew.after(n, stairs, parts);
        let out = rollout(&plan.crew, parts, Some(joining), &path, (mu, start_up + handover + reach, plan.latency));
        let hottest = hot(parts, &plan.crew);
        out.end <= limit && later * hottest <= knob("rho", RHO) * mu && (level + recovery) * hottest <= RHO_RECOVERY * mu
    };
    let for_demand = stairs.fewest(plan.demand, |_| mu * RHO);
    plan.for_demand = Some(for_demand.0);
    let overdue = staying.worst > limit || recovery > 0.0 && (level + recovery) * hot(&parts, &plan.crew) > mu;
    if overdue && current > 0 {
        let (found, met) = search(current.saturating_add(1), most, |n| enough(n, &mut parts));
        plan.need = Some(stairs.snap(found.min(most)).max(current.min(most)));
        plan.unmet = !met;
        let least = (plan.demand / (mu * RHO)).max((level + recovery) / (mu * RHO_RECOVERY));
        plan.wanted = Some(num::ceil_u32(least).max(plan.need.unwrap_or(0)));
        plan.keep = plan.need;
        return;
    }
    if current == 0 {
        let (for_backlog, _) = stairs.fewest(level + recovery, |_| mu * RHO_RECOVERY);
        plan.need = Some(for_demand.0.max(for_backlog));
        plan.keep = plan.need;
        return;
    }
    // Fewer: down to the first that would not do.
    let surplus = 1.0 + SURPLUS.max(caution(memory));
    let fits = |n: u32, parts: &mut Vec<super::crew::Part>| {
        plan.crew.after(n, stairs, parts);
        let out: Outcome = rollout(&plan.crew, parts, Some(change), &path, (mu, handover + reach, plan.latency));
        let hottest = hot(parts, &plan.crew);
        out.worst <= (handover + knob("used", USE_DOWN) * room).min(0.9 * plan.latency).max(handover)
            && out.end <= knob("used", USE_DOWN) * room
            && later.max(level) * surplus * hottest <= knob("rhod", RHO_DOWN) * mu
    };
    // A count that does not fit may have a smaller one that does: what each worker gets depends on how the partitions
    // divide.
    let mut keep = current.min(most);
    let fewest = (keep / 2).max(1);
    let mut missed = 0_u32;
    for n in (fewest..keep).rev() {
        if fits(n, &mut parts) {
            keep = n;
            missed = 0;
        } else {
            missed += 1;
            if missed > 2 + n / 8 {
                break;
            }
        }
    }
    plan.need = Some(keep);
    plan.wanted = plan.need;
    plan.keep = Some(keep);
    plan.trial = !memory.knows_capacity();
}

/// Fewest of `from..=to` that fits, and whether any does; `fits` must hold for all above one for which it holds.
fn search(from: u32, to: u32, mut fits: impl FnMut(u32) -> bool) -> (u32, bool) {
    // One by one at first: what each worker gets depends on how the partitions divide, and that is not monotone.
    for n in from..=to.min(from.saturating_mul(2)) {
        if fits(n) {
            return (n, true);
        }
    }
    let (mut low, mut step) = (from.saturating_mul(2).saturating_add(1).min(to), 1_u32);
    let mut high = low;
    while high < to && !fits(high) {
        low = high.saturating_add(1);
        high = high.saturating_add(step).min(to);
        step = step.saturating_mul(2);
    }
    if high >= to && !fits(to.max(from)) {
        return (to.max(from), false);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if fits(middle) { high = middle } else { low = middle + 1 }
    }
    (high, true)
}

use super::knobs::knob;
/// Who does what now.
fn crew(memory: &Memory, view: &View, stairs: &Staircase, mu: f64, current: u32) -> Crew {
    let total: f64 = view.by_owner.iter().map(|o| o.weight).sum();
    let exact = view.owners_known && view.sticky && total > 0.0 && num::u32_of(view.by_owner.len()) <= current;
    if !exact {
        let lag = if memory.flight.is_some() { 0.0 } else { view.settled_lag };
        return Crew::hottest(current.max(1), lag, stairs);
    }
    let speed = |hash: u64| {
        let can = memory.workers.values().find(|w| w.hash == hash).map_or(f64::NAN, |w| w.can);
        if can.is_finite() { (1.0 + knob("sp", 0.7) * (can / mu - 1.0)).clamp(0.6, 1.2) } else { 1.0 }
    };
    let uneven = |o: &super::look::Owner| {
        let work = o.lag / (mu * speed(o.hash));
        if work > 0.2 { (o.age / work).clamp(1.0, 8.0) } else { knob("un", super::crew::UNEVEN) }
    };
    let load = |o: &super::look::Owner| Load {
        age: o.age,
        uneven: uneven(o),
        share: o.weight / total,
        count: o.count,
        // What waits while a change takes effect is its own doing, and was reckoned with.
        lag: if memory.flight.is_some() { 0.0 } else { o.settled_lag },
        speed: speed(o.hash),
    };
    Crew::known(view.by_owner.iter().map(load).collect())
}

/// Asked of a Down beyond the ordinary, after one had to be taken back.
fn caution(memory: &Memory) -> f64 {
    if memory.now < memory.caution_until { memory.caution } else { 0.0 }
}

/// Arrivals now: the line through two minutes or the rate of half a minute, or a faster one if it is higher by more than
/// its noise.
fn level(memory: &Memory, rates: Rates) -> f64 {
    let noise = memory.forecast.noise() * rates.half_minute;
    let short = noise * (rates.moment_window / rates.short_window).sqrt();
    let calm = rates.half_minute.max(rates.moment - 3.0 * noise).max(rates.short - 2.0 * short);
    // Beyond four deviations it is a step, and a step is taken whole: answering it in slices would move partitions twice.
    if rates.moment - 4.0 * noise > rates.half_minute { calm.max(rates.moment) } else { calm }
}

/// Growth to reckon with: the line's, as long as the last half minute bears it out.
fn slope(memory: &Memory, rates: Rates) -> f64 {
    let noise = memory.forecast.noise() * rates.half_minute * (2.0 * rates.moment_window / 15.0).sqrt() / 15.0;
    let line = memory.forecast.line().map_or(rates.recent, |l| l.1);
    line.min(rates.recent + noise).max(0.0)
}

/// Integral of [`damped`]: what a slope adds to the arrivals until `t`.
fn damped_sum(t: f64) -> f64 {
    // A parabola is close enough within some minutes, and above the truth.
    0.5 * t * damped(t)
}

/// Latency that processing takes anyway, seconds.
pub(crate) fn latency_floor(memory: &Memory, settings: &Settings) -> f64 {
    settings.batch_interval.map_or(0.0, |b| b.0.max(0.0)) + memory.latency_floor.unwrap_or(0.0)
}

/// Records per second beyond the arrivals, to work off what waits. A backlog of hours does not buy a cluster: at most
/// twice the usual rate (C11, pitfall 22).
fn recovery(memory: &Memory, view: &View, settings: &Settings, level: f64, capacity: f64) -> f64 {
    let latency = settings.latency.0;
    // What waits in a healthy job. By the last look's level, so that more arrivals never excuse more backlog.
    let allowed = memory.level * (0.5 * latency).max(1.0);
    let excess = (view.settled_lag - allowed).max(0.0);
    let usual = level.max(memory.forecast.mean().unwrap_or(0.0)).max(capacity);
    (excess / (2.0 * latency).max(20.0)).min(2.0 * usual)
}
