//! What is said of the signals.

use std::sync::Arc;

use super::*;
use crate::policy::units::Seconds;
use crate::signals::{JobSamples, PartitionSample, SourceReading, SourceSample};

#[tokio::test(start_paused = true)]
async fn timestamps_that_are_the_producers_are_told_while_all_is_well() {
    for producer_time in [false, true] {
        let partition = PartitionSample {
            id: "orders/0".to_owned(),
            end: Some(5),
            committed: Some(5),
            ..PartitionSample::default()
        };
        let sample = SourceSample {
            at: Seconds(1_764_000_000.0),
            partitions: vec![partition],
            producer_time,
            ..SourceSample::default()
        };
        let source = SourceReading { name: "orders".to_owned(), sample: Some(Arc::new(sample)), failure: None };
        let job = job(json!({}));
        let told = status_with("MetricsAvailable", "True", "Fresh", &job).checked(move |body| {
            let said = condition(body, "MetricsAvailable");
            let message = said["message"].as_str().unwrap();
            let flagged = message.contains("the timestamps of source orders are the producers'");
            assert_eq!(flagged, producer_time, "{message}");
        });
        let mut conversation =
            Conversation::new(vec![config_map(&job), told]).cached(deployment(&job, 6, &["sluice/scale"]));
        conversation.context.signals = Arc::new(Samples(JobSamples { sources: vec![source], workers: Vec::new() }));
        conversation.reconcile(&job).await;
        conversation.end();
    }
}
