//! What owners commit while records wait for them all the time: their capacity, where no counters tell it.
//!
//! A commit shows progress in lumps, so it is added up from one commit of an owner to another that is at least one commit
//! interval later. Of several owners together each may have committed once more or once less; the mean of many such
//! stretches is right. An owner for whom no record waited in between may have waited for records: its sum is dropped.

use std::collections::BTreeMap;

/// Shortest stretch that is compared, seconds; at least a commit interval.
const SHORTEST: f64 = 10.0;
/// Most owners that are followed.
const MOST: usize = 1024;

/// One owner's stretch of queued work.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    since: f64,
    records: f64,
}

/// What one look says of one owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committed {
    pub(crate) owner: u64,
    /// Offsets that were committed since the last look.
    pub(crate) progress: f64,
    /// Records wait for it, for sure.
    pub(crate) queued: bool,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueuedProgress {
    stretches: BTreeMap<u64, Stretch>,
}

impl QueuedProgress {
    /// Something changes: what is committed meanwhile says nothing.
    pub(crate) fn interrupt(&mut self) {
        self.stretches.clear();
    }

    /// Takes in a look. Answers (owner, offsets, seconds) of stretches that ended.
    pub(crate) fn observe(&mut self, now: f64, seen: &[Committed], commit_interval: f64) -> Vec<(u64, f64, f64)> {
        let mut ended = Vec::new();
        for look in seen {
            if !look.queued {
                self.stretches.remove(&look.owner);
                continue;
            }
            let Some(stretch) = self.stretches.get_mut(&look.owner) else {
                // A stretch begins with a commit.
                if look.progress > 0.0 && self.stretches.len() < MOST {
                    self.stretches.insert(look.owner, Stretch { since: now, records: 0.0 });
                }
                continue;
            };
            stretch.records += look.progress;
            let seconds = now - stretch.since;
            if look.progress > 0.0 && seconds >= SHORTEST.max(commit_interval) {
                ended.push((look.owner, stretch.records, seconds));
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
    fn lumps_of_commits_add_up_to_the_rate() {
        let mut progress = QueuedProgress::default();
        let mut ended = Vec::new();
        for look in 0..60_u32 {
            let now = 2.0 * f64::from(look);
            // Commits every ten seconds, 500 records per second.
            let done = if look % 5 == 0 { 5000.0 } else { 0.0 };
            ended.extend(progress.observe(now, &[Committed { owner: 1, progress: done, queued: true }], 10.0));
        }
        assert_eq!(ended.len(), 11);
        assert!(ended.iter().all(|(_, records, seconds)| (records / seconds - 500.0).abs() < 1e-9), "{ended:?}");
    }

    #[test]
    fn a_moment_without_a_queue_ends_the_stretch() {
        let mut progress = QueuedProgress::default();
        for look in 0..60_u32 {
            let seen = Committed { owner: 1, progress: 100.0, queued: look % 5 != 0 };
            assert!(progress.observe(2.0 * f64::from(look), &[seen], 5.0).is_empty());
        }
    }
}
