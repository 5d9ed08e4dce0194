//! Decides which record is processed next: with limited concurrency, and in order within each partition.
//!
//! A lane is a place for one record in work. There are `concurrency` lanes, and a partition uses at most one of them,
//! so more lanes than partitions have no effect. There is no I/O and no waiting here, and time is an argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::token_bucket::TokenBucket;

/// A partition with this many queued records is not fetched from until half of them are done. Together with what one
/// poll may add, this limits the memory: 32 bytes a record.
const FULL: usize = 1000;

/// How far the start of a record may be dated back to make up for a timer that fired late.
const CATCH_UP: Duration = Duration::from_millis(5);

/// What is kept of a record. The reference worker does not need keys and values, and dropping them limits the memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) offset: i64,
    /// Timestamp of the record: Unix time in milliseconds.
    pub(super) appended: i64,
}

/// A record to process now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) partition: i32,
    pub(super) item: Item,
    /// When the work begins. It may be a few milliseconds ago, because tokio's timers are that coarse, and a process
    /// time of 1 ms would otherwise take 2 ms.
    pub(super) begin: Instant,
    /// The period of ownership of the partition to which the record belongs.
    owned_since: u64,
}

impl Work {
    /// Returns a key that is unique among the records in work, because a partition has at most one record in work in
    /// each period of ownership.
    fn key(&self) -> u64 {
        self.owned_since
    }
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    Work(Work),
    /// Wait: the rate limit allows the next record at this time.
    At(Instant),
    /// Wait for new records, or for the end of one in work.
    Wait,
}

#[derive(Debug)]
struct Partition {
    owned_since: u64,
    queue: VecDeque<(Item, Instant)>,
    /// Number of queued records that may be started: all of them, or those of the batches gathered so far.
    released: usize,
    /// When the record in work was started.
    running: Option<Instant>,
    /// When the last record's work ended: the next one cannot begin before.
    free_at: Option<Instant>,
    /// Next offset to process.
    next: Option<i64>,
    committed: i64,
    giving_up: bool,
    full: bool,
}

/// The owned partitions, their queues, and the records in work.
#[derive(Debug)]
pub(super) struct Scheduler {
    partitions: BTreeMap<i32, Partition>,
    /// Partitions whose next record may be started, in the order in which that became so, so that none starves.
    ready: VecDeque<i32>,
    /// Records in work and when they were started, including records of lost partitions.
    in_work: BTreeMap<u64, Instant>,
    /// When each idle lane became free, the latest last.
    idle: Vec<Instant>,
    ownerships: u64,
    concurrency: usize,
    batched: bool,
    bucket: TokenBucket,
    /// Until when the rate limit delayed the next record.
    held_until: Option<Instant>,
}

impl Scheduler {
    pub(super) fn new() -> Self {
        Self {
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            in_work: BTreeMap::new(),
            idle: Vec::new(),
            ownerships: 0,
            concurrency: 1,
            batched: false,
            bucket: TokenBucket::default(),
            held_until: None,
        }
    }

    /// Sets the limits. They apply from the next record on.
    pub(super) fn set_limits(&mut self, concurrency: usize, batched: bool, per_second: Option<u32>) {
        self.concurrency = concurrency;
        self.bucket.set_rate(per_second);
        self.batched = batched;
        if !batched {
            self.release_batch();
        }
    }

    /// Adds a partition that is owned from now on.
    pub(super) fn assign(&mut self, partition: i32) {
        self.ownerships += 1;
        self.ready.retain(|ready| *ready != partition);
        self.partitions.insert(
            partition,
            Partition {
                owned_since: self.ownerships,
                queue: VecDeque::new(),
                released: 0,
                running: None,
                free_at: None,
                next: None,
                committed: -1,
                giving_up: false,
                full: false,
            },
        );
    }

