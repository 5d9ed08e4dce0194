//! Invalid input: what the API server rejects and with which message, what only the operator can reject, and that one
//! invalid job does not affect others.

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::bed::{Bed, condition, has};

#[tokio::test]
async fn a_broken_rule_is_rejected_with_a_message_naming_the_fix() {
    let bed = Bed::new("refusals", 0).await;
    let cases: [(Value, &str); 19] = [
        (json!({"spec": {"minReplicas": 30}}), "minReplicas must not be larger than maxReplicas"),
        (json!({"spec": {"replicas": 21}}), "raise maxReplicas first"),
        (json!({"spec": {"targetRef": {"kind": "Deployment", "name": "x"}}}), "exactly one of workload"),
        (json!({"spec": {"workload": null}}), "exactly one of workload"),
        (json!({"spec": {"objective": {"latency": "10ms"}}}), "objective.latency must lie between 100ms and 24h"),
        (json!({"spec": {"objective": {"latency": "1 day"}}}), "should match"),
        (json!({"spec": {"objective": {"percentile": 100}}}), "objective.percentile must lie between 50 and 99.99"),
        (
            json!({"spec": {"objective": {"percentile": "99.999"}}}),
            "objective.percentile must lie between 50 and 99.99",
        ),
        (json!({"spec": {"objective": {"percentile": 99.9}}}), "percentile"),
        (json!({"spec": {"objective": {"window": "10s"}}}), "objective.window must lie between 1m and 720h"),
        (json!({"spec": {"sources": []}}), "at least 1"),
        (json!({"spec": {"sources": [{"name": "a"}]}}), "say what kind of source"),
        (json!({"spec": {"scaling": {"maxStepDown": "0%"}}}), "maxStepDown must be a number of at least 1"),
        (json!({"spec": {"scaling": {"initialReplicas": 21}}}), "initialReplicas must not be larger than maxReplicas"),
        (
            json!({"spec": {"scaling": {"schedules": [{"name": "a", "schedule": "0 7 * * *", "duration": "1h"}]}}}),
            "needs minReplicas, maxReplicas or both",
        ),
        (json!({"spec": {"processing": {"batchInterval": "1s"}}}), "needs processing.style: MicroBatch"),
        (
            json!({"spec": {"workload": {"volumeClaimTemplates": [{"metadata": {"name": "a"}}]}}}),
            "need workload.kind: StatefulSet",
        ),
        (json!({"metadata": {"name": "a".repeat(53)}}), "at most 52 characters"),
        (json!({"metadata": {"name": "a.b"}, "spec": {"workload": {"kind": "StatefulSet"}}}), "must not contain a dot"),
    ];
    for (changes, message) in cases {
        let object = bed.job(changes.clone());
        let error = bed.dry_run(&object).await.expect_err(&format!("{changes} is rejected")).to_string();
        assert!(error.contains(message), "{changes}: {error}");
    }
    // Server-side apply rejects an explicit null.
    let mut null = bed.job(json!({}));
    null["spec"]["replicas"] = Value::Null;
    assert!(bed.dry_run(&null).await.is_err());
    // A valid job is accepted.
    bed.dry_run(&bed.job(json!({"spec": {"objective": {"percentile": "99.9"}}}))).await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn an_immutable_field_is_rejected_with_an_alternative() {
    let bed = Bed::new("immutable", 0).await;
    bed.apply(&bed.job(json!({}))).await.unwrap();
    let error =
        bed.apply(&bed.job(json!({"spec": {"workload": {"kind": "StatefulSet"}}}))).await.unwrap_err().to_string();
    assert!(error.contains("workload.kind cannot be changed"), "{error}");
    // Removing the whole workload is rejected as well; a rule on the field itself would not run then.
    let mut target = bed.job(json!({"spec": {"targetRef": {"kind": "Deployment", "name": "another"}}}));
    target["spec"].as_object_mut().unwrap().remove("workload");
    let error = bed.apply(&target).await.unwrap_err().to_string();
    assert!(error.contains("cannot be changed from workload to targetRef or back"), "{error}");
    bed.end().await;
}

#[tokio::test]
async fn an_invalid_spec_is_reported_and_affects_no_other_job() {
    let bed = Bed::new("invalid", 4).await;
    let _operator = bed.operator(18101);
    // CEL cannot check cron expressions or time zones.
    let schedule =
        json!({"name": "a", "schedule": "0 25 * * *", "duration": "1h", "timeZone": "Mars/Base", "minReplicas": 2});
    bed.apply(&bed.job(json!({"metadata": {"name": "bad"}, "spec": {"scaling": {"schedules": [schedule]}}})))
        .await
        .unwrap();
    // Nothing listens on that port, and the topic does not exist.
    let unreachable =
        json!([{"name": "orders", "kafka": {"bootstrapServers": ["127.0.0.1:1"], "topic": "t", "consumerGroup": "g"}}]);
    bed.apply(&bed.job(json!({"metadata": {"name": "unreachable"}, "spec": {"sources": unreachable}}))).await.unwrap();
    let mut missing = bed.job(json!({"metadata": {"name": "missing"}}));
    missing["spec"]["sources"][0]["kafka"]["topic"] = json!("no-such-topic");
    bed.apply(&missing).await.unwrap();
    bed.apply(&bed.job(json!({}))).await.unwrap();

    let bad =
        bed.until_named("bad", "Ready=False/InvalidSpec", 30, |job| has(job, "Ready", "False", "InvalidSpec")).await;
    let message =
        bad.status.unwrap().conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap().message;
    for field in ["spec.scaling.schedules[0].schedule", "spec.scaling.schedules[0].timeZone"] {
        assert!(message.contains(field), "{field} in {message}");
    }
    assert!(bed.deployments().get_opt("bad").await.unwrap().is_none(), "no workload for an invalid spec");
    bed.until_named("unreachable", "SourceUnreachable", 60, |job| has(job, "Ready", "False", "SourceUnreachable"))
        .await;
    bed.until_named("missing", "TopicNotFound", 60, |job| has(job, "Ready", "False", "TopicNotFound")).await;
    let good = bed.until("the good job is ready", 60, |job| has(job, "Ready", "True", "Ready")).await;
    assert_eq!(condition(&good, "MetricsAvailable").0, "True");
    bed.end().await;
}

#[tokio::test]
async fn the_api_server_accepts_every_example() {
    let bed = Bed::new("examples", 0).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for document in serde_yaml::Deserializer::from_str(&std::fs::read_to_string(&path).unwrap()) {
            let mut object = Value::deserialize(document).unwrap();
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.insert("namespace".to_owned(), json!(bed.namespace));
            }
            bed.dry_run(&object).await.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} examples in {folder}");
    bed.end().await;
}
