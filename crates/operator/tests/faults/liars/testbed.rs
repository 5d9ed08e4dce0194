//! Jobs whose records arrive over Kafka's protocol: krafka's broker in memory, krafka's client, the hub, the operator
//! and the embedded control plane, under paused time. Tests determine what brokers and workers report.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use embedded_kubernetes::api::Actor;
use embedded_kubernetes::kinds::Resource;
use embedded_kubernetes::meta;
use embedded_kubernetes::service::InMemory;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use krafka::Kafka;
use krafka::testing::{ClassicGroupState, ClusterState, CommittedOffset, FakeBroker, GroupMember};
use kube::Client;
use serde_json::{Value, json};
use sluice_operator::Operator;
use sluice_operator::serve::Health;
use sluice_operator::serve::metrics::Metrics;
use sluice_signals::scrape::{MetricsPage, ScrapeError};
use sluice_signals::{Hub, KafkaConnect, Scrape, WorkerEndpoint, WorkerSample};
use tokio_util::sync::CancellationToken;

use sluice_testkit::world::{NAMESPACE, World, job, wait};

pub(super) const PARTITIONS: usize = 8;
/// Capacity of one worker, records per second.
const CAPACITY: i64 = 100;
const GROUP: &str = "g";

/// The true state of one job.
pub(super) struct Truth {
    pub(super) topic: String,
    pub(super) rate: i64,
    pub(super) end: [i64; PARTITIONS],
    pub(super) done: [i64; PARTITIONS],
    /// Ready workers, by uid and name.
    workers: Vec<(String, String)>,
    counters: HashMap<String, Counters>,
}

/// The true counters of one worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) processed: i64,
    pub(super) busy: f64,
    started: f64,
}

impl Counters {
    /// Returns the page with these counters.
    pub(super) fn page(&self) -> String {
        format!(
            "sluice_worker_records_processed_total {}\nsluice_worker_records_in_time_total {}\nsluice_worker_busy_seconds_total {}\nsluice_worker_concurrency 1\nprocess_start_time_seconds {}\n",
            self.processed, self.processed, self.busy, self.started
        )
    }
}

/// Sets the state that a broker reports. Called every second.
pub(super) type BrokerState = Box<dyn Fn(&Truth, &mut ClusterState) + Send>;
/// Returns the page that a worker reports.
pub(super) type WorkerPage = Box<dyn Fn(&Counters) -> String + Send>;

struct SimulatedJob {
    truth: Truth,
    broker: Arc<FakeBroker>,
    broker_state: BrokerState,
    worker_page: WorkerPage,
}

type SimulatedJobs = Arc<Mutex<BTreeMap<String, SimulatedJob>>>;

pub(super) struct Testbed {
    pub(super) world: World,
    pub(super) brokers: Vec<Arc<FakeBroker>>,
    jobs: SimulatedJobs,
    hub: Hub,
}

impl Testbed {
    /// Returns a world with this number of clusters, each of three brokers.
    pub(super) async fn new(clusters: u16) -> Self {
        let world = World::new(7).await;
        let brokers: Vec<_> = (0..clusters).map(|_| Arc::new(FakeBroker::start_in_memory(3))).collect();
        let all = brokers.clone();
        let begin = move |addresses: &str| match all.iter().enumerate().find(|(at, _)| address(*at) == addresses) {
            Some((_, broker)) => broker.kafka(),
            None => Kafka::builder(addresses),
        };
        let jobs = SimulatedJobs::default();
        let connect = Arc::new(KafkaConnect::with_client_builder(world.clock.clone(), Arc::new(begin)));
        let scrape = Arc::new(Workers { jobs: Arc::clone(&jobs), clock: world.clock.clone() });
        let hub = Hub::with_seed(1, world.clock.clone(), connect, scrape);
        let operator = Operator {
            client: Client::new(InMemory::new(world.server.clone()), NAMESPACE),
            namespaces: Vec::new(),
            excluded: std::collections::BTreeSet::new(),
            election: None,
            signals: Arc::new(hub.clone()),
            health: Health::default(),
            metrics: Metrics::default(),
            clock: world.clock.clone(),
        };
        tokio::spawn(operator.run(hub.updates(), CancellationToken::new()));
        Self { world, brokers, jobs, hub }
    }

    /// Creates a job that reads from a cluster, and its topic. `rate`: records per second.
    pub(super) async fn job(&self, name: &str, cluster: usize, rate: i64, change: impl FnOnce(&mut Value)) {
        let mut object = job(name);
        let spec = &mut object["spec"];
        spec["objective"]["latency"] = json!("20s");
        spec["metrics"] = json!({"port": 8080});
        spec["sources"][0]["kafka"]["bootstrapServers"] = json!([address(cluster)]);
        change(&mut object);
        self.topic(name, cluster, rate);
        self.world.apply(&object).await;
    }

