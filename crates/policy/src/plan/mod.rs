//! Plans how many workers are needed, with the numbers that this rests on.
//!
//! A plan uses what was learned before this observation: with fixed memory the need never falls when arrivals, the
//! backlog or 1/mu grow, nor when worker metrics go missing.

pub(crate) mod demand;
pub(crate) mod queue;
pub(crate) mod sizing;

use std::sync::Arc;

use super::contract::decision::Confidence;
use super::contract::settings::Settings;
use super::model::memory::Memory;
use super::model::staircase::Staircase;
use super::observe::snapshot::Snapshot;
use demand::Demand;

/// The plan. Rates are in offsets per second, which are records per second except for transaction markers.
#[allow(clippy::struct_excessive_bools, clippy::struct_field_names)] // independent facts; the number is called the need
#[derive(Debug, Clone, Default)]
pub(crate) struct Need {
    pub(crate) stairs: Arc<Staircase>,
    pub(crate) demand: Demand,
    /// Capacity of one worker, if known.
    pub(crate) mu: Option<f64>,
    /// Workers needed, at most as many as the partitions can feed. `None`: not known.
    pub(crate) need: Option<u32>,
    /// Workers that would be needed if partitions did not matter.
    pub(crate) wanted: Option<u32>,
    /// The partitions cannot feed enough workers.
    pub(crate) unmet: bool,
    /// More are needed because of the backlog, and not only because of the arrivals.
    pub(crate) catch_up: bool,
    /// Fewest workers that a scale-down must leave.
    pub(crate) keep: Option<u32>,
    /// Removing workers would be a trial, because capacity is not known.
    pub(crate) trial: bool,
    /// Most arrivals that the present workers can process before the hottest is overloaded.
    pub(crate) capacity: Option<f64>,
    /// Records will be late without more workers.
    pub(crate) urgent: bool,
    /// Objective less the latency that processing takes in any case, seconds.
    pub(crate) latency: f64,
    /// How long the newest record of the hottest worker certainly waits now, seconds.
    pub(crate) delay: f64,
    /// Longest wait within the reaction time if nothing is changed, seconds.
    pub(crate) staying: Option<f64>,
    /// Time that must pass between two changes so that their pauses do not overdraw the error budget, seconds; 0 where
    /// a pause is shorter than the objective.
    pub(crate) spacing: f64,
    /// Workers that are processing now.
    pub(crate) working: u32,
}

/// Plans the need. `current`: the requested replica count.
pub(crate) fn need(
    memory: &Memory,
    snapshot: &Snapshot,
    settings: &Settings,
    current: Option<u32>,
    working: u32,
) -> Need {
    let floor = latency_floor(memory, settings);
    let latency = (settings.latency.0 - floor).max(0.1 * settings.latency.0);
    let mut need = Need {
        demand: snapshot.rates.map(|rates| Demand::from_rates(memory, rates)).unwrap_or_default(),
        mu: memory.offsets_per_worker(settings),
        latency,
        delay: (snapshot.settled_age.certain - floor).max(0.0),
        spacing: sizing::spacing(memory, settings, latency),
        stairs: Arc::clone(&memory.stairs.steps),
        working,
        ..Need::default()
    };
    match (need.mu, snapshot.rates, current) {
        (Some(mu), Some(_), Some(0)) => sizing::plan_from_zero(memory, snapshot, settings, &mut need, mu),
        (Some(mu), Some(_), Some(current)) => {
            sizing::plan_with_capacity(memory, snapshot, settings, &mut need, mu, current);
        }
        (_, _, Some(current)) => sizing::plan_without_capacity(memory, snapshot, settings, &mut need, current),
        _ => {}
    }
    let over = need.capacity.is_some_and(|capacity| need.demand.level > 0.98 * capacity);
    need.urgent = need.delay > 0.5 * latency || over;
    need
}

/// Returns the latency that processing takes in any case, seconds. The measured part may be a backlog, so it counts for
/// half of the objective at most.
pub(crate) fn latency_floor(memory: &Memory, settings: &Settings) -> f64 {
    let record = memory.capacity.seconds_per_record().filter(|_| memory.capacity.confidence() >= Confidence::Medium);
    let certain = settings.batch_interval.map_or(0.0, |b| b.0.max(0.0)) + record.unwrap_or(0.0);
    certain + memory.latency_floor.known().unwrap_or(0.0).min(0.5 * settings.latency.0)
}
