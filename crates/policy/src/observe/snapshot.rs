//! What the samples of one observation show together.

use super::super::contract::observation::Observation;
use super::super::contract::settings::Settings;
use super::super::model::evidence::Bracket;
use super::super::model::memory::Memory;
use super::super::model::workers::WorkDone;
use super::partition_reader::PartitionReader;
use super::{doubts, stairs};
use sluice_base::num;

/// Samples older than this do not describe the present, seconds: three sampling intervals at the slowest.
pub(crate) const FRESH: f64 = 15.0;
/// A partition that is no longer listed is dropped after this many observations and seconds.
const GONE_OBSERVATIONS: u32 = 3;
const GONE_SECONDS: f64 = 60.0;
/// Share of the arrivals whose partitions must have a queue for nearly all workers to have one.
pub(crate) const NEARLY_ALL: f64 = 0.7;

/// The job as the samples show it.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not the states of one machine
pub(crate) struct Snapshot {
    /// At least one partition was read recently; and all of them were.
    pub(crate) fresh: bool,
    pub(crate) all_read: bool,
    /// What is missing, stale or contradictory, so that no worker may be removed. `None`: every signal is there.
    pub(crate) gap: Option<String>,
    /// What the source reports that cannot be true.
    pub(crate) contradiction: Option<String>,
    /// Why the objective cannot be verified, and what to set.
    pub(crate) unverifiable: Option<String>,
    /// Age of the oldest sample, seconds.
    pub(crate) sample_age: Option<f64>,
    /// Backlog in records, certain and possible. `None`: no partition is known.
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
    /// Partitions that make no progress while others do.
    pub(crate) stuck: Vec<String>,
    /// Number of partitions for which neither a commit nor a position is known.
    pub(crate) without_position: u32,
    /// Number of partitions with one or two offsets that are taken for transaction markers.
    pub(crate) markers: u32,
    /// Records wait; and certainly so, not only because no commit is known.
    pub(crate) waits: bool,
    pub(crate) waits_for_sure: bool,
    /// Every partition's position is known from its worker, not from commits.
    pub(crate) positioned: bool,
    /// No log has grown since the previous sample.
    pub(crate) still: bool,
    /// Proven idle: nothing waits, no log has grown for long enough, and no worker is busy.
    pub(crate) idle: bool,
    pub(crate) rates: Option<Rates>,
    /// Progress of all partitions since the last observation, records.
    pub(crate) progress: f64,
    /// Longest handover pause that ended with this observation, seconds.
    pub(crate) pause: Option<f64>,
    /// Upper bounds of how long the records of each commit in this observation had waited for it, seconds.
    pub(crate) commit_gaps: Vec<f64>,
    /// Sorted by hash.
    pub(crate) owners: Vec<Owner>,
    pub(crate) owners_known: bool,
    /// Workers that own partitions, according to the group; `None`: not known.
    pub(crate) working: Option<u32>,
    /// Members of the group that are not workers of the job.
    pub(crate) strangers: u32,
    /// Workers or partitions are coming or going, which may be the cause of what waits.
    pub(crate) unsettled: bool,
}

impl Snapshot {
    /// Returns whether records certainly wait for nearly all workers: for the owners of most of the arrivals.
    pub(crate) fn nearly_all_queued(&self) -> bool {
        let sum = |value: fn(&Owner) -> f64| self.owners.iter().map(value).sum::<f64>();
        let queued = sum(|owner| owner.queued_weight);
        queued > 0.0 && queued >= NEARLY_ALL * sum(|owner| owner.weight)
    }

    /// Returns what the partitions of the owner with this hash show together.
    pub(crate) fn owner(&self, hash: u64) -> Option<&Owner> {
        self.owners.binary_search_by_key(&hash, |owner| owner.hash).ok().and_then(|index| self.owners.get(index))
    }
}

/// What the partitions of one owner show together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Owner {
    /// 0: the owner is not known.
    pub(crate) hash: u64,
    pub(crate) partitions: f64,
    /// Arrival rate over about ten minutes, records per second.
    pub(crate) weight: f64,
    /// Records waiting, except in partitions that are in handover or stuck.
    pub(crate) queue: Bracket,
    /// Age of the oldest of these, seconds.
    pub(crate) age: Bracket,
    /// Weight of the partitions in which records certainly wait.
    pub(crate) queued_weight: f64,
    /// Offsets certainly processed since the last observation.
    pub(crate) progress: f64,
    /// Some of its partitions moved recently.
    pub(crate) moving: bool,
}

