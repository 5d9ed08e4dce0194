//! Law 1. **Total.** For any floats and any missing parts there is no panic and no NaN or infinity in the decision, and
//! floor and ceiling are respected.

use proptest::prelude::*;

use super::cases;
use super::inputs::{any_observation, any_settings};
use crate::plant::settings;
use crate::{Memory, Mode, decide};

proptest! {
    #![proptest_config(cases())]

    /// Law 1.
    #[test]
    fn decide_is_total(
        observations in proptest::collection::vec(any_observation(), 1..8),
        settings in any_settings(),
    ) {
        let mut memory = Memory::default();
        for observation in &observations {
            let decision = decide(&mut memory, observation, &settings);
            let words = format!("{decision:?}");
            prop_assert!(!words.contains("NaN") && !words.contains("inf)") && !words.contains("inf,"), "{words}");
            let ceiling = settings.max_replicas.min(observation.limits.granted.unwrap_or(u32::MAX));
            let floor = settings.min_replicas.min(ceiling);
            let (Some(desired), Some(current)) = (decision.desired, observation.replicas.desired) else {
                prop_assert_eq!(observation.replicas.desired, None);
                continue;
            };
            if settings.suspend {
                prop_assert_eq!(desired, 0);
            } else if let Some(pinned) = settings.pinned {
                prop_assert_eq!(desired, pinned);
            } else if settings.mode == Mode::Recommend {
                prop_assert_eq!(desired, current);
            } else {
                prop_assert!((floor..=ceiling).contains(&desired), "{desired} outside {floor}..={ceiling}: {words}");
            }
            if let Some(recommended) = decision.recommended {
                prop_assert!((floor..=ceiling).contains(&recommended));
            }
        }
    }

    /// Law 1.
    #[test]
    fn same_inputs_give_the_same_decision(observations in proptest::collection::vec(any_observation(), 1..6)) {
        let (mut one, mut two) = (Memory::default(), Memory::default());
        for observation in &observations {
            let words = |memory: &mut Memory| format!("{:?}", decide(memory, observation, &settings()));
            prop_assert_eq!(words(&mut one), words(&mut two));
        }
    }
}
