//! Forecast: the level and slope of the arrivals, and how wrong such forecasts have been.
//!
//! Arrivals are kept in bins of five seconds for an hour. The level is the mean of the last ten seconds (longer where
//! records are few), averaged with the end of a least-squares line through the last minute where the two agree. The
//! excess over the forecast within the reaction time is measured over the hour; the quantile of it that is planned for
//! follows the error budget (`caution`). See docs/design/algorithms.md#forecast.

use std::collections::VecDeque;

use sluice_base::num;

/// Length of a bin, seconds.
pub(crate) const BIN: f64 = 5.0;
/// Number of bins that are kept: an hour.
const BINS: usize = 720;
/// Number of bins of the line: a minute.
const LINE: usize = 12;
/// Number of bins after which the errors are measured again.
const REFRESH: u32 = 6;
/// Growth beyond the forecast that is planned for while nothing is known, as a share.
const PRIOR: f64 = 0.1;
/// Share at which the slope is extrapolated: trends bend.
pub(crate) const TREND: f64 = 0.7;
/// Records that a level should rest on; where there are fewer, it is averaged over a longer time.
const RECORDS: f64 = 100.0;
/// Factor up to which a higher level counts as like the present one.
const LIKE: f64 = 1.1;
/// Factor below which two rises count as one.
const HIGHER: f32 = 1.02;
/// Longest averaging time, seconds.
const LONGEST_MEAN: f64 = 300.0;

#[derive(Debug, Clone, Copy)]
struct Bin {
    /// Arrival rate in the bin, records per second.
    rate: f32,
    /// The forecast at the end of the bin: records per second, and records per second per second.
    level: f32,
    slope: f32,
}

/// Arrivals of the last hour.
#[derive(Debug, Clone)]
pub(crate) struct Forecast {
    bins: VecDeque<Bin>,
    /// Time and total of the arrivals at the end of the last bin.
    ended: (f64, f64),
    since_refresh: u32,
    /// Relative forecast errors of the last hour at the reaction time, ascending.
    errors: Vec<f32>,
    /// Levels, each with the highest rate that followed within the horizon on it or on a lower one; both ascend.
    rises: Vec<(f32, f32)>,
    /// Horizon at which errors and rises were measured, seconds.
    horizon: f64,
    noise: Noise,
}

/// Relative standard deviation of the rate of one sampling interval from the level, as far as it is due to chance.
#[derive(Debug, Clone, Copy)]
struct Noise {
    variance: f64,
    observations: u32,
    before: f64,
}

impl Default for Noise {
    fn default() -> Self {
        Self { variance: 0.01, observations: 0, before: f64::NAN }
    }
}

impl Default for Forecast {
    fn default() -> Self {
        Self {
            bins: VecDeque::new(),
            ended: (f64::NEG_INFINITY, 0.0),
            since_refresh: 0,
            errors: Vec::new(),
            rises: Vec::new(),
            horizon: 0.0,
            noise: Noise::default(),
        }
    }
}

impl Forecast {
    /// Returns the mean arrival rate over the hour, records per second.
    pub(crate) fn mean(&self) -> Option<f64> {
        let sum: f64 = self.bins.iter().map(|b| f64::from(b.rate)).sum();
        (!self.bins.is_empty()).then(|| sum / num::of_usize(self.bins.len()))
    }

    /// Returns level and slope of the forecast at the end of the newest bin, unless that is too long ago.
    pub(crate) fn latest(&self, now: f64) -> Option<(f64, f64)> {
        self.bins.back().filter(|_| now - self.ended.0 < 4.0 * BIN).map(|b| (f64::from(b.level), f64::from(b.slope)))
    }

    /// Learns the noise from the rate of the last sampling interval and the level.
    pub(crate) fn observe_noise(&mut self, moment: f64, level: f64) {
        let noise = &mut self.noise;
        let before = std::mem::replace(&mut noise.before, moment);
        if level <= 0.0 || !(moment - level + before).is_finite() {
            return;
        }
        noise.observations = noise.observations.saturating_add(1);
        // A step is not noise, so an error beyond three deviations counts as three. A trend is not noise either, and
        // from one observation to the next it is small.
        let change = (moment - before).abs() / std::f64::consts::SQRT_2;
        let error = ((moment - level).abs().min(change) / level).min(3.0 * noise.variance.sqrt().max(0.02));
        let gain = (1.0 / (8.0 + f64::from(noise.observations))).max(0.01);
        noise.variance = (noise.variance + gain * (error * error - noise.variance)).clamp(1e-5, 4.0);
    }

    /// Returns the relative standard deviation of the rate of one sampling interval.
    pub(crate) fn noise(&self) -> f64 {
        self.noise.variance.sqrt()
    }

    /// Returns the time over which a level must be averaged to rest on enough records, seconds; at least ten.
    pub(crate) fn averaging(&self) -> f64 {
        let rate = self.mean().unwrap_or(f64::INFINITY);
        (RECORDS / rate.max(1e-9)).clamp(2.0 * BIN, LONGEST_MEAN)
    }

