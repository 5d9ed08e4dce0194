//! One look at a job: what the samples say together.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::contract::observation::{Observation, Partition};
use super::super::contract::settings::Settings;
use super::super::model::attainment;
use super::super::model::memory::Memory;
use super::super::model::partition::{Bracket, PartitionTrack, ReadWith, Reading, owner_hash};
use super::super::model::staircase::{Assignor, Deal, Staircase};
use super::super::model::workers::Shift;
use super::super::num;
use super::doubts;

/// A sample older than this does not say what is now, seconds: three sampling intervals at the slowest.
pub(crate) const FRESH: f64 = 15.0;
/// Fewer partitions count after so many looks and so many seconds.
const GONE_LOOKS: u32 = 3;
const GONE_SECONDS: f64 = 60.0;
/// A partition that stands still for this long, and for three commit intervals, while others move is stuck; seconds.
const STUCK: f64 = 60.0;
/// Share of the objective at which a partition counts as late.
const LATE: f64 = 0.5;
/// Share of the arrivals whose partitions must have a queue for nearly all workers to have one.
const NEARLY_ALL: f64 = 0.7;
/// A partition that stands still for this long while its owner's others move is stuck; seconds.
const PASSED_OVER: f64 = 10.0;

/// What the samples say.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // facts that hold or not, each on its own; they are no states of one machine
pub(crate) struct Snapshot {
    /// At least one partition is freshly known; and all are.
    pub(crate) fresh: bool,
    pub(crate) all_read: bool,
    /// Why no worker may leave: what is missing, stale or contradictory. `None`: everything is there.
    pub(crate) gap: Option<String>,
    /// What the source says that cannot be so.
    pub(crate) contradiction: Option<String>,
    /// Why the objective cannot be verified, and what to set.
    pub(crate) unverifiable: Option<String>,
    /// Age of the oldest sample, seconds.
    pub(crate) sample_age: Option<f64>,
    /// Records not yet processed: as far as is certain, and possible. `None`: no partition is known.
    pub(crate) lag: Option<Bracket>,
    /// Records past their deadline.
    pub(crate) overdue: Option<f64>,
    /// Age of the oldest unprocessed record, seconds.
    pub(crate) age: Option<Bracket>,
    /// The same without partitions that are being moved or are stuck.
    pub(crate) settled_age: Bracket,
    pub(crate) settled_lag: Bracket,
    /// Settled partitions whose oldest record is older than most of the objective.
    pub(crate) late_partitions: u32,
    /// Partitions that stand still while others move.
    pub(crate) stuck: Vec<String>,
    /// Partitions of which neither a commit nor a position is known.
    pub(crate) without_position: u32,
    /// Partitions with one or two offsets that are taken for transaction markers.
    pub(crate) markers: u32,
    /// Records wait; and for sure, not only because no commit is known.
    pub(crate) waits: bool,
    pub(crate) waits_for_sure: bool,
    /// Every partition's position is known from its worker, not from commits.
    pub(crate) positioned: bool,
    /// Every log is as it was in the sample before.
    pub(crate) still: bool,
    /// Proven: nothing waits, every log has stood still for long enough, and no worker is busy.
    pub(crate) idle: bool,
    pub(crate) rates: Option<Rates>,
    /// Progress of all partitions since the last look, records.
    pub(crate) progress: f64,
    /// Longest pause of a moved partition that ended now, seconds.
    pub(crate) pause: Option<f64>,
    /// Commits that were seen: seconds that their records had waited for them, at most.
    pub(crate) commit_gaps: Vec<f64>,
    /// By hash.
    pub(crate) owners: Vec<Owner>,
    pub(crate) owners_known: bool,
    /// Workers that own partitions, as the group says; `None`: it does not.
    pub(crate) working: Option<u32>,
    /// Members of the group that are not workers of the job.
    pub(crate) strangers: u32,
    /// Workers come or go, or partitions do: what waits may be that change's doing.
    pub(crate) unsettled: bool,
}

impl Snapshot {
    /// Records wait for sure for nearly all workers: for the owners of most of the arrivals.
    pub(crate) fn nearly_all_queued(&self) -> bool {
        let sum = |of: fn(&Owner) -> f64| self.owners.iter().map(of).sum::<f64>();
        let queued = sum(|owner| owner.queued_weight);
        queued > 0.0 && queued >= NEARLY_ALL * sum(|owner| owner.weight)
    }

