//! The formulas of the Flink autoscaler for one vertex that is a source.
//!
//! Source: apache/flink-kubernetes-operator, `flink-autoscaler/src/main/java/org/apache/flink/autoscaler/` at 6e9caeb
//! (July 2026): `utils/AutoScalerUtils.java` (`getTargetProcessingCapacity`), `ScalingMetricEvaluator.java`
//! (`computeTrueProcessingRate`, `computeProcessingRateThresholds`, `isProcessingBacklog`), `JobVertexScaler.java`
//! (`computeScaleTargetParallelism`, `scale`), `alignment/ParallelismAligner.java` (`firstAlignedInRegion`, mode
//! `BALANCED`) and `config/AutoScalerOptions.java`.

use super::Limits;
use sluice_base::num;

/// `scale-down.max-factor`.
const MAX_DOWN: f64 = 0.6;
/// `scale-up.max-factor`.
const MAX_UP: f64 = 100_000.0;
/// `backlog-processing.lag-threshold`, seconds.
const BACKLOG: f64 = 300.0;
/// `observed-true-processing-rate.switch-threshold`.
const SWITCH: f64 = 0.15;

/// `job.autoscaler.*`; times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// `metrics.window`.
    pub window: f64,
    /// `stabilization.interval`.
    pub stabilization: f64,
    /// `utilization.target`, above 0 to 1.
    pub target: f64,
    /// `utilization.max`.
    pub max: f64,
    /// `utilization.min`.
    pub min: f64,
    /// `catch-up.duration`; 0 ignores the backlog.
    pub catch_up: f64,
    /// `restart.time`.
    pub restart: f64,
    /// `scale-down.interval`.
    pub scale_down: f64,
}

impl Options {
    /// The shipped defaults.
    pub const SHIPPED: Self = Self {
        window: 900.0,
        stabilization: 300.0,
        target: 0.7,
        max: 1.0,
        min: 0.4,
        catch_up: 1800.0,
        restart: 300.0,
        scale_down: 3600.0,
    };

    /// The basic example of `docs/content/docs/custom-resource/autoscaler.md`.
    pub const DOCUMENTED: Self = Self {
        window: 300.0,
        stabilization: 60.0,
        target: 0.6,
        max: 0.8,
        min: 0.4,
        catch_up: 300.0,
        restart: 120.0,
        ..Self::SHIPPED
    };

    /// The shipped defaults, with a window and a stabilisation of one minute.
    pub const MINUTE: Self = Self { window: 60.0, stabilization: 60.0, ..Self::SHIPPED };

    /// Returns the same options with another target; the band moves with it and keeps its width.
    #[must_use]
    pub fn with_target(self, target: f64) -> Self {
        let (above, below) = (self.max - self.target, self.target - self.min);
        Self { target, max: (target + above).min(1.0), min: (target - below).max(0.0), ..self }
    }
}

/// What one evaluation sees of the window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Records taken in per second.
    pub(super) input: f64,
    /// Records waiting now.
    pub(super) lag: f64,
    /// Growth of these, records per second.
    pub(super) lag_rate: f64,
    /// Mean of the busiest subtask's busy fraction.
    pub(super) load: f64,
    /// Rate observed while catching up, records per second, if there was one.
    pub(super) observed: Option<f64>,
}

/// Result of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Evaluation {
    /// New parallelism.
    pub(super) parallelism: u32,
    /// Whether the present parallelism is outside the band.
    pub(super) outside: bool,
}

impl Window {
    /// Returns the true rate by busy time (infinite until data flows), or the observed rate if busy time promises too
    /// much.
    fn true_rate(&self) -> f64 {
        let by_busy = if self.input > 0.0 { self.input / self.load } else { f64::INFINITY };
        match self.observed {
            Some(observed) if !by_busy.is_finite() || by_busy > observed * (1.0 + SWITCH) => observed,
            _ => by_busy,
        }
    }

    /// Returns the rate that must be possible at `utilization`, records per second.
    fn capacity(&self, options: &Options, utilization: f64, with_restart: bool) -> f64 {
        let utilization = utilization.clamp(0.0, 1.0);
        if utilization <= 0.0 {
            return f64::INFINITY;
        }
        let target = (self.input + self.lag_rate).max(0.0);
        let within = |work: f64| if options.catch_up > 0.0 { work / options.catch_up } else { 0.0 };
        let restart = if with_restart { within(target * options.restart) } else { 0.0 };
        (within(self.lag) + restart + target / utilization).round()
    }

    /// Returns the band: true rates below the first or above the second value are outside.
    fn thresholds(&self, options: &Options) -> (f64, f64) {
        let backlog = self.lag / self.input > BACKLOG;
        let (max, min) = if backlog { (1.0, 0.0) } else { (options.max, options.min) };
        (self.capacity(options, max, false), self.capacity(options, min, true))
    }

    /// Returns `None` if a number is missing.
    pub(super) fn evaluate(&self, options: &Options, current: u32, limits: Limits) -> Option<Evaluation> {
        let rate = self.true_rate();
        let wanted = self.capacity(options, options.target, true);
        let (up, down) = self.thresholds(options);
        if rate.is_nan() || wanted.is_nan() || up.is_nan() || down.is_nan() {
            return None;
        }
        let factor = (wanted / rate).clamp(1.0 - MAX_DOWN, 1.0 + MAX_UP);
        let parallelism = scale(factor, current, limits);
        Some(Evaluation { parallelism, outside: rate < up || rate > down })
    }
}