    /// Returns the mean rate of the last `seconds`, in whole bins.
    fn mean_of_last(&self, seconds: f64) -> f64 {
        let bins = usize::try_from(num::ceil_u32(seconds / BIN)).unwrap_or(2).clamp(1, self.bins.len().max(1));
        self.bins.iter().rev().take(bins).map(|b| f64::from(b.rate)).sum::<f64>() / num::of_usize(bins)
    }

    /// Returns the excess over the forecast at the measured horizon, at a quantile of the errors, as a share; 0 to 1.
    pub(crate) fn excess(&self, quantile: f64) -> f64 {
        // This many of an hour's errors may be higher. While less than an hour is known, the same number may be.
        let higher =
            usize::try_from(num::ceil_u32((1.0 - quantile.clamp(0.0, 1.0)) * num::of_usize(BINS))).unwrap_or(0);
        let error = self.errors.len().checked_sub(higher + 1).and_then(|rank| self.errors.get(rank));
        error.copied().map_or(PRIOR, f64::from).clamp(0.0, 1.0)
    }

    /// Returns the highest rate that arrivals rose to within the horizon from a level like this one, within the last
    /// hour; records per second, never below the level.
    pub(crate) fn jump(&self, level: f64) -> f64 {
        let like = num::f32_of(LIKE * level);
        let after = self.rises.partition_point(|rise| rise.0 <= like);
        after.checked_sub(1).and_then(|index| self.rises.get(index)).map_or(level, |rise| f64::from(rise.1).max(level))
    }

    /// Learns the total of arrivals at a time. `horizon`: how far ahead errors matter, seconds. Returns whether a bin
    /// was closed.
    pub(crate) fn observe(&mut self, latest: (f64, f64), horizon: f64) -> bool {
        let (now, total) = latest;
        let length = now - self.ended.0;
        if length < BIN - 1e-6 {
            return false;
        }
        // After a gap the bins would no longer be five seconds apart, and their hour would be another one.
        if length > 12.0 * BIN {
            self.bins.clear();
            self.ended = latest;
            return false;
        }
        let rate = (total - self.ended.1).max(0.0) / length;
        self.ended = latest;
        // An observation every seven seconds fills one bin and a half: bins are five seconds long on average.
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
        self.since_refresh += 1;
        let moved = (horizon - self.horizon).abs() > 0.2 * self.horizon;
        if self.since_refresh >= REFRESH || moved {
            self.since_refresh = 0;
            self.measure(horizon);
        }
        true
    }

    /// Fits the forecast at the end of the newest bin.
    fn fit(&self) -> (f64, f64) {
        let averaging = self.averaging();
        let mean = self.mean_of_last(averaging);
        let count = self.bins.len().min(LINE);
        if count < 4 || averaging > 4.0 * BIN {
            return (mean, 0.0);
        }
        let rates = || self.bins.iter().rev().take(count).map(|b| f64::from(b.rate));
        let n = num::of_usize(count);
        let whole = rates().sum::<f64>() / n;
        // Bin 0 is the newest, and its middle lies half a bin back.
        let middle = (n - 1.0) / 2.0;
        let (mut above, mut below, mut all) = (0.0, 0.0, 0.0);
        let (mut sum, mut by_step) = (0.0, 0.0_f64);
        for (index, rate) in rates().enumerate() {
            let (nth, off) = (num::of_usize(index), rate - whole);
            above += (middle - nth) * off;
            below += (middle - nth) * (middle - nth);
            all += off * off;
            // The part of the squares that a step before this bin explains.
            if index > 0 {
                by_step = by_step.max(sum * sum * n / (nth * (n - nth)));
            }
            sum += off;
        }
        // A step is not a trend: the slope counts as far as a line explains the minute better than one step does.
        let unexplained = |explained: f64| (all - explained).max(1e-6 * all) + 1e-9;
        let (line, step) = (unexplained(above * above / below), unexplained(by_step));
        let slope = above / below * step / (step + line);
        let end = (whole + slope * (middle + 0.5)).max(0.0);
        let level = if (end - mean).abs() <= 0.1 * mean { 0.5 * (end + mean) } else { mean };
        (level, slope / BIN)
    }

