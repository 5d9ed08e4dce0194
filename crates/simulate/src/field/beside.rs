//! Compares Sluice with the peers in the same worlds, each tuned to each world, and with the best fixed number.

use super::run::{Outcome, run_kindly};
use super::world::World;
use crate::peers::{Hpa, Keda, Limits};
use crate::rule::{Fixed, Rule};

/// Version of the peers' figures: raise it with each change of the plant, of the draws or of the peers, so that they
/// run again.
pub const PLANT_VERSION: u32 = 1;

/// CPU targets of the HPA.
const CPU: [f64; 5] = [0.3, 0.45, 0.6, 0.7, 0.85];
/// Lag thresholds of KEDA, seconds of one worker's work.
const LAG: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];

/// The result of a rule in a world, in the figures that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Share of the records that were late after the warm-up, 0 to 1.
    pub late: f64,
    /// Billed pods times seconds after the warm-up.
    pub worker_seconds: f64,
    /// 99th percentile of the latency, seconds.
    pub p99: f64,
    /// Changes per hour.
    pub changes_per_hour: f64,
}

impl From<&Outcome> for Figures {
    fn from(outcome: &Outcome) -> Self {
        Self {
            late: outcome.late,
            worker_seconds: outcome.worker_seconds,
            p99: outcome.p99,
            changes_per_hour: outcome.changes_per_hour,
        }
    }
}

/// A peer with its setting, and its result: `hpa-70`, `keda-1s`, `fixed-5`.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Name of the peer.
    pub name: String,
    /// Result of the peer.
    pub figures: Figures,
}

impl Peer {
    /// Returns whether it meets the world's objective.
    pub fn meets(&self, world: &World) -> bool {
        self.figures.late <= 1.0 - world.percentile + 1e-9
    }

    /// Returns `hpa`, `keda` or `fixed`.
    pub fn family(&self) -> &str {
        self.name.split_once('-').map_or(&*self.name, |(family, _)| family)
    }
}

/// Runs every peer at every setting, and finds the fewest workers that always meet the objective (the most, if none
/// do).
pub fn peers(world: &World) -> Vec<Peer> {
    let limits =
        Limits { min: world.min_workers.max(1), max: world.max_workers.max(1), partitions: world.partitions as u32 };
    let mut rules: Vec<Box<dyn Rule>> = Vec::new();
    for target in CPU {
        rules.push(Box::new(Hpa::new(target, limits)));
    }
    for seconds in LAG {
        rules.push(Box::new(Keda::new(seconds, world.capacity(), limits)));
    }
    let mut peers: Vec<Peer> = rules.iter_mut().map(|rule| peer(world, rule.as_mut())).collect();
    peers.push(best_fixed(world));
    peers
}

fn peer(world: &World, rule: &mut dyn Rule) -> Peer {
    let name = rule.name();
    let name = if name == "hpa" { "hpa-70".to_owned() } else { name.replace(' ', "-") };
    Peer { name, figures: Figures::from(&run_kindly(world, rule)) }
}

fn best_fixed(world: &World) -> Peer {
    let fixed = |workers: u32| peer(world, &mut Fixed(workers));
    let (mut low, mut high) = (world.min_workers.max(1), world.useful_workers().max(1));
    let mut best = fixed(high);
    if !best.meets(world) {
        return best;
    }
    while low < high {
        let middle = u32::midpoint(low, high);
        let tried = fixed(middle);
        if tried.meets(world) {
            (high, best) = (middle, tried);
        } else {
            low = middle + 1;
        }
    }
    best
}

/// One world with the results of Sluice and the peers.
#[derive(Debug, Clone)]
pub struct Row {
    /// World of the row.
    pub world: World,
    /// Result of Sluice.
    pub sluice: Outcome,
    /// Results of the peers.
    pub peers: Vec<Peer>,
}

impl Row {
    /// Returns the cheapest peer that meets the objective.
    pub fn best(&self) -> Option<&Peer> {
        self.best_of(None)
    }

    /// Returns the same among one family.
    pub fn best_of(&self, family: Option<&str>) -> Option<&Peer> {
        let able = |peer: &&Peer| peer.meets(&self.world) && family.is_none_or(|family| peer.family() == family);
        self.peers.iter().filter(able).min_by(|a, b| a.figures.worker_seconds.total_cmp(&b.figures.worker_seconds))
    }

    /// Returns Sluice's cost divided by that of the cheapest peer that meets the objective.
    pub fn cost_ratio(&self) -> Option<f64> {
        Some(self.sluice.worker_seconds / self.best()?.figures.worker_seconds.max(1.0))
    }

    /// Returns how bad Sluice's result is: lateness beyond the allowance where a peer meets the objective, and cost
    /// beyond that peer's.
    pub fn badness(&self) -> f64 {
        let Some(ratio) = self.cost_ratio() else { return 0.0 };
        let allowed = 1.0 - self.world.percentile;
        let missed = if self.sluice.meets(&self.world) { 0.0 } else { 2.0 + 10.0 * (self.sluice.late - allowed) };
        missed + (ratio - 1.0).max(0.0)
    }
}
