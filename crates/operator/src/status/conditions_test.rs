use super::*;
use sluice_base::units::Seconds;

/// Returns status, reason and message of a condition with these facts.
fn condition_with(facts: &Facts<'_>, kind: &str) -> (String, String, String) {
    condition_after(&StreamJobStatus::default(), facts, kind)
}

fn condition_after(previous: &StreamJobStatus, facts: &Facts<'_>, kind: &str) -> (String, String, String) {
    let built = build(previous, facts, Timestamp::from_second(1).unwrap());
    let condition = built.conditions.into_iter().find(|condition| condition.type_ == kind).unwrap();
    (condition.status, condition.reason, condition.message)
}

fn trouble(message: &str, lasting: bool) -> PodTrouble {
    PodTrouble { message: message.to_owned(), lasting }
}

#[test]
fn transition_time_stays_while_the_status_does() {
    let facts = Facts { ready: 1, replicas: 1, ..Facts::default() };
    let first = build(&StreamJobStatus::default(), &facts, Timestamp::from_second(1).unwrap());
    let facts = Facts { ready: 2, replicas: 1, ..facts };
    let second = build(&first, &facts, Timestamp::from_second(2).unwrap());
    assert_eq!(first.conditions, second.conditions);
    let gone = ConditionCause { reason: reasons::SOURCE_UNREACHABLE, message: "no broker answers".to_owned() };
    let third = build(&second, &Facts { source_trouble: Some(gone), ..facts }, Timestamp::from_second(3).unwrap());
    let ready = third.conditions.iter().find(|condition| condition.type_ == READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.last_transition_time.0.as_second()), ("False", 3));
}

/// The message kept "4 exist" while 8 pods existed.
#[test]
fn ready_message_counts_the_pods_that_exist_now() {
    let of = |replicas| Facts { replicas, ..Facts::default() };
    let four = build(&StreamJobStatus::default(), &of(4), Timestamp::from_second(1).unwrap());
    let message = |replicas| condition_after(&four, &of(replicas), READY).2;
    assert_eq!(message(0), "no worker is ready: no pod exists");
    assert_eq!(message(1), "no worker is ready: 1 pod exists, and it is not ready");
    assert_eq!(message(8), "no worker is ready: 8 pods exist, and none of them is ready");
}

#[test]
fn reconciling_message_fits_a_job_without_workload() {
    let settings = Settings::for_objective(Seconds(10.0), 0.99, (1, 9));
    let good = Facts { settings: Some(&settings), ..Facts::default() };
    let message = |facts: &Facts<'_>| {
        let (status, reason, message) = condition_with(facts, RECONCILING);
        assert_eq!((status.as_str(), reason.as_str()), ("False", reasons::ROLLED_OUT));
        message
    };
    assert_eq!(message(&good), "no rollout is under way");
    let missing = ConditionCause { reason: reasons::TARGET_NOT_FOUND, message: String::new() };
    let missing = Facts { workload_trouble: Some(missing), rolling_out: true, ..good.clone() };
    assert_eq!(message(&missing), "no rollout: see the condition Ready");
    let problems = [Problem { field: "spec.x".to_owned(), message: "is wrong".to_owned() }];
    let invalid = Facts { problems: &problems, ..Facts::default() };
    assert_eq!(message(&invalid), "no rollout: the spec cannot be used; existing workers keep running");
}

#[test]
fn crashing_pods_are_reported_at_once_and_stall_the_job_later() {
    let words = "1 of 3 pods crashes repeatedly, such as w-2: container app: exit code 1";
    let facts = |lasting| Facts { ready: 2, replicas: 3, crashing: Some(trouble(words, lasting)), ..Facts::default() };
    let ready = condition_with(&facts(false), READY);
    assert_eq!((ready.0.as_str(), ready.2), ("True", format!("workers run and the source answers; but {words}")));
    assert_eq!(condition_with(&facts(false), STALLED).0, "False");
    assert_eq!(
        condition_with(&facts(true), STALLED),
        ("True".to_owned(), reasons::CRASH_LOOPING.to_owned(), words.to_owned())
    );
    let none = Facts { ready: 0, ..facts(false) };
    assert_eq!(condition_with(&none, READY).2, format!("no worker is ready: {words}"));
    // A restart forgets how long the pods have crashed; they still do.
    let before = build(&StreamJobStatus::default(), &facts(true), Timestamp::from_second(1).unwrap());
    assert_eq!(condition_after(&before, &facts(false), STALLED).1, reasons::CRASH_LOOPING);
    assert_eq!(condition_after(&before, &Facts { ready: 3, ..Facts::default() }, STALLED).0, "False");
}

