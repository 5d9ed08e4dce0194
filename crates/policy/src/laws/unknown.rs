//! Law 2. **Unknown is not zero.** A signal that goes missing or stale removes no worker.

use proptest::prelude::*;

use super::cases;
use super::moments::{degrade, fall_behind, moment};
use crate::{Observation, decide};

proptest! {
    #![proptest_config(cases())]

    /// Law 2.
    #[test]
    fn missing_signals_remove_no_worker(plant in moment(), what in any::<u32>(), one in any::<u32>(), behind in 0..3000_i64) {
        let mut full = plant.observation();
        // Some partitions are behind; a core that cannot see them must not conclude that all is well.
        fall_behind(&mut full, 5, behind);
        let what = what & one;
        let mut less = full.clone();
        degrade(&mut less, what, plant.now);
        let desired = decide(&mut plant.memory.clone(), &full, &plant.settings).desired.unwrap();
        let without = decide(&mut plant.memory.clone(), &less, &plant.settings);
        prop_assert!(without.desired.unwrap() >= desired.min(plant.desired), "{desired} became {:?}", without);
    }

    /// Law 2.
    #[test]
    fn need_does_not_fall_without_worker_metrics(plant in moment()) {
        let full = plant.observation();
        let less = Observation { workers: vec![], ..full.clone() };
        let need = decide(&mut plant.memory.clone(), &full, &plant.settings).explain.need;
        prop_assert!(decide(&mut plant.memory.clone(), &less, &plant.settings).explain.need >= need);
    }
}
