//! Tests of the scheduler, with instants as arguments.

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
    for work in &works {
        lanes.done(work, now, now);
    }
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
    // A minute later, not more than `CATCH_UP` is made up for.
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
    assert_eq!(work.begin, at, "the record could not be processed while the rate delayed it");
}
