//! Rebuilds the staircase when partitions, their weights or their assignor change.

use std::sync::Arc;

use super::super::contract::observation::{Group, Observation};
use super::super::model::memory::Memory;
use super::super::model::staircase::{Assignor, Deal, Staircase};

/// Rebuilds the staircase if its inputs have changed.
pub(crate) fn rebuild(memory: &mut Memory, observation: &Observation) {
    let range = |g: &Group| Assignor::parse(g.assignor.as_deref()) == Assignor::Range;
    let bits = observation.groups.iter().take(32).fold(1_u64, |bits, g| (bits << 1) | u64::from(range(g)));
    let from = (memory.partitions.version ^ (bits << 32), memory.stairs.weights_version);
    if from != memory.stairs.built_from {
        memory.stairs.built_from = from;
        memory.stairs.steps = Arc::new(Staircase::build(&deals(memory, observation)));
    }
}

/// Returns the partitions in the order of their topics, with their weights; the weights are equal until all are known.
fn deals(memory: &Memory, observation: &Observation) -> Vec<Deal> {
    let assignor = |source: u16| {
        let name = memory.sources.get(usize::from(source)).map_or("", |n| n);
        let same_source = |g: &&Group| g.source.as_deref().unwrap_or_default() == name;
        let group = observation.groups.iter().find(same_source).or_else(|| observation.groups.first());
        Assignor::parse(group.and_then(|g| g.assignor.as_deref()))
    };
    // A partition without arrivals has a weight of zero, and during the first minute all weights are zero.
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
