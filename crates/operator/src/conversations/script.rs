//! The scripted API server, and the objects of the conversations.

use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use kube::core::{ApiResource, DeserializeGuard, DynamicObject, ObjectMeta};
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::serve::Health;
use crate::serve::metrics::Metrics;
use sluice_api::StreamJob;
use sluice_api::v1alpha1::WorkloadKind;
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_signals::{JobKey, JobSamples, PartitionSample, Signals, SourceReading, SourceSample, WatchSpec};

use crate::apply::attempts::NamespaceRefusals;
use crate::apply::build;
use crate::apply::writer::Applier;
use crate::context::Context;
use crate::job_state::Jobs;
use crate::lease::Leadership;
use crate::observe::claims::Claims;
use crate::observe::kinds::Kinds;
use crate::observe::live::Caches;
use crate::observe::pods::PodsWriter;
use crate::reconcile::reconcile;
use crate::validate::{Target, validate};

pub(crate) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/payments/deployments/orders";
pub(crate) const SCALE: &str = "/apis/apps/v1/namespaces/payments/deployments/orders/scale";
pub(crate) const CONFIG_MAP: &str = "/api/v1/namespaces/payments/configmaps/orders-processing";
pub(crate) const JOB: &str = "/apis/sluice.dev/v1alpha1/namespaces/payments/streamjobs/orders";
pub(crate) const STATUS: &str = "/apis/sluice.dev/v1alpha1/namespaces/payments/streamjobs/orders/status";
pub(crate) const UID: &str = "11111111-2222-3333-4444-555555555555";

/// One line of the script: a request and the answer to it.
pub(crate) struct Line {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) check: Box<dyn Fn(&Value) + Send>,
    pub(crate) status: u16,
    pub(crate) answer: Value,
    /// Whether the write must be forced; `None` accepts both.
    pub(crate) force: Option<bool>,
    pub(crate) unanswered: bool,
}

pub(crate) fn line(method: &'static str, path: &'static str, answer: Value) -> Line {
    Line { method, path, check: Box::new(|_| {}), status: 200, answer, force: None, unanswered: false }
}

impl Line {
    pub(crate) fn checked(mut self, check: impl Fn(&Value) + Send + 'static) -> Self {
        let before = self.check;
        self.check = Box::new(move |body| {
            before(body);
            check(body);
        });
        self
    }

    pub(crate) fn forced(mut self, force: bool) -> Self {
        self.force = Some(force);
        self
    }

    /// The request is never answered.
    pub(crate) fn unanswered(mut self) -> Self {
        self.unanswered = true;
        self
    }

    pub(crate) fn refused(mut self, status: u16, reason: &str, message: &str) -> Self {
        self.status = status;
        self.answer = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason, "message": message});
        self
    }
}

#[derive(Default)]
pub(crate) struct Transcript {
    pub(crate) events: Vec<String>,
    pub(crate) surprises: Vec<String>,
}

/// The operator with a scripted API server.
pub(crate) struct Conversation {
    pub(crate) context: Context,
    pub(crate) deployments: Writer<DynamicObject>,
    pub(crate) pods: PodsWriter,
    pub(crate) script: Arc<Mutex<Vec<Line>>>,
    pub(crate) transcript: Arc<Mutex<Transcript>>,
}

pub(crate) struct NoSignals;

impl Signals for NoSignals {
    fn watch(&self, _: &JobKey, _: WatchSpec) {}
    fn forget(&self, _: &JobKey) {}
    fn read(&self, _: &JobKey) -> Option<JobSamples> {
        None
    }
}

/// Signals that always return the same samples.
pub(crate) struct Samples(pub(crate) JobSamples);

impl Signals for Samples {
    fn watch(&self, _: &JobKey, _: WatchSpec) {}
    fn forget(&self, _: &JobKey) {}
    fn read(&self, _: &JobKey) -> Option<JobSamples> {
        Some(self.0.clone())
    }
}

impl Conversation {
    pub(crate) fn new(script: Vec<Line>) -> Self {
        Self::led_by(Leadership::always(), script)
    }

