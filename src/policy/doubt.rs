//! Why nobody may leave although a source answers: what is missing, or cannot be so.

use super::learning;
use super::look::{FRESH, View};
use super::memory::Memory;
use super::num;
use super::observation::Observation;
use super::track::Seen;

/// So long after it was last there, an optional signal is taken as not offered.
const OFFER: f64 = 120.0;

/// What one partition says against itself.
pub(crate) fn partition(view: &mut View, seen: &Seen, id: &str) {
    if let Some(ahead) = seen.ahead.filter(|_| !seen.restarted) {
        let told = || format!("{id} is said to be processed {ahead:.0} records beyond its end");
        view.contradiction.get_or_insert_with(told);
    }
    if seen.doubtful {
        view.gap.get_or_insert_with(|| format!("{id} contradicts itself"));
    }
}

/// What the workers say against the source.
pub(crate) fn workers(memory: &Memory, view: &mut View) {
    if learning::untold(memory) {
        let told = "the workers process more than the source says there is; its offsets are old or wrong";
        view.contradiction.get_or_insert_with(|| told.to_owned());
    } else if learning::unrested(memory) {
        let told = "the source says that nothing is left, and the workers have processed records until now";
        view.gap.get_or_insert_with(|| told.to_owned());
    }
    if let Some(contradiction) = &view.contradiction {
        view.gap = Some(contradiction.clone());
    }
}

/// Optional signals that were there and are not.
pub(crate) fn offers(memory: &mut Memory, observation: &Observation, mut counts: [u32; 8], view: &mut View) {
    let now = memory.now;
    let fresh = |at: Option<super::units::Seconds>| at.is_some_and(|at| (-5.0..=FRESH).contains(&(now - at.0)));
    let working = observation.workers.iter().filter(|w| w.terminating != Some(true));
    let counters = num::u32_of(working.clone().filter(|w| w.processed.is_some() && fresh(w.at)).count());
    let clocks = num::u32_of(working.filter(|w| w.busy_seconds.is_some() && fresh(w.at)).count());
    let ready = observation.replicas.ready;
    // Fewer workers have fewer counters: what counts is whether all that are ready say something.
    let all = |count: u32| u32::from(count > 0 && ready.is_some_and(|ready| count >= ready));
    counts[3] = all(counters);
    counts[4] = all(clocks);
    counts[5] = u32::from(ready.is_some());
    counts[6] = u32::from(observation.replicas.existing.is_some());
    counts[7] = num::u32_of(observation.groups.iter().filter(|g| g.state.is_some()).count());
    let names = [
        "positions",
        "due offsets",
        "owners",
        "workers' counters",
        "workers' busy clocks",
        "ready workers",
        "existing workers",
        "group states",
    ];
    for ((offer, count), name) in memory.offered.kinds.iter_mut().zip(counts).zip(names) {
        if count >= offer.0 || now - offer.1 > OFFER {
            *offer = (count, now);
        } else {
            view.gap.get_or_insert_with(|| format!("some {name} are missing"));
        }
    }
    let settled = |state: &str| ["stable", "empty"].iter().any(|s| state.eq_ignore_ascii_case(s));
    if observation.groups.iter().filter_map(|g| g.state.as_deref()).any(|state| !settled(state)) {
        view.gap.get_or_insert_with(|| "the group is rebalancing".to_owned());
        view.unsettled = true;
    }
    view.unsettled |= ready.zip(observation.replicas.desired).is_some_and(|(ready, desired)| ready < desired);
}
