//! Law 6. **One at a time.** Until a change has taken effect, only demand beyond its plan counts.

use proptest::prelude::*;

use super::cases;
use super::moments::{fall_behind, moment};
use crate::model::flight::Flight;
use crate::{Action, decide};

proptest! {
    #![proptest_config(cases())]

    /// Law 6.
    #[test]
    fn one_change_at_a_time(plant in moment(), demand in 0.0..20_000.0_f64, backlog in 0..500_000_i64) {
        let mut memory = plant.memory.clone();
        memory.changes.flight = Some(Flight::new(plant.now - 1.0, 1, plant.desired, demand));
        let mut observation = plant.observation();
        observation.replicas.ready = Some(plant.desired.saturating_sub(1));
        fall_behind(&mut observation, 0, backlog);
        let decision = decide(&mut memory, &observation, &plant.settings);
        if decision.action == Action::Up && plant.desired > 0 {
            prop_assert!(decision.explain.demand.unwrap() > demand, "{decision:?}");
        }
        if plant.desired > 0 { prop_assert_ne!(decision.action, Action::Down); }
    }
}