    pub(crate) fn led_by(leadership: Leadership, script: Vec<Line>) -> Self {
        let script = Arc::new(Mutex::new(script.into_iter().rev().collect::<Vec<_>>()));
        let transcript = Arc::new(Mutex::new(Transcript::default()));
        let (lines, notes) = (Arc::clone(&script), Arc::clone(&transcript));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (lines, notes) = (Arc::clone(&lines), Arc::clone(&notes));
            async move { Ok::<_, std::convert::Infallible>(answer(request, &lines, &notes).await) }
        });
        let client = Client::new(service, "payments");
        let clock = Clock::starting_at(Seconds(1_764_000_000.0));
        let metrics = Metrics::default();
        let deployments = Writer::new(ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&()));
        let stateful_sets = Writer::new(ApiResource::erase::<k8s_openapi::api::apps::v1::StatefulSet>(&()));
        let pods = PodsWriter::default();
        let context = Context {
            client: client.clone(),
            clock: clock.clone(),
            caches: Caches {
                deployments: deployments.as_reader(),
                stateful_sets: stateful_sets.as_reader(),
                pods: pods.reader(),
            },
            signals: Arc::new(NoSignals),
            applier: Applier { client: client.clone(), clock, leadership, metrics: metrics.clone() },
            metrics,
            recorder: Recorder::new(client, Reporter { controller: "sluice".to_owned(), instance: None }),
            jobs: Jobs::default(),
            excluded: Arc::default(),
            health: Health::default(),
            claims: Claims::default(),
            jobs_listed: CancellationToken::new(),
            kinds: Kinds::default(),
            namespace_refusals: NamespaceRefusals::default(),
        };
        context.jobs_listed.cancel();
        Self { context, deployments, pods, script, transcript }
    }

    /// Makes the operator exclude this namespace.
    pub(crate) fn excluding(mut self, namespace: &str) -> Self {
        self.context.excluded = Arc::new([namespace.to_owned()].into());
        self
    }

    pub(crate) fn cached(mut self, deployment: Value) -> Self {
        let object: DynamicObject = serde_json::from_value(deployment).unwrap();
        self.deployments.apply_watcher_event(&watcher::Event::Apply(object));
        self
    }

    /// Continues with another part of the script.
    pub(crate) fn then(&self, script: Vec<Line>) {
        *self.script.lock().unwrap() = script.into_iter().rev().collect();
    }

    pub(crate) async fn reconcile(&self, job: &StreamJob) -> Action {
        let action =
            reconcile(Arc::new(DeserializeGuard(Ok(job.clone()))), Arc::new(self.context.clone())).await.unwrap();
        // Events are published in the background.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        action
    }

    /// Asserts that every line was requested, and nothing else.
    pub(crate) fn end(&self) {
        let surprises = &self.transcript.lock().unwrap().surprises;
        assert!(surprises.is_empty(), "requests differ from the script: {surprises:?}");
        let left: Vec<String> =
            self.script.lock().unwrap().iter().rev().map(|line| format!("{} {}", line.method, line.path)).collect();
        assert!(left.is_empty(), "never requested: {left:?}");
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.transcript.lock().unwrap().events.clone()
    }
}

pub(crate) async fn answer(
    request: Request<Body>,
    script: &Mutex<Vec<Line>>,
    transcript: &Mutex<Transcript>,
) -> Response<Body> {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let force = request.uri().query().unwrap_or_default().contains("force=true");
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let reply = |status: u16, answer: &Value| {
        Response::builder()
            .status(StatusCode::from_u16(status).unwrap())
            .body(Body::from(serde_json::to_vec(answer).unwrap()))
            .unwrap()
    };
    if path.starts_with("/apis/events.k8s.io") {
        let field = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        transcript.lock().unwrap().events.push(format!("{} {}", field("type"), field("reason")));
        return reply(200, &body);
    }
    let next = {
        let mut script = script.lock().unwrap();
        let fits = script.last().is_some_and(|line| line.method == method && line.path == path);
        fits.then(|| script.pop()).flatten()
    };
    let Some(line) = next else {
        transcript.lock().unwrap().surprises.push(format!("{method} {path}"));
        return reply(
            500,
            &json!({"kind": "Status", "status": "Failure", "code": 500, "reason": "Unscripted", "message": "not in the script"}),
        );
    };
    if line.unanswered {
        return std::future::pending().await;
    }
    if line.force.is_some_and(|wanted| wanted != force) {
        transcript.lock().unwrap().surprises.push(format!("{method} {path} with force={force}"));
    }
    // The operator catches panics of a reconcile, so a failed check is recorded instead of thrown.
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (line.check)(&body))) {
        let what = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| format!("{panic:?}"));
        transcript.lock().unwrap().surprises.push(format!("{method} {path}: {what}"));
    }
    // An answer of null returns the body of the request.
    reply(line.status, if line.answer.is_null() { &body } else { &line.answer })
}