    /// What the partitions of the owner with this hash say.
    pub(crate) fn owner(&self, hash: u64) -> Option<&Owner> {
        self.owners.binary_search_by_key(&hash, |owner| owner.hash).ok().and_then(|index| self.owners.get(index))
    }
}

/// What one owner's partitions say together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Owner {
    /// 0: no owner known.
    pub(crate) hash: u64,
    pub(crate) partitions: f64,
    /// Arrival rate over about ten minutes, records per second.
    pub(crate) weight: f64,
    /// Records that wait, without those of partitions that are being moved or are stuck.
    pub(crate) queue: Bracket,
    /// Age of the oldest of these, seconds.
    pub(crate) age: Bracket,
    /// Weight of the partitions in which records wait for sure.
    pub(crate) queued_weight: f64,
    /// Offsets that are known to be processed since the last look.
    pub(crate) progress: f64,
    /// Some of its partitions have just moved.
    pub(crate) moving: bool,
}

/// Arrival rates, records per second; from the log's end alone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// Over one sampling interval or a little more.
    pub(crate) moment: f64,
    /// Over the time that the level is averaged over: ten seconds, longer where records are few.
    pub(crate) level: f64,
    /// Over half a minute at least.
    pub(crate) half_minute: f64,
}

/// Takes in the samples.
pub(crate) fn look(memory: &mut Memory, observation: &Observation, settings: &Settings, shift: &Shift) -> Snapshot {
    let mut snapshot = Snapshot { positioned: true, ..Snapshot::default() };
    let mut reader = Reader::new(memory, observation, settings, shift);
    for (nth, sample) in observation.partitions.iter().enumerate() {
        reader.partition(&mut snapshot, nth, sample);
    }
    reader.close(&mut snapshot, settings);
    let known = reader.known;
    let offered = reader.offered;
    let (still_for, still_read) = (reader.still_for, reader.still_read);
    let seen_sources = std::mem::take(&mut reader.seen_sources);
    snapshot.owners.sort_unstable_by_key(|owner| owner.hash);

    // One name for many members is no identification.
    let useful = memory.stairs.steps.useful().unwrap_or(u32::MAX);
    let expected = observation.replicas.ready.unwrap_or(1).min(useful);
    let distinct = num::u32_of(snapshot.owners.len());
    snapshot.owners_known = distinct > 0 && 2 * distinct >= expected && snapshot.owners.iter().all(|o| o.hash != 0);
    doubts::sources(memory, observation, &seen_sources, &mut snapshot);
    forget_partitions(memory, observation, &seen_sources);
    snapshot.all_read = known > 0 && usize::try_from(known).unwrap_or(0) >= memory.partitions.len();
    if !snapshot.all_read {
        snapshot.gap.get_or_insert_with(|| "not every partition was read".to_owned());
    }
    snapshot.still = known > 0 && still_read > 0.1;
    doubts::members(observation, &mut snapshot);
    doubts::workers(memory, &mut snapshot);
    doubts::offers(memory, observation, offered, &mut snapshot);
    doubts::verifiable(memory, settings, &mut snapshot);
    snapshot.rates = rates(memory);
    build_stairs(memory, observation);
    let rest = (6.0 * memory.clock.interval).max(60.0);
    snapshot.idle = snapshot.gap.is_none()
        && !snapshot.waits
        && !shift.busy
        && still_for >= rest
        && memory.clock.watched() >= rest
        && memory.clock.now - memory.progress.worked_at >= 10.0;
    snapshot
}

/// Reads the partitions of one look.
struct Reader<'a> {
    memory: &'a mut Memory,
    shift: &'a Shift,
    starts_at_earliest: HashMap<&'a str, bool>,
    with: ReadWith,
    /// Some partition was processed lately, so that one that stands still stands alone.
    others_move: bool,
    stuck_after: f64,
    passed_over_after: f64,
    /// When any partition of an owner last advanced, by the look before.
    owner_moved_at: HashMap<u64, f64>,
    settle: f64,
    /// A queue that is shorter than what samples are apart may be none, seconds.
    surely: f64,
    newest: Option<f64>,
    known: u32,
    offered: [u32; 3],
    seen_sources: Vec<u16>,
    still_for: f64,
    still_read: f64,
    intervals: (f64, f64),
    due: f64,
    late: f64,
    owner_index: HashMap<u64, usize>,
}

