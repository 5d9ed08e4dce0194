//! Plausible inputs: moments from the life of a job.

use std::sync::LazyLock;

use proptest::prelude::*;

use crate::Observation;
use crate::model::bottleneck::Bottleneck;
use crate::model::capacity::Capacity;
use crate::plant::{Plant, Reported};
use sluice_base::units::Seconds;

pub(super) static MOMENTS: LazyLock<Vec<Plant>> = LazyLock::new(|| {
    let mut moments = Vec::new();
    for (reported, seed) in [(Reported::Everything, 0), (Reported::CommitsOnly, 1)] {
        let mut plant = Plant::new(12, 3);
        plant.reported = reported;
        for slice in 0..60 {
            // A calm load, three times the load, less, a little, none.
            let load = match slice {
                0..10 => 2300.0,
                10..20 => 6500.0,
                20..30 => 3000.0,
                30..50 => 900.0,
                _ => 0.0,
            };
            plant.run(f64::from(7 + (slice + seed) % 3), 2.0, |_| load);
            let mut moment = plant.clone();
            // One step further, not yet observed.
            moment.run(1.75, 10_000.0, |_| load);
            moment.now += 0.25;
            moments.push(moment);
        }
    }
    moments
});

pub(super) fn moment() -> impl Strategy<Value = Plant> {
    (0..120_usize, 0..3_u32).prop_map(|(index, more)| {
        let mut plant = MOMENTS[index % MOMENTS.len()].clone();
        // Sometimes there are too many workers, so that a scale-down is near.
        plant.memory.changes.desired = plant.memory.changes.desired.map(|d| d + more);
        plant.desired += more;
        if more > 0 {
            plant.memory.changes.flight = None;
        }
        plant
    })
}

/// Makes signals missing or stale, one for each bit of `what`.
pub(super) fn degrade(observation: &mut Observation, what: u32, now: f64) {
    let on = |bit: u32| what & (1 << bit) != 0;
    if on(0) {
        observation.workers.clear();
    }
    if on(1) {
        observation.partitions.clear();
    }
    if on(2) {
        observation.partitions.truncate(5);
    }
    if on(3) {
        observation.groups.clear();
    }
    if on(4) {
        observation.replicas.ready = None;
    }
    if on(5) {
        observation.replicas.existing = None;
    }
    for (index, partition) in observation.partitions.iter_mut().enumerate() {
        let some = on(15) || index % 3 == 0;
        if on(6) && some {
            partition.position = None;
        }
        if on(7) && some {
            partition.committed = None;
        }
        if on(8) && some {
            partition.end = None;
        }
        if on(9) && some {
            partition.owner = None;
        }
        if on(10) && some {
            partition.at = Some(Seconds(now - 120.0));
        }
    }
    for worker in &mut observation.workers {
        if on(11) {
            worker.processed = None;
        }
        if on(12) {
            worker.busy_seconds = None;
        }
        if on(13) {
            worker.at = Some(Seconds(now - 120.0));
        }
        if on(14) {
            worker.ready = None;
        }
    }
}

/// Adds this many waiting records to each partition from the `first` on.
pub(super) fn fall_behind(observation: &mut Observation, first: usize, records: i64) {
    for partition in observation.partitions.iter_mut().skip(first) {
        let lower = |offset: Option<i64>| offset.map(|o| (o - records).max(0));
        partition.position = lower(partition.position);
        partition.committed = lower(partition.committed);
    }
}

/// Generates a moment of a job whose capacity is not known, or known only as a lower bound.
pub(super) fn ignorant() -> impl Strategy<Value = Plant> {
    (moment(), proptest::option::of(50.0..2000.0_f64)).prop_map(|(mut plant, rate)| {
        plant.memory.capacity = seen(rate);
        plant
    })
}

/// Returns a capacity of which only a lower bound is known, or nothing.
pub(super) fn seen(rate: Option<f64>) -> Capacity {
    let mut capacity = Capacity::default();
    if let Some(rate) = rate {
        capacity.record_least(rate, 0.0);
    }
    capacity
}

/// Generates a moment at which fewer workers have been enough for long enough: only the records' age and the error
/// budget keep the others.
pub(super) fn ripe() -> impl Strategy<Value = Plant> {
    (moment(), 0..4_u32).prop_map(|(plant, more)| ripen(plant, more))
}

pub(super) fn ripen(mut plant: Plant, more: u32) -> Plant {
    let now = plant.now;
    plant.desired += more;
    let memory = &mut plant.memory;
    memory.changes.desired = Some(plant.desired);
    memory.changes.flight = None;
    memory.bottleneck = Bottleneck::default();
    memory.changes.rescales.clear();
    memory.clock.watching_since = now - 1e5;
    memory.changes.fewer_since = Some((now - 1e5, 1));
    plant
}
