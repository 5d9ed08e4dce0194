//! Laws about sources that are not read and workers that cannot start.

use proptest::prelude::*;

use super::cases;
use crate::plant::{Plant, Tells};
use crate::{Action, Memory, Observation, Reason, Source};

/// Lag 27,171 with no worker that could start, and "within the target": of a group without a commit nothing is known for sure.
#[test]
fn a_job_whose_workers_cannot_start_is_not_within_its_target_for_want_of_knowledge() {
    let mut memory = Memory::default();
    let mut last = None;
    for second in (0..120).step_by(2) {
        let partition = serde_json::json!({"id": "t/0", "at": second, "start": 0, "end": 60 * second, "committed": -1});
        let observation = serde_json::json!({
            "at": second, "replicas": {"desired": 1, "existing": 1, "ready": 0}, "partitions": [partition],
            "sources": [{"read": true}], "workers": [{"id": "w-0", "ready": false}],
        });
        let observation: Observation = serde_json::from_value(observation).unwrap();
        last = Some(crate::decide(&mut memory, &observation, &crate::plant::settings()).within_target);
    }
    assert_ne!(last, Some(crate::WithinTarget::Met));
}

proptest! {
    #![proptest_config(cases())]

    /// A source of the spec that was not read is a missing signal: no voluntary Down, however long it lasts.
    #[test]
    fn law_15_a_source_that_was_not_read_takes_no_worker_away(load in 0.0..2000.0_f64, everything in any::<bool>(), restart in any::<bool>()) {
        let mut plant = Plant::new(4, 8);
        plant.tells = if everything { Tells::Everything } else { Tells::CommitsOnly };
        plant.sources = vec![
            Source { name: None, read: Some(true), starts_at_earliest: None },
            Source { name: Some("other".into()), read: Some(false), starts_at_earliest: None },
        ];
        plant.run(200.0, 2.0, |_| load);
        if restart { plant.memory = Memory::default(); }
        plant.run(200.0, 2.0, |_| load);
        prop_assert!(plant.changes.iter().all(|change| change.2.action != Action::Down), "{:?}", plant.changes);
        prop_assert_eq!(plant.last.as_ref().unwrap().reason, Reason::NoSignal);
    }
}
