//! Replays recorded observations that an earlier decision core got wrong. `README.md` describes each.

#![allow(clippy::unwrap_used)] // a test

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use flate2::read::GzDecoder;
use sluice_base::units::Seconds;
use sluice_policy::{Action, Confidence, Decision, Limit, Memory, Observation, Reason, Settings, decide};

/// Returns the decision for each line, with the replica count that the line requests.
fn replay(name: &str, latency: f64, most: u32) -> Vec<(u32, Decision)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(format!("{name}.jsonl.gz"));
    let settings = Settings::for_objective(Seconds(latency), 0.99, (1, most));
    let mut memory = Memory::default();
    let lines = BufReader::new(GzDecoder::new(File::open(path).unwrap())).lines();
    let answers = lines.map(|line| {
        let observation: Observation = serde_json::from_str(&line.unwrap()).unwrap();
        (observation.replicas.desired.unwrap(), decide(&mut memory, &observation, &settings))
    });
    answers.collect()
}

#[test]
fn commit_as_old_as_the_sample_is_not_a_backlog() {
    let answers = replay("commits-at-sampling-interval-low-rate", 10.0, 40);
    for (wanted, decision) in &answers {
        assert!(*wanted > 2 || decision.desired <= Some(2), "{}", decision.message);
        assert!(decision.action != Action::Up, "one worker does it all: {}", decision.message);
    }
    let model = &answers[13].1.explain.model; // a minute later
    assert!((900.0..1100.0).contains(&model.capacity_per_worker.unwrap()), "{model:?}");
    assert!(model.confidence >= Confidence::Medium, "{model:?}");
}

#[test]
fn fifty_records_per_second_add_no_workers() {
    for (name, latency) in [("commits-at-sampling-interval", 10.0), ("target-near-commit-interval", 5.0)] {
        for (_, decision) in replay(name, latency, 40) {
            assert!(decision.action != Action::Up, "{name}: {}", decision.message);
        }
    }
}

#[test]
fn late_records_are_never_reported_as_within_target() {
    let answers = replay("holds-while-late-60s", 60.0, 40);
    let first = answers.iter().position(|(_, decision)| decision.action == Action::Up);
    assert!(
        first.is_some_and(|line| line <= 90),
        "the first Up is at line {first:?}, when the oldest record is 52 s old"
    );
    for (_, decision) in &answers {
        let late = decision.explain.time_lag_seconds > Some(60.0);
        assert!(!(late && decision.message.contains("stays within")), "{}", decision.message);
    }
}

#[test]
fn assumed_backlog_without_commits_adds_no_workers() {
    for (_, decision) in replay("latest-never-committed", 10.0, 20) {
        assert!(decision.action != Action::Up, "{}", decision.message);
        assert!(decision.explain.unverifiable.unwrap().contains("never committed"));
    }
}

#[test]
fn external_bottleneck_is_found_at_the_ceiling() {
    let answers = replay("downstream-gets-worse", 10.0, 20);
    let found = answers.iter().find(|(_, decision)| decision.reason == Reason::ExternalBottleneck);
    let (wanted, decision) = found.expect("seen");
    assert_eq!(*wanted, 12);
    assert_eq!(decision.limited.as_ref().unwrap().by, Limit::ExternalBottleneck);
    assert!(decision.desired < Some(12), "{}", decision.message);
}

#[test]
fn workers_busy_with_records_of_a_minute_stay() {
    for (wanted, decision) in replay("records-of-a-minute", 300.0, 20) {
        assert!(wanted < 7 || decision.desired >= Some(7), "{}", decision.message);
        assert!(decision.reason != Reason::Stalled, "{}", decision.message);
    }
}
