//! Reconciles as conversations: what is asked of the API server, in which order, and what comes of each answer.
//!
//! The API server is a script. A request that is not the next one of the script fails the test, and so does a line of
//! the script that was never asked for. Events are taken note of, not scripted: they come from the background.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use kube::core::{ApiResource, DeserializeGuard, DynamicObject};
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher;
use serde_json::{Value, json};

use crate::api::StreamJob;
use crate::api::v1alpha1::WorkloadKind;
use crate::clock::Clock;
use crate::policy::units::Seconds;
use crate::serve::metrics::Metrics;
use crate::signals::{JobKey, JobSamples, Signals, Watch};

use super::apply::Applier;
use super::build;
use super::context::{Context, Jobs};
use super::lease::Leadership;
use super::observe::Caches;
use super::reconcile::reconcile;
use super::validate::{Target, validate};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/payments/deployments/orders";
const SCALE: &str = "/apis/apps/v1/namespaces/payments/deployments/orders/scale";
const CONFIG_MAP: &str = "/api/v1/namespaces/payments/configmaps/orders-processing";
const STATUS: &str = "/apis/sluice.dev/v1alpha1/namespaces/payments/streamjobs/orders/status";
const UID: &str = "11111111-2222-3333-4444-555555555555";

/// One line of the script: what is asked, and the answer to it.
struct Line {
    method: &'static str,
    path: &'static str,
    check: Box<dyn Fn(&Value) + Send>,
    status: u16,
    answer: Value,
}

fn line(method: &'static str, path: &'static str, answer: Value) -> Line {
    Line { method, path, check: Box::new(|_| {}), status: 200, answer }
}

impl Line {
    fn checked(mut self, check: impl Fn(&Value) + Send + 'static) -> Self {
        self.check = Box::new(check);
        self
    }

    fn refused(mut self, status: u16, reason: &str, message: &str) -> Self {
        self.status = status;
        self.answer = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason, "message": message});
        self
    }
}

#[derive(Default)]
struct Transcript {
    events: Vec<String>,
    surprises: Vec<String>,
}

/// The operator with a scripted API server.
struct Conversation {
    context: Context,
    deployments: Writer<DynamicObject>,
    script: Arc<Mutex<Vec<Line>>>,
    transcript: Arc<Mutex<Transcript>>,
}

struct NoSignals;

impl Signals for NoSignals {
    fn watch(&self, _: &JobKey, _: Watch) {}
    fn forget(&self, _: &JobKey) {}
    fn read(&self, _: &JobKey) -> Option<JobSamples> {
        None
    }
}

impl Conversation {
    fn new(script: Vec<Line>) -> Self {
        Self::led_by(Leadership::always(), script)
    }

    fn led_by(leadership: Leadership, script: Vec<Line>) -> Self {
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
        let pods = Writer::default();
        let context = Context {
            client: client.clone(),
            clock: clock.clone(),
            caches: Caches {
                deployments: deployments.as_reader(),
                stateful_sets: stateful_sets.as_reader(),
                pods: pods.as_reader(),
            },
            signals: Arc::new(NoSignals),
            applier: Applier { client: client.clone(), clock, leadership, metrics: metrics.clone() },
            metrics,
            recorder: Recorder::new(client, Reporter { controller: "sluice".to_owned(), instance: None }),
            jobs: Jobs::default(),
        };
        Self { context, deployments, script, transcript }
    }

    fn cached(mut self, deployment: Value) -> Self {
        let object: DynamicObject = serde_json::from_value(deployment).unwrap();
        self.deployments.apply_watcher_event(&watcher::Event::Apply(object));
        self
    }

    async fn reconcile(&self, job: &StreamJob) -> Action {
        let action =
            reconcile(Arc::new(DeserializeGuard(Ok(job.clone()))), Arc::new(self.context.clone())).await.unwrap();
        // Events are published in the background.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        action
    }

    /// Every line was asked for, and nothing else was.
    fn end(&self) {
        let surprises = &self.transcript.lock().unwrap().surprises;
        assert!(surprises.is_empty(), "not in the script: {surprises:?}");
        let left: Vec<String> =
            self.script.lock().unwrap().iter().rev().map(|line| format!("{} {}", line.method, line.path)).collect();
        assert!(left.is_empty(), "never asked for: {left:?}");
    }

    fn events(&self) -> Vec<String> {
        self.transcript.lock().unwrap().events.clone()
    }
}

async fn answer(request: Request<Body>, script: &Mutex<Vec<Line>>, transcript: &Mutex<Transcript>) -> Response<Body> {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let reply = |status: u16, answer: &Value| {
        Response::builder()
            .status(StatusCode::from_u16(status).unwrap())
            .body(Body::from(serde_json::to_vec(answer).unwrap()))
            .unwrap()
    };
    if path.starts_with("/apis/events.k8s.io") {
        let word = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        transcript.lock().unwrap().events.push(format!("{} {}", word("type"), word("reason")));
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
    (line.check)(&body);
    // An answer of null sends back what was applied.
    reply(line.status, if line.answer.is_null() { &body } else { &line.answer })
}

fn job(changes: Value) -> StreamJob {
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

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(into.entry(key).or_insert(Value::Null), change);
            }
        }
        (into, change) => *into = change,
    }
}

