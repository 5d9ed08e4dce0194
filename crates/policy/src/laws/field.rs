//! Law 15, and a regression: sources that were not read, and workers that cannot start.

use proptest::prelude::*;

use super::cases;
use crate::plant::{Plant, Reported};
use crate::{Action, Memory, Observation, Reason, Source};

/// A lag of 27,171 with no worker that could start was reported as within the target: about a group without a commit,
/// nothing is certain.
#[test]
fn job_without_started_workers_is_not_within_target() {
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

    /// Law 15. A source of the spec that was not read is a missing signal: no voluntary scale-down, however long it
    /// lasts.
    #[test]
    fn unread_source_removes_no_worker(load in 0.0..2000.0_f64, everything in any::<bool>(), restart in any::<bool>()) {
        let mut plant = Plant::new(4, 8);
        plant.reported = if everything { Reported::Everything } else { Reported::CommitsOnly };
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
