//! Law 4. **Idle is proven, not assumed.** Counters that do not increase while the log grows are a stall, and zeros are
//! missing data.

use proptest::prelude::*;

use super::cases;
use super::moments::moment;
use crate::{Action, Reason, Settings, decide};
use sluice_base::units::Seconds;

proptest! {
    #![proptest_config(cases())]

    /// Law 4.
    #[test]
    fn idle_is_proven_not_assumed(plant in moment(), observations in 1..40_u32, stand_still in any::<bool>()) {
        // The log grows, while counters do not increase or are zero for lack of data.
        let mut memory = plant.memory.clone();
        let mut observation = plant.observation();
        for tick in 0..observations {
            observation.at = Seconds(plant.now + 2.0 * f64::from(tick));
            for partition in &mut observation.partitions {
                partition.end = partition.end.map(|e| e + 10);
            }
            for worker in &mut observation.workers {
                worker.at = Some(observation.at);
                if !stand_still { worker.processed = worker.processed.map(|_| 0.0); }
            }
            let decision = decide(&mut memory, &observation, &Settings { min_replicas: 0, ..plant.settings.clone() });
            prop_assert!(decision.reason != Reason::Idle || plant.desired == 0);
            // After two commit intervals; earlier, a commit may just not have come yet.
            if tick > 5 {
                prop_assert!(decision.action != Action::Down || decision.reason == Reason::Useless, "{}", decision.message);
            }
        }
    }
}
