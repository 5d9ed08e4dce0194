//! One look at the log: samples in, what they say out. Nothing is decided here.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::attainment;
use super::doubt;
use super::memory::Memory;
use super::num;
use super::observation::Observation;
use super::settings::Settings;
use super::staircase::{Assignor, Deal, Staircase};
use super::track::{Seen, Track};

/// A sample older than this does not say what is now, seconds: three sampling intervals at the slowest.
pub(crate) const FRESH: f64 = 15.0;
/// Fewer partitions count after so many looks and so many seconds (law 8).
const GONE_LOOKS: u32 = 3;
const GONE_SECONDS: f64 = 60.0;
/// A partition that stands still for so long while others move is stuck, seconds.
const STUCK: f64 = 60.0;

/// What the log says.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // facts that hold or not, each on its own; they are no states of one machine
pub(crate) struct View {
    /// At least one partition is freshly known.
    pub(crate) fresh: bool,
    /// Why nobody may leave: what is missing, stale or contradictory. `None`: everything is there.
    pub(crate) gap: Option<String>,
    /// What the source says that cannot be so.
    pub(crate) contradiction: Option<String>,
    /// Age of the oldest sample, seconds.
    pub(crate) sample_age: Option<f64>,
    /// Records not yet processed: best guess, and without partitions that are being moved.
    pub(crate) lag: Option<f64>,
    pub(crate) settled_lag: f64,
    /// Records past their deadline.
    pub(crate) overdue: Option<f64>,
    /// Age of the oldest unprocessed record, best guess, seconds.
    pub(crate) age: Option<f64>,
    /// The same without partitions that are being moved.
    pub(crate) settled_age: f64,
    /// Age, upper edge, and records past their deadline, without partitions that are stuck.
    pub(crate) calm_age: f64,
    pub(crate) calm_overdue: f64,
    /// Partitions that stand still while others move.
    pub(crate) stuck: Vec<String>,
    /// Records wait.
    pub(crate) waiting: bool,
    /// Every partition's position is known from its worker, not from commits.
    pub(crate) certain: bool,
    /// Every log is as it was in the sample before.
    pub(crate) still: bool,
    /// Proven: nothing waits, every log has stood still for long enough, and no worker says that it is busy.
    pub(crate) idle: bool,
    pub(crate) rates: Option<Rates>,
    /// Progress of all partitions since the last look, records.
    pub(crate) progress: f64,
    /// Longest pause of a moved partition that ended now, seconds.
    pub(crate) pause: Option<f64>,
    pub(crate) by_owner: Vec<Owner>,
    pub(crate) owners_known: bool,
    /// Workers come or go, or partitions do: what waits may be that change's doing.
    pub(crate) unsettled: bool,
    /// A change of the number of workers moves few partitions.
    pub(crate) sticky: bool,
}

/// What one owner's partitions say together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Owner {
    /// 0: no owner known.
    pub(crate) hash: u64,
    pub(crate) count: f64,
    /// Arrival rate over about ten minutes, records per second.
    pub(crate) weight: f64,
    /// That of its hottest partition.
    pub(crate) top: f64,
    /// Records that wait: of all, and of those that are not being moved.
    pub(crate) lag: f64,
    pub(crate) settled_lag: f64,
    /// Age of the oldest, seconds.
    pub(crate) age: f64,
}

/// Arrival rates over several windows, records per second; from the log's end alone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// Over one sampling interval, about six seconds and half a minute.
    pub(crate) moment: f64,
    pub(crate) short: f64,
    pub(crate) half_minute: f64,
    /// Lengths of the first two windows, seconds.
    pub(crate) moment_window: f64,
    pub(crate) short_window: f64,
    /// Growth over the last half minute, records per second per second.
    pub(crate) recent: f64,
}

