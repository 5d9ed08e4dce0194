//! Totals for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sample::Category;

/// Totals since the start, and current numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HubStats {
    /// Number of watched jobs.
    pub jobs: usize,
    /// Number of sampled clusters.
    pub clusters: usize,
    /// Number of scraped workers.
    pub workers: usize,
    /// Estimated memory of the samples of all jobs, in bytes.
    pub kept_bytes: usize,
    /// Number of rounds. One round reads the sources of any number of jobs from one cluster.
    pub rounds: u64,
    /// Number of sources read; one round reads many.
    pub sources_read: u64,
    /// Number of failed attempts to read a source.
    pub source_errors: ErrorCounts,
    /// Number of workers read.
    pub workers_read: u64,
    /// Number of failed attempts to read a worker.
    pub worker_errors: ErrorCounts,
}

/// A total for each failure category.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErrorCounts([u64; CATEGORIES.len()]);

impl ErrorCounts {
    /// Returns every category with its total.
    pub fn iter(&self) -> impl Iterator<Item = (Category, u64)> + use<> {
        CATEGORIES.into_iter().zip(self.0)
    }

    /// Returns the sum over all categories.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// In the order of the counts.
const CATEGORIES: [Category; 6] = [
    Category::Unreachable,
    Category::Unauthorised,
    Category::DestinationRefused,
    Category::LimitExceeded,
    Category::TopicMissing,
    Category::Protocol,
];

#[derive(Debug, Default)]
struct ErrorCounters([AtomicU64; CATEGORIES.len()]);

impl ErrorCounters {
    fn add(&self, category: Category) {
        for (counter, each) in self.0.iter().zip(CATEGORIES) {
            if each == category {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn read(&self) -> ErrorCounts {
        ErrorCounts(self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed)))
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    rounds: AtomicU64,
    sources_read: AtomicU64,
    source_errors: ErrorCounters,
    workers_read: AtomicU64,
    worker_errors: ErrorCounters,
}

impl Counters {
    pub(super) fn count_round(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_source(&self, failed: Option<Category>) {
        match failed {
            Some(category) => self.source_errors.add(category),
            None => _ = self.sources_read.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn count_worker(&self, failed: Option<Category>) {
        match failed {
            Some(category) => self.worker_errors.add(category),
            None => _ = self.workers_read.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn read(&self, jobs: usize, clusters: usize, workers: usize) -> HubStats {
        HubStats {
            jobs,
            clusters,
            workers,
            kept_bytes: 0,
            rounds: self.rounds.load(Ordering::Relaxed),
            sources_read: self.sources_read.load(Ordering::Relaxed),
            source_errors: self.source_errors.read(),
            workers_read: self.workers_read.load(Ordering::Relaxed),
            worker_errors: self.worker_errors.read(),
        }
    }
}
