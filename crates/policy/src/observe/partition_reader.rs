//! Reads the partitions of one observation, one after another, into the snapshot.

use std::collections::HashMap;

use super::super::contract::observation::{Observation, Partition};
use super::super::contract::settings::Settings;
use super::super::model::attainment::{self, Moved};
use super::super::model::memory::Memory;
use super::super::model::partition::{PartitionTrack, owner_hash};
use super::super::model::reading::{ReadWith, Reader, Reading};
use super::super::model::workers::WorkDone;
use super::doubts::{self, LogSignals};
use super::snapshot::{FRESH, Owner, Snapshot};
use sluice_base::num;

/// Time without progress, while others progress, after which a partition is stuck, seconds; at least three commit
/// intervals.
const STUCK: f64 = 60.0;
/// Share of the objective at which a partition counts as late.
const LATE: f64 = 0.5;
/// The same while other partitions of the same owner progress, seconds.
const PASSED_OVER: f64 = 10.0;

/// Reads the partitions of one observation.
pub(super) struct PartitionReader<'a> {
    memory: &'a mut Memory,
    work_done: &'a WorkDone,
    starts_at_earliest: HashMap<&'a str, bool>,
    with: ReadWith,
    /// Whether any partition made progress recently, so that a stuck one is not part of a general stop.
    others_move: bool,
    stuck_after: f64,
    passed_over_after: f64,
    /// When any partition of an owner last advanced, as of the previous observation.
    owner_moved_at: HashMap<u64, f64>,
    settle: f64,
    /// Age above which a queue of two or more records counts as real, seconds: a lower age may only be the time between
    /// samples.
    least_queue_age: f64,
    newest: Option<f64>,
    pub(super) known: u32,
    pub(super) log_signals: LogSignals,
    pub(super) seen_sources: Vec<u16>,
    pub(super) still_for: f64,
    pub(super) still_read: f64,
    /// Sum and number of the times between two samples of a partition.
    interval_sum: f64,
    interval_count: f64,
    due: f64,
    late: f64,
    owner_index: HashMap<u64, usize>,
}

/// What was found out about a partition besides its reading.
struct PartitionState<'a> {
    id: &'a str,
    owner: u64,
    weight: f64,
    moving: bool,
    stuck: bool,
}

impl<'a> PartitionReader<'a> {
    pub(super) fn new(
        memory: &'a mut Memory,
        observation: &'a Observation,
        settings: &Settings,
        work_done: &'a WorkDone,
    ) -> Self {
        let now = memory.clock.now;
        let commit = memory.commit_interval.upper();
        let watched = memory.clock.watched();
        // A record that takes long to process is not stuck.
        let record = memory.capacity.seconds_per_record().unwrap_or(0.0);
        let stuck_after = STUCK.max(3.0 * commit.unwrap_or(0.0)).max(5.0 * record);
        let between = commit.unwrap_or(5.0) + memory.clock.interval;
        let passed_over_after = PASSED_OVER.max(2.5 * between).max(5.0 * record);
        let mut owner_moved_at: HashMap<u64, f64> = HashMap::new();
        for (_, track) in memory.partitions.iter() {
            let at = owner_moved_at.entry(track.owner).or_insert(track.advanced_at);
            *at = at.max(track.advanced_at);
        }
        // Workers whose counters show that they process what arrives need no commits to prove it.
        let window = memory.rate_window().max(3.0 * memory.clock.interval);
        let keep_up = work_done.processed.is_some()
            && memory.clock.watched() >= window
            && memory.progress.rate(window).is_some_and(|done| {
                let offsets = done * memory.offsets_per_record.value();
                memory.arrivals.rate(window).is_some_and(|arrived| offsets >= 0.97 * arrived)
            });
        let absent = observation.replicas.desired == Some(0) && observation.replicas.existing == Some(0);
        let with = ReadWith {
            now,
            latency: settings.latency.0,
            commit_interval: commit.map(|c| c + memory.clock.interval),
            workers_keep_up: keep_up,
            position_at: None,
            idle_at: None,
            reader: if absent { Reader::Absent } else { Reader::Possible },
            starts_at_earliest: None,
            transactional: memory.offsets_per_record.transactional(),
        };
        let moved_lately = now - memory.progress.moved_at < 10.0 + 2.0 * commit.unwrap_or(5.0);
        Self {
            with,
            work_done,
            starts_at_earliest: observation
                .sources
                .iter()
                .filter_map(|s| Some((s.name.as_deref().unwrap_or_default(), s.starts_at_earliest?)))
                .collect(),
            others_move: moved_lately && watched >= STUCK,
            stuck_after,
            passed_over_after,
            owner_moved_at,
            least_queue_age: 0.5_f64.max(0.5 * memory.clock.interval),
            settle: memory.durations.handover() + commit.unwrap_or(5.0).min(60.0),
            newest: None,
            known: 0,
            log_signals: LogSignals::default(),
            seen_sources: Vec::new(),
            still_for: f64::INFINITY,
            still_read: f64::INFINITY,
            interval_sum: 0.0,
            interval_count: 0.0,
            due: 0.0,
            late: 0.0,
            owner_index: HashMap::new(),
            memory,
        }
    }

