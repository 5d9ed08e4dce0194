//! Reports about signals, and panics while reading them.

use std::sync::Arc;

use super::*;
use sluice_base::units::Seconds;
use sluice_signals::{JobKey, JobSamples, Signals, SourceSample, WatchSpec};

#[tokio::test(start_paused = true)]
async fn producer_timestamps_are_reported_with_fresh_signals() {
    let producers = "the timestamps of source orders are the producers'";
    let unknown = "it is unknown whether the timestamps of source orders are the producers'";
    for (producer_time, expected) in [(Some(false), ""), (Some(true), producers), (None, unknown)] {
        let sample = SourceSample { producer_time, ..all_processed(Seconds(1_764_000_000.0)) };
        let job = job(json!({}));
        let reported = status_with("MetricsAvailable", "True", "Fresh", &job).checked(move |body| {
            let condition = condition(body, "MetricsAvailable");
            let message = condition["message"].as_str().unwrap();
            assert_eq!(message.contains("timestamps"), !expected.is_empty(), "{message}");
            assert!(message.contains(expected), "{message}");
        });
        let mut conversation =
            Conversation::new(vec![config_map(&job), reported]).cached(deployment(&job, 6, &["sluice/scale"]));
        conversation.context.signals = Arc::new(Samples(read_as(sample)));
        conversation.reconcile(&job).await;
        conversation.end();
    }
}

/// Signals that panic when they are read.
struct Poison;

impl Signals for Poison {
    fn watch(&self, _: &JobKey, _: WatchSpec) {}
    fn forget(&self, _: &JobKey) {}
    fn read(&self, _: &JobKey) -> Option<JobSamples> {
        panic!("poison")
    }
}

#[tokio::test(start_paused = true)]
async fn job_whose_reconcile_panics_is_set_aside_for_a_minute() {
    let job = job(json!({}));
    let reported = status_with("Ready", "False", "InternalError", &job)
        .checked(|body| assert_eq!(condition(body, "Ready")["observedGeneration"], 1));
    let mut conversation = Conversation::new(vec![reported]).cached(deployment(&job, 6, &["sluice/scale"]));
    let good = Arc::clone(&conversation.context.signals);
    conversation.context.signals = Arc::new(Poison);
    assert_eq!(conversation.reconcile(&job).await, Action::requeue(Duration::from_mins(1)));
    // For a minute not even a good sample triggers a reconcile.
    conversation.context.signals = good;
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(conversation.reconcile(&job).await, Action::requeue(Duration::from_secs(1)));
    conversation.end();
    tokio::time::advance(Duration::from_secs(2)).await;
    conversation.then(vec![config_map(&job), status_with("MetricsAvailable", "False", "NoSignal", &job)]);
    conversation.reconcile(&job).await;
    conversation.end();
}
