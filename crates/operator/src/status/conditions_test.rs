use super::*;
use sluice_base::units::Seconds;

/// What a condition says with these facts: status, reason and message.
fn says(facts: &Facts<'_>, kind: &str) -> (String, String, String) {
    says_after(&StreamJobStatus::default(), facts, kind)
}

fn says_after(previous: &StreamJobStatus, facts: &Facts<'_>, kind: &str) -> (String, String, String) {
    let built = build(previous, facts, Timestamp::from_second(1).unwrap());
    let condition = built.conditions.into_iter().find(|condition| condition.type_ == kind).unwrap();
    (condition.status, condition.reason, condition.message)
}

fn trouble(message: &str, lasting: bool) -> Trouble {
    Trouble { message: message.to_owned(), lasting }
}

#[test]
fn the_time_of_a_condition_stays_while_its_status_does() {
    let facts = Facts { ready: 1, replicas: 1, ..Facts::default() };
    let first = build(&StreamJobStatus::default(), &facts, Timestamp::from_second(1).unwrap());
    let facts = Facts { ready: 2, replicas: 1, ..facts };
    let second = build(&first, &facts, Timestamp::from_second(2).unwrap());
    assert_eq!(first.conditions, second.conditions);
    let gone = Verdict { reason: reasons::SOURCE_UNREACHABLE, message: "nobody answers".to_owned() };
    let third = build(&second, &Facts { source_trouble: Some(gone), ..facts }, Timestamp::from_second(3).unwrap());
    let ready = third.conditions.iter().find(|condition| condition.type_ == READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.last_transition_time.0.as_second()), ("False", 3));
}

/// "4 exist" stayed while 8 did.
#[test]
fn how_many_pods_exist_is_told_as_it_is_now() {
    let of = |replicas| Facts { replicas, ..Facts::default() };
    let four = build(&StreamJobStatus::default(), &of(4), Timestamp::from_second(1).unwrap());
    let message = |replicas| says_after(&four, &of(replicas), READY).2;
    assert_eq!(message(0), "no worker is ready: no pod exists");
    assert_eq!(message(1), "no worker is ready: 1 pod exists, and it is not ready");
    assert_eq!(message(8), "no worker is ready: 8 pods exist, and none of them is ready");
}

#[test]
fn nothing_is_called_rolled_out_where_there_is_no_workload() {
    let settings = Settings::for_objective(Seconds(10.0), 0.99, (1, 9));
    let good = Facts { settings: Some(&settings), ..Facts::default() };
    let message = |facts: &Facts<'_>| {
        let (status, reason, message) = says(facts, RECONCILING);
        assert_eq!((status.as_str(), reason.as_str()), ("False", reasons::ROLLED_OUT));
        message
    };
    assert_eq!(message(&good), "every pod has the pod template of the workload");
    let missing = Verdict { reason: reasons::TARGET_NOT_FOUND, message: String::new() };
    let missing = Facts { workload_trouble: Some(missing), rolling_out: true, ..good.clone() };
    assert_eq!(message(&missing), "nothing is rolled out: the condition Ready says why");
    let problems = [Problem { field: "spec.x".to_owned(), message: "is wrong".to_owned() }];
    let invalid = Facts { problems: &problems, ..Facts::default() };
    assert_eq!(
        message(&invalid),
        "nothing is rolled out while the spec cannot be used; workers that exist stay as they are"
    );
}

#[test]
fn pods_that_crash_are_told_at_once_and_need_a_person_in_the_end_though_others_are_ready() {
    let words = "1 of 3 pods crashes again and again, such as w-2: container app: exit code 1";
    let facts = |lasting| Facts { ready: 2, replicas: 3, crashing: Some(trouble(words, lasting)), ..Facts::default() };
    let ready = says(&facts(false), READY);
    assert_eq!((ready.0.as_str(), ready.2), ("True", format!("workers run and the source answers; but {words}")));
    assert_eq!(says(&facts(false), STALLED).0, "False");
    assert_eq!(says(&facts(true), STALLED), ("True".to_owned(), reasons::CRASH_LOOPING.to_owned(), words.to_owned()));
    let none = Facts { ready: 0, ..facts(false) };
    assert_eq!(says(&none, READY).2, format!("no worker is ready: {words}"));
    // A restart forgets since when, and the pods crash still.
    let told = build(&StreamJobStatus::default(), &facts(true), Timestamp::from_second(1).unwrap());
    assert_eq!(says_after(&told, &facts(false), STALLED).1, reasons::CRASH_LOOPING);
    assert_eq!(says_after(&told, &Facts { ready: 3, ..Facts::default() }, STALLED).0, "False");
}

