//! Law 4. **Idle is proven, not assumed.** Counters that stand still while the log grows are a stall; zeros are missing
//! data.

use proptest::prelude::*;

use super::cases;
use super::moments::moment;
use crate::{Action, Reason, Settings, decide};
use sluice_base::units::Seconds;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn law_04_idle_is_proven_not_assumed(plant in moment(), looks in 1..40_u32, stand_still in any::<bool>()) {
        // The log grows; counters stand still, or are zero for lack of data.
        let mut memory = plant.memory.clone();
        let mut observation = plant.observation();
        for look in 0..looks {
            observation.at = Seconds(plant.now + 2.0 * f64::from(look));
            for partition in &mut observation.partitions {
                partition.end = partition.end.map(|e| e + 10);
            }
            for worker in &mut observation.workers {
                worker.at = Some(observation.at);
                if !stand_still { worker.processed = worker.processed.map(|_| 0.0); }
            }
            let decision = decide(&mut memory, &observation, &Settings { min_replicas: 0, ..plant.settings.clone() });
            prop_assert!(decision.reason != Reason::Idle || plant.desired == 0);
            // Two commit intervals: sooner, a commit may just not have come yet.
            if look > 5 {
                prop_assert!(decision.action != Action::Down || decision.reason == Reason::Useless, "{}", decision.message);
            }
        }
    }
}
