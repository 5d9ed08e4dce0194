//! Arbitrary inputs: everything that the types allow.

use proptest::prelude::*;

use crate::Step;
use crate::plant::settings;
use crate::{Group, Limits, Mode, Observation, Partition, Replicas, Settings, Worker};
use sluice_base::units::Seconds;

pub(super) fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(f64::MAX),
        Just(0.0),
        Just(-1.0),
        any::<f64>(),
        0.0..1e4,
        1.764e9..1.765e9,
    ]
}

pub(super) fn any_offset() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), Just(-1), Just(0), Just(i64::MAX), Just(i64::MIN), 0..100_000_i64]
}

pub(super) fn any_partition() -> impl Strategy<Value = Partition> {
    let offset = || proptest::option::of(any_offset());
    (
        0..6_u8,
        proptest::option::of(any_float()),
        offset(),
        offset(),
        offset(),
        offset(),
        offset(),
        proptest::option::of(0..4_u8),
    )
        .prop_map(|(id, at, end, committed, position, due_end, start, owner)| Partition {
            id: if id == 5 { "odd".into() } else { format!("t/{id}") },
            source: (id == 4).then(|| "other".into()),
            at: at.map(Seconds),
            end,
            committed,
            position,
            due_end,
            start,
            owner: owner.map(|o| format!("w-{o}")),
            ..Partition::default()
        })
}

pub(super) fn any_worker() -> impl Strategy<Value = Worker> {
    let float = || proptest::option::of(any_float());
    (0..4_u8, float(), float(), float(), proptest::option::of(any::<bool>()), float(), float()).prop_map(
        |(id, at, created, started, ready, processed, busy)| Worker {
            id: format!("w-{id}"),
            at: at.map(Seconds),
            created_at: created.map(Seconds),
            started_at: started.map(Seconds),
            ready,
            template: ready.map(|r| format!("{r}")),
            processed,
            busy_seconds: busy,
            ..Worker::default()
        },
    )
}

prop_compose! {
    pub(super) fn any_observation()(
        at in any_float(),
        desired in proptest::option::weighted(0.9, 0..50_u32),
        existing in proptest::option::of(any::<u32>()),
        ready in proptest::option::of(0..50_u32),
        partitions in proptest::collection::vec(any_partition(), 0..8),
        workers in proptest::collection::vec(any_worker(), 0..5),
        state in proptest::option::of("[A-Z][a-z]{3}"),
        granted in proptest::option::of(0..30_u32),
        unschedulable in proptest::option::of(0..3_u32),
        crash_looping in proptest::option::of(0..3_u32),
    ) -> Observation {
        Observation {
            at: Seconds(at),
            replicas: Replicas { desired, existing, ready },
            partitions,
            workers,
            groups: vec![Group { source: None, state, assignor: Some("range".into()), ..Group::default() }],
            limits: Limits { granted, unschedulable, crash_looping, ..Limits::default() },
            sources: Vec::new(),
        }
    }
}

prop_compose! {
    pub(super) fn any_settings()(
        latency in prop_oneof![Just(0.1), 0.1..100.0, Just(1e6)],
        percentile in 0.5..0.9999,
        min in 0..10_u32,
        more in 1..40_u32,
        mode in prop_oneof![Just(Mode::Auto), Just(Mode::OutOnly), Just(Mode::InOnly), Just(Mode::Recommend)],
        pinned in proptest::option::weighted(0.1, 0..50_u32),
        suspend in proptest::bool::weighted(0.1),
        step in proptest::option::of(1..5_u32),
        fallback in proptest::option::of(0..50_u32),
        batch in proptest::option::of(0.0..200.0),
        most in proptest::option::of(0.0..1e9),
    ) -> Settings {
        Settings {
            latency: Seconds(latency), percentile, min_replicas: min, max_replicas: min + more, mode, pinned, suspend,
            max_step_up: step.map(Step::Workers), fallback_replicas: fallback, batch_interval: batch.map(Seconds),
            max_records_per_second: most, ..settings()
        }
    }
}