/// The Deployment as the API server has it: with `replicas` owned by the given managers.
fn deployment(job: &StreamJob, replicas: u32, owners: &[&str]) -> Value {
    let valid = validate(job).unwrap();
    let Target::Owned(owned) = &valid.target else { panic!("owned") };
    assert_eq!(owned.workload.kind, WorkloadKind::Deployment);
    let mut object = build::workload(&valid, owned).with(Some("deployment-uid"), Some(replicas));
    let entries: Vec<Value> = owners
        .iter()
        .map(|manager| json!({"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}))
        .collect();
    merge(
        &mut object,
        json!({"metadata": {"resourceVersion": "7", "generation": 1, "managedFields": entries}, "status": {"observedGeneration": 1}}),
    );
    object
}

fn missing() -> Line {
    line("GET", DEPLOYMENT, Value::Null).refused(404, "NotFound", "deployments.apps \"orders\" not found")
}

fn no_config_map() -> Line {
    line("GET", CONFIG_MAP, Value::Null).refused(404, "NotFound", "configmaps \"orders-processing\" not found")
}

/// The API server's copy of the processing file.
fn config_map(job: &StreamJob) -> Line {
    line("GET", CONFIG_MAP, build::processing(&validate(job).unwrap()))
}

fn scale_answer() -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "orders", "namespace": "payments"}})
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    status["status"]["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap()
}

/// The status write, whose condition of this type must have this status and reason.
fn status_with(kind: &'static str, wanted: &'static str, reason: &'static str, job: &StreamJob) -> Line {
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

#[tokio::test(start_paused = true)]
async fn a_job_is_created_with_its_number_and_the_number_handed_to_scale() {
    let job = job(json!({}));
    let conversation = Conversation::new(vec![
        missing(),
        no_config_map(),
        line("PATCH", CONFIG_MAP, Value::Null).checked(|body| {
            let file: Value = serde_json::from_str(body["data"]["processing.json"].as_str().unwrap()).unwrap();
            assert_eq!(file["objectiveLatencyMilliseconds"], 10_000);
        }),
        line("PATCH", DEPLOYMENT, deployment(&job, 6, &["sluice/workload"])).checked(|body| {
            assert_eq!(body["spec"]["replicas"], 6, "the first apply carries the number");
            assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], UID);
            assert_eq!(body["spec"]["template"]["metadata"]["labels"]["sluice.dev/job"], "orders");
        }),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/workload"])),
        line("PATCH", SCALE, scale_answer()).checked(|body| {
            assert_eq!(body["spec"]["replicas"], 6, "taken over at its present value");
            assert_eq!(
                (&body["metadata"]["uid"], &body["metadata"]["resourceVersion"]),
                (&json!("deployment-uid"), &json!("7"))
            );
        }),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/workload", "sluice/scale"])),
        line("PATCH", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])).checked(|body| {
            assert!(body["spec"]["replicas"].is_null(), "left out once /scale owns it");
            assert_eq!(body["metadata"]["uid"], "deployment-uid");
        }),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        status_with("Ready", "False", "NoReadyWorkers", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn with_nothing_to_do_nothing_is_asked() {
    let job = job(json!({}));
    let conversation =
        Conversation::new(vec![config_map(&job), status_with("MetricsAvailable", "False", "NoSignal", &job)])
            .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
    for _ in 0..240 {
        tokio::time::advance(Duration::from_secs(2)).await;
        conversation.reconcile(&job).await;
        conversation.end();
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_of_our_name_that_is_not_ours_is_left_alone() {
    let job = job(json!({}));
    let mut foreign = deployment(&job, 3, &[]);
    foreign["metadata"]["ownerReferences"] = json!([]);
    let conversation =
        Conversation::new(vec![line("GET", DEPLOYMENT, foreign), status_with("Ready", "False", "NameTaken", &job)]);
    conversation.reconcile(&job).await;
    conversation.end();
    assert!(conversation.events().contains(&"Warning NameTaken".to_owned()), "{:?}", conversation.events());
}

#[tokio::test(start_paused = true)]
async fn a_pinned_number_is_written_through_scale_after_a_live_look() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        line("PATCH", SCALE, scale_answer()).checked(|body| assert_eq!(body["spec"]["replicas"], 9)),
        line("GET", DEPLOYMENT, deployment(&job, 9, &["sluice/scale"])),
        status_with("ScalingActive", "False", "Pinned", &job).checked(|body| {
            let decision = &body["status"]["lastDecision"];
            assert_eq!(
                (&decision["from"], &decision["to"], &decision["reason"]),
                (&json!(6), &json!(9), &json!("Pinned"))
            );
        }),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
    assert!(conversation.events().contains(&"Normal Pinned".to_owned()), "{:?}", conversation.events());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_was_modified_is_read_again_and_the_number_resent() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let mut newer = deployment(&job, 6, &["sluice/scale"]);
    newer["metadata"]["resourceVersion"] = json!("8");
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        line("PATCH", SCALE, Value::Null).refused(409, "Conflict", "the object has been modified"),
        line("GET", DEPLOYMENT, newer),
        line("PATCH", SCALE, scale_answer()).checked(|body| assert_eq!(body["metadata"]["resourceVersion"], "8")),
        line("GET", DEPLOYMENT, deployment(&job, 9, &["sluice/scale"])),
        status_with("ScalingActive", "False", "Pinned", &job),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_rests_on_an_old_cache_is_not_written() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 4, &["sluice/scale"])),
        status_with("ScalingActive", "False", "Pinned", &job),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_foreign_write_is_respected_then_taken_back() {
    let job = job(json!({"spec": {"replicas": 9}}));
    // A PUT on /scale leaves no entry: nobody owns the number.
    let foreign = deployment(&job, 2, &[]);
    let mut conversation =
        Conversation::new(vec![config_map(&job), status_with("ScalingActive", "False", "Pinned", &job)]);
    conversation = conversation.cached(foreign.clone());
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(599)).await;
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(2)).await;
    *conversation.script.lock().unwrap() = vec![
        status_with("ScalingActive", "False", "Pinned", &job),
        line("GET", DEPLOYMENT, deployment(&job, 9, &["sluice/scale"])),
        line("PATCH", SCALE, scale_answer()).checked(|body| assert_eq!(body["spec"]["replicas"], 9)),
        line("GET", DEPLOYMENT, foreign),
        config_map(&job),
    ];
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_workload_deleted_by_someone_is_made_again() {
    let job = job(json!({"spec": {"replicas": 3}}));
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, Value::Null).refused(404, "NotFound", "not found"),
        status_with("ScalingActive", "False", "Pinned", &job),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    // The cache still shows it: the write path meets the 404, writes nothing, and the next look creates it.
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_throttled_write_waits_as_long_as_it_is_asked_to() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let mut throttled = line("PATCH", SCALE, Value::Null).refused(429, "TooManyRequests", "slow down");
    throttled.answer["details"] = json!({"retryAfterSeconds": 7});
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        throttled,
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    let action = conversation.reconcile(&job).await;
    conversation.end();
    assert_eq!(action, Action::requeue(Duration::from_secs(7)));
}

