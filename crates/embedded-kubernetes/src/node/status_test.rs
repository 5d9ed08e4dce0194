use serde_json::json;

use super::*;

const NOW: &str = "2026-01-01T00:00:10Z";

fn pod(restart_policy: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"restartPolicy": restart_policy, "containers": [{"name": "a"}, {"name": "b"}]},
    }))
    .unwrap()
}

fn end(code: i32) -> RunEnd {
    RunEnd {
        code,
        started: NOW.to_owned(),
        finished: NOW.to_owned(),
        reason: "Error".to_owned(),
        ..RunEnd::unobserved(NOW)
    }
}

fn running() -> RunState {
    RunState::Running { started: NOW.to_owned() }
}

fn waiting(reason: &str) -> RunState {
    RunState::Waiting { reason: reason.to_owned(), message: String::new() }
}

/// Creates a board with two containers in these states. The second element is the exit code of the last run.
fn board(pod: &Pod, states: [(RunState, Option<i32>); 2]) -> Board {
    let mut board = Board::new(pod, NOW);
    board.set_up = true;
    for (record, (state, last)) in board.containers.iter_mut().zip(states) {
        record.ready = matches!(state, RunState::Running { .. });
        record.state = state;
        record.last = last.map(end);
    }
    board
}

fn phase_for(policy: &str, ending: bool, states: [(RunState, Option<i32>); 2]) -> &'static str {
    let pod = pod(policy);
    let input = StatusInput { pod: &pod, address: Ipv4Addr::new(127, 64, 0, 1), ending, now: NOW };
    phase(input, &board(&pod, states))
}

#[test]
fn phase_follows_from_containers_and_policy() {
    let ended = |code| (RunState::Terminated(end(code)), None);
    let table = [
        ("Always", [(waiting("ContainerCreating"), None), (waiting("ContainerCreating"), None)], "Pending"),
        ("Always", [(running(), None), (waiting("ContainerCreating"), None)], "Running"),
        ("Always", [(running(), None), (running(), None)], "Running"),
        ("Always", [(waiting("CrashLoopBackOff"), Some(1)), (running(), None)], "Running"),
        ("Always", [(waiting("CrashLoopBackOff"), Some(1)), (waiting("CrashLoopBackOff"), Some(0))], "Running"),
        ("OnFailure", [ended(0), (running(), None)], "Running"),
        ("OnFailure", [ended(0), (waiting("CrashLoopBackOff"), Some(1))], "Running"),
        ("OnFailure", [ended(0), ended(0)], "Succeeded"),
        ("Never", [ended(0), ended(0)], "Succeeded"),
        ("Never", [ended(0), ended(3)], "Failed"),
        ("Never", [ended(3), (running(), None)], "Running"),
    ];
    for (policy, states, expected) in table {
        let case = format!("{policy} {states:?}");
        assert_eq!(phase_for(policy, false, states), expected, "{case}");
    }
    // The containers of a pod that is being deleted are not started again.
    assert_eq!(phase_for("Always", true, [ended(0), ended(0)]), "Succeeded");
    assert_eq!(phase_for("Always", true, [ended(143), ended(0)]), "Failed");
}

#[test]
fn conditions_name_containers_and_keep_times() {
    let pod = pod("Always");
    let input = |now| StatusInput { pod: &pod, address: Ipv4Addr::new(127, 64, 0, 1), ending: false, now };
    let unready = board(&pod, [(running(), None), (waiting("ContainerCreating"), None)]);
    let first = status(input(NOW), &unready, &Value::Null);
    let condition = |status: &Value, kind: &str| {
        let all = status["conditions"].as_array().unwrap().clone();
        all.into_iter().find(|condition| condition["type"] == kind).unwrap()
    };
    assert_eq!(condition(&first, "Ready")["message"], "containers with unready status: [b]");
    assert_eq!(condition(&first, "Ready")["reason"], "ContainersNotReady");
    let later = "2026-01-01T00:01:00Z";
    let same = status(input(later), &unready, &first);
    assert_eq!(same, first, "nothing has changed, so nothing is written");
    let ready = status(input(later), &board(&pod, [(running(), None), (running(), None)]), &first);
    assert_eq!(condition(&ready, "Ready")["status"], "True");
    assert_eq!(condition(&ready, "Ready")["lastTransitionTime"], later);
    assert_eq!(condition(&ready, "Ready")["message"], Value::Null);
    assert_eq!(condition(&ready, "Initialized")["lastTransitionTime"], NOW);
    assert_eq!(ready["startTime"], NOW);
}

#[test]
fn adopted_pod_has_lost_its_running_containers() {
    let mut pod = pod("Always");
    pod.status = serde_json::from_value(json!({"containerStatuses": [
        {"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 2, "state": {"running": {"startedAt": NOW}}},
        {"name": "b", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"terminated": {"exitCode": 3, "reason": "Error"}}},
    ]}))
    .unwrap();
    let board = Board::new(&pod, NOW);
    let found: Vec<_> = board.containers.iter().map(|record| record.found.as_ref().map(|end| end.code)).collect();
    assert_eq!(found, [Some(137), Some(3)]);
    assert_eq!(board.containers[0].restarts, 2);
}

#[test]
fn qos_class_follows_from_requests_and_limits() {
    let qos_class = |resources: Value| {
        let spec = json!({"containers": [{"name": "a", "resources": resources}]});
        qos_class(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap())
    };
    assert_eq!(qos_class(json!({})), "BestEffort");
    assert_eq!(qos_class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(qos_class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
}
