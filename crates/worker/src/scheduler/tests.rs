//! Tests of the scheduler, with instants as arguments.

use super::*;

fn scheduler(concurrency: usize, queued: &[(i32, usize)]) -> (Scheduler, Instant) {
    let now = Instant::now();
    let mut scheduler = Scheduler::new();
    scheduler.set_limits(concurrency, false, None);
    for (partition, records) in queued {
        scheduler.assign(*partition);
        push(&mut scheduler, *partition, 0, *records, now);
    }
    (scheduler, now)
}

fn push(scheduler: &mut Scheduler, partition: i32, from: usize, records: usize, now: Instant) {
    for offset in from..from + records {
        scheduler.push(partition, Item { offset: i64::try_from(offset).unwrap(), appended: 0 }, now);
    }
}

fn take(scheduler: &mut Scheduler, now: Instant) -> Option<Work> {
    match scheduler.next(now) {
        Next::Work(work) => Some(work),
        Next::At(_) | Next::Wait => None,
    }
}

fn all(scheduler: &mut Scheduler, now: Instant) -> Vec<Work> {
    std::iter::from_fn(|| take(scheduler, now)).collect()
}

#[test]
fn partition_uses_one_lane_and_keeps_its_order() {
    let (mut scheduler, now) = scheduler(4, &[(0, 3), (1, 3)]);
    let mut seen = BTreeMap::<i32, Vec<i64>>::new();
    loop {
        let works = all(&mut scheduler, now);
        if works.is_empty() {
            break;
        }
        assert_eq!(works.len(), 2, "two partitions, two lanes");
        for work in works.iter().rev() {
            seen.entry(work.partition).or_default().push(work.item.offset);
            scheduler.finish(work, now, now);
        }
    }
    assert_eq!(seen, BTreeMap::from([(0, vec![0, 1, 2]), (1, vec![0, 1, 2])]));
    assert_eq!(scheduler.uncommitted(), [(0, 3), (1, 3)]);
    scheduler.committed(&[(0, 3), (1, 2)]);
    assert_eq!(scheduler.uncommitted(), [(1, 3)]);
}

#[test]
fn concurrency_is_a_limit_and_changes_live() {
    let (mut scheduler, now) = scheduler(2, &[(0, 9), (1, 9), (2, 9), (3, 9)]);
    let works = all(&mut scheduler, now);
    assert_eq!(works.len(), 2);
    scheduler.set_limits(4, false, None);
    assert_eq!(all(&mut scheduler, now).len(), 2);
    scheduler.set_limits(1, false, None);
    for work in &works {
        scheduler.finish(work, now, now);
    }
    assert!(take(&mut scheduler, now).is_none(), "two are still in work, one is allowed");
}

#[test]
fn no_partition_is_starved() {
    let (mut scheduler, now) = scheduler(1, &[(0, 500), (1, 2)]);
    let mut order = Vec::new();
    for _ in 0..4 {
        let work = take(&mut scheduler, now).unwrap();
        order.push(work.partition);
        scheduler.finish(&work, now, now);
    }
    assert_eq!(order, [0, 1, 0, 1]);
}

#[test]
fn giving_up_drops_queued_records_and_waits_for_those_in_work() {
    let (mut scheduler, now) = scheduler(1, &[(0, 5), (1, 5)]);
    let work = take(&mut scheduler, now).unwrap();
    let gone = BTreeSet::from([work.partition]);
    scheduler.give_up(&gone, false);
    push(&mut scheduler, work.partition, 5, 5, now);
    assert!(!scheduler.settled(&gone));
    scheduler.finish(&work, now, now);
    assert!(scheduler.settled(&gone));
    assert_eq!(scheduler.uncommitted(), [(work.partition, 1)], "what was done is committed before it is given up");
    assert_eq!(scheduler.remove(&gone), 0);
    assert_eq!(take(&mut scheduler, now).unwrap().partition, 1);
}

