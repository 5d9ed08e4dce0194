//! Law 2. **Unknown is not zero.** Whatever goes missing or stale takes no worker away.

use proptest::prelude::*;

use super::cases;
use super::moments::{degrade, fall_behind, moment};
use crate::{Observation, decide};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn law_02_unknown_is_not_zero(plant in moment(), what in any::<u32>(), one in any::<u32>(), behind in 0..3000_i64) {
        let mut full = plant.observation();
        // Some partitions are behind: who cannot see them must not think that all is well.
        fall_behind(&mut full, 5, behind);
        let what = what & one;
        let mut less = full.clone();
        degrade(&mut less, what, plant.now);
        let desired = decide(&mut plant.memory.clone(), &full, &plant.settings).desired.unwrap();
        let without = decide(&mut plant.memory.clone(), &less, &plant.settings);
        prop_assert!(without.desired.unwrap() >= desired.min(plant.desired), "{desired} became {:?}", without);
    }

    #[test]
    fn law_02_need_stands_without_workers(plant in moment()) {
        let full = plant.observation();
        let less = Observation { workers: vec![], ..full.clone() };
        let need = decide(&mut plant.memory.clone(), &full, &plant.settings).explain.need;
        prop_assert!(decide(&mut plant.memory.clone(), &less, &plant.settings).explain.need >= need);
    }
}