/// Takes in the samples.
pub(crate) fn look(memory: &mut Memory, observation: &Observation, settings: &Settings) -> View {
    let now = memory.now;
    let mut view = View { certain: true, ..View::default() };
    let look = memory.looks;
    let mut seen_sources = BTreeSet::new();
    let mut counts = [0_u32; 8];
    let (mut due, mut late) = (0.0, 0.0);
    let (mut intervals, mut commits) = ((0.0, 0.0), (0.0, 0.0));
    let (mut known, mut still_for, mut still_read) = (0_u32, f64::INFINITY, f64::INFINITY);
    let mut newest: Option<f64> = None;
    let moment = Moment {
        now,
        settle: memory.handover.p90() + memory.commit_interval,
        moves: now - memory.moved_on < 10.0 + 2.0 * memory.commit_interval && now - memory.watching_since >= STUCK,
    };

    for (nth, sample) in observation.partitions.iter().enumerate() {
        let source = source_index(memory, sample.source.as_deref().unwrap_or_default());
        let Some(track) = memory.partitions.entry(nth, &sample.id, || Track::new(source, now)) else { continue };
        if track.look == look {
            continue; // named twice: the first one counts
        }
        track.look = look;
        track.missing = 0;
        track.missing_since = now;
        track.source = source;
        seen_sources.insert(source);
        for (count, there) in
            counts.iter_mut().zip([sample.position.is_some(), sample.due_end.is_some(), sample.owner.is_some()])
        {
            *count += u32::from(there);
        }
        let before = track.ring.latest().map(|l| l.0);
        let Some(seen) = track.look_at(sample, now, settings.latency.0, memory.commit_interval) else {
            view.gap.get_or_insert_with(|| format!("{} was not fully read", sample.id));
            continue;
        };
        let sample_age = now - seen.at;
        view.sample_age = Some(view.sample_age.unwrap_or(0.0).max(sample_age));
        if sample_age > FRESH {
            view.gap.get_or_insert_with(|| format!("{} was last read {sample_age:.0} s ago", sample.id));
            continue;
        }
        doubt::partition(&mut view, &seen, &sample.id);
        if seen.restarted {
            // Another log under an old name: what was needed for the old one says nothing.
            memory.watching_since = now;
            memory.needs.clear();
        }
        view.fresh = true;
        view.certain &= sample.position.is_some();
        known += 1;
        newest = Some(seen.at.max(newest.unwrap_or(seen.at)));
        if let Some(interval) = before.map(|b| seen.at - b).filter(|i| (0.2..=FRESH).contains(i)) {
            intervals = (intervals.0 + interval, intervals.1 + 1.0);
        }
        if let Some(interval) = seen.commit_interval.filter(|i| (0.2..=120.0).contains(i)) {
            commits = (commits.0 + interval, commits.1 + 1.0);
        }
        let still_since = track.still_since().unwrap_or(now);
        still_for = still_for.min(now - still_since);
        still_read = still_read.min(seen.at - still_since);
        let (fell_due, records) = add(&mut view, track, &seen, &sample.id, moment);
        due += fell_due.0;
        late += fell_due.1;
        memory.attainment.latency(now, seen.age, records);
    }

    view.owners_known = !view.by_owner.is_empty() && view.by_owner.iter().all(|o| o.hash != 0);
    if view.fresh {
        memory.seen_at = now;
        memory.attainment.count(now, settings.window.0, due, late);
    }
    note_intervals(memory, intervals, commits);
    forget_partitions(memory, &seen_sources);
    if usize::try_from(known).unwrap_or(0) < memory.partitions.len() || known == 0 {
        view.gap.get_or_insert_with(|| "not every partition was read".to_owned());
    }
    view.still = known > 0 && still_read > 0.1;
    doubt::workers(memory, &mut view);
    doubt::offers(memory, observation, counts, &mut view);
    if let Some(newest) = newest {
        memory.arrivals.note(memory.partitions.tracks_mut(), newest);
    }
    view.rates = rates(memory);
    view.sticky = observation
        .groups
        .iter()
        .any(|g| g.assignor.as_deref().is_some_and(|a| a.to_ascii_lowercase().contains("sticky")));
    build_stairs(memory, observation);
    let still = (6.0 * memory.interval).max(60.0);
    let busy = now - memory.busy_at < (3.0 * memory.interval).max(10.0);
    view.idle =
        view.gap.is_none() && !view.waiting && !busy && still_for >= still && now - memory.watching_since >= still;
    view
}

/// What holds for all partitions of a look.
#[derive(Debug, Clone, Copy)]
struct Moment {
    now: f64,
    /// A partition that moved less than so many seconds ago may still stand.
    settle: f64,
    /// Some partition was processed lately, so that one that stands still stands alone.
    moves: bool,
}

/// Adds one partition to the view. Answers the records that fell due and were late, and how many had the latency seen.
fn add(view: &mut View, track: &mut Track, seen: &Seen, id: &str, moment: Moment) -> ((f64, f64), f64) {
    let waits = (num::of_i64(seen.end) - seen.guess).max(0.0);
    let overdue = seen.due.map(|due| (num::of_i64(due) - seen.guess).max(0.0));
    let moving = moment.now - track.moved_at <= moment.settle;
    // A record that cannot be processed is no reason for more workers.
    // One that was moved lately may still be on its way.
    let stands = moment.now - track.advanced_at.max(track.moved_at + STUCK);
    let stuck = seen.waits && !moving && stands >= STUCK && moment.moves;
    if stuck {
        view.stuck.push(id.to_owned());
    } else {
        view.calm_age = view.calm_age.max(seen.age_high);
        view.calm_overdue += overdue.unwrap_or(0.0);
    }
    let settled = !moving && !stuck;
    if settled {
        view.settled_lag += waits;
        view.settled_age = view.settled_age.max(seen.age);
    }
    view.waiting |= seen.waits;
    view.lag = Some(view.lag.unwrap_or(0.0) + waits);
    view.age = Some(view.age.unwrap_or(0.0).max(seen.age));
    view.overdue = if view.by_owner.is_empty() { overdue } else { view.overdue.zip(overdue).map(|(a, b)| a + b) };
    view.pause = seen.pause.map(|pause| view.pause.unwrap_or(0.0).max(pause)).or(view.pause);
    if track.guess.is_finite() {
        view.progress += seen.guess - track.guess;
    }
    let (due, late) = account(track, seen);
    add_owner(
        &mut view.by_owner,
        track,
        (waits, if settled { waits } else { 0.0 }),
        if stuck { 0.0 } else { seen.age },
    );
    ((due, late), seen.progress.max(if waits >= 1.0 { due } else { 0.0 }))
}