/// Scales by `factor`, within the limits, aligned to the partitions.
fn scale(factor: f64, current: u32, limits: Limits) -> u32 {
    let (lowest, highest) = (current.min(limits.min), current.max(limits.ceiling()));
    let target = num::ceil_u32(factor * f64::from(current)).max(lowest).min(highest);
    if target == current || limits.partitions == 0 || target == 0 {
        return target;
    }
    let last = if target > current { highest } else { current }.min(limits.partitions);
    let n = limits.partitions;
    (target..=last).find(|p| n.is_multiple_of(*p) || n / p < n / target).unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { min: 1, max: 200, partitions: 0 };

    fn window(input: f64, lag: f64) -> Window {
        Window { input, lag, lag_rate: 0.0, load: 1.0, observed: None }
    }

    /// `testUtilizationBoundaryComputation` of `ScalingMetricEvaluatorTest.java`, where the lag is given as the rate of
    /// catching up, 350 per second.
    #[test]
    fn thresholds_match_the_originals_tests() {
        let options =
            |catch_up, restart| Options { target: 0.8, max: 0.9, min: 0.7, catch_up, restart, ..Options::SHIPPED };
        for (catch_up, restart, lag, wanted) in [
            (0.0, 1.0, 0.0, (778.0, 1000.0)),
            (2.0, 1.0, 700.0, (1128.0, 1700.0)),
            (2.0, 1.0, 0.0, (778.0, 1350.0)),
            (60.0, 300.0, 21_000.0, (1128.0, 4850.0)),
            (60.0, 300.0, 0.0, (778.0, 4500.0)),
            (1200.0, 1.0, 420_000.0, (1050.0, f64::INFINITY)), // a backlog of ten minutes
        ] {
            let thresholds = window(700.0, lag).thresholds(&options(catch_up, restart));
            assert_eq!(thresholds, wanted, "catch-up {catch_up}, lag {lag}");
        }
    }

    /// `testParallelismScaling` of `JobVertexScalerTest.java`: parallelism, target rate, true rate.
    #[test]
    fn sizes_match_the_originals_tests() {
        let options = |target| Options { catch_up: 0.0, ..Options::SHIPPED }.with_target(target);
        for (target, current, input, rate, wanted) in [
            (1.0, 10, 50.0, 100.0, 5),
            (0.8, 10, 50.0, 100.0, 7), // 6.3; the original's 8 has a restart of 5 min and a catch-up of 30
            (0.8, 10, 80.0, 100.0, 10),
            (0.5, 2, 100.0, 40.0, 10),
            (0.6, 2, 100.0, 100.0, 4),
            (1.0, 10, 10.0, 100.0, 4), // no less than 0.4 times
        ] {
            let seen = Window { load: input / rate, ..window(input, 0.0) };
            let evaluation = seen.evaluate(&options(target), current, LIMITS).unwrap();
            assert_eq!(evaluation.parallelism, wanted, "{input} of {rate} at {current}");
        }
        let restart = Options::SHIPPED.with_target(0.8);
        let evaluation = Window { load: 0.5, ..window(50.0, 0.0) }.evaluate(&restart, 10, LIMITS).unwrap();
        assert_eq!(evaluation, Evaluation { parallelism: 8, outside: false }, "ceil(10 * round(8.3 + 62.5) / 100)");
        let evaluation = Window { load: 2.0, ..window(100.0, 0.0) }.evaluate(&restart, 2, LIMITS).unwrap();
        assert!(evaluation.outside, "above the band");
    }

    /// `AlignmentModeTest.java`, and the same rule with 24 partitions.
    #[test]
    fn aligns_to_partitions_without_reversing() {
        for (current, factor, partitions, wanted) in [
            (16, 1.5, 128, 26), // 128/26 = 4 < 128/24 = 5
            (8, 1.6, 24, 24),   // 13 leaves one worker with two
            (24, 0.4, 24, 12),  // 10: 24/12 = 2
            (24, 0.5, 24, 12),
            (10, 1.0, 24, 10),
            (10, 0.9, 23, 9), // nothing fits up to 10: as it is
        ] {
            let limits = Limits { partitions, ..LIMITS };
            assert_eq!(scale(factor, current, limits), wanted, "{current} * {factor} of {partitions}");
        }
    }

    #[test]
    fn observed_rate_wins_if_busy_time_promises_too_much() {
        let seen = |load, observed| Window { load, observed, ..window(100.0, 0.0) }.true_rate();
        for (load, observed, rate) in [
            (0.5, None, 200.0),
            (0.5, Some(180.0), 200.0), // 11 % more is believed
            (0.5, Some(150.0), 150.0),
            (0.0, Some(150.0), 150.0),
            (0.0, None, f64::INFINITY),
        ] {
            assert_eq!(seen(load, observed), rate, "{load} {observed:?}");
        }
        assert_eq!(window(0.0, 0.0).true_rate(), f64::INFINITY, "until data flows");
    }

    #[test]
    fn target_moves_the_band() {
        let moved = Options::SHIPPED.with_target(0.5);
        assert!((moved.max - 0.8).abs() < 1e-12 && (moved.min - 0.2).abs() < 1e-12);
        assert_eq!(Options::SHIPPED.with_target(0.9).max, 1.0);
    }
}
