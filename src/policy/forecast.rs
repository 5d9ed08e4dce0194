//! What will arrive: a line through the last two minutes, damped, and how far such lines fell short.
//!
//! ```text
//! mean(h)  = level + slope * damped(h)            (algorithms.md C5: better than last value up to five minutes)
//! upper(h) = mean(h) + excess(h) * level          excess: quantile of what arrived within h beyond the forecast
//! ```
//!
//! Errors are those of the *sum* over a horizon, for a queue takes in sums: noise of single seconds evens out. They are
//! shares of the level, with a floor: ratios to next to nothing say nothing. And a level near the highest of the day does
//! not jump as the lowest did: beyond that record only a little more is reckoned with, and the trend.

use std::collections::VecDeque;

use super::num;
use super::pieces::{Off, Piece};

/// Length of a bin, seconds.
pub(crate) const BIN: f64 = 5.0;
/// One hour.
const BINS: usize = 720;
/// Bins of the line.
const LINE: usize = 24;
/// Slopes fade by this per ten seconds (algorithms.md C5).
const DAMPING: f64 = 0.97;
/// Horizons at which errors are measured, bins.
const HORIZONS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Errors that are assumed until enough were seen, as a share of the level, at each horizon.
const PRIOR: f64 = 0.1;
/// Errors are measured anew every so many bins.
const REFRESH: usize = 6;
/// Bins until the errors mean something.
const ENOUGH: usize = 60;
/// Deviation of a single look's rate that is assumed at first, as a share of the rate.
const NOISE_PRIOR: f64 = 0.15;
/// The highest rate of each ten minutes is remembered for so many of them: a day.
const BLOCKS: usize = 144;
const BLOCK_BINS: usize = 120;
/// Share by which a new record exceeds the old one without a trend: less than this, and half of the bursts of a first day
/// come late; twice as much costs a sixth more where load jumps between two levels, and gains nothing.
const NEW_RECORD: f64 = 0.15;

/// One bin: what arrived in it, and the line that was drawn at its end. Records per second.
#[derive(Debug, Clone, Copy)]
struct Bin {
    rate: f32,
    level: f32,
    slope: f32,
}

/// The last hour of arrivals, and how good forecasts were.
#[derive(Debug, Clone)]
pub(crate) struct Forecast {
    bins: VecDeque<Bin>,
    /// End of the newest bin, and arrivals until then.
    ended: (f64, f64),
    since_refresh: usize,
    in_block: usize,
    excess: [f64; HORIZONS.len()],
    /// Highest rate of each block, newest last.
    blocks: VecDeque<f32>,
    /// Highest rate of a bin in the day, records per second. Kept, for a roll-out asks for it at every second.
    record: f64,
    /// Relative variance of a look's rate around that of the last half minute.
    noise: f64,
    looks: u32,
    /// Rate of the last look.
    last_moment: f64,
    /// Quantile of errors that is planned for; follows the error budget.
    quantile: f64,
    /// Pieces of the policy that are switched off.
    pub(crate) off: Off,
}

impl Default for Forecast {
    fn default() -> Self {
        Self {
            bins: VecDeque::new(),
            ended: (f64::NEG_INFINITY, 0.0),
            since_refresh: 0,
            in_block: 0,
            excess: [PRIOR; HORIZONS.len()],
            blocks: VecDeque::new(),
            record: 0.0,
            noise: NOISE_PRIOR * NOISE_PRIOR,
            looks: 0,
            last_moment: f64::NAN,
            quantile: 0.98,
            off: Off::default(),
        }
    }
}

impl Forecast {
    /// Relative standard deviation of the rate seen in a single look.
    pub(crate) fn noise(&self) -> f64 {
        self.noise.sqrt()
    }

    /// Quantile of forecast errors that is planned for.
    pub(crate) fn quantile(&self) -> f64 {
        self.quantile
    }

    /// Mean arrival rate over the hour, records per second.
    pub(crate) fn mean(&self) -> Option<f64> {
        let sum: f64 = self.bins.iter().map(|b| f64::from(b.rate)).sum();
        (!self.bins.is_empty()).then(|| sum / num::of_usize(self.bins.len()))
    }

    /// Highest rate of a bin in the hour, records per second.
    fn most(&self) -> f64 {
        self.bins.iter().map(|b| f64::from(b.rate)).fold(0.0, f64::max)
    }

    /// Level and slope of the line at the end of the newest bin.
    pub(crate) fn line(&self) -> Option<(f64, f64)> {
        self.bins.back().map(|b| (f64::from(b.level), f64::from(b.slope)))
    }

    fn find_record(&self) -> f64 {
        self.blocks.iter().copied().map(f64::from).fold(self.most(), f64::max)
    }

