//! Resource versions of status writes: each is based on the newest known version, so that a late write replaces nothing
//! newer.

use super::*;
use sluice_api::StreamJob;

#[tokio::test(start_paused = true)]
async fn status_uses_newest_version_and_carries_unreported_changes() {
    let seen = |version: &str, generation: i64| {
        job(json!({"metadata": {"resourceVersion": version, "generation": generation}, "spec": {"replicas": 9}}))
    };
    let status = |expected: &'static str, written: &str, job: &StreamJob| {
        let answer = serde_json::to_value(seen(written, 1)).unwrap();
        let mut line = status_with("ScalingActive", "False", "Pinned", job)
            .checked(move |body| assert_eq!(body["metadata"]["resourceVersion"], expected));
        line.answer = answer;
        line
    };
    let refused = |line: Line| line.refused(409, "Conflict", "the object has been modified");
    let first = seen("5", 1);
    let mut conversation = Conversation::new(vec![
        config_map(&first),
        line("GET", DEPLOYMENT, deployment(&first, 6, &["sluice/scale"])),
        line("PATCH", SCALE, scale_answer()),
        line("GET", DEPLOYMENT, deployment(&first, 9, &["sluice/scale"])),
        refused(status("5", "", &first)),
    ])
    .cached(deployment(&first, 6, &["sluice/scale"]));
    conversation.reconcile(&first).await;
    conversation.end();

    // The replica count is written, but the status write with its reason fails. The next status contains the change.
    tokio::time::advance(Duration::from_millis(100)).await;
    conversation = conversation.cached(deployment(&first, 9, &["sluice/scale"]));
    let second = seen("6", 1);
    conversation.then(vec![status("6", "7", &second).checked(|body| {
        assert_eq!(body["status"]["lastDecision"]["to"], 9);
        assert_eq!(body["status"]["recentDecisions"].as_array().unwrap().len(), 1);
    })]);
    conversation.reconcile(&second).await;
    conversation.end();

    // The cache is behind: the last status write has created a newer version.
    let behind = seen("6", 2);
    conversation.then(vec![status("7", "8", &behind)]);
    conversation.reconcile(&behind).await;
    conversation.end();

    // The cache has skipped that version: after one refusal the cache's version is used.
    let ahead = seen("9", 3);
    conversation.then(vec![refused(status("8", "", &ahead))]);
    conversation.reconcile(&ahead).await;
    tokio::time::advance(Duration::from_millis(100)).await;
    conversation.then(vec![status("9", "10", &ahead)]);
    conversation.reconcile(&ahead).await;
    conversation.end();
}