#[test]
fn a_roll_out_that_does_not_get_on_needs_a_person() {
    let message = "ReplicaSet \"orders-1\" has timed out progressing.".to_owned();
    let facts = Facts { deadline_exceeded: Some(message), ready: 3, replicas: 4, ..Facts::default() };
    let (status, reason, message) = says(&facts, STALLED);
    assert_eq!((status.as_str(), reason.as_str()), ("True", reasons::PROGRESS_DEADLINE_EXCEEDED));
    assert!(message.contains("has timed out progressing. Look at the new pods"), "{message}");
    // Where it is known why, that is said.
    let why = Facts { failing: Some(trouble("2 of 2 pods cannot start", true)), ..facts };
    assert_eq!(says(&why, STALLED).1, reasons::PODS_FAILING);
}

#[test]
fn pods_that_something_other_than_a_quota_refuses_for_long_need_a_person() {
    let stalled = |reason: &'static str, lasting| {
        let verdict = Some(Verdict { reason, message: "violates PodSecurity".to_owned() });
        says(&Facts { refusal: Refusal { verdict, lasting, ..Refusal::default() }, ..Facts::default() }, STALLED)
    };
    let (status, reason, message) = stalled(reasons::PODS_REFUSED, true);
    assert_eq!((status.as_str(), reason.as_str()), ("True", reasons::PODS_REFUSED));
    assert_eq!(message, "pods are refused: violates PodSecurity");
    assert_eq!(stalled(reasons::PODS_REFUSED, false).0, "False");
    assert_eq!(stalled(reasons::QUOTA_EXCEEDED, false).0, "False");
}

#[test]
fn members_of_the_group_that_are_no_workers_are_told() {
    let settings = Settings::for_objective(Seconds(10.0), 0.99, (1, 9));
    let strangers = Some("1 member of consumer group g is not a pod of this job".to_owned());
    let facts = Facts { settings: Some(&settings), strangers: strangers.clone(), ..Facts::default() };
    let (status, reason, message) = says(&facts, METRICS_AVAILABLE);
    assert_eq!((status.as_str(), reason.as_str(), Some(message)), ("True", reasons::STRANGERS_IN_GROUP, strangers));
    let built = build(&StreamJobStatus::default(), &facts, Timestamp::from_second(1).unwrap());
    assert!(tells_of_strangers(Some(&built)) && !tells_of_strangers(None));
    assert_eq!(says(&Facts { strangers: None, ..facts }, METRICS_AVAILABLE).1, reasons::FRESH);
}

#[test]
fn what_one_worker_can_do_is_shown_with_its_fraction() {
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
fn pods_that_cannot_start_and_pods_that_are_refused_are_told_each_for_what_they_are() {
    let limit = |facts: &Facts<'_>| {
        let built = build(&StreamJobStatus::default(), facts, Timestamp::from_second(1).unwrap());
        let of = |kind: &str| built.conditions.iter().find(|condition| condition.type_ == kind).unwrap().clone();
        let (limited, stalled) = (of(SCALING_LIMITED), of(STALLED));
        assert_eq!(stalled.status == "True", facts.failing.as_ref().is_some_and(|failing| failing.lasting));
        (limited.reason, limited.message, of(READY).message)
    };
    let message = "2 of 2 pods cannot start, such as w-0: container app: ErrImagePull".to_owned();
    let failing = Some(Trouble { message: message.clone(), lasting: false });
    limit(&Facts { failing: Some(Trouble { message, lasting: true }), ..Facts::default() });
    let (reason, message, ready) = limit(&Facts { failing: failing.clone(), replicas: 2, ..Facts::default() });
    assert_eq!((reason.as_str(), Some(message)), (reasons::PODS_FAILING, failing.map(|failing| failing.message)));
    assert!(ready.starts_with("no worker is ready: 2 of 2 pods cannot start"), "{ready}");
    let verdict = Verdict { reason: reasons::PODS_REFUSED, message: "violates PodSecurity".to_owned() };
    let refusal = Refusal { granted: Some(1), verdict: Some(verdict), now: true, lasting: false };
    let (reason, message, ready) = limit(&Facts { refusal: refusal.clone(), ..Facts::default() });
    assert_eq!((reason.as_str(), message.as_str()), (reasons::PODS_REFUSED, "violates PodSecurity"));
    assert_eq!(ready, "no worker is ready: violates PodSecurity");
    // It was a while ago, and nothing else limits.
    let (reason, ..) = limit(&Facts { refusal: Refusal { now: false, ..refusal }, ..Facts::default() });
    assert_eq!(reason, reasons::NOT_LIMITED);
}
