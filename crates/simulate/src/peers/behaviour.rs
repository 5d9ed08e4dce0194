//! How the HPA controller limits a proposal, whichever metric it came from.
//!
//! Source: kubernetes/kubernetes `pkg/controller/podautoscaler/horizontal.go` (`recordInitialRecommendation`,
//! `stabilizeRecommendation`, `convertDesiredReplicasWithRules`, `reconcileAutoscaler`; revision 0006726) and the
//! defaults of `autoscaling/v2` `behavior`. Down: the highest of the recommendations of the last 300 s. Up: per sync no
//! more than twice as many or four more, whichever is more. That is the default of a `behavior` block; an object
//! without one is held to max(2n, 4), which differs below four workers only.

use std::collections::VecDeque;

use super::Limits;

/// The controller's sync period, seconds.
pub(super) const SYNC: f64 = 15.0;
/// `--horizontal-pod-autoscaler-downscale-stabilization`, seconds.
const DOWN_WINDOW: f64 = 300.0;
/// `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;

/// Recommendations of the stabilization window, before any limit.
#[derive(Debug, Default)]
pub(super) struct Behaviour {
    recommendations: VecDeque<(f64, u32)>,
}

/// Returns whether a ratio of usage to target is near enough to 1 to change nothing.
pub(super) fn within_tolerance(ratio: f64) -> bool {
    (1.0 - TOLERANCE..=1.0 + TOLERANCE).contains(&ratio)
}

impl Behaviour {
    /// Counts the number at the first sync as a recommendation.
    pub(super) fn begin(&mut self, now: f64, current: u32) {
        if self.recommendations.is_empty() {
            self.recommendations.push_back((now, current));
        }
    }

    /// Returns the number that a proposal leads to.
    pub(super) fn settle(&mut self, now: f64, current: u32, proposal: u32, limits: Limits) -> u32 {
        while self.recommendations.front().is_some_and(|r| now - r.0 > DOWN_WINDOW) {
            self.recommendations.pop_front();
        }
        // A recommendation that is not higher than a later one can never be the highest again.
        while self.recommendations.back().is_some_and(|r| r.1 <= proposal) {
            self.recommendations.pop_back();
        }
        self.recommendations.push_back((now, proposal));
        let highest = self.recommendations.front().map_or(proposal, |r| r.1);
        let most = current.saturating_mul(2).max(current.saturating_add(4));
        limits.clamp(highest.min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn down_waits_for_the_highest_and_up_is_limited() {
        let limits = Limits { min: 1, max: 100, partitions: 0 };
        let mut behaviour = Behaviour::default();
        behaviour.begin(0.0, 10);
        for (now, current, proposal, becomes) in [
            (15.0, 10, 4, 10), // the number at the start holds
            (100.0, 10, 8, 10),
            (301.0, 10, 3, 8),  // the start is out, 8 is the highest
            (401.0, 8, 2, 3),   // 8 is out
            (416.0, 3, 60, 7),  // 3 + 4
            (431.0, 7, 60, 14), // twice
            (446.0, 14, 60, 28),
            (461.0, 28, 200, 56),
            (476.0, 56, 200, 100), // the ceiling
        ] {
            assert_eq!(behaviour.settle(now, current, proposal, limits), becomes, "at {now}");
        }
    }

    #[test]
    fn band_includes_its_edges() {
        for (ratio, within) in [(0.9, true), (1.1, true), (0.899, false), (1.101, false), (f64::NAN, false)] {
            assert_eq!(within_tolerance(ratio), within, "{ratio}");
        }
    }
}