impl<'a> Reader<'a> {
    fn new(memory: &'a mut Memory, observation: &'a Observation, settings: &Settings, shift: &'a Shift) -> Self {
        let now = memory.clock.now;
        let commit = memory.commit_interval.upper();
        let watched = memory.clock.watched();
        // A record that is long in work is not stuck.
        let record = memory.capacity.seconds_per_record().unwrap_or(0.0);
        let stuck_after = STUCK.max(3.0 * commit.unwrap_or(0.0)).max(5.0 * record);
        let between = commit.unwrap_or(5.0) + memory.clock.interval;
        let passed_over_after = PASSED_OVER.max(2.5 * between).max(5.0 * record);
        let mut owner_moved_at: HashMap<u64, f64> = HashMap::new();
        for (_, track) in memory.partitions.iter() {
            let at = owner_moved_at.entry(track.owner).or_insert(track.advanced_at);
            *at = at.max(track.advanced_at);
        }
        // Workers whose counters say that they process what arrives need no commits to prove it.
        let window = memory.rate_window().max(3.0 * memory.clock.interval);
        let keep_up = shift.processed.is_some()
            && memory.clock.watched() >= window
            && memory.progress.rate(window).is_some_and(|done| {
                let offsets = done * memory.offsets_per_record.value();
                memory.arrivals.rate(window).is_some_and(|arrived| offsets >= 0.97 * arrived)
            });
        let with = ReadWith {
            now,
            latency: settings.latency.0,
            commit_interval: commit.map(|c| c + memory.clock.interval),
            workers_keep_up: keep_up,
            position_at: None,
            idle_at: None,
            owner_busy: false,
            no_worker: observation.replicas.desired == Some(0) && observation.replicas.existing == Some(0),
            starts_at_earliest: None,
            transactional: memory.offsets_per_record.transactional(),
        };
        let moved_lately = now - memory.progress.moved_at < 10.0 + 2.0 * commit.unwrap_or(5.0);
        Self {
            with,
            shift,
            starts_at_earliest: observation
                .sources
                .iter()
                .filter_map(|s| Some((s.name.as_deref().unwrap_or_default(), s.starts_at_earliest?)))
                .collect(),
            others_move: moved_lately && watched >= STUCK,
            stuck_after,
            passed_over_after,
            owner_moved_at,
            surely: 0.5_f64.max(0.5 * memory.clock.interval),
            settle: memory.durations.handover() + commit.unwrap_or(5.0).min(60.0),
            newest: None,
            known: 0,
            offered: [0; 3],
            seen_sources: Vec::new(),
            still_for: f64::INFINITY,
            still_read: f64::INFINITY,
            intervals: (0.0, 0.0),
            due: 0.0,
            late: 0.0,
            owner_index: HashMap::new(),
            memory,
        }
    }