    pub(super) fn read_partition(&mut self, snapshot: &mut Snapshot, nth: usize, sample: &Partition) {
        let (now, observation) = (self.with.now, self.memory.clock.observations);
        let source_name = sample.source.as_deref().unwrap_or_default();
        let source = source_index(&mut self.memory.sources, source_name);
        let mut with = self.with;
        with.starts_at_earliest = self.starts_at_earliest.get(source_name).copied();
        if let Some(owner) = &sample.owner {
            let last = self.memory.workers.last_read(owner_hash(owner));
            with.position_at = last.at;
            if last.busy {
                with.reader = Reader::Busy;
            }
            with.idle_at = last.idle_at.filter(|_| !self.memory.progress.counters_stand_still(now));
        } else if self.work_done.all_idle && !self.memory.progress.counters_stand_still(now) {
            with.idle_at = Some(now - self.memory.clock.interval);
        }
        let Some(track) = self.memory.partitions.entry(nth, &sample.id, || PartitionTrack::new(source, now)) else {
            return;
        };
        if track.last_observation == observation {
            return; // a partition that is listed twice: the first entry counts
        }
        (track.last_observation, track.missing, track.missing_since, track.source) = (observation, 0, now, source);
        if !self.seen_sources.contains(&source) {
            self.seen_sources.push(source);
        }
        self.log_signals.positions += u32::from(sample.position.is_some());
        self.log_signals.due_ends += u32::from(sample.due_end.is_some());
        self.log_signals.owners += u32::from(sample.owner.is_some());
        let before = track.history.latest().map(|l| l.0);
        let Some(reading) = track.read(sample, &with) else {
            snapshot.gap.get_or_insert_with(|| format!("{}: the sample is incomplete", sample.id));
            return;
        };
        let sample_age = now - reading.at;
        snapshot.sample_age = Some(snapshot.sample_age.unwrap_or(0.0).max(sample_age));
        if sample_age > FRESH {
            snapshot.gap.get_or_insert_with(|| format!("{}: the newest sample is {sample_age:.0} s old", sample.id));
            return;
        }
        if reading.restarted {
            // Another log under the same name: how many workers the old one needed does not matter any more.
            self.memory.clock.watching_since = now;
            self.memory.changes.fewer_since = None;
        }
        doubts::check_partition(snapshot, &reading, &sample.id);
        snapshot.fresh = true;
        snapshot.positioned &= reading.positioned;
        self.known += 1;
        self.newest = Some(reading.at.max(self.newest.unwrap_or(reading.at)));
        if let Some(interval) = before.map(|b| reading.at - b).filter(|i| (0.2..=FRESH).contains(i)) {
            self.interval_sum += interval;
            self.interval_count += 1.0;
        }
        let still_since = track.still_since().unwrap_or(now);
        self.still_for = self.still_for.min(now - still_since);
        self.still_read = self.still_read.min(reading.at - still_since);

        let moving = now - track.moved_at <= self.settle;
        // A record that cannot be processed does not justify more workers. A partition that moved recently may still be
        // in handover, and a record that is being processed counts as progress.
        let stands = now - track.advanced_at.max(track.moved_at + STUCK);
        let stands_alone = stands >= self.stuck_after && self.others_move;
        // A worker processes its partitions in turn: if one stands still while its others progress, it is stuck, and
        // that shows sooner.
        let owner_moved = self.owner_moved_at.get(&track.owner).copied().unwrap_or(f64::NEG_INFINITY);
        let passed_over = track.owner != 0
            && stands >= self.passed_over_after
            && owner_moved - track.advanced_at >= 0.8 * self.passed_over_after;
        let stuck = reading.waits && !moving && (stands_alone || passed_over);
        let (due, late) = count_due_and_late(track, &reading);
        self.due += due;
        self.late += late;
        let records = reading.progress.max(if reading.queue.certain >= 1.0 { due } else { 0.0 });
        // Until rates are known, all partitions have the same weight.
        let weight = f64::from(track.weight).max(1e-6);
        let owner = track.owner;
        self.memory.attainment.record_latency(
            now,
            0.5 * (reading.age.certain + reading.age.possible.min(2.0 * with.latency)),
            records,
        );
        self.add(snapshot, &reading, &PartitionState { id: &sample.id, owner, weight, moving, stuck });
    }

