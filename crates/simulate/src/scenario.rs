//! The scenario of a run: partitions, workers, how they start, move and report, and the faults.

use super::fault::Faults;
use super::load::Load;
use super::random::Random;

/// How partitions move when the replica count changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Handover {
    /// Cooperative sticky: the partitions that move stop for this time, seconds.
    Handoff(f64),
    /// Every partition stops for this time at each change, seconds (like Flink).
    Restart(f64),
}

/// How the arrivals of one second differ from the load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Noise {
    /// They do not differ.
    None,
    /// By a factor that is uniform in 1 - x to 1 + x, the same for all partitions.
    Uniform(f64),
    /// Like independent records: by the square root of their number, each partition independently.
    Poisson,
}

/// Everything about a run except its load and its rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Seed of all random numbers.
    pub seed: u64,
    /// The objective's latency, seconds; rounded up to whole seconds.
    pub latency: f64,
    /// Share of records that must meet the latency.
    pub percentile: f64,
    /// Number of partitions, at most 65 000.
    pub partitions: usize,
    /// Spread of the partitions' weights (sigma of a lognormal distribution); 0: even. 0.5 gives about the measured hot
    /// worker.
    pub weight_sigma: f64,
    /// Share of all records that goes to partition 0.
    pub hot_share: Option<f64>,
    /// Capacity of a worker, records per second.
    pub capacity: f64,
    /// Standard deviation of the workers' speeds, as a share (burstable machines: 0.115).
    pub speed_spread: f64,
    /// Standard deviation of one worker's speed over time, as a share.
    pub speed_noise: f64,
    /// Correlation time of these variations, seconds.
    pub speed_memory: f64,
    /// Cost of contention: each of n workers processes 1/(1 + contention (n - 1)) of what it could alone. Measured:
    /// 0.031.
    pub contention: f64,
    /// Fewest workers.
    pub min_workers: u32,
    /// Most workers.
    pub max_workers: u32,
    /// Workers at the beginning; `None`: as the rule states, or as many as the first five minutes' load keeps 80 % busy.
    pub start_workers: Option<u32>,
    /// Median time from a pod's creation to its readiness, seconds.
    pub start_up: f64,
    /// Spread of the start-up (sigma of a lognormal distribution).
    pub start_up_spread: f64,
    /// Time for which a removed pod is still billed, seconds.
    pub removal: f64,
    /// How partitions move.
    pub handover: Handover,
    /// Time for which the partitions of a dead worker stop, seconds: 7 (classic protocol), 41 (KIP-848).
    pub crash_handover: f64,
    /// Time between two commits of a worker, seconds; the phase is random. A worker that dies loses what it did since.
    pub commit_every: f64,
    /// Whether the workers report their position; if not, only commits are known.
    pub position: bool,
    /// How arrivals differ from the load.
    pub noise: Noise,
    /// The faults.
    pub faults: Faults,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            latency: 10.0,
            percentile: 0.99,
            partitions: 120,
            weight_sigma: 0.3,
            hot_share: None,
            capacity: 1000.0,
            speed_spread: 0.04,
            speed_noise: 0.05,
            speed_memory: 50.0,
            contention: 0.0,
            min_workers: 1,
            max_workers: 40,
            start_workers: None,
            start_up: 20.0,
            start_up_spread: 0.3,
            removal: 5.0,
            handover: Handover::Handoff(5.0),
            crash_handover: 7.0,
            commit_every: 5.0,
            position: true,
            noise: Noise::Uniform(0.1),
            faults: Faults::default(),
        }
    }
}

impl Scenario {
    /// Returns the records that arrive in each second: the load with this seed's noise.
    pub fn arrivals(&self, load: &Load) -> Vec<f64> {
        let mut random = Random::new(self.seed, 1);
        let noisy = |rate: &f32| {
            let rate = f64::from(*rate);
            match self.noise {
                Noise::None => rate,
                Noise::Uniform(width) => rate * (1.0 + width * (2.0 * random.uniform() - 1.0)),
                Noise::Poisson => (rate + rate.sqrt() * random.normal()).max(0.0),
            }
        };
        load.rates().iter().map(noisy).collect()
    }

    /// Returns each partition's share of the records; the shares add up to 1.
    pub fn weights(&self) -> Vec<f64> {
        let mut random = Random::new(self.seed, 2);
        let mut weights: Vec<f64> = (0..self.partitions).map(|_| (self.weight_sigma * random.normal()).exp()).collect();
        if let (Some(share), true) = (self.hot_share, weights.len() > 1) {
            let others: f64 = weights.iter().skip(1).sum();
            weights[0] = others * share / (1.0 - share).max(1e-9);
        }
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / total).collect()
    }

    /// Returns the share of its own capacity that each of n workers reaches.
    pub fn efficiency(&self, workers: usize) -> f64 {
        1.0 / (1.0 + self.contention * workers.saturating_sub(1) as f64)
    }

    /// Returns the objective's latency in whole seconds.
    pub(crate) fn deadline(&self) -> usize {
        (self.latency.ceil() as usize).max(1)
    }
}
