//! Measures one decision. With 100 partitions, 50 workers and an hour of history it takes at most 1 ms on one core, and
//! the memory of the job is at most 100 KiB. With 10,000 partitions and 5,000 workers it takes at most 20 ms.
//! Allocations are counted, by an allocator that costs a little time itself.
//!
//! Most decisions change nothing. The others search for a number of workers, and are measured separately.

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

/// Returns the memory after an hour, beginning with a prior.
fn an_hour(job: Job, prior: Model) -> Memory {
    let mut memory = Memory::with_prior(prior);
    for observation_number in 0..HOUR {
        decide(&mut memory, &job.observation(observation_number), &settings());
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

    let mut observation_number = HOUR;
    let decision = print_decision("steady", &mut memory.clone(), &STEADY.observation(observation_number));
    assert_eq!(decision.action, Action::Hold, "the decision changes something: {}", decision.message);
    criterion.bench_function("nothing to change", |bench| {
        bench.iter_batched(
            || {
                observation_number += 1;
                STEADY.observation(observation_number)
            },
            |observation| black_box(decide(&mut memory, &observation, &settings())),
            BatchSize::SmallInput,
        );
    });
}

/// Measures the first decision that adds workers.
fn growth(criterion: &mut Criterion) {
    let slow_handover = Model { handover_seconds: Some(60.0), ..Model::default() };
    for (name, after, prior) in [
        ("twice the load", 2.0, Model::default()),
        ("more load than the partitions allow", 6.0, Model::default()),
        ("twice the load, changes stop partitions for a minute", 2.0, slow_handover),
    ] {
        let job = Job { after, ..STEADY };
        let mut memory = an_hour(job, prior);
        let mut observation_number = HOUR;
        loop {
            let before = memory.clone();
            if decide(&mut memory, &job.observation(observation_number), &settings()).action == Action::Up {
                memory = before;
                break;
            }
            observation_number += 1;
            assert!(observation_number < HOUR + 100, "{name}: no worker is ever added");
        }
        let observation = job.observation(observation_number);
        print_decision(name, &mut memory.clone(), &observation);
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

/// Measures the largest supported job.
fn large(criterion: &mut Criterion) {
    const LARGE: Job = Job { partitions: 10_000, workers: 5_000, after: 1.0, busy: 0.6 };
    const OBSERVATIONS: u32 = 150;
    let settings = Settings::for_objective(Seconds(10.0), 0.99, (1, 10_000));
    let mut memory = Memory::default();
    for observation_number in HOUR - OBSERVATIONS..HOUR {
        decide(&mut memory, &LARGE.observation(observation_number), &settings);
    }
    let mut observation_number = HOUR;
    print_decision("large", &mut memory.clone(), &LARGE.observation(observation_number));
    let mut group = criterion.benchmark_group("10,000 partitions");
    group.sample_size(20).bench_function("5,000 workers", |bench| {
        bench.iter_batched(
            || {
                observation_number += 1;
                LARGE.observation(observation_number)
            },
            |observation| black_box(decide(&mut memory, &observation, &settings)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Prints the decision, so that a figure can be trusted to be that of its name, and what it allocates.
fn print_decision(name: &str, memory: &mut Memory, observation: &Observation) -> Decision {
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
