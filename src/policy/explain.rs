//! Every number that a decision rests on, and whether the objective is met. Only finite numbers leave this room.

use super::decision::{Explain, WithinTarget};
use super::down;
use super::guard::Range;
use super::learning::processing_rate;
use super::look::View;
use super::memory::Memory;
use super::num::finite;
use super::plan::{Plan, latency_floor};
use super::settings::Settings;
use super::units::Seconds;

/// Collects the numbers.
pub(crate) fn explain(memory: &Memory, view: &View, plan: &Plan, range: Range, settings: &Settings) -> Explain {
    let known = |value: Option<f64>| value.and_then(finite);
    let rates = view.rates;
    Explain {
        lag: known(view.lag),
        overdue: known(view.overdue),
        time_lag_seconds: known(view.age),
        latency_seconds: known(memory.attainment.percentile(memory.now, settings.percentile)),
        attainment: known(memory.attainment.share()),
        budget_left: known(memory.attainment.budget(settings.percentile).map(|b| b.1)),
        arrival_rate: known(rates.map(|r| r.half_minute)),
        trend: known(memory.forecast.line().map(|l| l.1)),
        processing_rate: known(processing_rate(memory)),
        demand: known(rates.map(|_| plan.demand.upper)),
        target_utilisation: known(plan.capacity.map(|c| plan.demand.level / c)),
        model: memory.model(),
        partitions: plan.stairs.partitions(),
        useful_workers: plan.stairs.useful(),
        need: plan.wanted.or(plan.need),
        floor: Some(range.floor),
        ceiling: Some(range.ceiling),
        sample_age_seconds: known(view.sample_age),
        rescales_last_hour: Some(memory.rescales_last_hour()),
        in_flight: memory.flight.is_some(),
        growth_reserve: known(Some(1.0 + memory.forecast.excess(plan.reaction, plan.demand.level))),
        growth_quantile: known(Some(memory.forecast.quantile())),
        down_window_seconds: known(Some(down::down_window(memory))),
        staying_seconds: known(plan.staying),
        not_fewer: plan.keep,
        contradiction: view.contradiction.clone(),
    }
}

/// Is the objective met now?
pub(crate) fn within_target(memory: &Memory, view: &View, plan: &Plan, settings: &Settings) -> WithinTarget {
    let objective = settings.latency.0;
    let floor = latency_floor(memory, settings);
    if floor >= objective {
        return WithinTarget::ObjectiveBelowFloor { floor: Seconds(floor) };
    }
    let (Some(age), Some(lag)) = (view.age, view.lag) else { return WithinTarget::Unknown };
    let overdue = view.overdue.unwrap_or(0.0) >= 1.0;
    if age <= objective && !overdue {
        return WithinTarget::Met;
    }
    let gained =
        processing_rate(memory).map(|rate| rate - plan.demand.level).filter(|g| *g > 0.01 * plan.demand.level.max(1.0));
    // What may wait in time is what arrives within the objective.
    let excess = (lag - plan.demand.level * objective).max(view.overdue.unwrap_or(0.0));
    match gained.and_then(|gained| finite(excess / gained)) {
        Some(eta) => WithinTarget::CatchingUp { eta: Seconds(eta.max(0.0)) },
        None => WithinTarget::Behind,
    }
}