pub(crate) fn job(changes: Value) -> StreamJob {
    let mut object = json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": "orders", "namespace": "payments", "uid": UID, "generation": 1},
        "spec": {
            "objective": {"latency": "10s"},
            "minReplicas": 1,
            "maxReplicas": 24,
            "scaling": {"initialReplicas": 6},
            "sources": [{"name": "orders", "kafka": {"bootstrapServers": ["kafka:9092"], "topic": "orders", "consumerGroup": "g"}}],
            "workload": {"template": {"spec": {"containers": [{"name": "worker", "image": "worker:1"}]}}},
        },
    });
    merge(&mut object, changes);
    serde_json::from_value(object).unwrap()
}

pub(crate) fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(into.entry(key).or_insert(Value::Null), change);
            }
        }
        (into, change) => *into = change,
    }
}

/// Returns the Deployment as the API server has it, with `replicas` owned by the given managers.
pub(crate) fn deployment(job: &StreamJob, replicas: u32, owners: &[&str]) -> Value {
    let valid = validate(job).unwrap();
    let Target::Owned(owned) = &valid.target else { panic!("owned") };
    assert_eq!(owned.workload.kind, WorkloadKind::Deployment);
    let seen = ObjectMeta {
        uid: Some("deployment-uid".to_owned()),
        resource_version: Some("7".to_owned()),
        ..ObjectMeta::default()
    };
    let mut object = build::workload(&valid, owned).with(Some(&seen), Some(replicas));
    let entries: Vec<Value> = owners
        .iter()
        .map(|manager| json!({"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}))
        .collect();
    let status = json!({
        "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas,
    });
    merge(&mut object, json!({"metadata": {"generation": 1, "managedFields": entries}, "status": status}));
    object
}

pub(crate) fn missing() -> Line {
    line("GET", DEPLOYMENT, Value::Null).refused(404, "NotFound", "deployments.apps \"orders\" not found")
}

/// The read of the job before a workload is created for it.
pub(crate) fn still_there(job: &StreamJob) -> Line {
    line("GET", JOB, serde_json::to_value(job).unwrap())
}

pub(crate) fn no_config_map() -> Line {
    line("GET", CONFIG_MAP, Value::Null).refused(404, "NotFound", "configmaps \"orders-processing\" not found")
}

/// The read of the processing file that is in the cluster.
pub(crate) fn config_map(job: &StreamJob) -> Line {
    line("GET", CONFIG_MAP, build::processing(&validate(job).unwrap()))
}

pub(crate) fn scale_answer() -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "orders", "namespace": "payments"}})
}

pub(crate) fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    status["status"]["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap()
}

/// A write of the status, whose condition of this type must have this status and reason.
pub(crate) fn status_with(kind: &'static str, wanted: &'static str, reason: &'static str, job: &StreamJob) -> Line {
    let answer = serde_json::to_value(job).unwrap();
    line("PATCH", STATUS, answer).checked(move |body| {
        let condition = condition(body, kind);
        assert_eq!(
            (condition["status"].as_str(), condition["reason"].as_str()),
            (Some(wanted), Some(reason)),
            "{condition}"
        );
    })
}

/// Returns a sample of a source with one partition whose records are all processed.
pub(crate) fn all_processed(at: Seconds) -> SourceSample {
    let partition =
        PartitionSample { id: "orders/0".to_owned(), end: Some(5), committed: Some(5), ..PartitionSample::default() };
    SourceSample { at, partitions: vec![partition], ..SourceSample::default() }
}

/// Returns the samples of a job with this one source.
pub(crate) fn read_as(sample: SourceSample) -> JobSamples {
    let source = SourceReading { name: "orders".to_owned(), sample: Some(Arc::new(sample)), failure: None };
    JobSamples { sources: vec![source], workers: Vec::new() }
}

/// Returns the metadata of a pod of a Deployment: its labels, and the owner reference to its `ReplicaSet`.
pub(crate) fn pod_of(deployment: &str, labels: Value) -> Value {
    let mut metadata = json!({
        "labels": {"pod-template-hash": "h1"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-h1"), "uid": "set", "controller": true}],
    });
    merge(&mut metadata["labels"], labels);
    metadata
}

/// A further write of the status, such as the one that the second reconcile makes when the template is known.
pub(crate) fn status_of(job: &StreamJob) -> Line {
    line("PATCH", STATUS, serde_json::to_value(job).unwrap())
}