    /// Sets the position of an owned partition of which no record has been processed.
    pub(super) fn start_at(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.next.get_or_insert(offset);
            partition.committed = partition.committed.max(offset);
        }
    }

    /// Returns the owned partitions whose next offset is unknown.
    pub(super) fn without_position(&self) -> Vec<i32> {
        self.partitions.iter().filter(|(_, p)| p.next.is_none()).map(|(id, _)| *id).collect()
    }

    /// Queues a record. A record of a partition that is not owned, or is being given up, is dropped: its next owner
    /// receives it.
    pub(super) fn push(&mut self, partition: i32, item: Item, now: Instant) {
        let batched = self.batched;
        let Some(owned) = self.partitions.get_mut(&partition).filter(|p| !p.giving_up) else { return };
        owned.queue.push_back((item, now));
        owned.full = owned.full || owned.queue.len() >= FULL;
        // A batch that is full is started early, because it could not grow any further.
        if !batched || owned.full {
            owned.released = owned.queue.len();
            self.make_ready(partition);
        }
    }

    /// Completes a batch: the records that are queued now may be started.
    pub(super) fn release_batch(&mut self) {
        let ids: Vec<i32> = self.partitions.keys().copied().collect();
        for id in ids {
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.released = partition.queue.len();
            }
            self.make_ready(id);
        }
    }

    fn make_ready(&mut self, id: i32) {
        let takeable = |p: &Partition| p.released > 0 && p.running.is_none();
        if self.partitions.get(&id).is_some_and(takeable) && !self.ready.contains(&id) {
            self.ready.push_back(id);
        }
    }

    /// Returns the next record to process, if a lane, a record and the rate limit allow one.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.in_work.len() >= self.concurrency {
            return Next::Wait;
        }
        let Some(id) = self.ready.front().copied() else { return Next::Wait };
        if let Some(at) = self.bucket.ready_at(now) {
            self.held_until = Some(at);
            return Next::At(at);
        }
        self.ready.pop_front();
        let Some(partition) = self.partitions.get_mut(&id) else { return self.next(now) };
        let Some((item, queued)) = partition.queue.pop_front() else { return self.next(now) };
        partition.released = partition.released.saturating_sub(1);
        partition.running = Some(now);
        if partition.queue.len() <= FULL / 2 {
            partition.full = false;
        }
        self.bucket.take(now);
        // Dated back, but never before the record was queued, its lane was free, its predecessor ended, and the rate
        // allowed it. A lane that was never used has always been free.
        let lane = self.idle.pop().unwrap_or(queued);
        let begin =
            lane.max(queued).max(self.held_until.take().unwrap_or(queued)).max(partition.free_at.unwrap_or(queued));
        let begin = begin.max(now.checked_sub(CATCH_UP).unwrap_or(now));
        let work = Work { partition: id, item, begin: begin.min(now), owned_since: partition.owned_since };
        self.in_work.insert(work.key(), now);
        Next::Work(work)
    }

    /// Records the end of a record's work; `end` is when the work ended by its own clock. Returns how long the lane was
    /// in use.
    pub(super) fn finish(&mut self, work: &Work, end: Instant, now: Instant) -> Duration {
        let took =
            self.in_work.remove(&work.key()).map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.idle.push(end);
        self.idle.truncate(self.concurrency.saturating_sub(self.in_work.len()));
        if let Some(partition) = self.partitions.get_mut(&work.partition).filter(|p| p.owned_since == work.owned_since)
        {
            partition.running = None;
            partition.free_at = Some(end);
            partition.next = Some(work.item.offset + 1);
            self.make_ready(work.partition);
        }
        took
    }

    /// Returns the partitions with processed but uncommitted records, and their next offsets.
    pub(super) fn uncommitted(&self) -> Vec<(i32, i64)> {
        let due = |(id, p): (&i32, &Partition)| p.next.filter(|next| *next > p.committed).map(|next| (*id, next));
        self.partitions.iter().filter_map(due).collect()
    }

    pub(super) fn committed(&mut self, offsets: &[(i32, i64)]) {
        for (id, offset) in offsets {
            if let Some(partition) = self.partitions.get_mut(id) {
                partition.committed = partition.committed.max(*offset);
            }
        }
    }

    /// Stops starting records of these partitions. Queued records are dropped, unless `finish_queued` is set because
    /// their offsets are already committed (at-most-once delivery).
    pub(super) fn give_up(&mut self, partitions: &BTreeSet<i32>, finish_queued: bool) {
        for (id, partition) in &mut self.partitions {
            if partitions.contains(id) {
                partition.giving_up = true;
                if finish_queued {
                    partition.released = partition.queue.len();
                } else {
                    partition.queue.clear();
                    partition.released = 0;
                }
            }
        }
        if finish_queued {
            for id in partitions {
                self.make_ready(*id);
            }
        } else {
            self.ready.retain(|id| !partitions.contains(id));
        }
    }

    /// Returns whether no record of these partitions is queued or in work.
    pub(super) fn settled(&self, partitions: &BTreeSet<i32>) -> bool {
        let quiet = |id| self.partitions.get(id).is_none_or(|p| p.running.is_none() && p.queue.is_empty());
        partitions.iter().all(quiet)
    }

    /// Removes partitions that are no longer owned. Returns how many queued records were dropped.
    pub(super) fn remove(&mut self, partitions: &BTreeSet<i32>) -> usize {
        self.ready.retain(|id| !partitions.contains(id));
        partitions.iter().filter_map(|id| self.partitions.remove(id)).map(|p| p.queue.len()).sum()
    }

    pub(super) fn owned_partitions(&self) -> BTreeSet<i32> {
        self.partitions.keys().copied().collect()
    }

    /// Returns the partitions that must not be fetched from for now.
    pub(super) fn full_partitions(&self) -> BTreeSet<i32> {
        self.partitions.iter().filter(|(_, p)| p.full).map(|(id, _)| *id).collect()
    }

    /// Returns the next unprocessed offset of each owned partition, where known.
    pub(super) fn next_offsets(&self) -> Vec<(i32, i64)> {
        self.partitions.iter().filter_map(|(id, p)| p.next.map(|next| (*id, next))).collect()
    }

    /// Returns the total time that the records in work have taken so far.
    pub(super) fn time_in_work(&self, now: Instant) -> Duration {
        self.in_work.values().map(|since| now.saturating_duration_since(*since)).sum()
    }

    pub(super) fn concurrency(&self) -> usize {
        self.concurrency
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any instant will do")]
mod tests;
