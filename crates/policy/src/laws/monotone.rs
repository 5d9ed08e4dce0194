//! Law 3. **Monotone.** With a fixed memory, the need does not fall when arrivals, the backlog or 1/capacity grow.

use proptest::prelude::*;

use super::cases;
use super::moments::{fall_behind, ignorant, moment, seen};
use crate::plant::{Plant, Reported};
use crate::{Memory, Observation, decide};

/// Returns the workers needed, and the workers that a scale-down must leave.
fn needs(plant: &Plant, memory: &Memory, observation: &Observation) -> (Option<u32>, Option<u32>) {
    let explain = decide(&mut memory.clone(), observation, &plant.settings).explain;
    (explain.need, explain.not_fewer)
}

/// Multiplies by `k` what each log has gained since the last observation.
fn grow(plant: &Plant, observation: &mut Observation, k: f64) {
    for partition in &mut observation.partitions {
        let last = plant.memory.last_end(&partition.id).unwrap_or(0);
        let grown = partition.end.unwrap() - last;
        partition.end = Some(last + (grown as f64 * k).ceil() as i64);
    }
}

proptest! {
    #![proptest_config(cases())]

    /// Law 3.
    #[test]
    fn need_is_monotone(plant in moment(), k in 1.0..5.0_f64, backlog in 0..50_000_i64, slower in 1.0..4.0_f64) {
        let base = plant.observation();
        let before = needs(&plant, &plant.memory, &base);

        let mut more = base.clone();
        grow(&plant, &mut more, k);
        let after = needs(&plant, &plant.memory, &more);
        prop_assert!(after.0 >= before.0, "arrivals x {k}: {after:?} < {before:?}");

        if plant.reported == Reported::Everything {
            let mut behind = base.clone();
            fall_behind(&mut behind, 0, backlog);
            let after = needs(&plant, &plant.memory, &behind);
            prop_assert!(after.0 >= before.0, "backlog + {backlog}: {after:?} < {before:?}");
        }

        let mut weak = plant.memory.clone();
        weak.poison(0, 1.0 / slower);
        let after = needs(&plant, &weak, &base);
        prop_assert!(after.0 >= before.0, "capacity / {slower}: {after:?} < {before:?}");
    }

    /// Law 3. Nothing is known about the workers, or only a rate of one that may have waited for records.
    #[test]
    fn need_is_monotone_with_unknown_capacity(
        plant in ignorant(),
        k in 1.0..5.0_f64,
        behind in 0..20_000_i64,
        more in 0..50_000_i64,
        slower in 1.0..4.0_f64,
    ) {
        // Without a backlog an unknown capacity asks for no worker; this tests the edge at which it begins to.
        let mut base = plant.observation();
        if plant.reported == Reported::Everything {
            fall_behind(&mut base, 0, behind);
        }
        let before = needs(&plant, &plant.memory, &base);
        prop_assert!(before.0 >= Some(plant.desired), "{before:?} of {}", plant.desired);

        let mut grown = base.clone();
        grow(&plant, &mut grown, k);
        let after = needs(&plant, &plant.memory, &grown);
        prop_assert!(after.0 >= before.0 && after.1 >= before.1, "arrivals x {k}: {after:?} < {before:?}");

        if plant.reported == Reported::Everything {
            let mut later = base.clone();
            fall_behind(&mut later, 0, more);
            let after = needs(&plant, &plant.memory, &later);
            prop_assert!(after.0 >= before.0 && after.1 >= before.1, "backlog + {more}: {after:?} < {before:?}");
        }

        let mut weak = plant.memory.clone();
        weak.capacity = seen(plant.memory.capacity.at_least().map(|rate| rate / slower));
        let after = needs(&plant, &weak, &base);
        // If no worker was ever seen to work, nothing is known at all, and no worker is removed.
        prop_assert!(after.0 >= before.0 && after.1 >= before.1, "seen / {slower}: {after:?} < {before:?}");
    }
}
