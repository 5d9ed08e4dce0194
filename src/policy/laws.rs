//! The laws of `design/policy.md`, each a property with its name.
//!
//! `SLUICE_PROPTEST_CASES` sets the number of cases; the default keeps the suite within some seconds.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::plant::{Plant, Tells, settings};
use super::settings::{Mode, Settings};
use super::units::Seconds;
use super::{Action, BoundBy, Group, Limits, Memory, Model, Observation, Partition, Reason, Replicas, Worker, decide};
use crate::api::fields::Step;

fn cases() -> ProptestConfig {
    let cases = std::env::var("SLUICE_PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(128);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

// ---- Arbitrary inputs: whatever the types allow.

fn any_float() -> impl Strategy<Value = f64> {
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

fn any_offset() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), Just(-1), Just(0), Just(i64::MAX), Just(i64::MIN), 0..100_000_i64]
}

fn any_partition() -> impl Strategy<Value = Partition> {
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
        })
}

fn any_worker() -> impl Strategy<Value = Worker> {
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
    fn any_observation()(
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
            groups: vec![Group { source: None, state, assignor: Some("range".into()) }],
            limits: Limits { granted, unschedulable, crash_looping },
        }
    }
}

prop_compose! {
    fn any_settings()(
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

// ---- Plausible inputs: moments from the life of a job.

static MOMENTS: LazyLock<Vec<Plant>> = LazyLock::new(|| {
    let mut moments = Vec::new();
    for (tells, seed) in [(Tells::Everything, 0), (Tells::CommitsOnly, 1)] {
        let mut plant = Plant::new(12, 3);
        plant.tells = tells;
        for slice in 0..60 {
            // Calm, three times the load, less, a little, nothing.
            let load = match slice {
                0..10 => 2300.0,
                10..20 => 6500.0,
                20..30 => 3000.0,
                30..50 => 900.0,
                _ => 0.0,
            };
            plant.run(f64::from(7 + (slice + seed) % 3), 2.0, |_| load);
            let mut moment = plant.clone();
            // One step further, not yet looked at.
            moment.run(1.75, 10_000.0, |_| load);
            moment.now += 0.25;
            moments.push(moment);
        }
    }
    moments
});

fn moment() -> impl Strategy<Value = Plant> {
    (0..120_usize, 0..3_u32).prop_map(|(index, more)| {
        let mut plant = MOMENTS[index % MOMENTS.len()].clone();
        // Now and then too many workers, so that a Down is near.
        plant.memory.desired = plant.memory.desired.map(|d| d + more);
        plant.desired += more;
        if more > 0 {
            plant.memory.flight = None;
        }
        plant
    })
}

/// What may go missing or stale, one bit each.
fn degrade(observation: &mut Observation, what: u32, now: f64) {
    let on = |bit: u32| what & (1 << bit) != 0;
    if on(0) {
        observation.workers.clear();
    }
    if on(1) {
        observation.partitions.clear();
    }
    if on(2) {
        observation.partitions.truncate(5);
    }
    if on(3) {
        observation.groups.clear();
    }
    if on(4) {
        observation.replicas.ready = None;
    }
    if on(5) {
        observation.replicas.existing = None;
    }
    for (index, partition) in observation.partitions.iter_mut().enumerate() {
        let some = on(15) || index % 3 == 0;
        if on(6) && some {
            partition.position = None;
        }
        if on(7) && some {
            partition.committed = None;
        }
        if on(8) && some {
            partition.end = None;
        }
        if on(9) && some {
            partition.owner = None;
        }
        if on(10) && some {
            partition.at = Some(Seconds(now - 120.0));
        }
    }
    for worker in &mut observation.workers {
        if on(11) {
            worker.processed = None;
        }
        if on(12) {
            worker.busy_seconds = None;
        }
        if on(13) {
            worker.at = Some(Seconds(now - 120.0));
        }
        if on(14) {
            worker.ready = None;
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn law_01_total(
        observations in proptest::collection::vec(any_observation(), 1..8),
        settings in any_settings(),
    ) {
        let mut memory = Memory::default();
        for observation in &observations {
            let decision = decide(&mut memory, observation, &settings);
            let again = decide(&mut memory.clone(), observation, &settings);
            let _ = again;
            let words = format!("{decision:?}");
            prop_assert!(!words.contains("NaN") && !words.contains("inf)") && !words.contains("inf,"), "{words}");
            let ceiling = settings.max_replicas.min(observation.limits.granted.unwrap_or(u32::MAX));
            let floor = settings.min_replicas.min(ceiling);
            let (Some(desired), Some(current)) = (decision.desired, observation.replicas.desired) else {
                prop_assert_eq!(observation.replicas.desired, None);
                continue;
            };
            if settings.suspend {
                prop_assert_eq!(desired, 0);
            } else if let Some(pinned) = settings.pinned {
                prop_assert_eq!(desired, pinned);
            } else if settings.mode == Mode::Recommend {
                prop_assert_eq!(desired, current);
            } else {
                prop_assert!((floor..=ceiling).contains(&desired), "{desired} outside {floor}..={ceiling}: {words}");
            }
            if let Some(recommended) = decision.recommended {
                prop_assert!((floor..=ceiling).contains(&recommended));
            }
        }
    }

    #[test]
    fn law_01_same_inputs_same_decision(observations in proptest::collection::vec(any_observation(), 1..6)) {
        let (mut one, mut two) = (Memory::default(), Memory::default());
        for observation in &observations {
            let words = |memory: &mut Memory| format!("{:?}", decide(memory, observation, &settings()));
            prop_assert_eq!(words(&mut one), words(&mut two));
        }
    }

    #[test]
    fn law_02_unknown_is_not_zero(plant in moment(), what in any::<u32>(), one in any::<u32>(), behind in 0..3000_i64) {
        let mut full = plant.observation();
        // Some partitions are behind: who cannot see them must not think that all is well.
        for partition in full.partitions.iter_mut().skip(5) {
            let lower = |offset: Option<i64>| offset.map(|o| (o - behind).max(0));
            partition.position = lower(partition.position);
            partition.committed = lower(partition.committed);
        }
        let what = what & one;
        let mut less = full.clone();
        degrade(&mut less, what, plant.now);
        let desired = decide(&mut plant.memory.clone(), &full, &plant.settings).desired.unwrap();
        let without = decide(&mut plant.memory.clone(), &less, &plant.settings);
        prop_assert!(without.desired.unwrap() >= desired.min(plant.desired), "{desired} became {:?}", without);
    }

    #[test]
    fn law_02_need_stands_without_workers(plant in moment()) {
        let full = plant.observation();
        let less = Observation { workers: vec![], ..full.clone() };
        let need = decide(&mut plant.memory.clone(), &full, &plant.settings).explain.need;
        prop_assert!(decide(&mut plant.memory.clone(), &less, &plant.settings).explain.need >= need);
    }

    #[test]
    fn law_03_monotone(plant in moment(), k in 1.0..5.0_f64, backlog in 0..50_000_i64, slower in 1.0..4.0_f64) {
        let base = plant.observation();
        let need = |memory: &Memory, o: &Observation| decide(&mut memory.clone(), o, &plant.settings).explain.need;
        let before = need(&plant.memory, &base);

        let mut more = base.clone();
        for partition in &mut more.partitions {
            let last = plant.memory.last_end(&partition.id).unwrap_or(0);
            let grown = partition.end.unwrap() - last;
            partition.end = Some(last + (grown as f64 * k).ceil() as i64);
        }
        prop_assert!(need(&plant.memory, &more) >= before, "arrivals x {k}: {:?} < {before:?}", need(&plant.memory, &more));

        if plant.tells == Tells::Everything {
            let mut behind = base.clone();
            for partition in &mut behind.partitions {
                let lower = |offset: Option<i64>| offset.map(|o| (o - backlog).max(0));
                partition.position = lower(partition.position);
                partition.committed = lower(partition.committed);
            }
            prop_assert!(need(&plant.memory, &behind) >= before, "backlog + {backlog}");
        }

        let mut weak = plant.memory.clone();
        weak.capacity.slow_down(slower);
        prop_assert!(need(&weak, &base) >= before, "capacity / {slower}");
    }

    #[test]
    fn law_04_idle_is_proven_not_assumed(plant in moment(), looks in 1..40_u32, stand_still in any::<bool>()) {
        // The log grows; counters stand still, or are zero for lack of data.
        let mut memory = plant.memory.clone();
        let mut observation = plant.observation();
        let mut last = None;
        for look in 0..looks {
            observation.at = Seconds(plant.now + 2.0 * f64::from(look));
            for partition in &mut observation.partitions {
                partition.end = partition.end.map(|e| e + 10);
            }
            for worker in &mut observation.workers {
                worker.at = Some(observation.at);
                if !stand_still { worker.processed = worker.processed.map(|_| 0.0); }
            }
            let decision = decide(&mut memory, &observation, &Settings { min_replicas: 0, ..plant.settings.clone() });
            prop_assert!(decision.reason != Reason::Idle || plant.desired == 0);
            // Two commit intervals: sooner, a commit may just not have come yet.
            if look > 5 {
                prop_assert!(decision.action != Action::Down || decision.reason == Reason::Useless, "{}", decision.message);
            }
            last = Some(decision);
        }
        prop_assert!(last.is_some());
    }

    #[test]
    fn law_06_one_at_a_time(plant in moment(), demand in 0.0..20_000.0_f64, backlog in 0..500_000_i64) {
        let mut memory = plant.memory.clone();
        memory.flight = Some(super::flight::Flight::new(plant.now - 1.0, 1, plant.desired, demand));
        let mut observation = plant.observation();
        observation.replicas.ready = Some(plant.desired.saturating_sub(1));
        for partition in &mut observation.partitions {
            let lower = |offset: Option<i64>| offset.map(|o| (o - backlog).max(0));
            partition.position = lower(partition.position);
            partition.committed = lower(partition.committed);
        }
        let decision = decide(&mut memory, &observation, &plant.settings);
        if decision.action == Action::Up && plant.desired > 0 {
            prop_assert!(decision.explain.demand.unwrap() > demand, "{decision:?}");
        }
        if plant.desired > 0 { prop_assert_ne!(decision.action, Action::Down); }
    }

    #[test]
    fn law_07_useful(plant in moment(), partitions in 1..30_usize, load in 100.0..40_000.0_f64) {
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

    #[test]
    fn law_08_voluntary_down(plant in moment(), backlog in 0..1200_i64, stale in 0..5_u32) {
        let mut observation = plant.observation();
        for partition in &mut observation.partitions {
            let lower = |offset: Option<i64>| offset.map(|o| (o - backlog).max(0));
            partition.position = lower(partition.position);
            partition.committed = lower(partition.committed);
        }
        if stale == 0 { degrade(&mut observation, 1 << 10, plant.now); }
        let decision = decide(&mut plant.memory.clone(), &observation, &plant.settings);
        if decision.action == Action::Down && decision.reason == Reason::LowerDemand {
            prop_assert!(decision.explain.time_lag_seconds.unwrap() < 3.0, "{decision:?}");
            prop_assert!(stale > 0);
            prop_assert!(decision.desired >= decision.explain.not_fewer);
        }
    }

    #[test]
    fn law_09_restart(plant in moment(), capacity in any_float(), start_up in any_float(), known in any::<bool>()) {
        let model = Model {
            capacity_per_worker: Some(capacity), start_up_seconds: Some(start_up), handover_seconds: Some(start_up),
            latency_floor_seconds: Some(capacity), confidence: super::Confidence::High, template: None,
        };
        for memory in [Memory::default(), Memory::with_prior(model)] {
            let mut memory = memory;
            let mut observation = plant.observation();
            if !known { observation.replicas.desired = None; }
            let decision = decide(&mut memory, &observation, &plant.settings);
            if known {
                prop_assert!(decision.desired >= Some(plant.desired.min(plant.settings.max_replicas)), "{decision:?}");
            } else {
                prop_assert_eq!((decision.desired, decision.action), (None, Action::Hold));
            }
        }
    }

    #[test]
    fn law_11_strange_offsets(plant in moment(), kind in 0..6_u32, which in 0..12_usize) {
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
            // More workers than partitions are useless, whatever the offsets say.
            prop_assert!(decision.action != Action::Down || decision.reason == Reason::Useless, "{kind}: {}", decision.message);
            observation.at = Seconds(observation.at.0 + 2.0 * f64::from(look));
        }
    }
}

#[test]
fn law_05_steady() {
    for (partitions, workers, load) in [(24, 6, 5400.0), (10, 3, 2690.0), (60, 12, 9100.0)] {
        let mut plant = Plant::new(partitions, workers);
        plant.run(600.0, 2.0, |_| load);
        plant.changes.clear();
        plant.run(3600.0, 2.0, |_| load);
        let changes: Vec<_> = plant.changes.iter().map(|c| c.2.message.clone()).collect();
        assert!(changes.len() <= 1, "{changes:?}");
    }
}

#[test]
fn law_10_bounded_memory() {
    let mut memory = Memory::default();
    for look in 0..400_u32 {
        let at = 1.764e9 + 2.0 * f64::from(look);
        let partitions = (0..100_i64).map(|p| Partition {
            id: format!("orders-of-a-team/{p}"),
            end: Some(1_000_000_000_000 + i64::from(look) * (100 + p)),
            committed: Some(1_000_000_000_000 + i64::from(look) * (100 + p) - 50),
            owner: Some(format!("orders-worker-7c9f4d5b8-{}", p % 40)),
            ..Partition::default()
        });
        let workers = (0..40).map(|w| Worker {
            id: format!("orders-worker-7c9f4d5b8-{w}"),
            started_at: Some(Seconds(1.764e9)),
            ready: Some(true),
            processed: Some(f64::from(look) * 300.0),
            busy_seconds: Some(f64::from(look) * 0.6),
            ..Worker::default()
        });
        let observation = Observation {
            at: Seconds(at),
            replicas: Replicas { desired: Some(40), existing: Some(40), ready: Some(40) },
            partitions: partitions.collect(),
            workers: workers.collect(),
            ..Observation::default()
        };
        decide(&mut memory, &observation, &settings());
    }
    let size = memory.size_bytes();
    println!("{size} bytes");
    assert!(size <= 100 * 1024, "{size}");
}

#[test]
fn law_11_an_idle_transactional_partition_is_not_aged() {
    let mut memory = Memory::default();
    let mut last = None;
    for look in 0..100_u32 {
        let observation = Observation {
            at: Seconds(1.764e9 + 2.0 * f64::from(look)),
            replicas: Replicas { desired: Some(1), existing: Some(1), ready: Some(1) },
            partitions: vec![Partition {
                id: "t/0".into(),
                end: Some(101),
                committed: Some(100),
                ..Partition::default()
            }],
            ..Observation::default()
        };
        last = Some(decide(&mut memory, &observation, &settings()));
    }
    assert_eq!(last.unwrap().explain.time_lag_seconds, Some(0.0));
}
