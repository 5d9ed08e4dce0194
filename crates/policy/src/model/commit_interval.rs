//! Within which time the group commits, learned from its commits.
//!
//! - Excited by: a commit of a partition in which records had waited since the last one.
//! - Ignores: partitions that have just moved, and everything while workers come and go: those pauses are the
//!   controller's own doing.
//! - Way back: only the last 64 commits count, and another pod template begins anew.

use std::collections::VecDeque;

use sluice_base::num;

/// Commits that the estimate rests on.
const KEPT: usize = 64;
/// Fewer say nothing yet.
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
    /// A value from an earlier run: used until commits were seen.
    pub(crate) fn recall(&mut self, seconds: Option<f64>) {
        self.prior = seconds.filter(|s| (0.0..=LONGEST).contains(s));
    }

    /// Another template may commit otherwise.
    pub(crate) fn begin_anew(&mut self) {
        self.gaps.clear();
        self.upper = None;
    }

    /// Takes the gaps that ended in one look, seconds.
    pub(crate) fn observe(&mut self, gaps: &[f64]) {
        if gaps.is_empty() {
            return;
        }
        // A thousand partitions that commit together are few commits: the largest and the middle one stand for all.
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

    /// Seconds within which a commit comes, if known.
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
    fn is_not_known_before_three_commits_and_follows_the_latest() {
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
    fn a_prior_holds_until_commits_are_seen() {
        let mut interval = CommitInterval::default();
        interval.recall(Some(60.0));
        assert_eq!(interval.upper(), Some(60.0));
        for _ in 0..3 {
            interval.observe(&[5.0]);
        }
        assert_eq!(interval.upper(), Some(5.0));
    }
}
