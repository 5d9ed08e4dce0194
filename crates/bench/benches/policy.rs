//! One decision with 100 partitions, 50 workers and an hour of history: at most 1 ms on one core, and the memory of the
//! job at most 100 KiB. With 10,000 partitions and 5,000 workers: at most 20 ms. Allocations are counted; the allocator that
//! counts them costs a little time itself.
//!
//! Most looks find that nothing is to be done. The others search for a number of workers, and are measured on their own.

#![allow(missing_docs)] // criterion's macros make undocumented items
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // offsets and counts far below 2^52

use std::alloc::System;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sluice_base::units::Seconds;
use sluice_bench::observed_job::{HOUR, Job};
use sluice_policy::{Action, Decision, Memory, Model, Observation, Settings, decide};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const STEADY: Job = Job { partitions: 100, workers: 50, after: 1.0, busy: 0.6 };

fn settings() -> Settings {
    Settings::for_objective(Seconds(10.0), 0.99, (1, 100))
}

/// The memory after an hour, from what was known before.
fn an_hour(job: Job, prior: Model) -> Memory {
    let mut memory = Memory::with_prior(prior);
    for look in 0..HOUR {
        decide(&mut memory, &job.observation(look), &settings());
    }
    memory
}

fn steady(criterion: &mut Criterion) {
    let region = Region::new(ALLOCATOR);
    let mut memory = an_hour(STEADY, Model::default());
    let heap = region.change();
    let held = heap.bytes_allocated - heap.bytes_deallocated + size_of::<Memory>();
    println!("memory of the job: {held} bytes held, {} by its own account", memory.size_bytes());
    assert!(held <= 100 << 10, "more than 100 KiB: {held}");

    let mut look = HOUR;
    let decision = told("steady", &mut memory.clone(), &STEADY.observation(look));
    assert_eq!(decision.action, Action::Hold, "something is to be done: {}", decision.message);
    criterion.bench_function("nothing is to be done", |bench| {
        bench.iter_batched(
            || {
                look += 1;
                STEADY.observation(look)
            },
            |observation| black_box(decide(&mut memory, &observation, &settings())),
            BatchSize::SmallInput,
        );
    });
}

/// The look at which more workers are asked for first.
fn growth(criterion: &mut Criterion) {
    let dear = Model { handover_seconds: Some(60.0), ..Model::default() };
    for (name, after, prior) in [
        ("twice the load", 2.0, Model::default()),
        ("more load than the partitions can be served for", 6.0, Model::default()),
        ("twice the load, changes stop partitions for a minute", 2.0, dear),
    ] {
        let job = Job { after, ..STEADY };
        let mut memory = an_hour(job, prior);
        let mut look = HOUR;
        loop {
            let before = memory.clone();
            if decide(&mut memory, &job.observation(look), &settings()).action == Action::Up {
                memory = before;
                break;
            }
            look += 1;
            assert!(look < HOUR + 100, "{name}: nobody is ever asked for");
        }
        let observation = job.observation(look);
        told(name, &mut memory.clone(), &observation);
        criterion.bench_function(name, |bench| {
            bench.iter_batched(
                || memory.clone(),
                |mut memory| {
                    let decision = decide(&mut memory, black_box(&observation), &settings());
                    (memory, decision)
                },
                BatchSize::SmallInput,
            );
        });
    }
}

/// The largest job that is planned for.
fn large(criterion: &mut Criterion) {
    const LARGE: Job = Job { partitions: 10_000, workers: 5_000, after: 1.0, busy: 0.6 };
    const LOOKS: u32 = 150;
    let settings = Settings::for_objective(Seconds(10.0), 0.99, (1, 10_000));
    let mut memory = Memory::default();
    for look in HOUR - LOOKS..HOUR {
        decide(&mut memory, &LARGE.observation(look), &settings);
    }
    let mut look = HOUR;
    told("large", &mut memory.clone(), &LARGE.observation(look));
    let mut group = criterion.benchmark_group("10,000 partitions");
    group.sample_size(20).bench_function("5,000 workers", |bench| {
        bench.iter_batched(
            || {
                look += 1;
                LARGE.observation(look)
            },
            |observation| black_box(decide(&mut memory, &observation, &settings)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Says what is decided, so that a figure can be trusted to be that of its name, and what it allocates.
fn told(name: &str, memory: &mut Memory, observation: &Observation) -> Decision {
    let settings = settings();
    let region = Region::new(ALLOCATOR);
    let decision = decide(memory, observation, &settings);
    let heap = region.change();
    println!(
        "{name}: {:?}, {}; {} allocations, {} reallocations, {} bytes",
        decision.action, decision.message, heap.allocations, heap.reallocations, heap.bytes_allocated
    );
    decision
}

criterion_group!(benches, steady, growth, large);
criterion_main!(benches);
