//! One decision with 100 partitions, 40 workers and an hour of history. Goal: at most 1 ms on one core.

#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros make undocumented items; a bench may fail loudly

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sluice::api::fields::Step;
use sluice::policy::units::Seconds;
use sluice::policy::{Group, Memory, Mode, Observation, Partition, Replicas, Settings, Worker, decide};

fn settings() -> Settings {
    Settings {
        latency: Seconds(10.0),
        percentile: 0.99,
        window: Seconds(3600.0),
        min_replicas: 1,
        max_replicas: 100,
        pinned: None,
        suspend: false,
        mode: Mode::Auto,
        max_step_up: None,
        max_step_down: Step::Percent(30),
        max_rescales_per_hour: 30,
        schedules: Vec::new(),
        fallback_after: Seconds(300.0),
        fallback_replicas: None,
        batch_interval: None,
        max_records_per_second: None,
    }
}

/// The look number `look` at a job, two seconds apart; partitions differ in rate, and the load swings.
fn observation(look: u32) -> Observation {
    let at = 1_764_000_000.0 + 2.0 * f64::from(look);
    let partitions = (0..100_u32).map(|p| {
        let rate = i64::from(300 + 2 * p);
        let end = 1_000_000 + i64::from(look) * rate + i64::from(look % 37) * 10;
        Partition {
            id: format!("orders/{p}"),
            source: Some("orders".into()),
            at: Some(Seconds(at)),
            end: Some(end),
            committed: Some(end - rate),
            position: Some(end - rate / 10),
            owner: Some(format!("orders-7c9f4d5b8-{}", p % 40)),
            ..Partition::default()
        }
    });
    let workers = (0..40_u32).map(|w| Worker {
        id: format!("orders-7c9f4d5b8-{w}"),
        at: Some(Seconds(at)),
        created_at: Some(Seconds(1_763_999_000.0)),
        started_at: Some(Seconds(1_763_999_002.0)),
        ready: Some(true),
        template: Some("7c9f4d5b8".into()),
        processed: Some(f64::from(look) * 1000.0),
        busy_seconds: Some(f64::from(look) * 1.5),
        ..Worker::default()
    });
    Observation {
        at: Seconds(at),
        replicas: Replicas { desired: Some(40), existing: Some(40), ready: Some(40) },
        partitions: partitions.collect(),
        groups: vec![Group {
            source: Some("orders".into()),
            state: Some("Stable".into()),
            assignor: Some("cooperative-sticky".into()),
        }],
        workers: workers.collect(),
        ..Observation::default()
    }
}

fn one_decision(criterion: &mut Criterion) {
    let settings = settings();
    let mut memory = Memory::default();
    for look in 0..1800 {
        decide(&mut memory, &observation(look), &settings);
    }
    let mut look = 1800;
    criterion.bench_function("one decision, 100 partitions, 40 workers, an hour", |bench| {
        bench.iter_batched(
            || {
                look += 1;
                observation(look)
            },
            |observation| black_box(decide(&mut memory, &observation, &settings)),
            criterion::BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, one_decision);
criterion_main!(benches);
