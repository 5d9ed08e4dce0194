//! The demand that is planned for: arrivals now, their growth, and the most that may come within the reaction time.

use super::super::contract::settings::Settings;
use super::super::model::forecast::TREND;
use super::super::model::memory::Memory;
use super::super::observe::snapshot::{Rates, Snapshot};

/// Arrivals that are planned for, records per second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demand {
    /// Arrival rate now.
    pub(crate) level: f64,
    /// Growth, records per second per second; never below 0.
    pub(crate) slope: f64,
    /// Growth beyond the forecast at the end of the reaction time, as a share.
    pub(crate) excess: f64,
    /// Time until another decision could have taken effect, seconds.
    pub(crate) reaction: f64,
    /// Highest rate that is planned for at the end of the reaction time.
    pub(crate) upper: f64,
}

impl Demand {
    pub(crate) fn from_rates(memory: &Memory, rates: Rates) -> Self {
        let reaction = memory.reaction();
        let (line, slope) = memory.forecast.latest(memory.clock.now).unwrap_or((rates.level, 0.0));
        let level =
            if (line - rates.level).abs() <= 0.1 * rates.level { 0.5 * (line + rates.level) } else { rates.level };
        // A rise beyond four standard deviations is a step, and the whole step is planned for at once: answering it in
        // parts would move partitions again and again.
        let step = rates.moment > rates.level * (1.0 + 4.0 * memory.forecast.noise().max(0.02));
        let level = if step { level.max(rates.moment) } else { level };
        let excess = memory.forecast.excess(memory.caution.quantile());
        let mut demand = Self { level, slope: slope.max(0.0), excess, reaction, upper: 0.0 };
        demand.upper = demand.at(reaction);
        demand
    }

    /// Returns the rate that is expected `seconds` from now.
    pub(crate) fn expected(&self, seconds: f64) -> f64 {
        self.level + TREND * self.slope * seconds
    }

    /// Returns the highest rate that is planned for `seconds` from now.
    pub(crate) fn at(&self, seconds: f64) -> f64 {
        let share = (seconds / self.reaction.max(1e-9)).clamp(0.0, 1.0);
        self.expected(seconds) * (1.0 + self.excess * share)
    }
}

/// Most that working off a backlog may add, as a multiple of the usual rate.
const MOST_RECOVERY: f64 = 1.0;
/// Share of the objective whose arrivals may wait; records beyond that are worked off.
const WAITING: f64 = 0.3;

/// Returns the rate beyond the arrivals that works off the backlog within twice the objective's latency (at least 20 s),
/// records per second. It is limited to the usual rate, or to the rate that takes ten minutes if that is higher.
pub(crate) fn recovery(
    memory: &Memory,
    snapshot: &Snapshot,
    settings: &Settings,
    demand: &Demand,
    latency: f64,
) -> f64 {
    if memory.in_flight().is_some() {
        return 0.0;
    }
    // Without workers, everything that is not committed is unprocessed.
    let asleep = memory.changes.desired == Some(0);
    let waiting = if asleep { snapshot.lag.map_or(0.0, |lag| lag.possible) } else { snapshot.settled_lag.certain };
    let excess = (waiting - WAITING * latency * demand.level).max(0.0);
    let usual = demand.level.max(memory.forecast.mean().unwrap_or(0.0)).max(memory.processing_rate().unwrap_or(0.0));
    (excess / (2.0 * settings.latency.0).max(20.0)).min(MOST_RECOVERY * usual.max(excess / 600.0))
}
