//! M1 to M14, from the broker's answer to the condition. Most play the same: four minutes of a load that needs three
//! workers, four of lies, and then the truth again.

use std::time::Duration;

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, ClassicGroupState, ClusterState, Control};
use serde_json::json;

use super::stage::{PARTITIONS, Stage, Truth, offsets, tell};

/// Long enough for an honest fall to take workers away: `when_nobody_lies_a_fall_takes_workers_away`.
const LIE: u32 = 240;
/// In records a second: three workers' worth, for each can do 100.
const LOAD: i64 = 220;

const CALLS: [ApiKey; 5] =
    [ApiKey::Metadata, ApiKey::ListOffsets, ApiKey::OffsetFetch, ApiKey::DescribeGroups, ApiKey::FindCoordinator];

async fn opened(clusters: u16) -> Stage {
    let stage = Stage::new(clusters).await;
    stage.job("orders", 0, LOAD, |_| {}).await;
    stage.run(240, |_| {}).await;
    // When jobs are sampled is left to chance, and so is whether there is one more.
    assert!((3..=4).contains(&stage.workers("orders")), "{} workers before the lie", stage.workers("orders"));
    assert_eq!(stage.complaints("orders"), "", "before the lie");
    stage
}

/// Four minutes of it: nobody is taken away, `words` are among the complaints within a minute, and two minutes after its end
/// there are no complaints.
async fn lied(words: &str, begin: impl FnOnce(&Stage)) {
    let stage = opened(1).await;
    begin(&stage);
    endure(&stage, words).await;
    stage.end().await;
}

async fn endure(stage: &Stage, words: &str) {
    let (mut said, mut last, mut second) = (None, String::new(), 0);
    stage
        .run(LIE, |stage| {
            second += 1;
            last = stage.complaints("orders");
            assert!(
                stage.workers("orders") >= 3,
                "after {second} s of {words:?}: {} workers; {last}",
                stage.workers("orders")
            );
            if said.is_none() && last.contains(words) {
                said = Some(second);
            }
        })
        .await;
    assert!(said.is_some_and(|second| second <= 60), "{words:?} is said after {said:?} s; at the end: {last:?}");
    heal(stage, words).await;
}

async fn heal(stage: &Stage, words: &str) {
    stage.honest();
    stage.run(120, |stage| assert!(stage.workers("orders") >= 3, "{words:?} is over")).await;
    assert_eq!(stage.complaints("orders"), "", "{words:?} is over");
}

