//! The control plane with its jobs, and what is seen of the operator from there.

use std::time::Duration;

use embedded_kubernetes::api::{Actor, Options, Server, User};
use embedded_kubernetes::controllers::{Controllers, Pace};
use embedded_kubernetes::{http, standin};
use serde_json::json;
use sluice_base::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::Case;
use super::child::Child;
use super::operator::FIRST;

/// Jobs of one team.
const TEAM: usize = 250;
/// Longest wait for the first full round.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);

pub(crate) fn measure(case: Case) {
    let Case { jobs, holes, others, minutes } = case;
    println!("{jobs} jobs, {holes} beside them whose source never answers, {others} pods of others");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let plane = Plane::start().await;
        fill(&plane, jobs, holes);
        others_are_there(&plane.user, others).await;
        look(&plane, jobs, Duration::from_secs(60 * minutes)).await;
        plane.end().await;
    });
}

/// A control plane that listens on loopback.
pub(crate) struct Plane {
    /// Where.
    pub(crate) address: String,
    server: Server,
    user: Actor,
    stop: CancellationToken,
    controllers: Controllers,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Plane {
    /// With the definitions and one node.
    pub(crate) async fn start() -> Self {
        let mut options = Options::new(embedded_kubernetes::clock::Clock::new(Clock::system()));
        options.tokens = vec![("token".to_owned(), User::admin())];
        let server = Server::new(options);
        let stop = CancellationToken::new();
        let controllers = Controllers::start(&server, Pace::default(), &stop);
        standin::run(&server, Duration::from_secs(1), &stop);
        let user = Actor::new(server.clone(), "user");
        for definition in sluice_api::crds() {
            user.create(serde_json::to_value(definition).unwrap()).unwrap();
        }
        standin::add_node(&user, "n", "100000").unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(http::serve(server.clone(), listener, stop.clone()));
        Self { address, server, user, stop, controllers, serving }
    }

    pub(crate) fn namespace(&self, name: &str) {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.user.create(object).unwrap();
    }

    /// A job that begins with two workers.
    pub(crate) fn job(&self, namespace: &str, name: &str, server: &str, topic: &str) {
        let ports = json!([{"name": "metrics", "containerPort": 8080}]);
        let created = self.user.create(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "objective": {"latency": "10s"}, "minReplicas": 1, "maxReplicas": 8, "metrics": {"port": "metrics"},
                "scaling": {"initialReplicas": 2},
                "sources": [{"name": "in", "kafka": {"bootstrapServers": [server], "topic": topic, "consumerGroup": name}}],
                "workload": {"template": {"spec": {"containers": [{"name": "worker", "image": "worker:1", "ports": ports}]}}},
            },
        }));
        created.unwrap();
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.controllers.ended().await;
        self.serving.await.unwrap().unwrap();
    }
}

fn fill(plane: &Plane, jobs: usize, holes: usize) {
    for number in 0..jobs + holes {
        let namespace = format!("team-{}", number / TEAM);
        if number % TEAM == 0 {
            plane.namespace(&namespace);
        }
        // The jobs of a team share a cluster; each that never answers is one of its own.
        let (name, server) = if number < jobs {
            (format!("job-{number}"), format!("{namespace}:9092"))
        } else {
            (format!("hole-{number}"), format!("{}{number}:9092", sluice_testkit::sources::HOLE))
        };
        plane.job(&namespace, &name, &server, &name);
    }
}

/// Pods of other teams, on a node of which nothing is known here.
async fn others_are_there(actor: &Actor, number: usize) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "others"}});
    actor.create(namespace).unwrap();
    // Pods are admitted once the namespace has its service account.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for pod in 0..number {
        let created = actor.create(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("other-{pod}"), "namespace": "others", "labels": {"app": "other"}},
            "spec": {"nodeName": "elsewhere", "containers": [{"name": "c", "image": "other:1"}]},
        }));
        created.unwrap();
    }
}

/// Starts the operator and prints the results, and again those of a restart with all workloads present.
async fn look(plane: &Plane, jobs: usize, look_on: Duration) {
    let revision = || plane.server.store().revision();
    let first = start(plane, jobs).await;
    let mut minutes = Vec::new();
    let begin = Clock::system().monotonic();
    while begin.elapsed() < look_on {
        let before = revision();
        tokio::time::sleep(Duration::from_mins(1)).await;
        minutes.push((revision() - before).to_string());
    }
    println!("  changes of the store, each minute: {}", minutes.join(" "));
    first.end();
    println!("  restarted, all workloads there:");
    let before = revision();
    let second = start(plane, jobs).await;
    println!("  changes of the store until then: {}", revision() - before);
    second.end();
}

/// Starts the operator, and waits for the first full round.
async fn start(plane: &Plane, jobs: usize) -> Child {
    let mut child = Child::start(&[plane.address.clone(), jobs.to_string()]);
    if child.says(FIRST, PATIENCE).await.is_none() {
        println!("  no full round within {} s", PATIENCE.as_secs());
    }
    child
}