/// Arrival rates, records per second; measured at the end of the log alone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// Over one sampling interval or a little more.
    pub(crate) moment: f64,
    /// Over the averaging time of the level: ten seconds, longer where records are few.
    pub(crate) level: f64,
    /// Over half a minute at least.
    pub(crate) half_minute: f64,
}

/// Builds the snapshot from the samples of one observation, and updates the memory with them.
pub(crate) fn build_snapshot(
    memory: &mut Memory,
    observation: &Observation,
    settings: &Settings,
    work_done: &WorkDone,
) -> Snapshot {
    let mut snapshot = Snapshot { positioned: true, ..Snapshot::default() };
    let mut reader = PartitionReader::new(memory, observation, settings, work_done);
    for (nth, sample) in observation.partitions.iter().enumerate() {
        reader.read_partition(&mut snapshot, nth, sample);
    }
    reader.finish(&mut snapshot, settings);
    let known = reader.known;
    let log_signals = reader.log_signals;
    let (still_for, still_read) = (reader.still_for, reader.still_read);
    let seen_sources = std::mem::take(&mut reader.seen_sources);
    snapshot.owners.sort_unstable_by_key(|owner| owner.hash);

    // If many members share one name, owners cannot be distinguished.
    let useful = memory.stairs.steps.useful().unwrap_or(u32::MAX);
    let expected = observation.replicas.ready.unwrap_or(1).min(useful);
    let distinct = num::u32_of(snapshot.owners.len());
    snapshot.owners_known = distinct > 0 && 2 * distinct >= expected && snapshot.owners.iter().all(|o| o.hash != 0);
    doubts::check_sources(memory, observation, &seen_sources, &mut snapshot);
    forget_partitions(memory, observation, &seen_sources);
    snapshot.all_read = known > 0 && usize::try_from(known).unwrap_or(0) >= memory.partitions.len();
    if !snapshot.all_read {
        snapshot.gap.get_or_insert_with(|| "not every partition was read".to_owned());
    }
    snapshot.still = known > 0 && still_read > 0.1;
    doubts::read_members(observation, &mut snapshot);
    doubts::check_workers(memory, &mut snapshot);
    doubts::check_optional_signals(memory, observation, log_signals, &mut snapshot);
    doubts::check_verifiable(memory, settings, &mut snapshot);
    snapshot.rates = rates(memory);
    stairs::rebuild(memory, observation);
    let rest = (6.0 * memory.clock.interval).max(60.0);
    snapshot.idle = snapshot.gap.is_none()
        && !snapshot.waits
        && !work_done.busy
        && still_for >= rest
        && memory.clock.watched() >= rest
        && memory.clock.now - memory.progress.worked_at >= 10.0;
    snapshot
}

/// Forgets partitions that their source no longer lists, after `GONE_OBSERVATIONS` and `GONE_SECONDS`. A source that
/// was not read proves nothing; the partitions of a source that the spec no longer names are forgotten at once.
fn forget_partitions(memory: &mut Memory, observation: &Observation, seen_sources: &[u16]) {
    let (current, now) = (memory.clock.observations, memory.clock.now);
    let expected = |source: u16| {
        let name = memory.sources.get(usize::from(source)).map_or("", |n| n);
        observation.sources.is_empty()
            || observation.sources.iter().any(|s| s.name.as_deref().unwrap_or_default() == name)
    };
    let in_spec: Vec<bool> = (0..memory.sources.len()).map(|s| expected(u16::try_from(s).unwrap_or(0))).collect();
    let before = memory.partitions.len();
    memory.partitions.retain(|track| {
        if track.last_observation != current && seen_sources.contains(&track.source) {
            if track.missing == 0 {
                track.missing_since = now;
            }
            track.missing = track.missing.saturating_add(1);
        }
        let in_spec = in_spec.get(usize::from(track.source)).copied().unwrap_or(true);
        in_spec && (track.missing < GONE_OBSERVATIONS || now - track.missing_since < GONE_SECONDS)
    });
    if memory.partitions.len() != before {
        // The arrivals of partitions that are gone must not count.
        memory.arrivals.clear();
        memory.stairs.weights_version = memory.stairs.weights_version.wrapping_add(1);
    }
}

/// Returns the arrival rates of all partitions together.
fn rates(memory: &Memory) -> Option<Rates> {
    let interval = memory.clock.interval;
    let arrivals = &memory.arrivals;
    Some(Rates {
        moment: arrivals.rate((1.2 * interval).clamp(1.0, FRESH))?,
        level: arrivals.rate(memory.forecast.averaging().max(3.0 * interval))?,
        half_minute: arrivals.rate(memory.forecast.averaging().max(30.0).max(6.0 * interval))?,
    })
}
