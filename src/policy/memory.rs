//! What the decision core remembers between two looks at a job.

use super::{Decision, Model, Observation, Settings};

/// What was learned about one job. Nothing else survives between two calls of [`decide`].
#[derive(Debug, Clone, Default)]
pub struct Memory {
    model: Model,
}

impl Memory {
    /// A memory that knows what an earlier run learned. It is a prior: used to plan with, replaced by what is observed.
    pub fn with_prior(model: Model) -> Self {
        Self { model }
    }

    /// What is known about the workers now.
    pub fn model(&self) -> Model {
        self.model.clone()
    }
}

/// Pure. `memory` carries what was learned; nothing else survives between calls.
pub fn decide(memory: &mut Memory, observation: &Observation, settings: &Settings) -> Decision {
    use super::{Action, BoundBy, Explain, Reason, WithinTarget};
    let _ = settings;
    Decision {
        at: observation.at,
        desired: observation.replicas.desired,
        recommended: observation.replicas.desired,
        action: Action::Hold,
        reason: Reason::Learning,
        bound_by: BoundBy::Signal,
        message: "nothing is known yet".to_owned(),
        within_target: WithinTarget::Unknown,
        limited: None,
        explain: Explain { model: memory.model(), ..Explain::default() },
    }
}