    /// How much more than forecast may arrive within `horizon` seconds while the level is this, as a share of what is
    /// forecast; at least 0.
    pub(crate) fn excess(&self, horizon: f64, level: f64) -> f64 {
        let known = (1.0 + NEW_RECORD) * self.record / level.max(1e-9) - 1.0;
        self.errors(horizon).min(known.max(NEW_RECORD))
    }

    /// How much more than forecast arrived within `horizon` seconds at the quantile that is planned for, likewise.
    fn errors(&self, horizon: f64) -> f64 {
        let x = horizon / BIN;
        let mut before = (0.0, 0.0);
        for (bins, excess) in HORIZONS.iter().zip(self.excess) {
            let node = num::of_usize(*bins);
            if x <= node {
                return before.1 + (excess - before.1) * ((x - before.0) / (node - before.0));
            }
            before = (node, excess);
        }
        before.1
    }

    /// Learns from a look: the rate in the last moments and over half a minute.
    pub(crate) fn observe_noise(&mut self, moment: f64, half_minute: f64) {
        let before = std::mem::replace(&mut self.last_moment, moment);
        if half_minute <= 0.0 || !(moment - half_minute + before).is_finite() {
            return;
        }
        self.looks = self.looks.saturating_add(1);
        // A step is not noise: what is beyond three deviations counts as three.
        // Nor is a trend: from one look to the next it is small.
        let change = (moment - before).abs() / std::f64::consts::SQRT_2;
        let error = ((moment - half_minute).abs().min(change) / half_minute).min(3.0 * self.noise.sqrt().max(0.02));
        let gain = (1.0 / (8.0 + f64::from(self.looks))).max(0.01);
        self.noise = (self.noise + gain * (error * error - self.noise)).clamp(1e-5, 1.0);
    }

    /// Takes in arrivals up to now: `(time, total)`. Answers whether a bin was closed. `budget`: share of the error
    /// budget that is left.
    pub(crate) fn observe(&mut self, latest: (f64, f64), budget: Option<f64>) -> bool {
        let (now, total) = latest;
        let length = now - self.ended.0;
        if length < BIN - 1e-6 {
            return false;
        }
        // After a gap the bins would no longer be five seconds apart: an hour's memory of a different time.
        if length > 12.0 * BIN {
            self.bins.clear();
            self.record = self.find_record();
            self.ended = latest;
            return false;
        }
        let rate = (total - self.ended.1).max(0.0) / length;
        self.ended = latest;
        if self.bins.len() >= BINS {
            self.bins.pop_front();
        } else if self.bins.capacity() < BINS {
            self.bins.reserve_exact(BINS);
        }
        self.bins.push_back(Bin { rate: num::f32_of(rate), level: 0.0, slope: 0.0 });
        let (level, slope) = self.fit();
        if let Some(bin) = self.bins.back_mut() {
            (bin.level, bin.slope) = (num::f32_of(level), num::f32_of(slope));
        }
        self.steer(budget);
        self.in_block += 1;
        if self.in_block >= BLOCK_BINS {
            self.in_block = 0;
            if self.blocks.len() >= BLOCKS {
                self.blocks.pop_front();
            }
            self.blocks.push_back(self.bins.iter().rev().take(BLOCK_BINS).map(|b| b.rate).fold(0.0, f32::max));
        }
        self.record = self.find_record();
        self.since_refresh += 1;
        if self.since_refresh >= REFRESH {
            self.since_refresh = 0;
            self.measure();
        }
        true
    }

    /// Least-squares line through the last two minutes: its value now, and records per second per second.
    ///
    /// A step is no trend: followed into the future it would buy workers for records that never come. The slope counts
    /// as far as a line explains the two minutes better than one step does.
    fn fit(&self) -> (f64, f64) {
        let flat = !self.off.spares(Piece::TREND);
        let count = self.bins.len().min(if flat { 6 } else { LINE });
        let rates = || self.bins.iter().rev().take(count).map(|b| f64::from(b.rate));
        let n = num::of_usize(count);
        let mean = rates().sum::<f64>() / n.max(1.0);
        if count < 6 || flat {
            return (mean, 0.0);
        }
        // Bin 0 is the newest: its middle lies half a bin back.
        let middle = (n - 1.0) / 2.0;
        let (mut above, mut below, mut all) = (0.0, 0.0, 0.0);
        let (mut sum, mut by_step) = (0.0, 0.0_f64);
        for (index, rate) in rates().enumerate() {
            let (nth, off) = (num::of_usize(index), rate - mean);
            above += (middle - nth) * off;
            below += (middle - nth) * (middle - nth);
            all += off * off;
            // What a step before this bin explains of the squares.
            if index > 0 {
                by_step = by_step.max(sum * sum * n / (nth * (n - nth)));
            }
            sum += off;
        }
        let slope = above / below;
        let unexplained = |explained: f64| (all - explained).max(1e-6 * all) + 1e-9;
        let (line, step) = (unexplained(above * above / below), unexplained(by_step));
        let slope = slope * step / (step + line);
        ((mean + slope * (middle + 0.5)).max(0.0), slope / BIN)
    }