    /// Adds one partition to the snapshot.
    fn add(&mut self, snapshot: &mut Snapshot, reading: &Reading, state: &PartitionState<'_>) {
        let &PartitionState { id, owner, weight, moving, stuck } = state;
        let first = snapshot.lag.is_none();
        if stuck {
            snapshot.stuck.push(id.to_owned());
        }
        snapshot.without_position += u32::from(reading.unknown_position);
        snapshot.markers += u32::from(reading.markers);
        snapshot.waits |= reading.waits;
        snapshot.waits_for_sure |= reading.waits_for_sure;
        snapshot.lag = Some(snapshot.lag.unwrap_or_default().plus(reading.queue));
        snapshot.age = Some(snapshot.age.unwrap_or_default().max(reading.age));
        let overdue = reading.due.map(|due| (num::of_i64(due) - reading.guess).max(0.0));
        snapshot.overdue = if first { overdue } else { snapshot.overdue.zip(overdue).map(|(a, b)| a + b) };
        snapshot.pause = reading.pause.map(|pause| snapshot.pause.unwrap_or(0.0).max(pause)).or(snapshot.pause);
        snapshot.progress += reading.progress;
        snapshot.commit_gaps.extend(reading.commit_gap.filter(|_| !moving));
        let index = *self.owner_index.entry(owner).or_insert_with(|| {
            snapshot.owners.push(Owner { hash: owner, ..Owner::default() });
            snapshot.owners.len() - 1
        });
        let Some(of_owner) = snapshot.owners.get_mut(index) else { return };
        of_owner.partitions += 1.0;
        of_owner.weight += weight;
        of_owner.progress += reading.progress;
        of_owner.moving |= moving;
        if reading.queue.certain >= 2.0 && reading.age.certain > self.least_queue_age {
            of_owner.queued_weight += weight;
        }
        if !moving && !stuck {
            snapshot.late_partitions += u32::from(reading.age.certain > LATE * self.with.latency);
            of_owner.queue = of_owner.queue.plus(reading.queue);
            of_owner.age = of_owner.age.max(reading.age);
            snapshot.settled_lag = snapshot.settled_lag.plus(reading.queue);
            snapshot.settled_age = snapshot.settled_age.max(reading.age);
        }
    }

    /// Finishes the observation with what only all partitions together show.
    pub(super) fn finish(&mut self, snapshot: &mut Snapshot, settings: &Settings) {
        let now = self.with.now;
        let memory = &mut *self.memory;
        if snapshot.fresh {
            memory.clock.seen_at = now;
            memory.attainment.record_due(now, settings.window.0, self.due, self.late);
        }
        if self.interval_count > 0.0 {
            memory.clock.interval += 0.2 * (self.interval_sum / self.interval_count - memory.clock.interval);
        }
        if let Some(newest) = self.newest {
            memory.arrivals.record(memory.partitions.tracks_mut(), newest);
        }
    }
}

/// Returns how many records of one partition fell due since the last observation, and how many of them were late.
fn count_due_and_late(track: &mut PartitionTrack, reading: &Reading) -> (f64, f64) {
    let before = if track.guess.is_finite() { track.guess } else { reading.guess };
    track.guess = reading.guess;
    let Some(edge) = reading.due else { return (0.0, 0.0) };
    let counted = track.due.unwrap_or(edge);
    track.due = Some(edge.max(counted));
    let due = num::diff(edge, counted).max(0.0);
    let due_edge = Moved { before: num::of_i64(counted), now: num::of_i64(edge) };
    let late = attainment::late_between(due_edge, Moved { before, now: reading.guess });
    (due, late.min(due))
}

fn source_index(sources: &mut Vec<Box<str>>, name: &str) -> u16 {
    let index = sources.iter().position(|s| &**s == name).unwrap_or_else(|| {
        // Sixteen sources are allowed; a stream of new names must not fill the memory.
        if sources.len() < 64 {
            sources.push(name.into());
        }
        sources.len() - 1
    });
    u16::try_from(index).unwrap_or(u16::MAX)
}
