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

fn end(code: i32) -> End {
    End { code, started: NOW.to_owned(), finished: NOW.to_owned(), reason: "Error".to_owned(), ..End::unseen(NOW) }
}

fn running() -> State {
    State::Running { started: NOW.to_owned() }
}

fn waiting(reason: &str) -> State {
    State::Waiting { reason: reason.to_owned(), message: String::new() }
}

/// A board with two containers in these states. One that waits after an end has that end as its last.
fn board(pod: &Pod, states: [(State, Option<i32>); 2]) -> Board {
    let mut board = Board::new(pod, NOW);
    board.set_up = true;
    for (seen, (state, last)) in board.containers.iter_mut().zip(states) {
        seen.ready = matches!(state, State::Running { .. });
        seen.state = state;
        seen.last = last.map(end);
    }
    board
}

fn phase_of(policy: &str, ending: bool, states: [(State, Option<i32>); 2]) -> &'static str {
    let pod = pod(policy);
    let about = About { pod: &pod, address: Ipv4Addr::new(127, 64, 0, 1), ending, now: NOW };
    phase(about, &board(&pod, states))
}

#[test]
fn the_phase_follows_from_the_containers_and_the_policy() {
    let ended = |code| (State::Terminated(end(code)), None);
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
        let said = format!("{policy} {states:?}");
        assert_eq!(phase_of(policy, false, states), expected, "{said}");
    }
    // A pod that is being deleted has no further start to hope for.
    assert_eq!(phase_of("Always", true, [ended(0), ended(0)]), "Succeeded");
    assert_eq!(phase_of("Always", true, [ended(143), ended(0)]), "Failed");
}

#[test]
fn conditions_name_what_is_unwell_and_keep_their_times() {
    let pod = pod("Always");
    let about = |now| About { pod: &pod, address: Ipv4Addr::new(127, 64, 0, 1), ending: false, now };
    let unready = board(&pod, [(running(), None), (waiting("ContainerCreating"), None)]);
    let first = status(about(NOW), &unready, &Value::Null);
    let of = |status: &Value, kind: &str| {
        let all = status["conditions"].as_array().unwrap().clone();
        all.into_iter().find(|condition| condition["type"] == kind).unwrap()
    };
    assert_eq!(of(&first, "Ready")["message"], "containers with unready status: [b]");
    assert_eq!(of(&first, "Ready")["reason"], "ContainersNotReady");
    let later = "2026-01-01T00:01:00Z";
    let same = status(about(later), &unready, &first);
    assert_eq!(same, first, "nothing has changed, so nothing is written");
    let ready = status(about(later), &board(&pod, [(running(), None), (running(), None)]), &first);
    assert_eq!(of(&ready, "Ready")["status"], "True");
    assert_eq!(of(&ready, "Ready")["lastTransitionTime"], later);
    assert_eq!(of(&ready, "Ready")["message"], Value::Null);
    assert_eq!(of(&ready, "Initialized")["lastTransitionTime"], NOW);
    assert_eq!(ready["startTime"], NOW);
}

#[test]
fn a_pod_that_is_taken_over_has_lost_what_ran() {
    let mut pod = pod("Always");
    pod.status = serde_json::from_value(json!({"containerStatuses": [
        {"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 2, "state": {"running": {"startedAt": NOW}}},
        {"name": "b", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"terminated": {"exitCode": 3, "reason": "Error"}}},
    ]}))
    .unwrap();
    let board = Board::new(&pod, NOW);
    let found: Vec<_> = board.containers.iter().map(|seen| seen.found.as_ref().map(|end| end.code)).collect();
    assert_eq!(found, [Some(137), Some(3)]);
    assert_eq!(board.containers[0].restarts, 2);
}

#[test]
fn quality_follows_from_requests_and_limits() {
    let quality = |resources: Value| {
        let spec = json!({"containers": [{"name": "a", "resources": resources}]});
        quality(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap())
    };
    assert_eq!(quality(json!({})), "BestEffort");
    assert_eq!(quality(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(quality(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
}
