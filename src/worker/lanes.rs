//! Which record is worked on next: bounded concurrency with each partition's order kept.
//!
//! A lane is one record in work. There are as many lanes as `concurrency` says, and a partition holds at most one of
//! them, so more lanes than partitions are of no use. This is the plan alone: no I/O, no waiting, time is an argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;

/// A partition with this many queued records is not fetched from until half of them are done. With what one poll may
/// add on top, this bounds the memory: 32 bytes a record.
const FULL: usize = 1000;

/// How far the start of a record may be dated back, to make up for a timer that fired late.
const CATCH_UP: Duration = Duration::from_millis(5);

/// What is kept of a record. The reference worker has no use for its key and value; dropping them bounds the memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) offset: i64,
    /// The record's timestamp: Unix time in milliseconds.
    pub(super) appended: i64,
}

/// A record to work on now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) partition: i32,
    pub(super) item: Item,
    /// When the work begins. It may lie a few milliseconds back: tokio's timers are that coarse, and a process time
    /// of 1 ms would otherwise take 2.
    pub(super) begin: Instant,
    /// Which ownership of the partition this belongs to.
    owned_since: u64,
}

impl Work {
    /// Unique among the records in work, because a partition holds at most one lane for each time it is owned.
    fn key(&self) -> u64 {
        self.owned_since
    }
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    Work(Work),
    /// Records wait, and the rate allows the next one then.
    At(Instant),
    /// Nothing to do until records come or one in work is done.
    Wait,
}

#[derive(Debug)]
struct Partition {
    owned_since: u64,
    queue: VecDeque<(Item, Instant)>,
    /// How many of the queued records may be taken: all of them, or those of the batches gathered so far.
    released: usize,
    /// When the record in work was started.
    running: Option<Instant>,
    /// The next record's work cannot begin before the last one's has ended.
    free_at: Option<Instant>,
    /// The next offset to process.
    next: Option<i64>,
    committed: i64,
    giving_up: bool,
    full: bool,
}