#[tokio::test(start_paused = true)]
async fn a_refused_workload_is_said_and_the_workers_stay() {
    let job = job(json!({}));
    let conversation = Conversation::new(vec![
        missing(),
        config_map(&job),
        line("PATCH", DEPLOYMENT, Value::Null).refused(
            403,
            "Forbidden",
            "deployments.apps \"orders\" is forbidden: exceeded quota: small",
        ),
        status_with("Ready", "False", "WorkloadRejected", &job).checked(|body| {
            let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
            assert!(message.contains("exceeded quota: small"), "{message}");
        }),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn pods_that_a_quota_refuses_show_as_a_limit() {
    let job = job(json!({}));
    let mut refused = deployment(&job, 6, &["sluice/scale"]);
    refused["status"]["conditions"] =
        json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}]);
    let conversation =
        Conversation::new(vec![config_map(&job), status_with("ScalingLimited", "True", "QuotaExceeded", &job)])
            .cached(refused);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_writes_nothing() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let conversation = Conversation::led_by(
        Leadership::default(),
        vec![config_map(&job), line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"]))],
    )
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_being_deleted_is_let_go() {
    let job = job(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 9}}));
    let conversation = Conversation::new(vec![]).cached(deployment(&job, 6, &["sluice/scale"]));
    assert_eq!(conversation.reconcile(&job).await, Action::await_change());
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn an_invalid_spec_is_named_field_by_field_and_the_workers_stay() {
    let job = job(json!({"spec": {"scaling": {"maxStepDown": "0%", "schedules": [
        {"name": "a", "schedule": "not a cron", "duration": "1h", "timeZone": "Mars/Base", "minReplicas": 2}]}}}));
    let conversation = Conversation::new(vec![status_with("Ready", "False", "InvalidSpec", &job).checked(|body| {
        let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
        for field in
            ["spec.scaling.maxStepDown", "spec.scaling.schedules[0].schedule", "spec.scaling.schedules[0].timeZone"]
        {
            assert!(message.contains(field), "{field} in {message}");
        }
        assert_eq!(condition(body, "Stalled")["status"], "True");
    })])
    .cached(deployment(&self::job(json!({})), 6, &["sluice/scale"]));
    assert_eq!(conversation.reconcile(&job).await, Action::await_change());
    conversation.end();
}
