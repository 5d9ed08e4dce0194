//! Noisy neighbours, with the real hub: sources that never answer or send too much must not affect other jobs.
//! `cargo bench --bench scale` measures this with more jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use embedded_kubernetes::faults::{Act, Faults};
use embedded_kubernetes::service::InMemory;
use kube::Client;
use serde_json::json;
use sluice_operator::Operator;
use sluice_operator::serve::Health;
use sluice_operator::serve::metrics::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use sluice_testkit::sources::{FLOOD, HOLE, Timed};
use sluice_testkit::world::{NAMESPACE, World, job, wait};

/// For each job, the number of samples that were read, and the longest wait for one.
type Waits = Arc<Mutex<BTreeMap<String, (usize, Duration)>>>;

/// A running operator.
struct Running {
    waits: Waits,
    hub: sluice_signals::Hub,
    stop: CancellationToken,
    task: JoinHandle<sluice_operator::Stopped>,
}

impl Running {
    fn start(world: &World, faults: &Faults) -> Self {
        let waits = Waits::default();
        let recorded = Arc::clone(&waits);
        let signals = Timed::new(&world.clock, move |job, waited, _| {
            let Some(waited) = waited else { return };
            let mut waits = recorded.lock().unwrap();
            let (number, longest) = waits.entry(job.to_owned()).or_default();
            (*number, *longest) = (*number + 1, (*longest).max(waited));
        });
        let (hub, updates) = (signals.hub.clone(), signals.hub.updates());
        let operator = Operator {
            client: Client::new(faults.connect(InMemory::new(world.server.clone())).0, NAMESPACE),
            namespaces: Vec::new(),
            excluded: std::collections::BTreeSet::new(),
            election: None,
            signals: Arc::new(signals),
            health: Health::default(),
            metrics: Metrics::default(),
            clock: world.clock.clone(),
        };
        let stop = CancellationToken::new();
        Self { waits, hub, task: tokio::spawn(operator.run(updates, stop.clone())), stop }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Starts an operator with `jobs` jobs whose source answers, and as many whose source never answers or sends more than
/// allowed, each on its own cluster. Waits until all jobs have their final number of workers.
async fn at_rest(seed: u64, jobs: usize) -> (World, Faults, Running) {
    let world = World::new(seed).await;
    let faults = Faults::new(&"".parse().unwrap(), embedded_kubernetes::clock::Clock::new(world.clock.clone()));
    let operator = Running::start(&world, &faults);
    for number in 0..2 * jobs {
        let (name, server) = match number {
            _ if number < jobs => (format!("job-{number}"), "kafka:9092".to_owned()),
            _ if number % 2 == 0 => (format!("flood-{number}"), format!("{FLOOD}{number}:9092")),
            _ => (format!("hole-{number}"), format!("{HOLE}{number}:9092")),
        };
        let mut object = job(&name);
        object["spec"]["scaling"]["initialReplicas"] = json!(2);
        object["spec"]["sources"][0]["kafka"]["bootstrapServers"] = json!([server]);
        object["spec"]["workload"]["template"]["spec"]["containers"][0]["ports"] =
            json!([{"name": "metrics", "containerPort": 8080}]);
        world.apply(&object).await;
    }
    // Workers that are not needed are removed within 20 minutes.
    wait(1200).await;
    (world, faults, operator)
}

/// Returns the writes after the first `before` requests.
fn writes(faults: &Faults, before: usize) -> Vec<String> {
    faults.requests()[before..]
        .iter()
        .filter(|request| Act::Write.covers(request.act))
        .map(|request| format!("{} {} {}", request.act, request.resource(), request.path.name))
        .collect()
}

/// Jobs whose source never answers, each on its own cluster, delay no decision about as many other jobs. Once all jobs
/// have their workers, nothing is written for any of them.
///
/// Catalogue: T9.
#[tokio::test(start_paused = true)]
async fn silent_sources_delay_no_other_job_and_cost_no_writes() {
    let (world, faults, operator) = at_rest(17, 50).await;
    let before = faults.requests().len();
    operator.waits.lock().unwrap().clear();
    wait(60).await;
    {
        let waits = operator.waits.lock().unwrap();
        assert_eq!(waits.len(), 50);
        for (job, (number, longest)) in waits.iter() {
            // Samples are 2 s apart, with a jitter of 10 %.
            assert!((27..=34).contains(number), "{job}: {number} decisions");
            assert!(*longest < Duration::from_millis(50), "{job}: {longest:?}");
        }
    }
    let written = writes(&faults, before);
    assert!(written.is_empty(), "{written:?}");
    for job in world.list("sluice.dev", "streamjobs") {
        let name = job["metadata"]["name"].as_str().unwrap();
        let conditions = job["status"]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
        assert_eq!(ready["reason"] == "LimitExceeded", name.starts_with("flood-"), "{name}: {ready}");
    }
    operator.end().await;
    world.end();
}

/// A reconcile that is under way when its job is forgotten may watch the job again, although it is never reconciled
/// again.
///
/// Catalogue: D.
#[tokio::test(start_paused = true)]
async fn job_watched_after_its_deletion_is_forgotten_again() {
    let (world, _faults, operator) = at_rest(19, 1).await;
    let hub = operator.hub.clone();
    assert_eq!(hub.jobs().len(), 2);
    let gone = sluice_signals::JobKey { namespace: NAMESPACE.to_owned(), name: "gone".to_owned() };
    let watch =
        sluice_signals::WatchSpec { latency: Duration::from_secs(10), sources: Vec::new(), workers: Vec::new() };
    hub.watch(&gone, watch);
    wait(20).await;
    assert_eq!(hub.jobs().len(), 2);
    assert!(hub.read(&gone).is_none());
    operator.end().await;
    world.end();
}

/// A restarted operator writes nothing for jobs that have not changed, whether or not their sources answer, nor in the
/// following hour. With 500 jobs it once made 2,288 writes.
///
/// Catalogue: T9.
#[tokio::test(start_paused = true)]
async fn restart_writes_nothing() {
    let (world, faults, operator) = at_rest(18, 5).await;
    operator.end().await;
    let before = faults.requests().len();
    let operator = Running::start(&world, &faults);
    wait(60 * 60).await;
    let written = writes(&faults, before);
    assert!(written.is_empty(), "{written:?}");
    operator.end().await;
    world.end();
}