/// Adds a partition to its owner's.
fn add_owner(owners: &mut Vec<Owner>, track: &Track, lag: (f64, f64), age: f64) {
    let index = owners.iter().position(|o| o.hash == track.owner).unwrap_or_else(|| {
        owners.push(Owner { hash: track.owner, ..Owner::default() });
        owners.len() - 1
    });
    if let Some(owner) = owners.get_mut(index) {
        owner.count += 1.0;
        owner.weight += f64::from(track.weight);
        owner.top = owner.top.max(f64::from(track.weight));
        owner.lag += lag.0;
        owner.settled_lag += lag.1;
        owner.age = owner.age.max(age);
    }
}

/// Smooths the times between samples and between commits; each as (sum, count) of this look.
fn note_intervals(memory: &mut Memory, samples: (f64, f64), commits: (f64, f64)) {
    if samples.1 > 0.0 {
        memory.interval += 0.2 * (samples.0 / samples.1 - memory.interval);
    }
    if commits.1 > 0.0 {
        memory.commit_interval += 0.1 * (commits.0 / commits.1 - memory.commit_interval);
    }
}

/// Records of one partition that fell due since the last look, and that were late.
fn account(track: &mut Track, seen: &Seen) -> (f64, f64) {
    let before = if track.guess.is_finite() { track.guess } else { seen.guess };
    track.guess = seen.guess;
    let Some(edge) = seen.due else { return (0.0, 0.0) };
    let counted = track.due.unwrap_or(edge);
    track.due = Some(edge.max(counted));
    let due = num::diff(edge, counted).max(0.0);
    (due, attainment::late_between((num::of_i64(counted), num::of_i64(edge)), (before, seen.guess)).min(due))
}

fn source_index(memory: &mut Memory, name: &str) -> u16 {
    let index = memory.sources.iter().position(|s| &**s == name).unwrap_or_else(|| {
        // Sixteen sources are allowed; a stream of new names must not fill the memory.
        if memory.sources.len() < 64 {
            memory.sources.push(name.into());
        }
        memory.sources.len() - 1
    });
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// Partitions that their source no longer names are gone after a while. A source that says nothing says nothing.
fn forget_partitions(memory: &mut Memory, seen_sources: &BTreeSet<u16>) {
    let (look, now) = (memory.looks, memory.now);
    memory.partitions.retain(|track| {
        if track.look != look && seen_sources.contains(&track.source) {
            if track.missing == 0 {
                track.missing_since = now;
            }
            track.missing = track.missing.saturating_add(1);
        }
        track.missing < GONE_LOOKS || now - track.missing_since < GONE_SECONDS
    });
}

/// Arrivals of all partitions.
fn rates(memory: &Memory) -> Option<Rates> {
    let arrivals = &memory.arrivals;
    let moment_window = memory.interval.clamp(0.5, FRESH);
    let short_window = (3.0 * memory.interval).max(6.0);
    let half_minute = 30.0_f64.max(6.0 * memory.interval);
    let watched = arrivals.span();
    let between = |from, to| arrivals.rate_between(from, to);
    let recent = if watched >= 30.0 { (between(15.0, 0.0)? - between(30.0, 15.0)?) / 15.0 } else { 0.0 };
    Some(Rates {
        moment: arrivals.rate(moment_window)?,
        short: arrivals.rate(short_window)?,
        half_minute: arrivals.rate(half_minute)?,
        moment_window,
        short_window,
        recent,
    })
}

/// Builds the staircase anew if what it is made of has changed.
fn build_stairs(memory: &mut Memory, observation: &Observation) {
    let range = |g: &super::Group| Assignor::parse(g.assignor.as_deref()) == Assignor::Range;
    let bits = observation.groups.iter().take(32).fold(1_u64, |bits, g| (bits << 1) | u64::from(range(g)));
    let of = (memory.partitions.version ^ (bits << 32), memory.weighed);
    if of != memory.stairs_of {
        memory.stairs_of = of;
        memory.stairs = Arc::new(Staircase::build(&deals(memory, observation), memory.hot));
    }
}

/// Partitions in the order of their topics, with their weights; equal weights until all are known.
fn deals(memory: &Memory, observation: &Observation) -> Vec<Deal> {
    let assignor = |source: u16| {
        let name = memory.sources.get(usize::from(source)).map_or("", |n| n);
        let of_source = |g: &&super::Group| g.source.as_deref().unwrap_or_default() == name;
        let group = observation.groups.iter().find(of_source).or_else(|| observation.groups.first());
        Assignor::parse(group.and_then(|g| g.assignor.as_deref()))
    };
    let known = memory.partitions.iter().all(|(_, t)| t.weight > 0.0);
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