    /// Creates a topic, whose records the workers of the job of the same name process. `rate`: records per second.
    pub(super) fn topic(&self, name: &str, cluster: usize, rate: i64) {
        let truth = Truth {
            topic: name.to_owned(),
            rate,
            end: [0; PARTITIONS],
            done: [0; PARTITIONS],
            workers: Vec::new(),
            counters: HashMap::new(),
        };
        let job = SimulatedJob {
            truth,
            broker: Arc::clone(&self.brokers[cluster]),
            broker_state: Box::new(report_truth),
            worker_page: Box::new(Counters::page),
        };
        self.jobs.lock().unwrap().insert(name.to_owned(), job);
    }

    pub(super) fn set_rate(&self, name: &str, rate: i64) {
        self.jobs.lock().unwrap().get_mut(name).unwrap().truth.rate = rate;
    }

    /// Sets what the broker of a job reports from now on.
    pub(super) fn set_broker_state(&self, name: &str, state: impl Fn(&Truth, &mut ClusterState) + Send + 'static) {
        self.jobs.lock().unwrap().get_mut(name).unwrap().broker_state = Box::new(state);
    }

    /// Sets what the workers of a job report from now on.
    pub(super) fn set_worker_page(&self, name: &str, page: impl Fn(&Counters) -> String + Send + 'static) {
        self.jobs.lock().unwrap().get_mut(name).unwrap().worker_page = Box::new(page);
    }

    /// Lets all brokers and workers report the truth from now on.
    pub(super) fn restore_truth(&self) {
        for job in self.jobs.lock().unwrap().values_mut() {
            (job.broker_state, job.worker_page) = (Box::new(report_truth), Box::new(Counters::page));
            job.broker.clear_hooks();
            (0..3).for_each(|node| job.broker.restart(node));
        }
    }

    /// Runs second by second, and calls `check` after each.
    pub(super) async fn run(&self, seconds: u32, mut check: impl FnMut(&Self)) {
        for _ in 0..seconds {
            self.advance_a_second();
            wait(1).await;
            check(self);
        }
    }

    fn advance_a_second(&self) {
        let kubelet = Actor::new(self.world.server.clone(), "kubelet");
        let pods = kubelet.list(&Resource::new("", "pods"), Some(NAMESPACE));
        for (number, pod) in pods.iter().map(|pod| &pod.value).enumerate() {
            if is_ready(pod) && pod["status"]["podIP"].is_null() {
                let mut status = pod["status"].clone();
                status["podIP"] = json!(format!("10.0.0.{}", number + 1));
                let _ = kubelet.set_status(pod, status);
            }
        }
        for (name, job) in self.jobs.lock().unwrap().iter_mut() {
            let mut workers: Vec<(String, String)> = pods
                .iter()
                .map(|pod| &pod.value)
                .filter(|pod| meta::label(pod, "sluice.dev/job") == Some(name) && is_ready(pod) && !meta::deleting(pod))
                .map(|pod| (meta::text(pod, "/metadata/uid").to_owned(), meta::name(pod).to_owned()))
                .collect();
            workers.sort_by(|a, b| a.1.cmp(&b.1));
            job.truth.workers = workers;
            job.truth.advance_a_second(self.world.clock.now().0);
            job.broker.with_state(|state| (job.broker_state)(&job.truth, state));
        }
    }

    /// Returns the replica count of a job's workload.
    pub(super) fn workers(&self, name: &str) -> u64 {
        let all = self.world.list("apps", "deployments");
        let ours = all.iter().find(|object| meta::name(object) == name);
        ours.and_then(|object| object["spec"]["replicas"].as_u64()).unwrap_or(0)
    }

    /// Returns a condition of a job as text: status, reason and message.
    pub(super) fn condition(&self, name: &str, kind: &str) -> String {
        let all = self.world.list("sluice.dev", "streamjobs");
        let job = all.iter().find(|object| meta::name(object) == name);
        let conditions = job.and_then(|job| job["status"]["conditions"].as_array()).cloned().unwrap_or_default();
        let one = conditions.iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("status"), text("reason"), text("message"))
    }

    /// Returns the conditions of a job that should be True and are not.
    pub(super) fn complaints(&self, name: &str) -> String {
        ["MetricsAvailable", "Ready", "ScalingActive"]
            .map(|kind| self.condition(name, kind))
            .into_iter()
            .filter(|condition| !condition.starts_with("True"))
            .collect::<Vec<_>>()
            .join("; ")
    }

    pub(super) async fn end(&self) {
        self.world.end();
        self.hub.shutdown().await;
    }
}

