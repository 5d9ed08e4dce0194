//! Wrong answers of brokers (catalogue M1 to M14), from the answer to the condition. Most tests have the same course:
//! four minutes of a load that needs three workers, four minutes of wrong answers, and then right answers again.

use std::time::Duration;

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, ClassicGroupState, ClusterState, Control};
use serde_json::json;

use super::testbed::{PARTITIONS, Testbed, Truth, offsets, report_truth};

/// Duration of the wrong answers, seconds. A real fall of the load removes workers in this time, see
/// `fall_of_the_load_removes_workers_with_right_answers`.
const LIE: u32 = 240;
/// Load that needs three workers, records per second. Each worker can process 100.
const LOAD: i64 = 220;

const CALLS: [ApiKey; 5] =
    [ApiKey::Metadata, ApiKey::ListOffsets, ApiKey::OffsetFetch, ApiKey::DescribeGroups, ApiKey::FindCoordinator];

/// Returns a testbed with a job that has reached the right number of workers.
async fn testbed_with_job(clusters: u16) -> Testbed {
    let testbed = Testbed::new(clusters).await;
    testbed.job("orders", 0, LOAD, |_| {}).await;
    testbed.run(240, |_| {}).await;
    // The times of samples decide whether there is one more worker.
    assert!(
        (3..=4).contains(&testbed.workers("orders")),
        "{} workers before the wrong answers",
        testbed.workers("orders")
    );
    assert_eq!(testbed.complaints("orders"), "", "before the wrong answers");
    testbed
}

/// Asserts that four minutes of wrong answers remove no worker, that the conditions contain `words` within a minute,
/// and that two minutes after their end all conditions are good.
async fn survives(words: &str, begin: impl FnOnce(&Testbed)) {
    let testbed = testbed_with_job(1).await;
    begin(&testbed);
    endure(&testbed, words).await;
    testbed.end().await;
}

async fn endure(testbed: &Testbed, words: &str) {
    let (mut reported, mut last, mut second) = (None, String::new(), 0);
    testbed
        .run(LIE, |testbed| {
            second += 1;
            last = testbed.complaints("orders");
            assert!(
                testbed.workers("orders") >= 3,
                "after {second} s of {words:?}: {} workers; {last}",
                testbed.workers("orders")
            );
            if reported.is_none() && last.contains(words) {
                reported = Some(second);
            }
        })
        .await;
    assert!(
        reported.is_some_and(|second| second <= 60),
        "{words:?} reported after {reported:?} s; at the end: {last:?}"
    );
    recovers(testbed, words).await;
}

/// Asserts that all conditions are good two minutes after the wrong answers have ended.
async fn recovers(testbed: &Testbed, words: &str) {
    testbed.restore_truth();
    testbed.run(120, |testbed| assert!(testbed.workers("orders") >= 3, "{words:?} is over")).await;
    assert_eq!(testbed.complaints("orders"), "", "{words:?} is over");
}

