//! The real operator in a simulated world: the embedded control plane with its controllers, pods that only pretend to
//! run, simulated sources, faults between the operator and the API server, and paused time.

pub mod ends;
pub mod plant;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use embedded_kubernetes::api::{Actor, Options, Server};
use embedded_kubernetes::controllers::{Controllers, Pace};
use embedded_kubernetes::faults::{Faults, Plan};
use embedded_kubernetes::kinds::Resource;
use embedded_kubernetes::service::InMemory;
use embedded_kubernetes::standin;
use embedded_kubernetes::store::Store;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_operator::serve::Health;
use sluice_operator::serve::metrics::Metrics;
use sluice_operator::{Election, Operator};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use plant::Plant;

/// Number of changes of each resource that the store keeps, which is more than any test makes.
const HISTORY: usize = 1_000_000;

/// Namespace of the jobs.
pub const NAMESPACE: &str = "team";

/// A cluster with sources, and operators that run in it.
pub struct World {
    pub server: Server,
    pub plant: Arc<Plant>,
    pub clock: Clock,
    user: Client,
    operators: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl World {
    /// Returns a world with a node, a namespace, Sluice's definitions and a workload of another owner, without an
    /// operator.
    pub async fn new(seed: u64) -> Self {
        // The objects that all worlds start with are created once.
        static BEGIN: OnceLock<Store> = OnceLock::new();
        if BEGIN.get().is_none() {
            let first = Self::around(Store::new(HISTORY), 0, 0.0);
            first.settle().await;
            let _ = BEGIN.set(first.server.store().fork());
            first.end();
        }
        Self::around(BEGIN.get().unwrap().fork(), seed, 100.0)
    }

    fn around(store: Store, seed: u64, later: f64) -> Self {
        let clock = Clock::starting_at(Seconds(1_800_000_000.0 + later));
        let mut options = Options::new(embedded_kubernetes::clock::Clock::new(clock.clone()));
        options.seed = Some(seed);
        let server = Server::with_store(options, store);
        let stop = CancellationToken::new();
        let _ = Controllers::start(&server, Pace { longest: Duration::from_millis(20), seed }, &stop);
        standin::run(&server, Duration::from_secs(1), &stop);
        let user = Client::new(InMemory::new(server.clone()), NAMESPACE);
        let plant = Arc::new(Plant::new(server.clone(), clock.clone()));
        Self { server, plant, clock, user, operators: Vec::new(), stop }
    }

    async fn settle(&self) {
        standin::add_node(&Actor::new(self.server.clone(), "kubelet"), "n", "1000").unwrap();
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})).await;
        for definition in sluice_api::crds() {
            self.apply(&serde_json::to_value(definition).unwrap()).await;
        }
        self.apply(&bystander()).await;
        wait(5).await;
    }

    /// Starts an operator, and restarts it two seconds after each exit. Its requests are subject to the faults of the
    /// plan.
    pub fn start_operator(&mut self, plan: &Plan, clock: Clock, election: Option<Election>) -> Faults {
        let faults = Faults::new(plan, embedded_kubernetes::clock::Clock::new(self.clock.clone()));
        let (server, plant, to_come) = (self.server.clone(), Arc::clone(&self.plant), faults.clone());
        let lives = async move {
            for life in 1.. {
                // Each process has its own identity, like those of a restarted container.
                let election =
                    election.clone().map(|all| Election { identity: format!("{}{life}", all.identity), ..all });
                let (connection, crashed) = to_come.connect(InMemory::new(server.clone()));
                let operator = Operator {
                    client: Client::new(connection, NAMESPACE),
                    namespaces: Vec::new(),
                    excluded: std::collections::BTreeSet::new(),
                    election,
                    signals: Arc::<Plant>::clone(&plant),
                    health: Health::default(),
                    metrics: Metrics::default(),
                    clock: clock.clone(),
                };
                let life = operator.run(plant.updates(), CancellationToken::new());
                tokio::select! {
                    biased;
                    () = crashed.cancelled() => {}
                    _ = life => {}
                }
                wait(2).await;
            }
        };
        self.operators.push(tokio::spawn(lives));
        faults
    }

    /// Applies an object as a user does.
    pub async fn apply(&self, object: &Value) -> Value {
        self.try_apply(object).await.unwrap()
    }

    /// Applies an object as a user does, and returns the API server's answer.
    pub async fn try_apply(&self, object: &Value) -> kube::Result<Value> {
        let params = PatchParams::apply("user").force();
        let name = object["metadata"]["name"].as_str().unwrap();
        let applied = self.api(object).patch(name, &params, &Patch::Apply(object)).await?;
        Ok(serde_json::to_value(applied).unwrap())
    }

    /// Deletes an object as a user does. An object that does not exist is not an error.
    pub async fn delete(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        match self.api(object).delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            answer => drop(answer.unwrap()),
        }
    }

    /// Returns a client for the kind of an object.
    pub fn api(&self, object: &Value) -> Api<DynamicObject> {
        let text = |key: &str| object[key].as_str().unwrap();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or_else(|| ("", text("apiVersion")));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.user.clone(), namespace, &resource),
            None => Api::all_with(self.user.clone(), &resource),
        }
    }

    /// Returns every object of a resource.
    pub fn list(&self, group: &str, plural: &str) -> Vec<Value> {
        let all = Actor::new(self.server.clone(), "reader").list(&Resource::new(group, plural), None);
        all.iter().map(|object| object.value.clone()).collect()
    }

    /// Stops the operators and controllers.
    pub fn end(&self) {
        self.stop.cancel();
        self.operators.iter().for_each(JoinHandle::abort);
    }
}

/// Lets seconds pass.
pub async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Returns a workload that no job may change.
fn bystander() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bystander", "namespace": NAMESPACE},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "bystander"}},
            "template": {
                "metadata": {"labels": {"app": "bystander"}},
                "spec": {"containers": [{"name": "c", "image": "other"}]},
            },
        },
    })
}

/// Returns a `StreamJob`, which reads a topic of its own name.
pub fn job(name: &str) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "objective": {"latency": "10s"}, "minReplicas": 1, "maxReplicas": 8,
            "scaling": {"initialReplicas": 3},
            "sources": [{"name": "orders", "kafka": {"bootstrapServers": ["kafka:9092"], "topic": name, "consumerGroup": "g"}}],
            "workload": {"template": {"spec": {"containers": [{"name": "worker", "image": "worker:1"}]}}},
        },
    })
}
