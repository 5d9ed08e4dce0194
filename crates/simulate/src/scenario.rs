//! What a load meets: partitions, workers, how they start, move and tell, and what goes wrong.

use super::fault::Faults;
use super::load::Load;
use super::random::Random;

/// How a job changes its number of workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Handover {
    /// Cooperative sticky: the partitions that move stand still for so many seconds.
    Handoff(f64),
    /// Every partition stands still for so many seconds at each change (Flink-like).
    Restart(f64),
}

/// How the arrivals of one second differ from the load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Noise {
    /// Not at all.
    None,
    /// By a factor, uniform in 1 - x to 1 + x, the same for all partitions.
    Uniform(f64),
    /// As independent records do: by the square root of their number, each partition by itself.
    Poisson,
}

/// Everything about a run but its load and its rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// All chance follows from it.
    pub seed: u64,
    /// The objective: a record is to be processed within so many seconds; whole seconds, rounded up.
    pub latency: f64,
    /// Share of records that must meet it.
    pub percentile: f64,
    /// Partitions, at most 65 000.
    pub partitions: usize,
    /// Spread of the partitions' weights (lognormal); 0: even. 0.5 gives about the measured hot worker.
    pub weight_sigma: f64,
    /// Share of all records that goes to partition 0.
    pub hot_share: Option<f64>,
    /// Records per second that a worker can do.
    pub capacity: f64,
    /// Standard deviation of the workers' speeds, as a share (burstable machines: 0.115).
    pub speed_spread: f64,
    /// Standard deviation of one worker's speed over time, as a share.
    pub speed_noise: f64,
    /// Time over which that forgets, seconds.
    pub speed_memory: f64,
    /// What each further worker costs all of them: a worker of n does 1/(1 + contention (n - 1)). Measured: 0.031.
    pub contention: f64,
    /// Fewest workers.
    pub min_workers: u32,
    /// Most workers.
    pub max_workers: u32,
    /// Workers at the begin; `None`: what the rule says, else four fifths busy with the first five minutes' load.
    pub start_workers: Option<u32>,
    /// Median time from a pod's creation to its being ready, seconds.
    pub start_up: f64,
    /// Spread of that (lognormal).
    pub start_up_spread: f64,
    /// For so many seconds a pod that was removed is still billed.
    pub removal: f64,
    /// How partitions move.
    pub handover: Handover,
    /// For so many seconds the partitions of a dead worker stand still: 7 (classic), 41 (KIP-848).
    pub crash_handover: f64,
    /// Seconds between two commits of a worker; the phase is by chance. A worker that dies loses what came after.
    pub commit_every: f64,
    /// Whether the workers tell their position; if not, commits are all that is known.
    pub position: bool,
    /// How arrivals differ from the load.
    pub noise: Noise,
    /// What goes wrong.
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
    /// The records that arrive in each second: the load with this seed's noise.
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

    /// Each partition's share of the records; they add up to 1.
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

    /// What one of n workers does of what it would do alone.
    pub fn efficiency(&self, workers: usize) -> f64 {
        1.0 / (1.0 + self.contention * workers.saturating_sub(1) as f64)
    }

    /// The objective in whole seconds.
    pub(crate) fn deadline(&self) -> usize {
        (self.latency.ceil() as usize).max(1)
    }
}
