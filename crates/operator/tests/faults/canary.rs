//! Secrets do not leak: a marker in every secret is searched for in logs, statuses, events, metrics and other objects.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use embedded_kubernetes::meta;
use embedded_kubernetes::service::InMemory;
use kube::Client;
use kube::client::ConfigExt as _;
use serde_json::{Value, json};
use sluice_operator::serve::Health;
use sluice_operator::serve::metrics::Metrics;
use sluice_operator::{Election, Operator};
use sluice_signals::JobKey;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

use sluice_testkit::world::{NAMESPACE, World, job, wait};

const CANARY: &str = "canary-7f3a";

/// The collected log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Starts an operator that authenticates with a token.
fn start(world: &World) -> Metrics {
    let mut config = kube::Config::new("https://10.0.0.1".parse().unwrap());
    config.auth_info.token = Some(format!("{CANARY}-token").into());
    let service = tower::ServiceBuilder::new()
        .layer(config.auth_layer().unwrap().unwrap())
        .map_err(tower::BoxError::from)
        .service(InMemory::new(world.server.clone()));
    let metrics = Metrics::default();
    let operator = Operator {
        client: Client::new(service, NAMESPACE),
        namespaces: Vec::new(),
        excluded: std::collections::BTreeSet::new(),
        election: Some(Election {
            namespace: NAMESPACE.to_owned(),
            lease: "sluice".to_owned(),
            identity: "o".to_owned(),
        }),
        signals: Arc::<sluice_testkit::world::plant::Plant>::clone(&world.plant),
        health: Health::default(),
        metrics: metrics.clone(),
        clock: world.clock.clone(),
    };
    tokio::spawn(operator.run(world.plant.updates(), CancellationToken::new()));
    metrics
}

fn key(name: &str) -> JobKey {
    JobKey { namespace: NAMESPACE.to_owned(), name: name.to_owned() }
}

/// Returns a healthy job and three that are refused for different reasons, all with secrets in them.
fn jobs() -> Vec<Value> {
    let secret = |what: &str| format!("{CANARY}-{what}");
    let mut all: Vec<Value> = ["orders", "refused", "userinfo", "password"].map(job).into();
    for job in &mut all {
        let template = &mut job["spec"]["workload"]["template"];
        template["metadata"] = json!({"annotations": {"token": secret("annotation")}});
        template["spec"]["containers"][0]["env"] = json!([{"name": "TOKEN", "value": secret("environment")}]);
        template["spec"]["containers"][0]["args"] = json!(["--password", secret("argument")]);
    }
    // The server refuses the pods.
    all[1]["spec"]["workload"]["template"]["spec"]["restartPolicy"] = json!("Never");
    // The definition allows the first server; an older one may allow the second.
    let servers =
        |job: &mut Value, text: String| job["spec"]["sources"][0]["kafka"]["bootstrapServers"] = json!([text]);
    servers(&mut all[2], format!("{CANARY}-user@kafka:9092"));
    servers(&mut all[3], format!("user:{CANARY}-word@kafka:9092"));
    all
}

/// `PASSWORD@kafka:9092` was parsed as a host, and servers that are not hosts were quoted in the condition, the event
/// and the log.
///
/// Catalogue: S30.
#[tokio::test(start_paused = true)]
async fn secrets_do_not_appear_in_any_output() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(log.clone()).finish();
    // A second dispatcher keeps tracing from caching the interest of call sites that another test's thread has reached
    // first.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new(31).await;
    let mut definition = sluice_api::crds().into_iter().map(|one| serde_json::to_value(one).unwrap()).next().unwrap();
    let pattern = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/sources/items/properties/kafka/properties/bootstrapServers/items";
    definition.pointer_mut(pattern).unwrap().as_object_mut().unwrap().remove("pattern");
    world.apply(&definition).await;
    let metrics = start(&world);
    for object in jobs() {
        world.plant.set_rate(&key(meta::name(&object)), 100);
        world.apply(&object).await;
    }
    wait(60).await;
    world.plant.set_away(&key("orders"), true);
    wait(120).await;
    let mut output: Vec<String> = String::from_utf8_lossy(&log.0.lock().unwrap()).lines().map(str::to_owned).collect();
    assert!(output.iter().any(|line| line.contains("leading")), "nothing is logged: {output:?}");
    let events = world.list("", "events");
    assert!(events.len() >= 4, "{events:?}");
    let jobs = world.list("sluice.dev", "streamjobs");
    for name in ["userinfo", "password"] {
        let one = jobs.iter().find(|one| meta::name(one) == name).unwrap();
        assert!(one["status"].to_string().contains("InvalidSpec"), "{}", one["status"]);
    }
    output.extend(jobs.iter().map(|one| one["status"].to_string()));
    output.extend(events.iter().map(Value::to_string));
    output.extend(world.list("coordination.k8s.io", "leases").iter().map(Value::to_string));
    output.extend(world.list("", "configmaps").iter().map(Value::to_string));
    output.push(metrics.encode().unwrap());
    let leaks: Vec<&String> = output.iter().filter(|text| text.contains(CANARY)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    world.end();
}

/// Statuses and events of a job contain nothing about other jobs, also if both read one Kafka cluster that is
/// unreachable.
///
/// Catalogue: S36.
#[tokio::test(start_paused = true)]
async fn status_and_events_contain_nothing_of_other_jobs() {
    let world = World::new(41).await;
    start(&world);
    let (ours, others) = ("orders", format!("{CANARY}-job"));
    for name in [ours, &others] {
        world.plant.set_rate(&key(name), 100);
        world.apply(&job(name)).await;
    }
    wait(60).await;
    world.plant.set_away(&key(ours), true);
    world.plant.set_away(&key(&others), true);
    wait(120).await;
    let jobs = world.list("sluice.dev", "streamjobs");
    let output_of = |name: &str| {
        let status = jobs.iter().find(|one| meta::name(one) == name).map(|one| one["status"].to_string());
        let events = world.list("", "events").into_iter().filter(|event| event["involvedObject"]["name"] == name);
        status.into_iter().chain(events.map(|event| event["message"].to_string())).collect::<Vec<_>>()
    };
    assert!(
        output_of(&others).len() > 2 && output_of(&others).iter().any(|text| text.contains(CANARY)),
        "{:?}",
        output_of(&others)
    );
    assert!(output_of(ours).len() > 2);
    assert!(output_of(ours).iter().all(|text| !text.contains(CANARY)), "{:#?}", output_of(ours));
    world.end();
}

/// A job with the longest possible name has no more series than others, and they are removed with the job.
///
/// Catalogue: S28.
#[tokio::test(start_paused = true)]
async fn metric_labels_are_bounded_and_removed_with_their_job() {
    let world = World::new(37).await;
    let metrics = start(&world);
    let names: [String; 2] = ["orders".to_owned(), "n".repeat(253)];
    for name in &names {
        world.plant.set_rate(&key(name), 100);
        let _ = world.try_apply(&job(name)).await;
    }
    wait(60).await;
    let series =
        |name: &str| metrics.encode().unwrap().lines().filter(|line| line.contains(&format!("\"{name}\""))).count();
    assert!(series(&names[0]) > 0);
    assert!(series(&names[1]) <= series(&names[0]));
    for name in &names {
        if world.list("sluice.dev", "streamjobs").iter().any(|one| meta::name(one) == name) {
            world.delete(&job(name)).await;
        }
    }
    wait(60).await;
    assert_eq!((series(&names[0]), series(&names[1])), (0, 0));
    world.end();
}
