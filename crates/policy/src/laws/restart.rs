//! Law 9. **Restart.** The first decision removes no worker, with or without a memory; if the replica count is not
//! known it is Hold.

use proptest::prelude::*;

use super::cases;
use super::inputs::any_float;
use super::moments::moment;
use crate::{Action, Confidence, History, Memory, Model, decide};
use sluice_base::units::Seconds;

proptest! {
    #![proptest_config(cases())]

    /// Law 9.
    #[test]
    fn first_decision_removes_no_worker(plant in moment(), capacity in any_float(), start_up in any_float(), known in any::<bool>(), late in any_float()) {
        let model = Model {
            capacity_per_worker: Some(capacity), start_up_seconds: Some(start_up), handover_seconds: Some(start_up),
            latency_floor_seconds: Some(capacity), confidence: Confidence::High, commit_interval_seconds: Some(start_up), offsets_per_record: Some(capacity),
            template: None,
        };
        let mut recalled = Memory::with_prior(model.clone());
        recalled.recall_history(&History {
            latency: plant.settings.latency, percentile: plant.settings.percentile,
            since: Seconds(plant.now - 1800.0), part: Seconds(180.0), records: vec![(capacity, late); 10],
        });
        for memory in [Memory::default(), Memory::with_prior(model), recalled] {
            let mut memory = memory;
            let mut observation = plant.observation();
            if !known { observation.replicas.desired = None; }
            let decision = decide(&mut memory, &observation, &plant.settings);
            if known {
                prop_assert!(decision.desired >= Some(plant.desired.min(plant.settings.max_replicas)), "{decision:?}");
            } else {
                prop_assert_eq!((decision.desired, decision.action), (None, Action::Hold));
            }
        }
    }
}
