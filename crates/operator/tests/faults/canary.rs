//! Secrets stay where they are: a word that stands for one is looked for in everything that the operator says.

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

/// What was logged.
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

/// Starts an operator that shows a token to the API server.
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

/// A job that is well, and three that are refused for one reason each, all with secrets in them.
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
    // The definition lets the first through; an older one may let the second.
    let servers =
        |job: &mut Value, text: String| job["spec"]["sources"][0]["kafka"]["bootstrapServers"] = json!([text]);
    servers(&mut all[2], format!("{CANARY}-user@kafka:9092"));
    servers(&mut all[3], format!("user:{CANARY}-word@kafka:9092"));
    all
}

/// `PASSWORD@kafka:9092` was taken for a host, and what was taken for none was repeated in the condition, the event and the log.
#[tokio::test(start_paused = true)]
async fn t10_s30_no_secret_is_in_anything_that_is_said() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(log.clone()).finish();
    // With one subscriber alone, what another test's thread has met first is off for this one, too.
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
    let mut said: Vec<String> = String::from_utf8_lossy(&log.0.lock().unwrap()).lines().map(str::to_owned).collect();
    assert!(said.iter().any(|line| line.contains("leading")), "something is logged: {said:?}");
    let events = world.list("", "events");
    assert!(events.len() >= 4, "{events:?}");
    let jobs = world.list("sluice.dev", "streamjobs");
    for name in ["userinfo", "password"] {
        let one = jobs.iter().find(|one| meta::name(one) == name).unwrap();
        assert!(one["status"].to_string().contains("InvalidSpec"), "{}", one["status"]);
    }
    said.extend(jobs.iter().map(|one| one["status"].to_string()));
    said.extend(events.iter().map(Value::to_string));
    said.extend(world.list("coordination.k8s.io", "leases").iter().map(Value::to_string));
    said.extend(world.list("", "configmaps").iter().map(Value::to_string));
    said.push(metrics.encode().unwrap());
    let leaks: Vec<&String> = said.iter().filter(|text| text.contains(CANARY)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    world.end();
}

/// What a tenant is told is about its own job alone, also where the jobs of two are on one cluster, and its source is away.
#[tokio::test(start_paused = true)]
async fn t10_s36_a_tenant_is_told_of_its_own_job_alone() {
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
    let told = |name: &str| {
        let status = jobs.iter().find(|one| meta::name(one) == name).map(|one| one["status"].to_string());
        let events = world.list("", "events").into_iter().filter(|event| event["involvedObject"]["name"] == name);
        status.into_iter().chain(events.map(|event| event["message"].to_string())).collect::<Vec<_>>()
    };
    assert!(told(&others).len() > 2 && told(&others).iter().any(|text| text.contains(CANARY)), "{:?}", told(&others));
    assert!(told(ours).len() > 2);
    assert!(told(ours).iter().all(|text| !text.contains(CANARY)), "{:#?}", told(ours));
    world.end();
}

/// The longest name there is: its series are as many as any job's, and go with it.
#[tokio::test(start_paused = true)]
async fn t10_s28_labels_are_bounded_and_go_with_their_job() {
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