    fn partition(&mut self, snapshot: &mut Snapshot, nth: usize, sample: &Partition) {
        let (now, look) = (self.with.now, self.memory.clock.looks);
        let source_name = sample.source.as_deref().unwrap_or_default();
        let source = source_index(&mut self.memory.sources, source_name);
        let mut with = self.with;
        with.starts_at_earliest = self.starts_at_earliest.get(source_name).copied();
        if let Some(owner) = &sample.owner {
            let (read_at, idle_at, busy) = self.memory.workers.evidence(owner_hash(owner));
            (with.position_at, with.owner_busy) = (read_at, busy);
            with.idle_at = idle_at.filter(|_| !self.memory.progress.counters_stand_still(now));
        } else if self.shift.all_idle && !self.memory.progress.counters_stand_still(now) {
            with.idle_at = Some(now - self.memory.clock.interval);
        }
        let Some(track) = self.memory.partitions.entry(nth, &sample.id, || PartitionTrack::new(source, now)) else {
            return;
        };
        if track.look == look {
            return; // named twice: the first one counts
        }
        (track.look, track.missing, track.missing_since, track.source) = (look, 0, now, source);
        if !self.seen_sources.contains(&source) {
            self.seen_sources.push(source);
        }
        let there = [sample.position.is_some(), sample.due_end.is_some(), sample.owner.is_some()];
        self.offered.iter_mut().zip(there).for_each(|(count, there)| *count += u32::from(there));
        let before = track.history.latest().map(|l| l.0);
        let Some(reading) = track.read(sample, &with) else {
            snapshot.gap.get_or_insert_with(|| format!("{} was not fully read", sample.id));
            return;
        };
        let sample_age = now - reading.at;
        snapshot.sample_age = Some(snapshot.sample_age.unwrap_or(0.0).max(sample_age));
        if sample_age > FRESH {
            snapshot.gap.get_or_insert_with(|| format!("{} was last read {sample_age:.0} s ago", sample.id));
            return;
        }
        if reading.restarted {
            // Another log under an old name: what was needed for the old one says nothing.
            self.memory.clock.watching_since = now;
            self.memory.changes.fewer_since = None;
        }
        doubts::partition(snapshot, &reading, &sample.id);
        snapshot.fresh = true;
        snapshot.positioned &= reading.positioned;
        self.known += 1;
        self.newest = Some(reading.at.max(self.newest.unwrap_or(reading.at)));
        if let Some(interval) = before.map(|b| reading.at - b).filter(|i| (0.2..=FRESH).contains(i)) {
            self.intervals = (self.intervals.0 + interval, self.intervals.1 + 1.0);
        }
        let still_since = track.still_since().unwrap_or(now);
        self.still_for = self.still_for.min(now - still_since);
        self.still_read = self.still_read.min(reading.at - still_since);

        let moving = now - track.moved_at <= self.settle;
        // A record that cannot be processed is no reason for more workers. One that was moved lately may still be on its
        // way, and one that is in work is on its way too.
        let stands = now - track.advanced_at.max(track.moved_at + STUCK);
        let stands_alone = stands >= self.stuck_after && self.others_move;
        // A worker takes its partitions in turn: one that stands while its others move is stuck, and that shows sooner.
        let owner_moved = self.owner_moved_at.get(&track.owner).copied().unwrap_or(f64::NEG_INFINITY);
        let passed_over = track.owner != 0
            && stands >= self.passed_over_after
            && owner_moved - track.advanced_at >= 0.8 * self.passed_over_after;
        let stuck = reading.waits && !moving && (stands_alone || passed_over);
        let (due, late) = account(track, &reading);
        self.due += due;
        self.late += late;
        let records = reading.progress.max(if reading.queue.certain >= 1.0 { due } else { 0.0 });
        // Before rates are known all partitions count alike.
        let weight = f64::from(track.weight).max(1e-6);
        let owner = track.owner;
        self.memory.attainment.latency(
            now,
            0.5 * (reading.age.certain + reading.age.possible.min(2.0 * with.latency)),
            records,
        );
        self.add(snapshot, &reading, (owner, weight), (moving, stuck), &sample.id);
    }

