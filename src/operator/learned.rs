//! What has been learned about a job's workers, in whole numbers in its status, and back from there after a restart. Pure.
//!
//! Whole numbers, for the API takes no fractions; so each is in a unit that is small enough for what it says.

use crate::api::status::{ModelStatus, StreamJobStatus};
use crate::policy::{Confidence, Model};

use super::status::whole;

/// What has been learned, in whole numbers.
pub(crate) fn model(model: &Model) -> ModelStatus {
    let thousandths = |value: Option<f64>| value.and_then(|value| whole(value * 1000.0));
    ModelStatus {
        capacity_per_worker: model.capacity_per_worker.and_then(whole),
        capacity_per_worker_millis: thousandths(model.capacity_per_worker),
        confidence: model.confidence.as_str().to_owned(),
        start_up_milliseconds: thousandths(model.start_up_seconds),
        handover_milliseconds: thousandths(model.handover_seconds),
        latency_floor_milliseconds: thousandths(model.latency_floor_seconds),
        commit_interval_milliseconds: thousandths(model.commit_interval_seconds),
        offsets_per_record_millis: thousandths(model.offsets_per_record),
        template: model.template.clone(),
    }
}

/// No worker does more records a second than that.
const FASTEST: i64 = 1_000_000_000;

/// No record takes more offsets than that.
const MOST_OFFSETS_PER_RECORD: i64 = 1_000_000;

/// What an earlier run learned, as a prior: a number out of range is not believed.
pub(crate) fn prior(status: &StreamJobStatus) -> Model {
    let Some(model) = &status.model else { return Model::default() };
    #[allow(clippy::cast_precision_loss, reason = "a rate or a time of 2^53 was turned away")]
    let within =
        |value: Option<i64>, high: i64| value.filter(|value| (1..=high).contains(value)).map(|value| value as f64);
    let thousandths = |value: Option<i64>, high: i64| within(value, high * 1000).map(|value| value / 1000.0);
    let seconds = |value: Option<i64>| thousandths(value, 3600);
    let capacity = thousandths(model.capacity_per_worker_millis, FASTEST);
    Model {
        // A status that an earlier version has written has whole records only.
        capacity_per_worker: capacity.or_else(|| within(model.capacity_per_worker, FASTEST)),
        confidence: Confidence::Low,
        start_up_seconds: seconds(model.start_up_milliseconds),
        handover_seconds: seconds(model.handover_milliseconds),
        latency_floor_seconds: seconds(model.latency_floor_milliseconds),
        commit_interval_seconds: seconds(model.commit_interval_milliseconds),
        offsets_per_record: thousandths(model.offsets_per_record_millis, MOST_OFFSETS_PER_RECORD),
        template: model.template.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corrupted_model_is_not_believed() {
        let model = |capacity| ModelStatus {
            capacity_per_worker: Some(capacity),
            capacity_per_worker_millis: None,
            confidence: "High".to_owned(),
            start_up_milliseconds: Some(-5),
            handover_milliseconds: Some(i64::MAX),
            latency_floor_milliseconds: Some(400),
            commit_interval_milliseconds: Some(0),
            offsets_per_record_millis: Some(i64::MAX),
            template: None,
        };
        let prior = |capacity| prior(&StreamJobStatus { model: Some(model(capacity)), ..StreamJobStatus::default() });
        let believed = prior(450);
        assert_eq!((believed.capacity_per_worker, believed.confidence), (Some(450.0), Confidence::Low));
        assert_eq!(
            (believed.start_up_seconds, believed.handover_seconds, believed.latency_floor_seconds),
            (None, None, Some(0.4))
        );
        assert_eq!((believed.commit_interval_seconds, believed.offsets_per_record), (None, None));
        assert_eq!(prior(-1).capacity_per_worker, None);
    }

    #[test]
    fn what_was_learned_is_known_after_a_restart() {
        let learned = Model {
            capacity_per_worker: Some(0.4),
            confidence: Confidence::Low,
            start_up_seconds: Some(12.0),
            handover_seconds: Some(3.5),
            latency_floor_seconds: Some(0.25),
            commit_interval_seconds: Some(30.0),
            offsets_per_record: Some(1.97),
            template: Some("a".to_owned()),
        };
        let written = serde_json::to_value(model(&learned)).unwrap();
        assert_eq!(
            (&written["capacityPerWorkerMillis"], &written["offsetsPerRecordMillis"]),
            (&400.into(), &1970.into())
        );
        assert_eq!(written["commitIntervalMilliseconds"], 30_000);
        let read = StreamJobStatus { model: serde_json::from_value(written).unwrap(), ..StreamJobStatus::default() };
        assert_eq!(prior(&read), learned);
    }
}
