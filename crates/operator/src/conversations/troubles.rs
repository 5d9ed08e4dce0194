//! Reports about failing pods, slow starts, strangers in the group, and attainment after a restart.

use std::sync::Arc;

use kube::runtime::watcher::Event;

use super::*;
use sluice_base::clock::Clock;
use sluice_signals::{GroupSample, JobKey, JobSamples, Owner, Signals, SourceSample, WatchSpec};

/// Adds a pod of the job with this status to the operator's cache.
fn with_pod(conversation: &mut Conversation, name: &str, status: Value) {
    let created = crate::timestamp(conversation.context.clock.now());
    let mut metadata = pod_of("orders", json!({"sluice.dev/job": "orders"}));
    let identity = json!({"name": name, "namespace": "payments", "uid": format!("uid-{name}"), "creationTimestamp": created.to_string()});
    merge(&mut metadata, identity);
    let mut status = status;
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = json!(created.to_string());
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status});
    conversation.pods.apply_event(&Event::Apply(serde_json::from_value(pod).unwrap()));
}

fn container(state: &Value, last_state: &Value) -> Value {
    json!({"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state, "lastState": last_state})
}

#[tokio::test(start_paused = true)]
async fn only_a_slow_start_up_emits_warnings() {
    let job = job(json!({}));
    let conversation =
        Conversation::new(vec![config_map(&job), status_with("MetricsAvailable", "False", "NoSignal", &job)])
            .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    tokio::time::advance(Duration::from_secs(8)).await;
    conversation.reconcile(&job).await;
    assert_eq!(conversation.events(), [""; 0]);
    for _ in 0..39 {
        tokio::time::advance(Duration::from_secs(15)).await;
        conversation.reconcile(&job).await;
    }
    conversation.end();
    assert_eq!(conversation.events(), ["Warning NoSignal", "Warning NoReadyWorkers"]);
}

#[tokio::test(start_paused = true)]
async fn crashing_pod_is_reported_and_stalls_the_job_later() {
    let job = job(json!({}));
    let mut conversation = Conversation::new(vec![
        config_map(&job),
        status_with("Ready", "True", "Ready", &job).checked(|body| {
            let message = condition(body, "Ready")["message"].as_str().unwrap();
            let but = "but 1 of 2 pods crashes repeatedly, such as b: container app: CrashLoopBackOff: exit code 1;";
            assert!(message.contains(but), "{message}");
            assert_eq!(condition(body, "Stalled")["status"], "False");
        }),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    with_pod(&mut conversation, "a", json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
    let crashes = container(
        &json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        &json!({"terminated": {"exitCode": 1, "reason": "Error"}}),
    );
    let runs = container(&json!({"running": {}}), &Value::Null);
    with_pod(&mut conversation, "b", json!({"phase": "Running", "containerStatuses": [crashes.clone()]}));
    conversation.reconcile(&job).await;
    conversation.end();
    // The container runs in between, and crashes again.
    conversation.then(vec![status_of(&job)]);
    for state in [runs.clone(), crashes.clone(), runs, crashes] {
        tokio::time::advance(Duration::from_secs(149)).await;
        with_pod(&mut conversation, "b", json!({"phase": "Running", "containerStatuses": [state]}));
        conversation.reconcile(&job).await;
    }
    conversation.end();
    tokio::time::advance(Duration::from_secs(5)).await;
    conversation.then(vec![config_map(&job), status_with("Stalled", "True", "CrashLooping", &job)]);
    conversation.reconcile(&job).await;
    conversation.end();
    let warnings: Vec<String> =
        conversation.events().into_iter().filter(|event| event == "Warning CrashLooping").collect();
    assert_eq!(warnings.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn unstarted_pod_is_reported_and_stalls_the_job_later() {
    let job = job(json!({}));
    let mut conversation =
        Conversation::new(vec![config_map(&job), status_with("Ready", "False", "NoReadyWorkers", &job)])
            .cached(deployment(&job, 6, &["sluice/scale"]));
    let scheduled = json!([{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]);
    let waits = container(&json!({"waiting": {"reason": "ContainerCreating"}}), &Value::Null);
    let status = json!({"phase": "Pending", "conditions": scheduled, "containerStatuses": [waits]});
    with_pod(&mut conversation, "a", status);
    conversation.reconcile(&job).await;
    tokio::time::advance(Duration::from_secs(301)).await;
    conversation.then(vec![
        status_with("ScalingLimited", "True", "PodsFailing", &job).checked(|body| {
            let message = condition(body, "Ready")["message"].as_str().unwrap();
            let why = "no worker is ready: 1 of 1 pods has not started within 5 minutes, such as a: container app: ContainerCreating; see the pod's events";
            assert!(message.starts_with(why), "{message}");
        }),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(301)).await;
    conversation.then(vec![config_map(&job), status_with("Stalled", "True", "PodsFailing", &job)]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn stuck_rollout_is_reported_in_the_controller_s_words() {
    let job = job(json!({}));
    let mut stuck = deployment(&job, 6, &["sluice/scale"]);
    let message = "ReplicaSet \"orders-1\" has timed out progressing.";
    stuck["status"]["conditions"] = json!([
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": message}]);
    let reported = status_with("Stalled", "True", "ProgressDeadlineExceeded", &job)
        .checked(move |body| assert!(condition(body, "Stalled")["message"].as_str().unwrap().contains(message)));
    let conversation = Conversation::new(vec![config_map(&job), reported]).cached(stuck);
    conversation.reconcile(&job).await;
    conversation.end();
}

/// Sources whose sample is always fresh.
struct FreshSignals {
    clock: Clock,
    members: Vec<Owner>,
}

impl Signals for FreshSignals {
    fn watch(&self, _: &JobKey, _: WatchSpec) {}
    fn forget(&self, _: &JobKey) {}
    fn read(&self, _: &JobKey) -> Option<JobSamples> {
        let group = GroupSample { state: "Stable".to_owned(), members: self.members.clone(), ..GroupSample::default() };
        let sample = SourceSample { group: Some(group), producer_time: Some(false), ..all_processed(self.clock.now()) };
        Some(read_as(sample))
    }
}

fn fresh_signals(conversation: &Conversation, clients: &[&str]) -> Arc<dyn Signals> {
    let member = |client: &&str| Owner {
        member_id: format!("id-{client}"),
        client_id: (*client).to_owned(),
        host: "10.9.9.9".to_owned(),
        partitions: Some(1),
        ..Owner::default()
    };
    Arc::new(FreshSignals { clock: conversation.context.clock.clone(), members: clients.iter().map(member).collect() })
}

#[tokio::test(start_paused = true)]
async fn stranger_in_the_group_is_reported_after_5_minutes() {
    // The replica count is pinned, so that no decision is reported in between.
    let job = job(json!({"spec": {"replicas": 1}}));
    let fresh = || status_with("MetricsAvailable", "True", "Fresh", &job);
    // The second status is written when the arrival rate is known.
    let mut conversation =
        Conversation::new(vec![config_map(&job), fresh(), fresh()]).cached(deployment(&job, 1, &["sluice/scale"]));
    with_pod(&mut conversation, "a", json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
    conversation.context.signals = fresh_signals(&conversation, &["a", "kcat"]);
    for _ in 0..30 {
        conversation.reconcile(&job).await;
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    conversation.end();
    assert!(!conversation.events().contains(&"Warning StrangersInGroup".to_owned()));
    let reported = status_with("MetricsAvailable", "True", "StrangersInGroup", &job).checked(|body| {
        let message = condition(body, "MetricsAvailable")["message"].as_str().unwrap();
        let who = "1 member of consumer group g is not a pod of this job (kcat at 10.9.9.9): it takes partitions";
        assert!(message.starts_with(who), "{message}");
    });
    conversation.then(vec![reported]);
    for _ in 0..30 {
        conversation.reconcile(&job).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    conversation.end();
    let warnings = conversation.events().iter().filter(|event| *event == "Warning StrangersInGroup").count();
    assert_eq!(warnings, 1);
}

#[tokio::test(start_paused = true)]
async fn attainment_continues_from_the_status_after_a_restart() {
    let history = json!({
        "latencyMilliseconds": 10_000, "percentileBasisPoints": 9900, "since": "2025-11-24T15:18:00Z", "partSeconds": 180,
        "due": [2000, 2000, 0, 4000], "late": [0, 60, 0, 20],
    });
    let status = json!({"replicas": 1, "readyReplicas": 1, "attainment": history});
    let job = job(json!({"spec": {"replicas": 1}, "status": status}));
    let reported = status_with("Ready", "True", "Ready", &job).checked(move |body| {
        assert_eq!(body["status"]["attainmentBasisPoints"], 9900);
        let written = &body["status"]["attainment"];
        let counts = |name: &str| {
            written[name].as_array().unwrap().iter().map(|count| count.as_i64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(written["since"], history["since"]);
        assert_eq!(
            (counts("due").len(), counts("due")[..4].to_vec()),
            (15, vec![2000, 2000, 0, 4000]),
            "and no record since"
        );
        assert_eq!(counts("late").iter().sum::<i64>(), 80);
        assert_eq!(body["status"]["observedTime"], "2025-11-24T16:00:00Z");
    });
    let mut conversation =
        Conversation::new(vec![config_map(&job), reported]).cached(deployment(&job, 1, &["sluice/scale"]));
    with_pod(&mut conversation, "a", json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
    conversation.context.signals = fresh_signals(&conversation, &["a"]);
    conversation.reconcile(&job).await;
    conversation.end();
}
