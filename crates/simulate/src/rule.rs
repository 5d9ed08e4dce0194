//! Rules that set the number of workers.

use sluice_base::units::Seconds;
use sluice_policy::{Decision, Memory, Observation, Settings, decide};

use super::scenario::Scenario;

/// A rule that sets the number of workers: Sluice or a peer.
pub trait Rule {
    /// Its name, for tables.
    fn name(&self) -> String;

    /// Seconds between two looks; whole seconds, rounded up.
    fn every(&self) -> f64;

    /// One look; `None` leaves the number as it is.
    fn look(&mut self, observation: &Observation) -> Option<u32>;

    /// Its process was restarted: what it keeps in memory only is gone.
    fn restart(&mut self) {}

    /// Workers to begin with, if it cares.
    fn start(&self) -> Option<u32> {
        None
    }
}

/// Sluice's own decision core.
#[derive(Debug, Clone)]
pub struct Sluice {
    /// What it has learned.
    pub memory: Memory,
    /// What it is asked for.
    pub settings: Settings,
    /// Its last decision.
    pub last: Option<Decision>,
}

impl Sluice {
    /// With nothing learned.
    pub fn new(settings: Settings) -> Self {
        Self { memory: Memory::default(), settings, last: None }
    }

    /// With nothing learned, asked for what the scenario asks for; all else as a `StreamJob` has it by default.
    pub fn of(scenario: &Scenario) -> Self {
        let workers = (scenario.min_workers, scenario.max_workers);
        Self::new(Settings::for_objective(Seconds(scenario.latency), scenario.percentile, workers))
    }
}

impl Rule for Sluice {
    fn name(&self) -> String {
        "sluice".to_owned()
    }

    /// As the operator samples, but no oftener than the plant steps.
    fn every(&self) -> f64 {
        (self.settings.latency.0 / 5.0).clamp(0.5, 5.0).max(1.0)
    }

    fn look(&mut self, observation: &Observation) -> Option<u32> {
        let decision = decide(&mut self.memory, observation, &self.settings);
        let desired = decision.desired;
        self.last = Some(decision);
        desired
    }

    /// What is in the job's status outlives the operator: the model, and what was counted over the objective's window.
    fn restart(&mut self) {
        let counted = self.memory.history(&self.settings);
        self.memory = Memory::with_prior(self.memory.model());
        if let Some(counted) = counted {
            self.memory.recall_history(&counted);
        }
        self.last = None;
    }
}

/// Always the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(pub u32);

impl Rule for Fixed {
    fn name(&self) -> String {
        format!("fixed {}", self.0)
    }

    fn every(&self) -> f64 {
        3600.0
    }

    fn look(&mut self, _: &Observation) -> Option<u32> {
        Some(self.0)
    }

    fn start(&self) -> Option<u32> {
        Some(self.0)
    }
}