    /// Adds one partition to the snapshot.
    fn add(
        &mut self,
        snapshot: &mut Snapshot,
        reading: &Reading,
        (owner, weight): (u64, f64),
        (moving, stuck): (bool, bool),
        id: &str,
    ) {
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
        if reading.queue.certain >= 2.0 && reading.age.certain > self.surely {
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

    /// Takes in what only all partitions together say.
    fn close(&mut self, snapshot: &mut Snapshot, settings: &Settings) {
        let now = self.with.now;
        let memory = &mut *self.memory;
        if snapshot.fresh {
            memory.clock.seen_at = now;
            memory.attainment.count(now, settings.window.0, self.due, self.late);
        }
        if self.intervals.1 > 0.0 {
            memory.clock.interval += 0.2 * (self.intervals.0 / self.intervals.1 - memory.clock.interval);
        }
        if let Some(newest) = self.newest {
            memory.arrivals.note(memory.partitions.tracks_mut(), newest);
        }
    }
}

/// Records of one partition that fell due since the last look, and that were late.
fn account(track: &mut PartitionTrack, reading: &Reading) -> (f64, f64) {
    let before = if track.guess.is_finite() { track.guess } else { reading.guess };
    track.guess = reading.guess;
    let Some(edge) = reading.due else { return (0.0, 0.0) };
    let counted = track.due.unwrap_or(edge);
    track.due = Some(edge.max(counted));
    let due = num::diff(edge, counted).max(0.0);
    let late = attainment::late_between((num::of_i64(counted), num::of_i64(edge)), (before, reading.guess));
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

/// Partitions that their source no longer names are gone after a while. A source that says nothing says nothing; one that
/// the spec no longer has is gone at once.
fn forget_partitions(memory: &mut Memory, observation: &Observation, seen_sources: &[u16]) {
    let (look, now) = (memory.clock.looks, memory.clock.now);
    let expected = |source: u16| {
        let name = memory.sources.get(usize::from(source)).map_or("", |n| n);
        observation.sources.is_empty()
            || observation.sources.iter().any(|s| s.name.as_deref().unwrap_or_default() == name)
    };
    let of_spec: Vec<bool> = (0..memory.sources.len()).map(|s| expected(u16::try_from(s).unwrap_or(0))).collect();
    let before = memory.partitions.len();
    memory.partitions.retain(|track| {
        if track.look != look && seen_sources.contains(&track.source) {
            if track.missing == 0 {
                track.missing_since = now;
            }
            track.missing = track.missing.saturating_add(1);
        }
        let of_spec = of_spec.get(usize::from(track.source)).copied().unwrap_or(true);
        of_spec && (track.missing < GONE_LOOKS || now - track.missing_since < GONE_SECONDS)
    });
    if memory.partitions.len() != before {
        // Arrivals of partitions that are gone are no arrivals.
        memory.arrivals.clear();
        memory.stairs.weights_version = memory.stairs.weights_version.wrapping_add(1);
    }
}

/// Arrivals of all partitions.
fn rates(memory: &Memory) -> Option<Rates> {
    let interval = memory.clock.interval;
    let arrivals = &memory.arrivals;
    Some(Rates {
        moment: arrivals.rate((1.2 * interval).clamp(1.0, FRESH))?,
        level: arrivals.rate(memory.forecast.averaging().max(3.0 * interval))?,
        half_minute: arrivals.rate(memory.forecast.averaging().max(30.0).max(6.0 * interval))?,
    })
}

/// Builds the stairs again if what they are made of has changed.
fn build_stairs(memory: &mut Memory, observation: &Observation) {
    let range = |g: &super::super::Group| Assignor::parse(g.assignor.as_deref()) == Assignor::Range;
    let bits = observation.groups.iter().take(32).fold(1_u64, |bits, g| (bits << 1) | u64::from(range(g)));
    let from = (memory.partitions.version ^ (bits << 32), memory.stairs.weights_version);
    if from != memory.stairs.built_from {
        memory.stairs.built_from = from;
        memory.stairs.steps = Arc::new(Staircase::build(&deals(memory, observation)));
    }
}

/// Partitions in the order of their topics, with their weights; equal weights until all are known.
fn deals(memory: &Memory, observation: &Observation) -> Vec<Deal> {
    let assignor = |source: u16| {
        let name = memory.sources.get(usize::from(source)).map_or("", |n| n);
        let of_source = |g: &&super::super::Group| g.source.as_deref().unwrap_or_default() == name;
        let group = observation.groups.iter().find(of_source).or_else(|| observation.groups.first());
        Assignor::parse(group.and_then(|g| g.assignor.as_deref()))
    };
    // A partition in which nothing arrives has a weight of zero; before the first minute all have.
    let known = memory.partitions.iter().any(|(_, t)| t.weight > 0.0);
    let mut deals: Vec<(&str, Deal)> = Vec::new();
    for (key, track) in memory.partitions.iter() {
        let weight = if known { f64::from(track.weight) } else { 1.0 };
        match deals.last_mut() {
            Some((topic, deal)) if **topic == *key.topic && deal.source == track.source => deal.weights.push(weight),
            _ => deals.push((
                &key.topic,
                Deal { assignor: assignor(track.source), source: track.source, weights: vec![weight] },
            )),
        }
    }
    deals.into_iter().map(|d| d.1).collect()
}
