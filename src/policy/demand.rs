//! What is reckoned with: arrivals now, their growth, and the most that may arrive within a time.

use super::forecast::{damped, damped_sum};
use super::look::{Rates, View};
use super::memory::Memory;
use super::pieces::Piece;
use super::rollout::Path;
use super::settings::Settings;

/// Arrivals that are planned for. Rates in records per second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demand {
    /// Now.
    pub(crate) level: f64,
    /// Growth, records per second per second; never below 0.
    pub(crate) slope: f64,
    /// Mean of what is forecast for the end of the reaction time.
    pub(crate) expected: f64,
    /// The most that is planned for within the reaction time.
    pub(crate) upper: f64,
}

impl Demand {
    pub(crate) fn of(memory: &Memory, rates: Rates) -> Self {
        let (level, slope) = (level(memory, rates), slope(memory, rates));
        let reaction = memory.reaction();
        let expected = level + slope * damped(reaction);
        Self { level, slope, expected, upper: expected * (1.0 + excess(memory, reaction, level)) }
    }

    /// Mean rate that is forecast for `seconds` from now.
    pub(crate) fn at(&self, seconds: f64) -> f64 {
        self.level + self.slope * damped(seconds)
    }

    /// The most that may arrive until each moment of the next `horizon` seconds.
    pub(crate) fn path(&self, memory: &Memory, horizon: f64) -> Path {
        Path::new(horizon, |t| self.level * t * (1.0 + excess(memory, t, self.level)) + self.slope * damped_sum(t))
    }
}

/// What may arrive beyond the forecast within `horizon` seconds, as a share of it.
fn excess(memory: &Memory, horizon: f64, level: f64) -> f64 {
    if memory.off.spares(Piece::RESERVE) { memory.forecast.excess(horizon, level) } else { 0.0 }
}

/// Arrivals now: the rate of half a minute, or a faster one if it is higher by more than its noise.
fn level(memory: &Memory, rates: Rates) -> f64 {
    let noise = memory.forecast.noise() * rates.half_minute;
    let short = noise * (rates.moment_window / rates.short_window).sqrt();
    let calm = rates.half_minute.max(rates.moment - 3.0 * noise).max(rates.short - 2.0 * short);
    // Beyond four deviations it is a step, and a step is taken whole: answering it in slices would move partitions twice.
    if !memory.off.spares(Piece::FAST_LEVEL) {
        rates.half_minute
    } else if rates.moment - 4.0 * noise > rates.half_minute {
        calm.max(rates.moment)
    } else {
        calm
    }
}

/// Growth to reckon with: the line's through two minutes, as long as the last half minute bears it out.
fn slope(memory: &Memory, rates: Rates) -> f64 {
    let noise = memory.forecast.noise() * rates.half_minute * (2.0 * rates.moment_window / 15.0).sqrt() / 15.0;
    let line = memory.forecast.line().map_or(rates.recent, |l| l.1);
    if memory.off.spares(Piece::TREND) { line.min(rates.recent + noise).max(0.0) } else { 0.0 }
}

/// A backlog is worked off by so many times the usual rate at most.
pub(crate) const MOST_RECOVERY: f64 = 2.0;

/// Records per second beyond the arrivals, to work off what waits. A backlog of hours does not buy a cluster: at most
/// twice the usual rate (algorithms.md C11, pitfall 22).
pub(crate) fn recovery(memory: &Memory, view: &View, settings: &Settings, level: f64, capacity: f64) -> f64 {
    if memory.in_flight().is_some() || !memory.off.spares(Piece::RECOVERY) {
        return 0.0;
    }
    let latency = settings.latency.0;
    // What waits in a healthy job. By the last look's level, so that more arrivals never excuse more backlog.
    let allowed = memory.level * (0.5 * latency).max(1.0);
    let excess = (view.settled_lag - allowed).max(0.0);
    (excess / (2.0 * latency).max(20.0)).min(MOST_RECOVERY * usual(memory, level, capacity))
}

/// The usual rate, records per second: of the hour, of now, or what the present workers can do.
pub(crate) fn usual(memory: &Memory, level: f64, capacity: f64) -> f64 {
    level.max(memory.forecast.mean().unwrap_or(0.0)).max(capacity)
}
