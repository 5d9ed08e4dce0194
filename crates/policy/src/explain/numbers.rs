//! The numbers that a decision rests on, and whether the objective is met. Only finite numbers leave this module.

use super::super::contract::decision::{Confidence, Explain, WithinTarget};
use super::super::contract::settings::Settings;
use super::super::limit::Range;
use super::super::limit::scale_down::hold_seconds;
use super::super::model::memory::Memory;
use super::super::observe::snapshot::Snapshot;
use super::super::plan::{Need, latency_floor};
use sluice_base::num::finite;
use sluice_base::units::Seconds;
use sluice_base::words;

/// Collects the numbers of a decision; a number that is unknown or not finite is left out.
pub(crate) fn explain(memory: &Memory, snapshot: &Snapshot, need: &Need, range: Range, settings: &Settings) -> Explain {
    let known = |value: Option<f64>| value.and_then(finite);
    let now = memory.clock.now;
    let rates = snapshot.rates;
    Explain {
        lag: known(snapshot.lag.map(|lag| lag.possible)),
        overdue: known(snapshot.overdue),
        time_lag_seconds: known(snapshot.age.map(|age| age.certain)),
        latency_seconds: known(memory.attainment.percentile(now, settings.percentile)),
        attainment: known(memory.attainment.share()),
        budget_left: known(memory.attainment.budget(settings.percentile).map(|budget| budget.left)),
        arrival_rate: known(rates.map(|r| r.half_minute)),
        trend: known(memory.forecast.latest(now).map(|l| l.1)),
        processing_rate: known(memory.processing_rate()),
        demand: known(rates.map(|_| need.demand.upper)),
        target_utilisation: known(need.capacity.map(|c| need.demand.level / c)),
        model: memory.model(),
        partitions: need.stairs.partitions(),
        useful_workers: need.stairs.useful(),
        need: need.wanted.or(need.need),
        floor: Some(range.floor),
        ceiling: Some(range.ceiling),
        sample_age_seconds: known(snapshot.sample_age),
        rescales_last_hour: Some(memory.changes.rescales_last_hour(now)),
        in_flight: memory.in_flight().is_some(),
        growth_reserve: known(Some(1.0 + need.demand.excess)),
        growth_quantile: known(Some(memory.caution.quantile())),
        caution: known(Some(memory.caution.level())),
        down_window_seconds: known(Some(hold_seconds(memory, need))),
        staying_seconds: known(need.staying),
        not_fewer: need.keep,
        contradiction: snapshot.contradiction.clone(),
        latency_evidence: latency_evidence(memory, snapshot),
        capacity_evidence: capacity_evidence(memory),
        unverifiable: snapshot.unverifiable.clone(),
        strangers: Some(snapshot.strangers).filter(|strangers| *strangers > 0),
    }
}

fn latency_evidence(memory: &Memory, snapshot: &Snapshot) -> Option<String> {
    if !snapshot.fresh {
        return None;
    }
    Some(match memory.commit_interval.upper() {
        _ if snapshot.positioned => "positions reported by the workers".to_owned(),
        Some(interval) => format!("commits, which arrive within {}", words::seconds(interval)),
        None => "commits; the commit interval is not known yet".to_owned(),
    })
}

fn capacity_evidence(memory: &Memory) -> Option<String> {
    let (records, seconds) = memory.capacity.evidence();
    let rests_on =
        |what: &str| format!("{what}: {} records in {} of work", words::count(records), words::seconds(seconds));
    match memory.capacity.confidence() {
        Confidence::None => memory
            .capacity
            .at_least()
            .map(|least| format!("a worker was seen to process {}; its maximum is not known", words::rate(least))),
        Confidence::Low if records < 1.0 => Some("the estimate from before a restart or a rollout".to_owned()),
        Confidence::Low => Some(rests_on("few records so far")),
        Confidence::Medium => Some(rests_on("busy time of workers that were not saturated")),
        Confidence::High => Some(rests_on("observed work")),
    }
}

/// Returns whether the objective is met now.
pub(crate) fn within_target(
    memory: &Memory,
    snapshot: &Snapshot,
    ready: Option<u32>,
    need: &Need,
    settings: &Settings,
) -> WithinTarget {
    let objective = settings.latency.0;
    let floor = latency_floor(memory, settings);
    if floor >= objective {
        return WithinTarget::ObjectiveBelowFloor { floor: Seconds(floor) };
    }
    let (Some(age), Some(lag)) = (snapshot.age, snapshot.lag) else { return WithinTarget::Unknown };
    let overdue = snapshot.overdue.unwrap_or(0.0) >= 1.0;
    if age.certain <= objective && !overdue {
        // Without workers nothing was processed lately, so records that may be waiting may be late.
        let may_be_late = ready == Some(0) && age.possible > objective && lag.possible >= 1.0;
        return if may_be_late { WithinTarget::Unknown } else { WithinTarget::Met };
    }
    let level = need.demand.level;
    let gained = memory.processing_rate().map(|rate| rate - level).filter(|g| *g > 0.01 * level.max(1.0));
    // The arrivals of one objective's latency may wait and still be in time; only records beyond that are late.
    let excess = (lag.certain - level * objective).max(snapshot.overdue.unwrap_or(0.0));
    match gained.and_then(|gained| finite(excess / gained)) {
        Some(eta) => WithinTarget::CatchingUp { eta: Seconds(eta.max(0.0)) },
        None => WithinTarget::Behind,
    }
}
