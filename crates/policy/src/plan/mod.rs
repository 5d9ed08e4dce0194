//! How many workers are needed, and the numbers that this rests on.
//!
//! Everything learned is what was known before this look: with fixed memory the need never falls when arrivals, the
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

/// What is needed. Rates in offsets per second, which are records per second but for transaction markers.
#[allow(clippy::struct_excessive_bools, clippy::struct_field_names)] // facts, each on its own; the number is the need
#[derive(Debug, Clone, Default)]
pub(crate) struct Need {
    pub(crate) stairs: Arc<Staircase>,
    pub(crate) demand: Demand,
    /// Capacity of one worker, if known.
    pub(crate) mu: Option<f64>,
    /// Workers needed, within what the partitions can feed. `None`: not known.
    pub(crate) need: Option<u32>,
    /// Workers that would be needed if partitions did not matter.
    pub(crate) wanted: Option<u32>,
    /// The partitions cannot feed enough workers.
    pub(crate) unmet: bool,
    /// More are needed for what waits, and not only for what arrives.
    pub(crate) catch_up: bool,
    /// Workers that a Down must leave.
    pub(crate) keep: Option<u32>,
    /// Keeping fewer is a trial: capacity is not known.
    pub(crate) trial: bool,
    /// What the working workers can do before the hottest is too hot.
    pub(crate) capacity: Option<f64>,
    /// Without more workers records will be late.
    pub(crate) urgent: bool,
    /// Objective less what processing takes anyway, seconds.
    pub(crate) latency: f64,
    /// How long the newest record of the hottest worker waits now, as far as is certain, seconds.
    pub(crate) delay: f64,
    /// Longest wait if nothing is changed, within the reaction time, seconds.
    pub(crate) staying: Option<f64>,
    /// Seconds that must pass between two changes so that their pauses do not overdraw the error budget; 0 where a pause
    /// is shorter than the objective.
    pub(crate) spacing: f64,
    /// Workers that work now.
    pub(crate) working: u32,
}

/// Works out the need. `current`: workers asked for now.
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
        demand: snapshot.rates.map(|rates| Demand::new(memory, rates)).unwrap_or_default(),
        mu: memory.offsets_per_worker(settings),
        latency,
        delay: (snapshot.settled_age.certain - floor).max(0.0),
        spacing: sizing::spacing(memory, settings, latency),
        stairs: Arc::clone(&memory.stairs.steps),
        working,
        ..Need::default()
    };
    match (need.mu, snapshot.rates, current) {
        (Some(mu), Some(_), Some(0)) => sizing::asleep(memory, snapshot, settings, &mut need, mu),
        (Some(mu), Some(_), Some(current)) => sizing::known(memory, snapshot, settings, &mut need, mu, current),
        (_, _, Some(current)) => sizing::unknown(memory, snapshot, settings, &mut need, current),
        _ => {}
    }
    let over = need.capacity.is_some_and(|capacity| need.demand.level > 0.98 * capacity);
    need.urgent = need.delay > 0.5 * latency || over;
    need
}

/// Latency that processing takes anyway, seconds. What was only measured may be a backlog: half of the objective at most.
pub(crate) fn latency_floor(memory: &Memory, settings: &Settings) -> f64 {
    let record = memory.capacity.seconds_per_record().filter(|_| memory.capacity.confidence() >= Confidence::Medium);
    let certain = settings.batch_interval.map_or(0.0, |b| b.0.max(0.0)) + record.unwrap_or(0.0);
    certain + memory.latency_floor.known().unwrap_or(0.0).min(0.5 * settings.latency.0)
}
