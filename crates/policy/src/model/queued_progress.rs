//! Queued progress: what owners commit while records wait for them all the time, which is their capacity where no
//! counters show it.
//!
//! Commits show progress in lumps, so it is summed up from one commit of an owner to another at least one commit
//! interval later. Each of several owners may have committed once more or once less; the mean of many such stretches is
//! right. The sum of an owner without a queue in between is dropped, because it may have waited for records.

use std::collections::BTreeMap;

/// Shortest stretch that is measured, seconds; at least a commit interval.
const SHORTEST: f64 = 10.0;
/// Most owners that are followed.
const MOST: usize = 1024;

/// A stretch of queued work of one owner that has not ended.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    since: f64,
    records: f64,
}

/// What one observation shows about one owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committed {
    pub(crate) owner: u64,
    /// Offsets committed since the last observation.
    pub(crate) progress: f64,
    /// Whether records certainly wait for it.
    pub(crate) queued: bool,
}

/// A stretch of queued work of one owner that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndedStretch {
    pub(crate) owner: u64,
    pub(crate) offsets: f64,
    pub(crate) seconds: f64,
}

/// The stretches of all owners, see the module docs.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueuedProgress {
    stretches: BTreeMap<u64, Stretch>,
}

impl QueuedProgress {
    /// Ends all stretches: what is committed during a change teaches nothing.
    pub(crate) fn interrupt(&mut self) {
        self.stretches.clear();
    }

    /// Learns from one observation. Returns the stretches that ended.
    pub(crate) fn observe(&mut self, now: f64, seen: &[Committed], commit_interval: f64) -> Vec<EndedStretch> {
        let mut ended = Vec::new();
        for commit in seen {
            if !commit.queued {
                self.stretches.remove(&commit.owner);
                continue;
            }
            let Some(stretch) = self.stretches.get_mut(&commit.owner) else {
                // A stretch begins with a commit.
                if commit.progress > 0.0 && self.stretches.len() < MOST {
                    self.stretches.insert(commit.owner, Stretch { since: now, records: 0.0 });
                }
                continue;
            };
            stretch.records += commit.progress;
            let seconds = now - stretch.since;
            if commit.progress > 0.0 && seconds >= SHORTEST.max(commit_interval) {
                ended.push(EndedStretch { owner: commit.owner, offsets: stretch.records, seconds });
                *stretch = Stretch { since: now, records: 0.0 };
            }
        }
        ended
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.stretches.len() * (size_of::<(u64, Stretch)>() * 3 / 2 + 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_add_up_to_the_rate() {
        let mut progress = QueuedProgress::default();
        let mut ended = Vec::new();
        for observation in 0..60_u32 {
            let now = 2.0 * f64::from(observation);
            // Commits every ten seconds, 500 records per second.
            let done = if observation % 5 == 0 { 5000.0 } else { 0.0 };
            ended.extend(progress.observe(now, &[Committed { owner: 1, progress: done, queued: true }], 10.0));
        }
        assert_eq!(ended.len(), 11);
        assert!(ended.iter().all(|e| (e.offsets / e.seconds - 500.0).abs() < 1e-9), "{ended:?}");
    }

    #[test]
    fn moment_without_a_queue_ends_the_stretch() {
        let mut progress = QueuedProgress::default();
        for observation in 0..60_u32 {
            let seen = Committed { owner: 1, progress: 100.0, queued: observation % 5 != 0 };
            assert!(progress.observe(2.0 * f64::from(observation), &[seen], 5.0).is_empty());
        }
    }
}
