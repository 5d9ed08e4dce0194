//! Law 7. **Useful.** A decision never chooses a replica count that handles no more than a smaller one.

use proptest::prelude::*;

use super::cases;
use super::moments::moment;
use crate::plant::Plant;
use crate::{Action, BoundBy};

proptest! {
    #![proptest_config(cases())]

    /// Law 7.
    #[test]
    fn chosen_counts_are_useful(plant in moment(), partitions in 1..30_usize, load in 100.0..40_000.0_f64) {
        let mut other = Plant::new(partitions, plant.desired.clamp(1, 4));
        other.run(30.0, 2.0, |_| load);
        for (_, from, decision) in &other.changes {
            let desired = decision.desired.unwrap() as usize;
            prop_assert!(desired <= partitions || desired <= *from as usize);
            if decision.bound_by == BoundBy::Objective && decision.action == Action::Up {
                let stair = |n: usize| partitions.div_ceil(n.max(1));
                prop_assert!(desired == 1 || stair(desired - 1) > stair(desired), "{desired} of {partitions}");
            }
        }
    }
}