/// Lets the brokers answer every request like this.
fn answer_all(testbed: &Testbed, control: &Control) {
    for call in CALLS {
        let control = control.clone();
        testbed.brokers[0].on(call, move |_| control.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn fall_of_the_load_removes_workers_with_right_answers() {
    let testbed = testbed_with_job(1).await;
    testbed.set_rate("orders", 40);
    testbed.run(LIE, |_| {}).await;
    assert!(testbed.workers("orders") < 3, "{}", testbed.condition("orders", "ScalingActive"));
    testbed.end().await;
}

/// Catalogue: M1.
#[tokio::test(start_paused = true)]
async fn unreachable_source_removes_no_worker() {
    survives("SourceUnreachable", |testbed| (0..3).for_each(|node| testbed.brokers[0].crash(node))).await;
    survives("SourceUnreachable", |testbed| answer_all(testbed, &Control::Disconnect)).await;
    survives("StaleSignal", |testbed| answer_all(testbed, &Control::Silence)).await;
    survives("AuthenticationFailed", |testbed| {
        testbed.brokers[0].on(ApiKey::ListOffsets, |_| Control::Error(ErrorCode::TopicAuthorizationFailed));
    })
    .await;
}

/// Only the partitions of that broker are unknown.
///
/// Catalogue: M1.
#[tokio::test(start_paused = true)]
async fn silent_broker_of_three_removes_no_worker() {
    survives("PartialSignal", |testbed| {
        testbed.brokers[0]
            .on(ApiKey::ListOffsets, |call| if call.node_id == 2 { Control::Silence } else { Control::Pass });
    })
    .await;
}

/// Answers after the deadline count as missing; answers shortly before it are used.
///
/// Catalogue: M1.
#[tokio::test(start_paused = true)]
async fn slow_source_removes_no_worker() {
    survives("StaleSignal", |testbed| answer_all(testbed, &Control::Delay(Duration::from_secs(9)))).await;
    let testbed = testbed_with_job(1).await;
    testbed.brokers[0].on(ApiKey::Metadata, |_| Control::Delay(Duration::from_millis(300)));
    testbed.brokers[0].on(ApiKey::OffsetFetch, |_| Control::Delay(Duration::from_millis(400)));
    testbed.run(120, |testbed| assert_eq!(testbed.complaints("orders"), "")).await;
    testbed.end().await;
}

/// The broker refuses the offsets of the group, which are necessary.
///
/// Catalogue: M1.
#[tokio::test(start_paused = true)]
async fn refused_group_removes_no_worker() {
    for code in [ErrorCode::GroupAuthorizationFailed, ErrorCode::NotCoordinator, ErrorCode::UnknownServerError] {
        survives("PartialSignal", |testbed| testbed.brokers[0].on(ApiKey::OffsetFetch, move |_| Control::Error(code)))
            .await;
    }
}

/// One of two sources is silent. A lower load of the other removes no worker; a higher load adds workers.
///
/// Catalogue: M2.
#[tokio::test(start_paused = true)]
async fn one_silent_source_of_two_removes_no_worker() {
    let testbed = Testbed::new(2).await;
    testbed
        .job("orders", 0, 100, |object| {
            let mut second = object["spec"]["sources"][0].clone();
            (second["name"], second["kafka"]["topic"]) = (json!("returns"), json!("returns"));
            second["kafka"]["bootstrapServers"] = json!(["127.0.0.1:9102"]);
            object["spec"]["sources"].as_array_mut().unwrap().push(second);
        })
        .await;
    // Records of this topic are processed at once.
    testbed.topic("returns", 1, 0);
    testbed.run(240, |_| {}).await;
    let before = testbed.workers("orders");
    testbed.brokers[1].on(ApiKey::ListOffsets, |_| Control::Silence);
    testbed.set_rate("orders", 10);
    testbed.run(LIE, |testbed| assert!(testbed.workers("orders") >= before, "{}", testbed.complaints("orders"))).await;
    assert!(testbed.complaints("orders").contains("source returns"), "{}", testbed.complaints("orders"));
    testbed.set_rate("orders", 400);
    testbed.run(180, |_| {}).await;
    assert!(testbed.workers("orders") > before, "{}", testbed.complaints("orders"));
    testbed.end().await;
}

/// The answer has zeros for half of the partitions and errors for the others.
///
/// Catalogue: M4.
#[tokio::test(start_paused = true)]
async fn partial_answer_of_zeros_removes_no_worker() {
    survives("PartialSignal", |testbed| {
        testbed.set_broker_state("orders", |truth, state| {
            report_truth(truth, state);
            for p in 0..PARTITIONS {
                match p % 2 {
                    0 => offsets(truth, state, p, (0, 0, 0)),
                    _ => state.partition_mut(&truth.topic, p.try_into().unwrap()).unwrap().leader = -1,
                }
            }
        });
        testbed.brokers[0].on(ApiKey::DescribeGroups, |_| Control::Error(ErrorCode::CoordinatorLoadInProgress));
    })
    .await;
}

/// Clusters with different faults do not delay a job on another cluster.
///
/// Catalogue: M5.
#[tokio::test(start_paused = true)]
async fn faulty_clusters_do_not_delay_other_jobs() {
    let testbed = testbed_with_job(4).await;
    testbed.job("silent", 1, 100, |_| {}).await;
    testbed.job("absurd", 2, 100, |_| {}).await;
    testbed.job("deaf", 3, 100, |_| {}).await;
    testbed.brokers[1].on(ApiKey::Metadata, |_| Control::Silence);
    testbed.set_broker_state("absurd", |truth, state| {
        report_truth(truth, state);
        (0..PARTITIONS).for_each(|p| offsets(truth, state, p, (i64::MAX, i64::MIN, i64::MAX)));
    });
    (0..3).for_each(|node| testbed.brokers[3].crash(node));
    testbed.set_rate("orders", 500);
    let (mut seconds, mut grown) = (0, None);
    testbed
        .run(60, |testbed| {
            seconds += 1;
            assert!(
                testbed.condition("orders", "MetricsAvailable").starts_with("True"),
                "{}",
                testbed.complaints("orders")
            );
            grown = grown.or_else(|| (testbed.workers("orders") >= 5).then_some(seconds));
        })
        .await;
    assert!(grown.is_some_and(|seconds| seconds <= 30), "{grown:?}");
    for name in ["silent", "deaf"] {
        assert!(testbed.complaints(name).contains("source orders"), "{name}: {}", testbed.complaints(name));
    }
    testbed.end().await;
}

/// Returns wrong offsets of a partition: start, end and committed.
type WrongOffsets = fn(&Truth, usize) -> (i64, i64, i64);

fn report_wrong_offsets(testbed: &Testbed, wrong: WrongOffsets) {
    testbed.set_broker_state("orders", move |truth, state: &mut ClusterState| {
        report_truth(truth, state);
        (0..PARTITIONS).for_each(|p| offsets(truth, state, p, wrong(truth, p)));
    });
}

/// Offsets at the ends of their range must not overflow to a small lag.
///
/// Catalogue: M6.
#[tokio::test(start_paused = true)]
async fn extreme_offsets_remove_no_worker() {
    let cases: [WrongOffsets; 3] = [
        |truth, p| (0, i64::MAX, truth.done[p]),
        |_, _| (i64::MIN, i64::MAX, i64::MIN),
        |truth, p| (i64::MIN, truth.end[p], i64::MAX),
    ];
    for case in cases {
        survives("", |testbed| report_wrong_offsets(testbed, case)).await;
    }
}

/// No commit, commits beyond the end or before the start, ends below the start, and only zeros.
///
/// Catalogue: M7.
#[tokio::test(start_paused = true)]
async fn inconsistent_offsets_remove_no_worker() {
    let cases: [(&str, WrongOffsets); 6] = [
        ("", |truth, p| (0, truth.end[p], -1)),
        ("records past the end of the log", |truth, p| (0, truth.end[p], truth.end[p] + 1_000_000)),
        ("", |truth, p| (truth.end[p], truth.end[p], 0)),
        ("", |truth, p| (truth.end[p] + 1000, truth.end[p], truth.done[p])),
        ("", |truth, p| (0, -1, truth.done[p])),
        ("the workers process more records than the source reports", |_, _| (0, 0, 0)),
    ];
    for (words, case) in cases {
        survives(words, |testbed| report_wrong_offsets(testbed, case)).await;
    }
}

/// The same offsets in every answer while records flow, which the workers' metrics show.
///
/// Catalogue: M11.
#[tokio::test(start_paused = true)]
async fn frozen_offsets_remove_no_worker() {
    let testbed = testbed_with_job(1).await;
    let frozen = std::sync::OnceLock::new();
    testbed.set_broker_state("orders", move |truth, state| {
        let (end, done) = *frozen.get_or_init(|| (truth.end, truth.done));
        for p in 0..PARTITIONS {
            offsets(truth, state, p, (0, end[p], done[p]));
        }
    });
    let mut reported = None;
    testbed
        .run(900, |testbed| {
            assert!(testbed.workers("orders") >= 3, "{}", testbed.complaints("orders"));
            let condition = testbed.condition("orders", "MetricsAvailable");
            reported = reported.take().or_else(|| condition.starts_with("False").then_some(condition));
        })
        .await;
    let told = reported.unwrap_or_default();
    assert!(told.contains("ContradictorySignal: the workers process more records than the source reports"), "{told}");
    recovers(&testbed, "the same offsets").await;
    testbed.end().await;
}

/// The group rebalances forever, without owners, a stable state or commits; then its coordinator moves.
///
/// Catalogue: M8.
#[tokio::test(start_paused = true)]
async fn endless_rebalance_removes_no_worker() {
    survives("", |testbed| {
        // Arriving records do not show, either.
        testbed.set_broker_state("orders", |_, state| {
            let group = state.groups.entry("g".to_owned()).or_default();
            group.state = ClassicGroupState::CompletingRebalance;
            group.members.clear();
            group.assignments.clear();
        });
    })
    .await;
    let testbed = testbed_with_job(1).await;
    let mut second = 0;
    testbed
        .run(120, |testbed| {
            second += 1;
            testbed.brokers[0].set_group_coordinator("g", second % 3);
            testbed.brokers[0].bump_leader_epoch("orders", second % 8);
            testbed.brokers[0].set_leader("orders", second % 8, (second + 1) % 3);
            assert!(testbed.workers("orders") >= 3);
        })
        .await;
    recovers(&testbed, "a coordinator that moves").await;
    testbed.end().await;
}

/// The topic is deleted, and created again with fewer partitions and from offset 0; later it grows.
///
/// Catalogue: M9.
#[tokio::test(start_paused = true)]
async fn recreated_topic_removes_no_worker() {
    let testbed = testbed_with_job(1).await;
    testbed.set_broker_state("orders", |_, _| {});
    testbed.brokers[0].delete_topic("orders");
    testbed.run(60, |testbed| assert!(testbed.workers("orders") >= 3, "{}", testbed.complaints("orders"))).await;
    assert!(testbed.complaints("orders").contains("TopicNotFound"), "{}", testbed.complaints("orders"));
    testbed.brokers[0].create_topic("orders", 4);
    let from: i64 = 3600;
    testbed.set_broker_state("orders", move |truth, state| {
        for p in 0..PARTITIONS {
            let end = (truth.end[p] - from).max(0);
            offsets(truth, state, p, (0, end, end));
        }
    });
    testbed.run(60, |testbed| assert!(testbed.workers("orders") >= 3, "{}", testbed.complaints("orders"))).await;
    assert_eq!(testbed.complaints("orders"), "", "the new topic is read");
    testbed.brokers[0].add_partitions("orders", 8);
    testbed.run(60, |testbed| assert!(testbed.workers("orders") >= 3, "{}", testbed.complaints("orders"))).await;
    testbed.brokers[0].add_partitions("orders", 16);
    recovers(&testbed, "a topic that is made again and grows").await;
    testbed.end().await;
}

/// One record is processed for seven minutes, and no other record waits: its worker, which reports that it is busy,
/// stays until the record is done. Without a busy worker, one or two offsets that never move are taken for transaction
/// markers.
///
/// Catalogue: M10.
#[tokio::test(start_paused = true)]
async fn worker_of_a_long_record_is_not_removed() {
    let testbed = Testbed::new(1).await;
    testbed.job("orders", 0, 20, |object| object["spec"]["minReplicas"] = json!(0)).await;
    testbed.run(120, |_| {}).await;
    testbed.set_rate("orders", 0);
    testbed.set_broker_state("orders", |truth, state| {
        report_truth(truth, state);
        offsets(truth, state, 3, (0, truth.end[3], truth.end[3] - 1));
    });
    let since = testbed.world.clock.now().0;
    testbed.set_worker_page("orders", {
        let clock = testbed.world.clock.clone();
        move |counters| {
            let mut working = *counters;
            working.busy += clock.now().0 - since;
            working.page()
        }
    });
    testbed
        .run(420, |testbed| assert!(testbed.workers("orders") >= 1, "{}", testbed.condition("orders", "ScalingActive")))
        .await;
    testbed.restore_truth();
    testbed.run(900, |_| {}).await;
    assert_eq!(testbed.workers("orders"), 0, "{}", testbed.condition("orders", "ScalingActive"));
    testbed.end().await;
}

/// All brokers are down when the job is created, and start later.
///
/// Catalogue: M13.
#[tokio::test(start_paused = true)]
async fn job_created_while_brokers_are_down_recovers() {
    let testbed = Testbed::new(1).await;
    (0..3).for_each(|node| testbed.brokers[0].crash(node));
    testbed.job("orders", 0, LOAD, |_| {}).await;
    testbed
        .run(LIE, |testbed| assert!(matches!(testbed.workers("orders"), 0 | 3), "{}", testbed.workers("orders")))
        .await;
    assert_eq!(testbed.workers("orders"), 3, "the initial replica count");
    assert!(testbed.complaints("orders").contains("SourceUnreachable"), "{}", testbed.complaints("orders"));
    recovers(&testbed, "all is down").await;
    testbed.set_rate("orders", 500);
    testbed.run(120, |_| {}).await;
    assert!(testbed.workers("orders") > 3);
    testbed.end().await;
}

/// The source is silent while the load falls: the declared fallback applies, the status reports it, and when the source
/// is back the surplus workers are removed.
///
/// Catalogue: M14.
#[tokio::test(start_paused = true)]
async fn fallback_applies_until_the_source_is_back() {
    let testbed = Testbed::new(1).await;
    testbed
        .job("orders", 0, LOAD, |object| object["spec"]["scaling"]["fallback"] = json!({"after": "2m", "replicas": 5}))
        .await;
    testbed.run(240, |_| {}).await;
    testbed.set_rate("orders", 40);
    answer_all(&testbed, &Control::Silence);
    testbed.run(LIE, |testbed| assert!(testbed.workers("orders") >= 3, "{}", testbed.complaints("orders"))).await;
    assert_eq!(testbed.workers("orders"), 5, "{}", testbed.complaints("orders"));
    assert!(testbed.complaints("orders").contains("StaleSignal"), "{}", testbed.complaints("orders"));
    testbed.restore_truth();
    testbed.run(3 * LIE, |_| {}).await;
    assert!(testbed.workers("orders") < 3, "{}", testbed.condition("orders", "ScalingActive"));
    assert_eq!(testbed.complaints("orders"), "");
    testbed.end().await;
}