#[test]
fn exceeded_progress_deadline_stalls_the_job() {
    let message = "ReplicaSet \"orders-1\" has timed out progressing.".to_owned();
    let facts = Facts { deadline_exceeded: Some(message), ready: 3, replicas: 4, ..Facts::default() };
    let (status, reason, message) = condition_with(&facts, STALLED);
    assert_eq!((status.as_str(), reason.as_str()), ("True", reasons::PROGRESS_DEADLINE_EXCEEDED));
    assert!(message.contains("has timed out progressing. Check the new pods"), "{message}");
    // A known cause takes precedence.
    let why = Facts { failing: Some(trouble("2 of 2 pods cannot start", true)), ..facts };
    assert_eq!(condition_with(&why, STALLED).1, reasons::PODS_FAILING);
}

#[test]
fn lasting_refusal_stalls_the_job_unless_a_quota_refuses() {
    let stalled = |reason: &'static str, lasting| {
        let cause = Some(ConditionCause { reason, message: "violates PodSecurity".to_owned() });
        condition_with(
            &Facts { refusal: Refusal { cause, lasting, ..Refusal::default() }, ..Facts::default() },
            STALLED,
        )
    };
    let (status, reason, message) = stalled(reasons::PODS_REFUSED, true);
    assert_eq!((status.as_str(), reason.as_str()), ("True", reasons::PODS_REFUSED));
    assert_eq!(message, "pods are refused: violates PodSecurity");
    assert_eq!(stalled(reasons::PODS_REFUSED, false).0, "False");
    assert_eq!(stalled(reasons::QUOTA_EXCEEDED, false).0, "False");
}

#[test]
fn strangers_in_the_group_are_reported() {
    let settings = Settings::for_objective(Seconds(10.0), 0.99, (1, 9));
    let strangers = Some("1 member of consumer group g is not a pod of this job".to_owned());
    let facts = Facts { settings: Some(&settings), strangers: strangers.clone(), ..Facts::default() };
    let (status, reason, message) = condition_with(&facts, METRICS_AVAILABLE);
    assert_eq!((status.as_str(), reason.as_str(), Some(message)), ("True", reasons::STRANGERS_IN_GROUP, strangers));
    let built = build(&StreamJobStatus::default(), &facts, Timestamp::from_second(1).unwrap());
    assert!(reports_strangers(Some(&built)) && !reports_strangers(None));
    assert_eq!(condition_with(&Facts { strangers: None, ..facts }, METRICS_AVAILABLE).1, reasons::FRESH);
}

#[test]
fn capacity_summary_keeps_fractions() {
    let shown = |capacity| {
        let mut decision = Decision::default();
        decision.explain.model.capacity_per_worker = Some(capacity);
        let facts = Facts { decision: Some(&decision), ..Facts::default() };
        build(&StreamJobStatus::default(), &facts, Timestamp::from_second(1).unwrap())
            .summary
            .unwrap()
            .capacity_per_worker
    };
    assert_eq!((shown(0.4).as_deref(), shown(0.067).as_deref()), (Some("0.4/s"), Some("0.067/s")));
    assert_eq!(shown(1234.0).as_deref(), Some("1.23k/s"));
}

#[test]
fn failing_pods_and_refused_pods_have_their_own_reasons() {
    let limit = |facts: &Facts<'_>| {
        let built = build(&StreamJobStatus::default(), facts, Timestamp::from_second(1).unwrap());
        let of = |kind: &str| built.conditions.iter().find(|condition| condition.type_ == kind).unwrap().clone();
        let (limited, stalled) = (of(SCALING_LIMITED), of(STALLED));
        assert_eq!(stalled.status == "True", facts.failing.as_ref().is_some_and(|failing| failing.lasting));
        (limited.reason, limited.message, of(READY).message)
    };
    let message = "2 of 2 pods cannot start, such as w-0: container app: ErrImagePull".to_owned();
    let failing = Some(PodTrouble { message: message.clone(), lasting: false });
    limit(&Facts { failing: Some(PodTrouble { message, lasting: true }), ..Facts::default() });
    let (reason, message, ready) = limit(&Facts { failing: failing.clone(), replicas: 2, ..Facts::default() });
    assert_eq!((reason.as_str(), Some(message)), (reasons::PODS_FAILING, failing.map(|failing| failing.message)));
    assert!(ready.starts_with("no worker is ready: 2 of 2 pods cannot start"), "{ready}");
    let cause = ConditionCause { reason: reasons::PODS_REFUSED, message: "violates PodSecurity".to_owned() };
    let refusal = Refusal { granted: Some(1), cause: Some(cause), now: true, lasting: false };
    let (reason, message, ready) = limit(&Facts { refusal: refusal.clone(), ..Facts::default() });
    assert_eq!((reason.as_str(), message.as_str()), (reasons::PODS_REFUSED, "violates PodSecurity"));
    assert_eq!(ready, "no worker is ready: violates PodSecurity");
    // The refusal is over, and no other limit applies.
    let (reason, ..) = limit(&Facts { refusal: Refusal { now: false, ..refusal }, ..Facts::default() });
    assert_eq!(reason, reasons::NOT_LIMITED);
}