#[test]
fn at_most_once_finishes_committed_records() {
    let (mut scheduler, now) = scheduler(4, &[(0, 3)]);
    let gone = BTreeSet::from([0]);
    scheduler.give_up(&gone, true);
    for _ in 0..3 {
        assert!(!scheduler.settled(&gone));
        let work = take(&mut scheduler, now).unwrap();
        scheduler.finish(&work, now, now);
    }
    assert!(scheduler.settled(&gone));
}

#[test]
fn record_of_lost_partition_does_not_move_its_next_position() {
    let (mut scheduler, now) = scheduler(1, &[(0, 5)]);
    let work = take(&mut scheduler, now).unwrap();
    scheduler.remove(&BTreeSet::from([0]));
    scheduler.assign(0);
    scheduler.start_at(0, 100);
    let took = scheduler.finish(&work, now, now + Duration::from_millis(3));
    assert_eq!(took, Duration::from_millis(3), "the work was done all the same");
    assert_eq!(scheduler.next_offsets(), [(0, 100)]);
    assert!(scheduler.uncommitted().is_empty());
}

#[test]
fn micro_batches_wait_for_release_unless_full() {
    let (mut scheduler, now) = scheduler(8, &[]);
    scheduler.set_limits(8, true, None);
    scheduler.assign(0);
    push(&mut scheduler, 0, 0, 2, now);
    assert!(take(&mut scheduler, now).is_none());
    scheduler.release_batch();
    push(&mut scheduler, 0, 2, 1, now);
    for _ in 0..2 {
        let work = take(&mut scheduler, now).unwrap();
        scheduler.finish(&work, now, now);
    }
    assert!(take(&mut scheduler, now).is_none(), "the third belongs to the next batch");
    push(&mut scheduler, 0, 3, FULL, now);
    assert!(take(&mut scheduler, now).is_some(), "a full batch is begun early");
}

#[test]
fn full_partition_is_fetched_again_at_half() {
    let (mut scheduler, now) = scheduler(1, &[(0, FULL), (1, 1)]);
    assert_eq!(scheduler.full_partitions(), BTreeSet::from([0]));
    for _ in 0..=FULL / 2 {
        let work = take(&mut scheduler, now).unwrap();
        scheduler.finish(&work, now, now);
    }
    assert!(scheduler.full_partitions().is_empty());
}

#[test]
fn late_timer_costs_no_throughput_and_idle_time_gains_none() {
    let (mut scheduler, start) = scheduler(1, &[(0, 3)]);
    let millisecond = Duration::from_millis(1);
    let work = take(&mut scheduler, start).unwrap();
    assert_eq!(work.begin, start);
    // The timer for 1 ms fired after 2 ms: the next record's work began when the first one's ended.
    scheduler.finish(&work, work.begin + millisecond, start + 2 * millisecond);
    let work = take(&mut scheduler, start + 2 * millisecond).unwrap();
    assert_eq!(work.begin, start + millisecond);
    scheduler.finish(&work, work.begin + millisecond, start + 2 * millisecond);
    // A minute later, not more than `CATCH_UP` is made up for.
    let late = start + Duration::from_mins(1);
    assert_eq!(take(&mut scheduler, late).unwrap().begin, late - CATCH_UP);
}

#[test]
fn rate_limit_delays_records_without_using_a_lane() {
    let (mut scheduler, now) = scheduler(4, &[(0, 5), (1, 5)]);
    scheduler.set_limits(4, false, Some(1));
    assert!(take(&mut scheduler, now).is_some());
    let Next::At(at) = scheduler.next(now) else { panic!("the rate is used up") };
    assert_eq!(at, now + Duration::from_secs(1));
    assert_eq!(scheduler.time_in_work(now + Duration::from_secs(1)), Duration::from_secs(1), "one lane, not two");
    let work = take(&mut scheduler, at + Duration::from_millis(1)).unwrap();
    assert_eq!(work.begin, at, "the record could not be processed while the rate delayed it");
}
