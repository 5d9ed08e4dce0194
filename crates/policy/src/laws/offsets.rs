//! Law 11. **Strange offsets.** Clock steps, resets and recreated topics are handled and remove no worker.

use proptest::prelude::*;

use super::cases;
use super::moments::moment;
use crate::plant::settings;
use crate::{Action, Memory, Observation, Partition, Reason, Replicas, Worker, decide};
use sluice_base::units::Seconds;

proptest! {
    #![proptest_config(cases())]

    /// Law 11.
    #[test]
    fn strange_offsets_remove_no_worker(plant in moment(), kind in 0..6_u32, which in 0..12_usize) {
        let mut observation = plant.observation();
        for (index, partition) in observation.partitions.iter_mut().enumerate() {
            if index != which && kind != 0 { continue; }
            match kind {
                0 => {}
                1 => partition.end = Some(3),
                2 => partition.end = Some(-1),
                3 => (partition.position, partition.committed) = (None, partition.end.map(|e| e + 1_000_000)),
                4 => (partition.position, partition.committed) = (None, Some(-1)),
                _ => partition.end = Some(i64::MAX),
            }
        }
        if kind == 0 { observation.at = Seconds(plant.now - 3600.0); }
        let mut memory = plant.memory.clone();
        for look in 0..3 {
            let decision = decide(&mut memory, &observation, &plant.settings);
            // More workers than partitions are useless, whatever the offsets are.
            prop_assert!(decision.action != Action::Down || decision.reason == Reason::Useless, "{kind}: {}", decision.message);
            observation.at = Seconds(observation.at.0 + 2.0 * f64::from(look));
        }
    }
}

/// Law 11. The same holds beside a busy partition.
#[test]
fn idle_transactional_partition_does_not_age() {
    let mut memory = Memory::default();
    let mut last = None;
    for look in 0..100_u32 {
        let at = Seconds(1.764e9 + 2.0 * f64::from(look));
        let partition = |id: &str, end: i64, committed: i64| Partition {
            id: id.into(),
            end: Some(end),
            committed: Some(committed),
            ..Partition::default()
        };
        let done = 100 * i64::from(look);
        let observation = Observation {
            at,
            replicas: Replicas { desired: Some(1), existing: Some(1), ready: Some(1) },
            partitions: vec![partition("t/0", 101, 100), partition("t/1", done, done)],
            workers: vec![Worker {
                id: "w".into(),
                at: Some(at),
                ready: Some(true),
                processed: Some(100.0 * f64::from(look)),
                busy_seconds: Some(f64::from(look)),
                ..Worker::default()
            }],
            ..Observation::default()
        };
        last = Some(decide(&mut memory, &observation, &settings()));
    }
    assert_eq!(last.unwrap().explain.time_lag_seconds, Some(0.0));
}

/// Law 11. Each record is a transaction of its own and goes to another partition: once it is committed, only its marker
/// is left there. Three markers seemed to have waited for longer than the commit interval, and workers were added for
/// them.
#[test]
fn transaction_markers_are_not_a_backlog() {
    const EVERY: i64 = 5;
    const COMMITS: i64 = 12;
    let mut memory = Memory::default();
    for look in 0..450_u32 {
        let seconds = 2 * i64::from(look);
        let partition = |number: i64| {
            let arrives = 10 + EVERY * number;
            let committed = arrives / COMMITS * COMMITS + COMMITS;
            Partition {
                id: format!("t/{number}"),
                end: Some(if seconds >= arrives { 2 } else { 0 }),
                committed: Some(i64::from(seconds >= committed)),
                ..Partition::default()
            }
        };
        let observation = Observation {
            at: Seconds(1.764e9 + 2.0 * f64::from(look)),
            replicas: Replicas { desired: Some(1), existing: Some(1), ready: Some(1) },
            partitions: (0..170).map(partition).collect(),
            ..Observation::default()
        };
        let decision = decide(&mut memory, &observation, &settings());
        if look > 120 {
            assert_ne!(decision.action, Action::Up, "{seconds} s: {}", decision.message);
        }
    }
}