/// The partitions owned, their queues, and the records in work.
#[derive(Debug)]
pub(super) struct Lanes {
    partitions: BTreeMap<i32, Partition>,
    /// Partitions whose next record may be taken, in the order in which they became so: none is starved.
    ready: VecDeque<i32>,
    /// Records in work, those of partitions lost meanwhile included.
    in_work: BTreeMap<u64, Instant>,
    /// When each idle lane became free, the latest last.
    idle: Vec<Instant>,
    ownerships: u64,
    concurrency: usize,
    batched: bool,
    bucket: Bucket,
    /// Until when the rate held the next record back.
    held_until: Option<Instant>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            in_work: BTreeMap::new(),
            idle: Vec::new(),
            ownerships: 0,
            concurrency: 1,
            batched: false,
            bucket: Bucket::default(),
            held_until: None,
        }
    }

    /// Sets the limits; they hold from the next record on.
    pub(super) fn limit(&mut self, concurrency: usize, batched: bool, per_second: Option<u32>) {
        self.concurrency = concurrency;
        self.bucket.set_rate(per_second);
        self.batched = batched;
        if !batched {
            self.release();
        }
    }

    /// A partition is owned from now on.
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

    /// Where an owned partition is read from, as long as nothing has been processed.
    pub(super) fn start_at(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.next.get_or_insert(offset);
            partition.committed = partition.committed.max(offset);
        }
    }

    /// Owned partitions whose next offset is not known yet.
    pub(super) fn without_position(&self) -> Vec<i32> {
        self.partitions.iter().filter(|(_, p)| p.next.is_none()).map(|(id, _)| *id).collect()
    }

    /// Queues a record. One of a partition that is not owned, or is being given up, is dropped: its next owner gets it.
    pub(super) fn push(&mut self, partition: i32, item: Item, now: Instant) {
        let batched = self.batched;
        let Some(owned) = self.partitions.get_mut(&partition).filter(|p| !p.giving_up) else { return };
        owned.queue.push_back((item, now));
        owned.full = owned.full || owned.queue.len() >= FULL;
        // A batch that does not fit is begun early: it could not grow any further.
        if !batched || owned.full {
            owned.released = owned.queue.len();
            self.make_ready(partition);
        }
    }

    /// A batch is complete: what is queued now may be taken.
    pub(super) fn release(&mut self) {
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

    /// The record to work on next, if a lane, a record and the rate allow one.
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
        // Dated back, but never to before the record, its lane, its predecessor and the rate allowed it.
        let lane = self.idle.pop().unwrap_or(now);
        let begin =
            lane.max(queued).max(self.held_until.take().unwrap_or(queued)).max(partition.free_at.unwrap_or(queued));
        let begin = begin.max(now.checked_sub(CATCH_UP).unwrap_or(now));
        let work = Work { partition: id, item, begin: begin.min(now), owned_since: partition.owned_since };
        self.in_work.insert(work.key(), now);
        Next::Work(work)
    }

    /// A record is done; `end` is when its work ended by its own clock. Returns how long its lane was taken.
    pub(super) fn done(&mut self, work: &Work, end: Instant, now: Instant) -> Duration {
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

    /// What is processed and not committed yet: partition and next offset.
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

    /// Stops taking up these partitions' records. Those queued are dropped, unless they count as processed already
    /// (at most once: their offsets are committed) and should be finished.
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

    /// Whether nothing of these partitions is queued or in work.
    pub(super) fn settled(&self, partitions: &BTreeSet<i32>) -> bool {
        let quiet = |id| self.partitions.get(id).is_none_or(|p| p.running.is_none() && p.queue.is_empty());
        partitions.iter().all(quiet)
    }

    /// These partitions are no longer owned. Returns how many queued records were dropped.
    pub(super) fn remove(&mut self, partitions: &BTreeSet<i32>) -> usize {
        self.ready.retain(|id| !partitions.contains(id));
        partitions.iter().filter_map(|id| self.partitions.remove(id)).map(|p| p.queue.len()).sum()
    }

    pub(super) fn owned(&self) -> BTreeSet<i32> {
        self.partitions.keys().copied().collect()
    }

    /// Partitions that must not be fetched from for now.
    pub(super) fn full(&self) -> BTreeSet<i32> {
        self.partitions.iter().filter(|(_, p)| p.full).map(|(id, _)| *id).collect()
    }

    /// Next unprocessed offset of each owned partition, where known.
    pub(super) fn next_offsets(&self) -> Vec<(i32, i64)> {
        self.partitions.iter().filter_map(|(id, p)| p.next.map(|next| (*id, next))).collect()
    }

    /// How long the records in work have taken so far, together.
    pub(super) fn under_way(&self, now: Instant) -> Duration {
        self.in_work.values().map(|since| now.saturating_duration_since(*since)).sum()
    }

    pub(super) fn concurrency(&self) -> usize {
        self.concurrency
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    fn lanes(concurrency: usize, queued: &[(i32, usize)]) -> (Lanes, Instant) {
        let now = Instant::now();
        let mut lanes = Lanes::new();
        lanes.limit(concurrency, false, None);
        for (partition, records) in queued {
            lanes.assign(*partition);
            push(&mut lanes, *partition, 0, *records, now);
        }
        (lanes, now)
    }

    fn push(lanes: &mut Lanes, partition: i32, from: usize, records: usize, now: Instant) {
        for offset in from..from + records {
            lanes.push(partition, Item { offset: i64::try_from(offset).unwrap(), appended: 0 }, now);
        }
    }

    fn take(lanes: &mut Lanes, now: Instant) -> Option<Work> {
        match lanes.next(now) {
            Next::Work(work) => Some(work),
            Next::At(_) | Next::Wait => None,
        }
    }

    fn all(lanes: &mut Lanes, now: Instant) -> Vec<Work> {
        std::iter::from_fn(|| take(lanes, now)).collect()
    }

    #[test]
    fn a_partition_holds_one_lane_and_keeps_its_order() {
        let (mut lanes, now) = lanes(4, &[(0, 3), (1, 3)]);
        let mut seen = BTreeMap::<i32, Vec<i64>>::new();
        loop {
            let works = all(&mut lanes, now);
            if works.is_empty() {
                break;
            }
            assert_eq!(works.len(), 2, "two partitions, two lanes");
            for work in works.iter().rev() {
                seen.entry(work.partition).or_default().push(work.item.offset);
                lanes.done(work, now, now);
            }
        }
        assert_eq!(seen, BTreeMap::from([(0, vec![0, 1, 2]), (1, vec![0, 1, 2])]));
        assert_eq!(lanes.uncommitted(), [(0, 3), (1, 3)]);
        lanes.committed(&[(0, 3), (1, 2)]);
        assert_eq!(lanes.uncommitted(), [(1, 3)]);
    }

    #[test]
    fn concurrency_is_a_bound_and_changes_live() {
        let (mut lanes, now) = lanes(2, &[(0, 9), (1, 9), (2, 9), (3, 9)]);
        let works = all(&mut lanes, now);
        assert_eq!(works.len(), 2);
        lanes.limit(4, false, None);
        assert_eq!(all(&mut lanes, now).len(), 2);
        lanes.limit(1, false, None);
        works.iter().for_each(|work| {
            lanes.done(work, now, now);
        });
        assert!(take(&mut lanes, now).is_none(), "two are still in work, one is allowed");
    }

    #[test]
    fn no_partition_is_starved() {
        let (mut lanes, now) = lanes(1, &[(0, 500), (1, 2)]);
        let mut order = Vec::new();
        for _ in 0..4 {
            let work = take(&mut lanes, now).unwrap();
            order.push(work.partition);
            lanes.done(&work, now, now);
        }
        assert_eq!(order, [0, 1, 0, 1]);
    }

    #[test]
    fn giving_up_drops_what_is_queued_and_waits_for_what_is_in_work() {
        let (mut lanes, now) = lanes(1, &[(0, 5), (1, 5)]);
        let work = take(&mut lanes, now).unwrap();
        let gone = BTreeSet::from([work.partition]);
        lanes.give_up(&gone, false);
        push(&mut lanes, work.partition, 5, 5, now);
        assert!(!lanes.settled(&gone));
        lanes.done(&work, now, now);
        assert!(lanes.settled(&gone));
        assert_eq!(lanes.uncommitted(), [(work.partition, 1)], "what was done is committed before it is given up");
        assert_eq!(lanes.remove(&gone), 0);
        assert_eq!(take(&mut lanes, now).unwrap().partition, 1);
    }

    #[test]
    fn at_most_once_finishes_what_it_has_committed() {
        let (mut lanes, now) = lanes(4, &[(0, 3)]);
        let gone = BTreeSet::from([0]);
        lanes.give_up(&gone, true);
        for _ in 0..3 {
            assert!(!lanes.settled(&gone));
            let work = take(&mut lanes, now).unwrap();
            lanes.done(&work, now, now);
        }
        assert!(lanes.settled(&gone));
    }

    #[test]
    fn a_record_of_a_lost_partition_does_not_move_its_next_ownership() {
        let (mut lanes, now) = lanes(1, &[(0, 5)]);
        let work = take(&mut lanes, now).unwrap();
        lanes.remove(&BTreeSet::from([0]));
        lanes.assign(0);
        lanes.start_at(0, 100);
        let took = lanes.done(&work, now, now + Duration::from_millis(3));
        assert_eq!(took, Duration::from_millis(3), "the work was done all the same");
        assert_eq!(lanes.next_offsets(), [(0, 100)]);
        assert!(lanes.uncommitted().is_empty());
    }

    #[test]
    fn micro_batches_wait_for_their_release_unless_full() {
        let (mut lanes, now) = lanes(8, &[]);
        lanes.limit(8, true, None);
        lanes.assign(0);
        push(&mut lanes, 0, 0, 2, now);
        assert!(take(&mut lanes, now).is_none());
        lanes.release();
        push(&mut lanes, 0, 2, 1, now);
        for _ in 0..2 {
            let work = take(&mut lanes, now).unwrap();
            lanes.done(&work, now, now);
        }
        assert!(take(&mut lanes, now).is_none(), "the third belongs to the next batch");
        push(&mut lanes, 0, 3, FULL, now);
        assert!(take(&mut lanes, now).is_some(), "a full batch is begun early");
    }

    #[test]
    fn a_full_partition_is_fetched_from_again_at_half() {
        let (mut lanes, now) = lanes(1, &[(0, FULL), (1, 1)]);
        assert_eq!(lanes.full(), BTreeSet::from([0]));
        for _ in 0..=FULL / 2 {
            let work = take(&mut lanes, now).unwrap();
            lanes.done(&work, now, now);
        }
        assert!(lanes.full().is_empty());
    }

    #[test]
    fn a_late_timer_costs_no_throughput_and_idleness_earns_none() {
        let (mut lanes, start) = lanes(1, &[(0, 3)]);
        let millisecond = Duration::from_millis(1);
        let work = take(&mut lanes, start).unwrap();
        assert_eq!(work.begin, start);
        // The timer for 1 ms fired after 2 ms: the next record's work began when the first one's ended.
        lanes.done(&work, work.begin + millisecond, start + 2 * millisecond);
        let work = take(&mut lanes, start + 2 * millisecond).unwrap();
        assert_eq!(work.begin, start + millisecond);
        lanes.done(&work, work.begin + millisecond, start + 2 * millisecond);
        // A minute later, no more than the catch-up is made good.
        let late = start + Duration::from_mins(1);
        assert_eq!(take(&mut lanes, late).unwrap().begin, late - CATCH_UP);
    }

    #[test]
    fn the_rate_holds_records_back_without_taking_a_lane() {
        let (mut lanes, now) = lanes(4, &[(0, 5), (1, 5)]);
        lanes.limit(4, false, Some(1));
        assert!(take(&mut lanes, now).is_some());
        let Next::At(at) = lanes.next(now) else { panic!("the rate is used up") };
        assert_eq!(at, now + Duration::from_secs(1));
        assert_eq!(lanes.under_way(now + Duration::from_secs(1)), Duration::from_secs(1), "one lane, not two");
        let work = take(&mut lanes, at + Duration::from_millis(1)).unwrap();
        assert_eq!(work.begin, at, "the wait for the rate is not time that the record could have been worked on");
    }
}
