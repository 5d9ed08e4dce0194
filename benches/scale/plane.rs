//! The control plane with its jobs, and the measurements of the operator's process.

use std::io::{BufRead as _, BufReader};
use std::process::{Child as Process, Command, Stdio};
use std::time::Duration;

use embedded_kubernetes::api::{Actor, Options, Server, User};
use embedded_kubernetes::controllers::{Controllers, Pace};
use embedded_kubernetes::{http, standin};
use serde_json::json;
use sluice_base::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::Case;

/// Number of jobs of one team, which share a namespace.
const TEAM: usize = 250;
/// Timeout for the first full round.
const FIRST_ROUND_TIMEOUT: Duration = Duration::from_mins(10);

pub(crate) fn measure(case: Case) {
    let Case { jobs, holes, others, minutes } = case;
    println!("{jobs} jobs, {holes} more whose source never responds, {others} unrelated pods");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut options = Options::new(embedded_kubernetes::clock::Clock::new(Clock::system()));
        options.tokens = vec![("token".to_owned(), User::admin())];
        let server = Server::new(options);
        let stop = CancellationToken::new();
        let controllers = Controllers::start(&server, Pace::default(), &stop);
        standin::run(&server, Duration::from_secs(1), &stop);
        let user = Actor::new(server.clone(), "user");
        fill(&user, jobs, holes);
        create_unrelated_pods(&user, others).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(http::serve(server.clone(), listener, stop.clone()));
        measure_operator(&server, &address.to_string(), jobs, Duration::from_secs(60 * minutes)).await;
        stop.cancel();
        controllers.ended().await;
        serving.await.unwrap().unwrap();
    });
}

fn fill(actor: &Actor, jobs: usize, holes: usize) {
    for definition in sluice_api::crds() {
        actor.create(serde_json::to_value(definition).unwrap()).unwrap();
    }
    standin::add_node(actor, "n", "100000").unwrap();
    for number in 0..jobs + holes {
        let namespace = format!("team-{}", number / TEAM);
        if number % TEAM == 0 {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            actor.create(object).unwrap();
        }
        // The jobs of a team share a Kafka cluster; each job whose source never responds has its own.
        let (name, server) = if number < jobs {
            (format!("job-{number}"), format!("{namespace}:9092"))
        } else {
            (format!("hole-{number}"), format!("{}{number}:9092", sluice_testkit::sources::HOLE))
        };
        let ports = json!([{"name": "metrics", "containerPort": 8080}]);
        let created = actor.create(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "objective": {"latency": "10s"}, "minReplicas": 1, "maxReplicas": 8,
                "scaling": {"initialReplicas": 2},
                "sources": [{"name": "in", "kafka": {"bootstrapServers": [server], "topic": name, "consumerGroup": "g"}}],
                "workload": {"template": {"spec": {"containers": [{"name": "worker", "image": "worker:1", "ports": ports}]}}},
            },
        }));
        created.unwrap();
    }
}

/// Creates pods that belong to no job, on a node without an object.
async fn create_unrelated_pods(actor: &Actor, number: usize) {
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

/// Starts the operator and prints its measurements; then the same after a restart, when all workloads exist.
async fn measure_operator(server: &Server, address: &str, jobs: usize, length: Duration) {
    let mut first = Child::start(address, jobs).await;
    let mut minutes = Vec::new();
    let begin = Clock::system().monotonic();
    while begin.elapsed() < length {
        let before = server.store().revision();
        tokio::time::sleep(Duration::from_mins(1)).await;
        minutes.push((server.store().revision() - before).to_string());
    }
    println!("  changes of the store in each minute: {}", minutes.join(" "));
    first.end();
    println!("  after a restart, with all workloads:");
    let before = server.store().revision();
    let mut second = Child::start(address, jobs).await;
    println!("  changes of the store until then: {}", server.store().revision() - before);
    second.end();
}

/// The operator's process.
struct Child {
    process: Process,
}

impl Child {
    /// Starts the process and waits for the first full round. Its output is passed on.
    async fn start(address: &str, jobs: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["operator", address, &jobs.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, mut first_round) = tokio::sync::watch::channel(false);
        let lines = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            lines.lines().map_while(Result::ok).for_each(|line| {
                println!("  {line}");
                if line.starts_with("first") {
                    let _ = sender.send(true);
                }
            });
        });
        if tokio::time::timeout(FIRST_ROUND_TIMEOUT, first_round.wait_for(|complete| *complete)).await.is_err() {
            println!("  no full round within {} s", FIRST_ROUND_TIMEOUT.as_secs());
        }
        Self { process }
    }

    fn end(&mut self) {
        println!("  resident: {:.0} MiB, at most {:.0} MiB", self.mib("VmRSS"), self.mib("VmHWM"));
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn mib(&self, what: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}
