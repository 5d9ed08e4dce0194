//! Commit interval: the time within which the group commits, learned from its commits.
//!
//! - Learns from: commits of partitions in which records had waited since the previous commit.
//! - Ignores: partitions that have just moved, and everything while workers come and go, because the controller itself
//!   causes those pauses.
//! - Recovers: only the last 64 commits count, and another pod template starts over.

use std::collections::VecDeque;

use sluice_base::num;

/// Number of commits that the estimate rests on.
const KEPT: usize = 64;
/// Fewest commits for an estimate.
const ENOUGH: usize = 3;
/// Longest interval that is learned, seconds.
const LONGEST: f64 = 3600.0;

/// The upper (p90) estimate of the seconds between two commits of a partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommitInterval {
    gaps: VecDeque<f32>,
    prior: Option<f64>,
    /// Cached quantile of `gaps`.
    upper: Option<f64>,
}

impl CommitInterval {
    /// Restores a value from an earlier run, which is used until commits were seen.
    pub(crate) fn recall(&mut self, seconds: Option<f64>) {
        self.prior = seconds.filter(|s| (0.0..=LONGEST).contains(s));
    }

    /// Starts over for another template, which may commit at another interval.
    pub(crate) fn start_over(&mut self) {
        self.gaps.clear();
        self.upper = None;
    }

    /// Learns the gaps that ended in one observation, seconds.
    pub(crate) fn observe(&mut self, gaps: &[f64]) {
        if gaps.is_empty() {
            return;
        }
        // A thousand partitions that commit together are few commits: a high and the middle quantile represent them
        // all.
        let mut sorted: Vec<f64> = gaps.iter().copied().filter(|g| (0.0..=LONGEST).contains(g)).collect();
        for quantile in [0.5, 0.95] {
            if let Some(gap) = num::quantile(&mut sorted, quantile) {
                if self.gaps.len() >= KEPT {
                    self.gaps.pop_front();
                }
                self.gaps.push_back(num::f32_of(gap));
            }
        }
        let mut all: Vec<f64> = self.gaps.iter().copied().map(f64::from).collect();
        self.upper = if all.len() >= ENOUGH { num::quantile(&mut all, 0.9) } else { None };
    }

    /// Returns the time within which a commit comes, seconds, if known.
    pub(crate) fn upper(&self) -> Option<f64> {
        self.upper.or(self.prior)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.gaps.capacity() * size_of::<f32>()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn poison(&mut self, factor: f64) {
        for gap in &mut self.gaps {
            *gap *= num::f32_of(factor);
        }
        (self.upper, self.prior) = (self.upper.map(|u| u * factor), self.prior.map(|u| u * factor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_before_three_commits_then_follows_the_latest() {
        let mut interval = CommitInterval::default();
        interval.observe(&[5.0]);
        assert_eq!(interval.upper(), None);
        interval.observe(&[5.0, 4.0]);
        assert_eq!(interval.upper(), Some(5.0));
        for _ in 0..40 {
            interval.observe(&[30.0]);
        }
        assert_eq!(interval.upper(), Some(30.0));
        interval.observe(&[f64::NAN, -1.0, 1e9]);
        assert_eq!(interval.upper(), Some(30.0), "nonsense is not learned");
    }

    #[test]
    fn prior_is_used_until_commits_are_seen() {
        let mut interval = CommitInterval::default();
        interval.recall(Some(60.0));
        assert_eq!(interval.upper(), Some(60.0));
        for _ in 0..3 {
            interval.observe(&[5.0]);
        }
        assert_eq!(interval.upper(), Some(5.0));
    }
}
