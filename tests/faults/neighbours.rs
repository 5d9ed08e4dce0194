//! Noisy neighbours: with the real hub, sources that never answer, and what they are to the other jobs. How long it takes
//! with how many is measured by `cargo bench --bench scale`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Client;
use serde_json::json;
use sluice::embedded::faults::Act;
use sluice::embedded::service::InMemory;
use sluice::operator::Operator;
use sluice::serve::Health;
use sluice::serve::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::sources::{HOLE, Timed};
use crate::world::{NAMESPACE, World, job, wait};

const JOBS: usize = 50;

/// As many jobs whose source never answers, each on a cluster of its own, delay no decision about the others; and once all
/// have their workers, nothing is written for either.
#[tokio::test(start_paused = true)]
async fn t9_sources_that_never_answer_delay_nobody_and_cost_no_writes() {
    let world = World::new(17).await;
    // Of each job: how many answers were read, and the longest wait of one.
    let waits = Arc::new(Mutex::new(BTreeMap::<String, (usize, Duration)>::new()));
    let noting = Arc::clone(&waits);
    let signals = Timed::new(&world.clock, move |job, waited| {
        let mut waits = noting.lock().unwrap();
        let (number, longest) = waits.entry(job.to_owned()).or_default();
        (*number, *longest) = (*number + 1, (*longest).max(waited));
    });
    let updates = signals.hub.updates();
    let faults = sluice::embedded::faults::Faults::new(
        &"".parse().unwrap(),
        sluice::embedded::clock::Clock::new(world.clock.clone()),
    );
    let operator = Operator {
        client: Client::new(faults.connect(InMemory::new(world.server.clone())).0, NAMESPACE),
        namespaces: Vec::new(),
        election: None,
        signals: Arc::new(signals),
        health: Health::default(),
        metrics: Metrics::default(),
        clock: world.clock.clone(),
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(operator.run(updates, stop.clone()));
    for number in 0..2 * JOBS {
        let (name, server) = match number {
            _ if number < JOBS => (format!("job-{number}"), "kafka:9092".to_owned()),
            _ => (format!("hole-{number}"), format!("{HOLE}{number}:9092")),
        };
        let mut object = job(&name);
        object["spec"]["scaling"]["initialReplicas"] = json!(2);
        object["spec"]["sources"][0]["kafka"]["bootstrapServers"] = json!([server]);
        object["spec"]["workload"]["template"]["spec"]["containers"][0]["ports"] =
            json!([{"name": "metrics", "containerPort": 8080}]);
        world.apply(&object).await;
    }
    wait(240).await;
    let before = faults.requests().len();
    waits.lock().unwrap().clear();
    wait(60).await;
    {
        let waits = waits.lock().unwrap();
        assert_eq!(waits.len(), JOBS);
        for (job, (number, longest)) in waits.iter() {
            // Two seconds between samples, give or take a tenth.
            assert!((27..=34).contains(number), "{job}: {number} decisions");
            assert!(*longest < Duration::from_millis(50), "{job}: {longest:?}");
        }
    }
    let requests = faults.requests();
    let writes: Vec<String> = requests[before..]
        .iter()
        .filter(|request| Act::Write.covers(request.act))
        .map(|request| format!("{} {} {}", request.act, request.resource(), request.path.name))
        .collect();
    assert!(writes.is_empty(), "{writes:?}");
    stop.cancel();
    running.await.unwrap();
    world.end();
}
