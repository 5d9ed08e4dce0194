use serde_json::{Value, json};

use super::*;

/// Returns the facts of a pod whose containers and init containers wait for these reasons.
fn waiting_for(containers: &[&str], inits: &[&str]) -> PodFacts {
    let status = |reasons: &[&str]| -> Vec<Value> {
        let waiting = |reason: &&str| match *reason {
            "" => json!({"running": {}}),
            reason => json!({"waiting": {"reason": reason, "message": "nothing\nelse"}}),
        };
        let status = |reason| json!({"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": waiting(reason)});
        reasons.iter().map(status).collect()
    };
    let pod = json!({"metadata": {"name": "w-0"}, "status": {"phase": "Pending", "containerStatuses": status(containers), "initContainerStatuses": status(inits)}});
    PodFacts::from_pod(&serde_json::from_value(pod).unwrap(), None)
}

#[test]
fn pod_that_no_retry_can_start_is_failing() {
    for reason in [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    ] {
        let facts = waiting_for(&["", reason], &[]);
        assert_eq!(facts.failing.unwrap(), format!("container app: {reason}: nothing else"));
        assert!(waiting_for(&["PodInitializing"], &[reason]).failing.unwrap().starts_with("init container app: "));
    }
    for reason in ["", "ContainerCreating", "PodInitializing"] {
        assert_eq!(waiting_for(&[reason], &["", reason]).failing, None, "{reason}");
    }
}

#[test]
fn scheduled_pod_without_running_container_is_unstarted() {
    let with = |containers: &[&str], inits: &[&str], phase: &str| {
        let state = |reason: &str| match reason {
            "running" => json!({"running": {}}),
            "done" => json!({"terminated": {"exitCode": 0}}),
            reason => json!({"waiting": {"reason": reason}}),
        };
        let status = |reason: &&str| json!({"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state(reason)});
        let statuses = |reasons: &[&str]| reasons.iter().map(status).collect::<Vec<_>>();
        let time = "2026-01-01T00:00:00Z";
        let conditions = json!([
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": time},
            {"type": "Ready", "status": "False", "lastTransitionTime": time},
        ]);
        let status = json!({"phase": phase, "conditions": conditions, "containerStatuses": statuses(containers), "initContainerStatuses": statuses(inits)});
        let pod = json!({"metadata": {"name": "w-0"}, "status": status});
        PodFacts::from_pod(&serde_json::from_value(pod).unwrap(), None)
    };
    let waits = with(&["ContainerCreating"], &[], "Pending");
    let since = Seconds(1_767_225_600.0);
    assert_eq!(waits.unstarted, Some(Unstarted { since, why: "container app: ContainerCreating".to_owned() }));
    assert_eq!(waits.unready_since, Some(since));
    let inits = with(&["PodInitializing"], &["done", "PodInitializing"], "Pending").unstarted;
    assert_eq!(inits.unwrap().why, "init container app: PodInitializing");
    for (containers, inits, phase) in [
        (["PodInitializing"].as_slice(), ["running"].as_slice(), "Pending"),
        (&["ContainerCreating", "running"], &[], "Pending"),
        (&["ErrImagePull", "ContainerCreating"], &[], "Pending"),
        (&["CrashLoopBackOff"], &[], "Running"),
    ] {
        assert_eq!(with(containers, inits, phase).unstarted, None, "{containers:?} {inits:?}");
    }
}

#[test]
fn crash_loop_contains_the_exit_code_and_reason() {
    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let status = json!({"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 7,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}}, "lastState": ended});
    let pod = json!({"metadata": {"name": "w-0"}, "status": {"phase": "Running", "containerStatuses": [status]}});
    let facts = PodFacts::from_pod(&serde_json::from_value(pod).unwrap(), None);
    assert_eq!(facts.crash_looping.unwrap(), "container app: CrashLoopBackOff: exit code 137 (OOMKilled)");
}

#[test]
fn metrics_port_may_belong_to_a_native_sidecar() {
    let port_of = |restart: Option<&str>| {
        let ports = json!([{"name": "exporter", "containerPort": 9100}]);
        let sidecar = json!({"name": "exporter", "image": "i", "restartPolicy": restart, "ports": ports});
        let spec = json!({"containers": [{"name": "app", "image": "i"}], "initContainers": [sidecar]});
        let pod = json!({"metadata": {"name": "w-0"}, "spec": spec});
        port(&serde_json::from_value(pod).unwrap(), &IntOrString::String("exporter".to_owned()))
    };
    assert_eq!(port_of(Some("Always")), Some(9100));
    assert_eq!(port_of(None), None, "an ordinary init container has ended when the workers run");
}

#[test]
fn failing_pod_is_not_counted_as_crashing() {
    let count = |facts: PodFacts| (facts.crash_looping.is_some(), facts.failing.is_some());
    assert_eq!(count(waiting_for(&["CrashLoopBackOff"], &[])), (true, false));
    assert_eq!(count(waiting_for(&["PodInitializing"], &["CrashLoopBackOff"])), (false, true));
    assert_eq!(count(waiting_for(&["CrashLoopBackOff", "ErrImagePull"], &[])), (false, true));
}
