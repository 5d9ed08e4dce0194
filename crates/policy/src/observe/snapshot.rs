//! One look at a job: what the samples say together.

use super::super::contract::observation::Observation;
use super::super::contract::settings::Settings;
use super::super::model::evidence::Bracket;
use super::super::model::memory::Memory;
use super::super::model::workers::Shift;
use super::partition_reader::PartitionReader;
use super::{doubts, stairs};
use sluice_base::num;

/// A sample older than this does not say what is now, seconds: three sampling intervals at the slowest.
pub(crate) const FRESH: f64 = 15.0;
/// Fewer partitions count after so many looks and so many seconds.
const GONE_LOOKS: u32 = 3;
const GONE_SECONDS: f64 = 60.0;
/// Share of the arrivals whose partitions must have a queue for nearly all workers to have one.
pub(crate) const NEARLY_ALL: f64 = 0.7;

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
    let mut reader = PartitionReader::new(memory, observation, settings, shift);
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
    stairs::build(memory, observation);
    let rest = (6.0 * memory.clock.interval).max(60.0);
    snapshot.idle = snapshot.gap.is_none()
        && !snapshot.waits
        && !shift.busy
        && still_for >= rest
        && memory.clock.watched() >= rest
        && memory.clock.now - memory.progress.worked_at >= 10.0;
    snapshot
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
