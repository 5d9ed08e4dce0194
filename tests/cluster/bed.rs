//! The test bed of one test in the real cluster: a namespace, a topic, an operator that watches the namespace, and a
//! load.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::wait::{Condition, await_condition, conditions};
use kube::{Client, Resource, ResourceExt as _};
use serde_json::{Value, json};
use sluice_api::StreamJob;
use sluice_base::clock::Clock;
use sluice_signals::source::GroupTopic;
use sluice_signals::{Cluster, Connect as _, Egress, KafkaConnect, SourceSample};

/// Returns an environment variable that hack/with-testbed sets.
fn environment(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run this with hack/with-testbed, as make test does"))
}

/// Merges `changes` into `into`; a null removes the field.
pub(crate) fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                if change.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), change);
                }
            }
        }
        (into, change) => *into = change,
    }
}

/// The namespace and the topic of one test.
pub(crate) struct Bed {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) topic: String,
    broker: Arc<dyn Cluster>,
    kafka: String,
    kafka_in_pods: String,
    image: String,
}

/// A process that ends with the test.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(arguments: &[&str], log: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(log);
        let log = File::options().create(true).append(true).open(&path).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Kills the process as a crash would: no signal handler runs.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks the process to end and waits for it. Returns whether it ended successfully.
    pub(crate) fn stop(mut self) -> bool {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap().success()
    }

    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bed {
    /// Creates an empty namespace, and a topic with this number of partitions unless it is 0.
    pub(crate) async fn new(name: &str, partitions: u32) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_default().await.expect("KUBECONFIG names a running cluster");
        install_definitions(&client).await;
        let namespace = format!("sluice-{name}");
        let namespaces = Api::<Namespace>::all(client.clone());
        if let Some(old) = namespaces.get_opt(&namespace).await.unwrap() {
            let _ = namespaces.delete(&namespace, &DeleteParams::default()).await;
            let uid = old.uid().unwrap();
            let gone = await_condition(namespaces.clone(), &namespace, conditions::is_deleted(&uid));
            tokio::time::timeout(Duration::from_mins(1), gone)
                .await
                .expect("the namespace of an earlier run is deleted")
                .unwrap();
        }
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        // A name of its own for each run, because a topic keeps the records of earlier runs.
        let topic = format!("{namespace}-{}", std::process::id());
        let kafka = environment("SLUICE_TEST_KAFKA_HOST");
        let bed = Self {
            client,
            namespace,
            topic,
            broker: KafkaConnect::new(Clock::system(), Egress::allow_loopback()).connect(std::slice::from_ref(&kafka)),
            kafka,
            kafka_in_pods: environment("SLUICE_TEST_KAFKA_POD"),
            image: environment("SLUICE_TEST_IMAGE"),
        };
        if partitions > 0 {
            bed.create_topic(partitions);
        }
        bed
    }

    fn create_topic(&self, partitions: u32) {
        let partitions = partitions.to_string();
        let done = self.load_arguments("1", "1s", &["--partitions-created", &partitions]);
        let done: Vec<&str> = done.iter().map(String::as_str).collect();
        let log = format!("{}-topic.log", self.namespace);
        let mut process = Process::start(&done, &log);
        assert!(process.0.wait().unwrap().success(), "the topic is created; see {log}");
    }

    fn load_arguments(&self, rate: &str, duration: &str, more: &[&str]) -> Vec<String> {
        let fixed = [
            "load",
            "--bootstrap-servers",
            &self.kafka,
            "--topic",
            &self.topic,
            "--rate",
            rate,
            "--duration",
            duration,
            "--quiet",
        ];
        fixed.iter().chain(more).map(|text| (*text).to_owned()).collect()
    }

    /// Writes `rate` records per second until the process is dropped, for at most ten minutes.
    pub(crate) fn load(&self, rate: u32) -> Process {
        let arguments = self.load_arguments(&rate.to_string(), "600s", &[]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Process::start(&arguments, &format!("{}-load.log", self.namespace))
    }

    /// Starts an operator that watches only this namespace and serves its metrics at `port`.
    pub(crate) fn operator(&self, port: u16) -> Process {
        let listen = format!("127.0.0.1:{port}");
        // Outside of pods the brokers are on loopback, which is denied by default.
        let arguments = [
            "operator",
            "--watch-namespaces",
            &self.namespace,
            "--listen",
            &listen,
            "--log",
            "info,sluice=debug",
            "--egress-allow=127.0.0.0/8",
        ];
        Process::start(&arguments, &format!("{}-operator.log", self.namespace))
    }

    /// Returns a job whose workers process about 450 records per second each.
    pub(crate) fn job(&self, changes: Value) -> Value {
        let mut job = json!({
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "StreamJob",
            "metadata": {"name": "orders", "namespace": self.namespace},
            "spec": {
                "objective": {"latency": "10s"},
                "maxReplicas": 20,
                "sources": [{"name": "orders", "kafka": {
                    "bootstrapServers": [self.kafka], "topic": self.topic, "consumerGroup": format!("{}-workers", self.topic)}}],
                "metrics": {"port": "metrics"},
                "workload": {"template": self.template()},
            },
        });
        merge(&mut job, changes);
        job
    }

    /// Returns the job under another name and with its own consumer group.
    pub(crate) fn job_named(&self, name: &str, changes: Value) -> Value {
        let group = format!("{}-{name}", self.topic);
        let mut job = self.job(changes);
        job["metadata"]["name"] = json!(name);
        job["spec"]["sources"][0]["kafka"]["consumerGroup"] = json!(group);
        job["spec"]["workload"]["template"]["spec"]["containers"][0]["args"][6] = json!(group);
        job
    }

    /// Returns a pod template of the reference worker that satisfies the Pod Security level "restricted".
    pub(crate) fn template(&self) -> Value {
        json!({"spec": {
            "terminationGracePeriodSeconds": 30,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "worker",
                "image": self.image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["worker", "--bootstrap-servers", self.kafka_in_pods, "--topic", self.topic,
                         "--group", format!("{}-workers", self.topic), "--source", "orders", "--process-time", "2ms"],
                "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [{"name": "metrics", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
            }],
        }})
    }

    pub(crate) fn jobs(&self) -> Api<StreamJob> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies an object as a user's `kubectl apply --server-side` would.
    pub(crate) async fn apply(&self, object: &Value) -> kube::Result<DynamicObject> {
        let params = PatchParams::apply("kubectl").force();
        self.dynamic(object).patch(object["metadata"]["name"].as_str().unwrap(), &params, &Patch::Apply(object)).await
    }

    /// Changes fields of a job as `kubectl patch` would.
    pub(crate) async fn patch(&self, name: &str, changes: Value) {
        self.jobs().patch(name, &PatchParams::default(), &Patch::Merge(changes)).await.unwrap();
    }

    /// Applies an object in a dry run.
    pub(crate) async fn dry_run(&self, object: &Value) -> kube::Result<DynamicObject> {
        let params = PatchParams { dry_run: true, ..PatchParams::apply("kubectl").force() };
        self.dynamic(object).patch(object["metadata"]["name"].as_str().unwrap(), &params, &Patch::Apply(object)).await
    }

    /// Installs the definition of another kind.
    pub(crate) async fn define(&self, definition: &CustomResourceDefinition) {
        define(&self.client, definition).await;
    }

    pub(crate) fn dynamic(&self, object: &Value) -> Api<DynamicObject> {
        let api_version = object["apiVersion"].as_str().unwrap();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap()));
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    /// Waits until the job `orders` satisfies a condition, which `what` describes. Panics with the job's status after
    /// `seconds`.
    pub(crate) async fn until(&self, what: &str, seconds: u64, condition: impl Fn(&StreamJob) -> bool) -> StreamJob {
        self.until_named("orders", what, seconds, condition).await
    }

    pub(crate) async fn until_named(
        &self,
        name: &str,
        what: &str,
        seconds: u64,
        condition: impl Fn(&StreamJob) -> bool,
    ) -> StreamJob {
        let check = Checked(move |job: Option<&StreamJob>| job.is_some_and(&condition));
        let waited = await_condition(self.jobs(), name, check);
        if let Ok(job) = tokio::time::timeout(Duration::from_secs(seconds), waited).await {
            return job.unwrap().unwrap();
        }
        let job = self.jobs().get_opt(name).await.unwrap();
        let status = job.map(|job| serde_json::to_string_pretty(&job.status).unwrap()).unwrap_or_default();
        panic!("not within {seconds} s: {what}; the status is {status}");
    }

    /// Waits until this number of workers is ready.
    pub(crate) async fn until_ready(&self, workers: i32, seconds: u64) -> StreamJob {
        self.until(&format!("{workers} workers are ready"), seconds, |job| status(job).ready_replicas == workers).await
    }

    /// Returns the replica count in the Deployment's spec.
    pub(crate) async fn replicas(&self) -> i32 {
        self.deployments().get("orders").await.unwrap().spec.unwrap().replicas.unwrap()
    }

    /// Returns the progress of the workers of the job `orders`, as reported by the broker.
    pub(crate) async fn progress(&self) -> SourceSample {
        let group = format!("{}-workers", self.topic);
        let request = GroupTopic { topic: self.topic.clone(), group, latency: Duration::from_secs(10) };
        let mut answers = self.broker.sample(&[request], Duration::from_secs(5)).await;
        answers.remove(0).unwrap()
    }

    /// Runs a command of `sluice` in this namespace and returns its output.
    pub(crate) fn sluice(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let output = command.args(arguments).args(["--namespace", &self.namespace]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "sluice {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Returns the reasons of all events in the namespace.
    pub(crate) async fn events(&self) -> Vec<String> {
        let events =
            Api::<Event>::namespaced(self.client.clone(), &self.namespace).list(&ListParams::default()).await.unwrap();
        events.items.into_iter().filter_map(|event| event.reason).collect()
    }

    /// Deletes the namespace with everything in it.
    pub(crate) async fn end(self) {
        let params = DeleteParams::default();
        let _ = Api::<Namespace>::all(self.client).delete(&self.namespace, &params).await;
    }
}

/// A closure as a condition.
struct Checked<F>(F);

impl<F: Fn(Option<&StreamJob>) -> bool> Condition<StreamJob> for Checked<F> {
    fn matches_object(&self, object: Option<&StreamJob>) -> bool {
        self.0(object)
    }
}

/// Returns the job's status, or an empty one.
pub(crate) fn status(job: &StreamJob) -> sluice_api::status::StreamJobStatus {
    job.status.clone().unwrap_or_default()
}

/// Returns the status and reason of a condition.
pub(crate) fn condition(job: &StreamJob, kind: &str) -> (String, String) {
    let conditions = status(job).conditions;
    let found = conditions.iter().find(|condition| condition.type_ == kind);
    found.map(|condition| (condition.status.clone(), condition.reason.clone())).unwrap_or_default()
}

/// Returns whether a condition has this status and reason.
pub(crate) fn has(job: &StreamJob, kind: &str, expected: &str, reason: &str) -> bool {
    condition(job, kind) == (expected.to_owned(), reason.to_owned())
}

/// Returns the managers of a field, whose path is given as in `managedFields`: `["f:spec", "f:replicas"]`.
pub(crate) fn managers(object: &impl Resource, field: &[&str]) -> Vec<String> {
    let entries = object.meta().managed_fields.iter().flatten();
    let owner = |entry: &ManagedFieldsEntry| {
        let fields = &entry.fields_v1.as_ref()?.0;
        field.iter().try_fold(fields, |fields, name| fields.get(name))?;
        entry.manager.clone()
    };
    entries.filter_map(owner).collect()
}

/// Reads a page that the operator serves.
pub(crate) async fn page(port: u16, path: &str) -> String {
    reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.unwrap().text().await.unwrap()
}

async fn install_definitions(client: &Client) {
    for definition in sluice_api::crds() {
        define(client, &definition).await;
    }
}

async fn define(client: &Client, definition: &CustomResourceDefinition) {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let name = definition.name_any();
    api.patch(&name, &PatchParams::apply("sluice-tests").force(), &Patch::Apply(definition)).await.unwrap();
    let established = await_condition(api, &name, conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(20), established).await.expect("the definition is established").unwrap();
}