fn address(cluster: usize) -> String {
    format!("127.0.0.1:{}", 9101 + cluster)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

impl Truth {
    fn advance_a_second(&mut self, now: f64) {
        (0..self.rate).for_each(|record| self.end[usize::try_from(record).unwrap() % PARTITIONS] += 1);
        for (number, (uid, _)) in self.workers.iter().enumerate() {
            let fresh = Counters { started: now, ..Counters::default() };
            let counters = self.counters.entry(uid.clone()).or_insert(fresh);
            let mut room = CAPACITY;
            for p in (0..PARTITIONS).filter(|p| p % self.workers.len() == number) {
                let taken = (self.end[p] - self.done[p]).min(room);
                self.done[p] += taken;
                room -= taken;
            }
            counters.processed += CAPACITY - room;
            let records = |number: i64| f64::from(i32::try_from(number).unwrap());
            counters.busy += records(CAPACITY - room) / records(CAPACITY);
        }
    }
}

/// Sets the state of a broker to the truth.
pub(super) fn report_truth(truth: &Truth, state: &mut ClusterState) {
    state.create_topic(&truth.topic, 8);
    for p in 0..PARTITIONS {
        let number = i32::try_from(p).unwrap();
        if let Some(partition) = state.partition_mut(&truth.topic, number).filter(|partition| partition.leader < 0) {
            partition.leader = number % 3;
        }
        offsets(truth, state, p, (0, truth.end[p], truth.done[p]));
    }
    let group = state.groups.entry(GROUP.to_owned()).or_default();
    group.state = ClassicGroupState::Stable;
    "consumer".clone_into(&mut group.protocol_type);
    group.protocol_name = Some("cooperative-sticky".to_owned());
    group.members.retain(|member| member.metadata.as_ref() != truth.topic.as_bytes());
    for (number, (_, name)) in truth.workers.iter().enumerate() {
        let owned: Vec<usize> = (0..PARTITIONS).filter(|p| p % truth.workers.len() == number).collect();
        group.assignments.insert(name.clone(), assignment(&truth.topic, &owned).into());
        group.members.push(GroupMember {
            member_id: name.clone(),
            group_instance_id: None,
            metadata: truth.topic.clone().into_bytes().into(),
            client_id: name.clone(),
            client_host: "/10.9.9.9".to_owned(),
        });
    }
}

/// Sets start, end and committed offset of one partition.
pub(super) fn offsets(truth: &Truth, state: &mut ClusterState, p: usize, (start, end, committed): (i64, i64, i64)) {
    let number = i32::try_from(p).unwrap();
    if let Some(partition) = state.partition_mut(&truth.topic, number) {
        (partition.log_start_offset, partition.next_offset) = (start, end);
    }
    let committed = CommittedOffset { offset: committed, leader_epoch: -1, metadata: None };
    let group = state.groups.entry(GROUP.to_owned()).or_default();
    group.offsets.insert((truth.topic.clone(), number), committed);
}

/// Returns an assignment in the format of the group's members (`ConsumerProtocolAssignment`, version 0).
fn assignment(topic: &str, partitions: &[usize]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 0, 1];
    bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
    bytes.extend(topic.bytes());
    bytes.extend(u32::try_from(partitions.len()).unwrap().to_be_bytes());
    bytes.extend(partitions.iter().flat_map(|p| u32::try_from(*p).unwrap().to_be_bytes()));
    bytes.extend((-1_i32).to_be_bytes());
    bytes
}

/// Reads the workers' pages without a network.
struct Workers {
    jobs: SimulatedJobs,
    clock: sluice_base::clock::Clock,
}

impl Scrape for Workers {
    fn scrape<'a>(
        &'a self,
        worker: &'a WorkerEndpoint,
        topics: &'a [String],
        _: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>> {
        async move {
            let jobs = self.jobs.lock().unwrap();
            let mut all = jobs.values();
            let text = all.find_map(|job| Some((job.worker_page)(job.truth.counters.get(&worker.uid)?)));
            let mut page = MetricsPage::new(topics);
            text.unwrap_or_default().lines().for_each(|line| page.read_line(line.as_bytes()));
            page.into_sample(self.clock.now())
                .map_err(|detail| ScrapeError::Protocol { url: worker.id.clone(), detail })
        }
        .boxed()
    }
}