    /// More headroom at once when the budget is overdrawn, less slowly while there is budget to spend.
    fn steer(&mut self, budget: Option<f64>) {
        let factor = match budget {
            Some(left) if left < 0.0 => 0.9,
            Some(left) if left < 0.5 => 0.98,
            Some(left) if left < 0.8 => 1.0,
            Some(_) => 1.002,
            None => 1.0,
        };
        let factor = if self.off.spares(Piece::BUDGET) { factor } else { 1.0 };
        self.quantile = (1.0 - (1.0 - self.quantile) * factor).clamp(0.75, 0.99);
    }

    fn measure(&mut self) {
        if self.bins.len() < ENOUGH {
            return;
        }
        let least = (0.1 * self.most()).max(1e-9);
        let mut sums = Vec::with_capacity(self.bins.len() + 1);
        sums.push(0.0);
        let mut sum = 0.0;
        for bin in &self.bins {
            sum += f64::from(bin.rate);
            sums.push(sum);
        }
        let mut errors = Vec::with_capacity(self.bins.len());
        for (horizon, excess) in HORIZONS.iter().zip(&mut self.excess) {
            errors.clear();
            let ahead = num::of_usize(*horizon);
            let reach = mean_damped(ahead * BIN);
            for (index, bin) in self.bins.iter().enumerate().skip(LINE / 2) {
                let (Some(from), Some(to)) = (sums.get(index + 1), sums.get(index + 1 + horizon)) else { break };
                let expected = (f64::from(bin.level) + f64::from(bin.slope) * reach).max(0.0);
                errors.push(((to - from) / ahead - expected) / expected.max(least));
            }
            // So many of an hour's errors may be higher; in less than an hour as many.
            let higher = (1.0 - self.quantile) * num::of_usize(BINS);
            let rank = 1.0 - higher / num::of_usize(errors.len().max(1));
            *excess = num::quantile(&mut errors, rank.max(0.0)).unwrap_or(PRIOR).clamp(0.0, 2.0);
        }
        // Longer horizons have seen fewer errors: none is taken to be less uncertain per second than the one before.
        let mut least = 0.0;
        for (bins, excess) in HORIZONS.iter().zip(&mut self.excess) {
            let sum = (*excess * num::of_usize(*bins)).max(least);
            *excess = sum / num::of_usize(*bins);
            least = sum;
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bins.capacity() * size_of::<Bin>() + self.blocks.capacity() * size_of::<f32>()
    }
}

/// Seconds that a slope has been followed for at a horizon, each ten counting 3 % less than the ten before.
pub(crate) fn damped(horizon: f64) -> f64 {
    10.0 * (1.0 - DAMPING.powf(horizon / 10.0)) / (1.0 - DAMPING)
}

/// Integral of [`damped`]: what a slope adds to the arrivals until `horizon`.
pub(crate) fn damped_sum(horizon: f64) -> f64 {
    horizon * mean_damped(horizon)
}

/// Mean of [`damped`] from 0 to `horizon`.
fn mean_damped(horizon: f64) -> f64 {
    let rate = -DAMPING.ln() / 10.0;
    let x = rate * horizon;
    if x < 1e-9 {
        return horizon / 2.0;
    }
    10.0 / (1.0 - DAMPING) * (1.0 - (1.0 - (-x).exp()) / x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour of five minutes at 1,000/s and five at 2,000/s by turns.
    fn two_levels() -> Forecast {
        let mut forecast = Forecast::default();
        let mut total = 0.0;
        for bin in 0..=720_i32 {
            forecast.observe((f64::from(bin) * BIN, total), None);
            total += BIN * if bin / 60 % 2 == 0 { 1000.0 } else { 2000.0 };
        }
        forecast
    }

    #[test]
    fn the_higher_of_two_levels_is_not_expected_to_double() {
        let forecast = two_levels();
        let low = forecast.excess(30.0, 1000.0);
        assert!(low > 0.6, "at the lower level a step to the higher one is: {low}");
        let high = forecast.excess(30.0, 2000.0);
        assert!((high - NEW_RECORD).abs() < 1e-9, "{high}");
        // Arrivals that are planned for never fall when the level grows.
        let planned = |level: f64| level * (1.0 + forecast.excess(30.0, level));
        assert!((1..80).all(|n| planned(50.0 * f64::from(n)) <= planned(50.0 * f64::from(n + 1)) + 1e-9));
    }
}
