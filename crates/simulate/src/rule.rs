//! Rules that set the replica count.

use sluice_base::units::Seconds;
use sluice_policy::{Decision, Memory, Observation, Settings, decide};

use super::scenario::Scenario;

/// A rule that sets the replica count: Sluice or a peer.
pub trait Rule {
    /// Returns the rule's name, for tables.
    fn name(&self) -> String;

    /// Returns the time between two decisions, seconds; rounded up to whole seconds.
    fn every(&self) -> f64;

    /// Decides on an observation; `None` leaves the replica count as it is.
    fn decide(&mut self, observation: &Observation) -> Option<u32>;

    /// Restarts the rule's process: everything that it keeps in memory only is lost.
    fn restart(&mut self) {}

    /// Returns the workers to begin with, if the rule states them.
    fn start(&self) -> Option<u32> {
        None
    }
}

/// Sluice's own decision core.
#[derive(Debug, Clone)]
pub struct Sluice {
    /// Everything that it has learned.
    pub memory: Memory,
    /// The settings of the job.
    pub settings: Settings,
    /// The last decision.
    pub last: Option<Decision>,
}

impl Sluice {
    /// Returns a core that has learned nothing.
    pub fn new(settings: Settings) -> Self {
        Self { memory: Memory::default(), settings, last: None }
    }

    /// Returns a core that has learned nothing, with the scenario's objective and the defaults of a `StreamJob` for all
    /// else.
    pub fn for_scenario(scenario: &Scenario) -> Self {
        let workers = (scenario.min_workers, scenario.max_workers);
        Self::new(Settings::for_objective(Seconds(scenario.latency), scenario.percentile, workers))
    }
}

impl Rule for Sluice {
    fn name(&self) -> String {
        "sluice".to_owned()
    }

    /// The operator's sampling interval, but not shorter than a step of the plant.
    fn every(&self) -> f64 {
        (self.settings.latency.0 / 5.0).clamp(0.5, 5.0).max(1.0)
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        let decision = decide(&mut self.memory, observation, &self.settings);
        let desired = decision.desired;
        self.last = Some(decision);
        desired
    }

    /// The job's status survives a restart of the operator: the model, and the counts over the objective's window.
    fn restart(&mut self) {
        let counted = self.memory.history(&self.settings);
        self.memory = Memory::with_prior(self.memory.model());
        if let Some(counted) = counted {
            self.memory.recall_history(&counted);
        }
        self.last = None;
    }
}

/// A constant replica count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(pub u32);

impl Rule for Fixed {
    fn name(&self) -> String {
        format!("fixed {}", self.0)
    }

    fn every(&self) -> f64 {
        3600.0
    }

    fn decide(&mut self, _: &Observation) -> Option<u32> {
        Some(self.0)
    }

    fn start(&self) -> Option<u32> {
        Some(self.0)
    }
}
