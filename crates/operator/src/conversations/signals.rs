//! What is said of the signals.

use std::sync::Arc;

use super::*;
use sluice_base::units::Seconds;
use sluice_signals::{JobKey, JobSamples, Signals, SourceSample, WatchSpec};

#[tokio::test(start_paused = true)]
async fn timestamps_that_are_the_producers_are_told_while_all_is_well() {
    let producers = "the timestamps of source orders are the producers'";
    let unknown = "it is not known whether the timestamps of source orders are the producers'";
    for (producer_time, expected) in [(Some(false), ""), (Some(true), producers), (None, unknown)] {
        let sample = SourceSample { producer_time, ..all_processed(Seconds(1_764_000_000.0)) };
        let job = job(json!({}));
        let told = status_with("MetricsAvailable", "True", "Fresh", &job).checked(move |body| {
            let said = condition(body, "MetricsAvailable");
            let message = said["message"].as_str().unwrap();
            assert_eq!(message.contains("timestamps"), !expected.is_empty(), "{message}");
            assert!(message.contains(expected), "{message}");
        });
        let mut conversation =
            Conversation::new(vec![config_map(&job), told]).cached(deployment(&job, 6, &["sluice/scale"]));
        conversation.context.signals = Arc::new(Samples(read_as(sample)));
        conversation.reconcile(&job).await;
        conversation.end();
    }
}

/// Reading these is a fault of ours.
struct Poison;

impl Signals for Poison {
    fn watch(&self, _: &JobKey, _: WatchSpec) {}
    fn forget(&self, _: &JobKey) {}
    fn read(&self, _: &JobKey) -> Option<JobSamples> {
        panic!("poison")
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_reconcile_panics_is_set_aside_and_looked_at_again() {
    let job = job(json!({}));
    let told = status_with("Ready", "False", "InternalError", &job)
        .checked(|body| assert_eq!(condition(body, "Ready")["observedGeneration"], 1));
    let mut conversation = Conversation::new(vec![told]).cached(deployment(&job, 6, &["sluice/scale"]));
    let good = Arc::clone(&conversation.context.signals);
    conversation.context.signals = Arc::new(Poison);
    assert_eq!(conversation.reconcile(&job).await, Action::requeue(Duration::from_mins(1)));
    // For a minute not even a good sample is looked at: it would be as soon as it is there, again and again.
    conversation.context.signals = good;
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(conversation.reconcile(&job).await, Action::requeue(Duration::from_secs(1)));
    conversation.end();
    tokio::time::advance(Duration::from_secs(2)).await;
    conversation.then(vec![config_map(&job), status_with("MetricsAvailable", "False", "NoSignal", &job)]);
    conversation.reconcile(&job).await;
    conversation.end();
}