/// Whatever is asked is answered so.
fn all(stage: &Stage, control: &Control) {
    for call in CALLS {
        let control = control.clone();
        stage.brokers[0].on(call, move |_| control.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn when_nobody_lies_a_fall_takes_workers_away() {
    let stage = opened(1).await;
    stage.set_rate("orders", 40);
    stage.run(LIE, |_| {}).await;
    assert!(stage.workers("orders") < 3, "{}", stage.condition("orders", "ScalingActive"));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn t7_m1_a_source_that_cannot_be_reached() {
    lied("SourceUnreachable", |stage| (0..3).for_each(|node| stage.brokers[0].crash(node))).await;
    lied("SourceUnreachable", |stage| all(stage, &Control::Disconnect)).await;
    lied("StaleSignal", |stage| all(stage, &Control::Silence)).await;
    lied("AuthenticationFailed", |stage| {
        stage.brokers[0].on(ApiKey::ListOffsets, |_| Control::Error(ErrorCode::TopicAuthorizationFailed));
    })
    .await;
}

/// One of three is gone: so are its partitions, and no others.
#[tokio::test(start_paused = true)]
async fn t7_m1_one_broker_of_three_is_gone() {
    lied("PartialSignal", |stage| {
        stage.brokers[0]
            .on(ApiKey::ListOffsets, |call| if call.node_id == 2 { Control::Silence } else { Control::Pass });
    })
    .await;
}

/// Answers that come just in time are answers; those that do not are none.
#[tokio::test(start_paused = true)]
async fn t7_m1_a_source_that_is_slow() {
    lied("StaleSignal", |stage| all(stage, &Control::Delay(Duration::from_secs(9)))).await;
    let stage = opened(1).await;
    stage.brokers[0].on(ApiKey::Metadata, |_| Control::Delay(Duration::from_millis(300)));
    stage.brokers[0].on(ApiKey::OffsetFetch, |_| Control::Delay(Duration::from_millis(400)));
    stage.run(120, |stage| assert_eq!(stage.complaints("orders"), "")).await;
    stage.end().await;
}

/// The group's state is refused; its offsets are needed, and are missing.
#[tokio::test(start_paused = true)]
async fn t7_m1_a_group_that_is_refused() {
    for code in [ErrorCode::GroupAuthorizationFailed, ErrorCode::NotCoordinator, ErrorCode::UnknownServerError] {
        lied("PartialSignal", |stage| stage.brokers[0].on(ApiKey::OffsetFetch, move |_| Control::Error(code))).await;
    }
}

/// One of two sources is silent and the other says that less will do: nobody goes. It says that more is needed: they come.
#[tokio::test(start_paused = true)]
async fn t7_m2_one_of_two_sources_is_missing() {
    let stage = Stage::new(2).await;
    stage
        .job("orders", 0, 100, |object| {
            let mut second = object["spec"]["sources"][0].clone();
            (second["name"], second["kafka"]["topic"]) = (json!("returns"), json!("returns"));
            second["kafka"]["bootstrapServers"] = json!(["127.0.0.1:9102"]);
            object["spec"]["sources"].as_array_mut().unwrap().push(second);
        })
        .await;
    // What arrives there is processed at once by somebody.
    stage.topic("returns", 1, 0);
    stage.run(240, |_| {}).await;
    let before = stage.workers("orders");
    stage.brokers[1].on(ApiKey::ListOffsets, |_| Control::Silence);
    stage.set_rate("orders", 10);
    stage.run(LIE, |stage| assert!(stage.workers("orders") >= before, "{}", stage.complaints("orders"))).await;
    assert!(stage.complaints("orders").contains("source returns"), "{}", stage.complaints("orders"));
    stage.set_rate("orders", 400);
    stage.run(180, |_| {}).await;
    assert!(stage.workers("orders") > before, "{}", stage.complaints("orders"));
    stage.end().await;
}

/// Half of the partitions are answered with zeros, the others with an error.
#[tokio::test(start_paused = true)]
async fn t7_m4_half_an_answer_full_of_zeros() {
    lied("PartialSignal", |stage| {
        stage.says("orders", |truth, state| {
            tell(truth, state);
            for p in 0..PARTITIONS {
                match p % 2 {
                    0 => offsets(truth, state, p, (0, 0, 0)),
                    _ => state.partition_mut(&truth.topic, p.try_into().unwrap()).unwrap().leader = -1,
                }
            }
        });
        stage.brokers[0].on(ApiKey::DescribeGroups, |_| Control::Error(ErrorCode::CoordinatorLoadInProgress));
    })
    .await;
}

/// Clusters that lie, each in its way, delay no job of another.
#[tokio::test(start_paused = true)]
async fn t7_m5_the_others_are_served_as_ever() {
    let stage = opened(4).await;
    stage.job("silent", 1, 100, |_| {}).await;
    stage.job("absurd", 2, 100, |_| {}).await;
    stage.job("deaf", 3, 100, |_| {}).await;
    stage.brokers[1].on(ApiKey::Metadata, |_| Control::Silence);
    stage.says("absurd", |truth, state| {
        tell(truth, state);
        (0..PARTITIONS).for_each(|p| offsets(truth, state, p, (i64::MAX, i64::MIN, i64::MAX)));
    });
    (0..3).for_each(|node| stage.brokers[3].crash(node));
    stage.set_rate("orders", 500);
    let (mut seconds, mut grown) = (0, None);
    stage
        .run(60, |stage| {
            seconds += 1;
            assert!(
                stage.condition("orders", "MetricsAvailable").starts_with("True"),
                "{}",
                stage.complaints("orders")
            );
            grown = grown.or_else(|| (stage.workers("orders") >= 5).then_some(seconds));
        })
        .await;
    assert!(grown.is_some_and(|seconds| seconds <= 30), "{grown:?}");
    for name in ["silent", "deaf"] {
        assert!(stage.complaints(name).contains("source orders"), "{name}: {}", stage.complaints(name));
    }
    stage.end().await;
}

/// What the offsets of all partitions are said to be, and the truth from them.
type Absurd = fn(&Truth, usize) -> (i64, i64, i64);

fn absurd(stage: &Stage, what: Absurd) {
    stage.says("orders", move |truth, state: &mut ClusterState| {
        tell(truth, state);
        (0..PARTITIONS).for_each(|p| offsets(truth, state, p, what(truth, p)));
    });
}

/// Numbers at the ends of their range: no arithmetic wraps into "few".
#[tokio::test(start_paused = true)]
async fn t7_m6_offsets_that_overflow() {
    let cases: [Absurd; 3] = [
        |truth, p| (0, i64::MAX, truth.done[p]),
        |_, _| (i64::MIN, i64::MAX, i64::MIN),
        |truth, p| (i64::MIN, truth.end[p], i64::MAX),
    ];
    for case in cases {
        lied("", |stage| absurd(stage, case)).await;
    }
}

/// No commit, commits beyond the end or before the start, ends below the start, nothing but zeros.
#[tokio::test(start_paused = true)]
async fn t7_m7_offsets_that_make_no_sense() {
    let cases: [(&str, Absurd); 6] = [
        ("", |truth, p| (0, truth.end[p], -1)),
        ("records beyond its end", |truth, p| (0, truth.end[p], truth.end[p] + 1_000_000)),
        ("", |truth, p| (truth.end[p], truth.end[p], 0)),
        ("", |truth, p| (truth.end[p] + 1000, truth.end[p], truth.done[p])),
        ("", |truth, p| (0, -1, truth.done[p])),
        ("the workers process more than the source says", |_, _| (0, 0, 0)),
    ];
    for (words, case) in cases {
        lied(words, |stage| absurd(stage, case)).await;
    }
}

/// The same offsets for ever, with new times, while records flow: the workers tell that they do.
#[tokio::test(start_paused = true)]
async fn t7_m11_an_answer_that_never_changes() {
    let stage = opened(1).await;
    let frozen = std::sync::OnceLock::new();
    stage.says("orders", move |truth, state| {
        let (end, done) = *frozen.get_or_init(|| (truth.end, truth.done));
        for p in 0..PARTITIONS {
            offsets(truth, state, p, (0, end[p], done[p]));
        }
    });
    let mut told = None;
    stage
        .run(900, |stage| {
            assert!(stage.workers("orders") >= 3, "{}", stage.complaints("orders"));
            let said = stage.condition("orders", "MetricsAvailable");
            told = told.take().or_else(|| said.starts_with("False").then_some(said));
        })
        .await;
    let told = told.unwrap_or_default();
    assert!(told.contains("ContradictorySignal: the workers process more than the source says"), "{told}");
    heal(&stage, "the same offsets").await;
    stage.end().await;
}

/// The group rebalances without end: no owner, no state that is stable, no commit that moves; and its coordinator moves.
#[tokio::test(start_paused = true)]
async fn t7_m8_a_group_that_rebalances_and_a_coordinator_that_moves() {
    lied("", |stage| {
        // Nothing is to be seen of what arrives, either.
        stage.says("orders", |_, state| {
            let group = state.groups.entry("g".to_owned()).or_default();
            group.state = ClassicGroupState::CompletingRebalance;
            group.members.clear();
            group.assignments.clear();
        });
    })
    .await;
    let stage = opened(1).await;
    let mut second = 0;
    stage
        .run(120, |stage| {
            second += 1;
            stage.brokers[0].set_group_coordinator("g", second % 3);
            stage.brokers[0].bump_leader_epoch("orders", second % 8);
            stage.brokers[0].set_leader("orders", second % 8, (second + 1) % 3);
            assert!(stage.workers("orders") >= 3);
        })
        .await;
    heal(&stage, "a coordinator that moves").await;
    stage.end().await;
}

/// The topic is deleted, and made again with fewer partitions and from offset 0; later it grows.
#[tokio::test(start_paused = true)]
async fn t7_m9_a_topic_that_is_made_again() {
    let stage = opened(1).await;
    stage.says("orders", |_, _| {});
    stage.brokers[0].delete_topic("orders");
    stage.run(60, |stage| assert!(stage.workers("orders") >= 3, "{}", stage.complaints("orders"))).await;
    assert!(stage.complaints("orders").contains("TopicNotFound"), "{}", stage.complaints("orders"));
    stage.brokers[0].create_topic("orders", 4);
    let from: i64 = 3600;
    stage.says("orders", move |truth, state| {
        for p in 0..PARTITIONS {
            let end = (truth.end[p] - from).max(0);
            offsets(truth, state, p, (0, end, end));
        }
    });
    stage.run(60, |stage| assert!(stage.workers("orders") >= 3, "{}", stage.complaints("orders"))).await;
    assert_eq!(stage.complaints("orders"), "", "a new topic is a topic");
    stage.brokers[0].add_partitions("orders", 8);
    stage.run(60, |stage| assert!(stage.workers("orders") >= 3, "{}", stage.complaints("orders"))).await;
    stage.brokers[0].add_partitions("orders", 16);
    heal(&stage, "a topic that is made again and grows").await;
    stage.end().await;
}

/// One record is in work for seven minutes, and nothing else is there: its worker, which says that it is busy, stays until it
/// is done. If nobody is busy, one or two that never move are the markers of transactions (`policy/track.rs`).
#[tokio::test(start_paused = true)]
async fn t7_m10_nothing_waits_and_something_is_in_work() {
    let stage = Stage::new(1).await;
    stage.job("orders", 0, 20, |object| object["spec"]["minReplicas"] = json!(0)).await;
    stage.run(120, |_| {}).await;
    stage.set_rate("orders", 0);
    stage.says("orders", |truth, state| {
        tell(truth, state);
        offsets(truth, state, 3, (0, truth.end[3], truth.end[3] - 1));
    });
    let since = stage.world.clock.now().0;
    stage.writes("orders", {
        let clock = stage.world.clock.clone();
        move |counters| {
            let mut working = *counters;
            working.busy += clock.now().0 - since;
            working.page()
        }
    });
    stage
        .run(420, |stage| assert!(stage.workers("orders") >= 1, "{}", stage.condition("orders", "ScalingActive")))
        .await;
    stage.honest();
    stage.run(900, |_| {}).await;
    assert_eq!(stage.workers("orders"), 0, "{}", stage.condition("orders", "ScalingActive"));
    stage.end().await;
}

/// All is down when the job is made; later it comes.
#[tokio::test(start_paused = true)]
async fn t7_m13_all_is_down_when_the_job_is_made() {
    let stage = Stage::new(1).await;
    (0..3).for_each(|node| stage.brokers[0].crash(node));
    stage.job("orders", 0, LOAD, |_| {}).await;
    stage.run(LIE, |stage| assert!(matches!(stage.workers("orders"), 0 | 3), "{}", stage.workers("orders"))).await;
    assert_eq!(stage.workers("orders"), 3, "the number to begin with");
    assert!(stage.complaints("orders").contains("SourceUnreachable"), "{}", stage.complaints("orders"));
    heal(&stage, "all is down").await;
    stage.set_rate("orders", 500);
    stage.run(120, |_| {}).await;
    assert!(stage.workers("orders") > 3);
    stage.end().await;
}

/// The source is silent for an hour while the load falls: the fallback that the job declares holds, it is said, and when the
/// source is back the workers go that are not needed.
#[tokio::test(start_paused = true)]
async fn t7_m14_a_long_silence_ends_with_the_silence() {
    let stage = Stage::new(1).await;
    stage
        .job("orders", 0, LOAD, |object| object["spec"]["scaling"]["fallback"] = json!({"after": "2m", "replicas": 5}))
        .await;
    stage.run(240, |_| {}).await;
    stage.set_rate("orders", 40);
    all(&stage, &Control::Silence);
    stage.run(LIE, |stage| assert!(stage.workers("orders") >= 3, "{}", stage.complaints("orders"))).await;
    assert_eq!(stage.workers("orders"), 5, "{}", stage.complaints("orders"));
    assert!(stage.complaints("orders").contains("StaleSignal"), "{}", stage.complaints("orders"));
    stage.honest();
    stage.run(3 * LIE, |_| {}).await;
    assert!(stage.workers("orders") < 3, "{}", stage.condition("orders", "ScalingActive"));
    assert_eq!(stage.complaints("orders"), "");
    stage.end().await;
}