    /// Measures how much more arrived at the horizon than was forecast.
    fn measure(&mut self, horizon: f64) {
        self.horizon = horizon;
        let ahead = usize::try_from(num::ceil_u32(horizon / BIN)).unwrap_or(1).clamp(1, BINS / 2);
        let most = self.bins.iter().map(|b| f64::from(b.rate)).fold(0.0, f64::max);
        let least = (0.05 * most).max(1e-9);
        self.errors.clear();
        self.errors.reserve_exact(self.bins.len());
        // The arrivals around the horizon, averaged like the level.
        let wide = usize::try_from(num::ceil_u32(self.averaging() / BIN)).unwrap_or(2).clamp(2, 60);
        let mut sums = Vec::with_capacity(self.bins.len() + 1);
        sums.push(0.0);
        let mut sum = 0.0;
        for bin in &self.bins {
            sum += f64::from(bin.rate);
            sums.push(sum);
        }
        // In the first minutes there is no level to forecast from.
        let known = if self.bins.len() < BINS { 2 * LINE } else { 0 };
        for (index, bin) in self.bins.iter().enumerate().skip(known) {
            let until = index + 1 + ahead;
            let from = until.saturating_sub(wide.min(ahead.max(1)));
            let (Some(before), Some(after)) = (sums.get(from), sums.get(until)) else { break };
            let came = (after - before) / num::of_usize(until - from);
            let expected = (f64::from(bin.level) + TREND * f64::from(bin.slope) * horizon).max(0.0);
            self.errors.push(num::f32_of((came - expected) / expected.max(least)));
        }
        self.errors.sort_by(f32::total_cmp);
        self.measure_rises(ahead, known);
    }

    /// Measures how high arrivals rose within `ahead` bins, by the level that they rose from.
    fn measure_rises(&mut self, ahead: usize, known: usize) {
        let rates: Vec<f32> = self.bins.iter().map(|b| b.rate).collect();
        // A single bin may be a burst of records that were held up, so pairs of bins are averaged.
        let pairs: Vec<f32> = rates.windows(2).map(|pair| 0.5 * (pair.iter().sum::<f32>())).collect();
        let mut rises: Vec<(f32, f32)> = Vec::with_capacity(rates.len());
        // The highest of the `ahead` pairs after each bin, from the last bin on; pairs that a later one exceeds are
        // dropped.
        let mut highest: VecDeque<usize> = VecDeque::new();
        for index in (known..rates.len()).rev() {
            let newest = index + 1;
            if let Some(pair) = pairs.get(newest) {
                while highest.back().is_some_and(|last| pairs.get(*last).is_some_and(|p| p <= pair)) {
                    highest.pop_back();
                }
                highest.push_back(newest);
            }
            while highest.front().is_some_and(|first| *first > index + ahead) {
                highest.pop_front();
            }
            let peak = highest.front().and_then(|first| pairs.get(*first));
            if let (Some(peak), Some(bin)) = (peak, self.bins.get(index)) {
                rises.push((bin.level, *peak));
            }
        }
        rises.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        self.rises.clear();
        for (level, peak) in rises {
            if self.rises.last().is_none_or(|last| peak > HIGHER * last.1) {
                self.rises.push((level, peak));
            }
        }
        self.rises.shrink_to_fit();
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bins.capacity() * size_of::<Bin>()
            + self.errors.capacity() * size_of::<f32>()
            + self.rises.capacity() * size_of::<(f32, f32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(rate: impl Fn(f64) -> f64) -> Forecast {
        let mut forecast = Forecast::default();
        let mut total = 0.0;
        for bin in 0..=720_i32 {
            let t = f64::from(bin) * BIN;
            forecast.observe((t, total), 30.0);
            total += BIN * rate(t);
        }
        forecast
    }

    #[test]
    fn ramp_is_followed_and_constant_load_is_certain() {
        let (level, slope) = watched(|t| 1000.0 + t).latest(3600.0).unwrap();
        assert!((level - 4590.0).abs() < 30.0 && (slope - 1.0).abs() < 0.01, "{level} {slope}");
        assert!(watched(|_| 700.0).excess(0.99) < 1e-6);
    }

    #[test]
    fn excess_over_the_forecast_is_remembered_for_an_hour() {
        let steps = watched(|t| if t % 600.0 < 300.0 { 1000.0 } else { 2000.0 });
        assert!(steps.excess(0.8) < 0.2, "{}", steps.excess(0.8));
        assert!(steps.excess(0.985) > 0.7, "{}", steps.excess(0.985));
    }

    /// One jump from nothing used to count for half of its height.
    #[test]
    fn jump_is_remembered_by_the_level_it_began_at() {
        let bursts = watched(|t| if (1800.0..1860.0).contains(&t) { 5000.0 } else { 10.0 });
        assert!((bursts.jump(10.0) - 5000.0).abs() < 50.0, "{}", bursts.jump(10.0));
        assert!((bursts.jump(8000.0) - 8000.0).abs() < 1e-9, "arrivals never rose beyond the present level");
        let waves = watched(|t| if t % 600.0 < 300.0 { 1000.0 } else { 2000.0 });
        assert!(waves.jump(10.0) < 11.0, "the level was never this low: {}", waves.jump(10.0));
    }

    #[test]
    fn few_records_are_averaged_for_longer() {
        assert!((watched(|_| 1.0).averaging() - 100.0).abs() < 1e-9);
        assert!((watched(|_| 1e6).averaging() - 10.0).abs() < 1e-9);
        assert!((watched(|_| 0.0).averaging() - LONGEST_MEAN).abs() < 1e-9);
    }
}
