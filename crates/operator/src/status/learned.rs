//! Converts what has been learned about a job's workers, and the counts of late records, to whole numbers in its
//! status, and reads them back after a restart. Pure.
//!
//! The Kubernetes API conventions advise against fractions, so each value is a whole number in a sufficiently small
//! unit.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use sluice_api::status::{AttainmentStatus, ModelStatus, StreamJobStatus};
use sluice_base::num;
use sluice_base::units::Seconds;
use sluice_policy::{Confidence, History, Memory, Model, Settings};

use crate::status::conditions::whole;

/// Converts the learned model to whole numbers for the status.
pub fn model(model: &Model) -> ModelStatus {
    let thousandths = |value: Option<f64>| value.and_then(|value| whole(value * 1000.0));
    ModelStatus {
        // A capacity below 1 has no whole number, and 0 would be wrong.
        capacity_per_worker: model.capacity_per_worker.filter(|capacity| *capacity >= 1.0).and_then(whole),
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

/// Returns the counts over the objective's window, for the status.
pub(crate) fn attainment(memory: &Memory, settings: &Settings) -> Option<AttainmentStatus> {
    let history = memory.history(settings)?;
    Some(AttainmentStatus {
        latency_milliseconds: whole(history.latency.0 * 1000.0)?,
        percentile_basis_points: whole(history.percentile * 1e4)?,
        since: Time(crate::timestamp(history.since)),
        part_seconds: whole(history.part.0)?,
        due: history.records.iter().map(|(due, _)| whole(*due)).collect::<Option<_>>()?,
        late: history.records.iter().map(|(_, late)| whole(*late)).collect::<Option<_>>()?,
    })
}

/// Reads the counts of an earlier run. Returns `None` if there are none, if they are implausible, or if the window has
/// passed.
pub(crate) fn history(status: &StreamJobStatus, now: Seconds) -> Option<History> {
    let written = status.attainment.as_ref()?;
    let AttainmentStatus { latency_milliseconds, percentile_basis_points, since, part_seconds, due, late } = written;
    let since = crate::seconds(since.0);
    let records = || due.iter().zip(late);
    let is_plausible = (1..=24 * HOUR_SECONDS * 1000).contains(latency_milliseconds)
        && (5000..=9999).contains(percentile_basis_points)
        && (1..=720 * HOUR_SECONDS / 20).contains(part_seconds)
        && due.len() == late.len()
        && due.len() <= 21
        && records().all(|(due, late)| (0..=MOST_RECORDS).contains(due) && (0..=*due).contains(late));
    let part = num::of_i64(*part_seconds);
    let window = Seconds(part * 20.0);
    let age = now - since;
    (is_plausible && age.0 >= 0.0 && age < window + window).then(|| History {
        latency: Seconds(num::of_i64(*latency_milliseconds) / 1000.0),
        percentile: num::of_i64(*percentile_basis_points) / 1e4,
        since,
        part: Seconds(part),
        records: records().map(|(due, late)| (num::of_i64(*due), num::of_i64(*late))).collect(),
    })
}

const HOUR_SECONDS: i64 = 3600;

/// Maximum plausible number of records in a twentieth of the window.
const MOST_RECORDS: i64 = 1_000_000_000_000_000;

/// Maximum plausible capacity of a worker, records per second.
const FASTEST: i64 = 1_000_000_000;

/// Maximum plausible number of offsets of a record.
const MOST_OFFSETS_PER_RECORD: i64 = 1_000_000;

/// Reads the model that an earlier run learned, as a prior. A number out of range is ignored.
pub fn prior(status: &StreamJobStatus) -> Model {
    let Some(model) = &status.model else { return Model::default() };
    let within = |value: Option<i64>, high: i64| value.filter(|value| (1..=high).contains(value)).map(num::of_i64);
    let thousandths = |value: Option<i64>, high: i64| within(value, high * 1000).map(|value| value / 1000.0);
    let seconds = |value: Option<i64>| thousandths(value, 3600);
    let capacity = thousandths(model.capacity_per_worker_millis, FASTEST);
    Model {
        // Earlier versions wrote whole records per second only.
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
    use sluice_policy::{Observation, decide};

    /// Returns an hour of counts of a job of which 2 % of the records in one part were late, and the status with these
    /// counts.
    fn counted() -> (Memory, Settings, StreamJobStatus, Seconds) {
        let settings = Settings::for_objective(Seconds(10.0), 0.999, (1, 9));
        let mut memory = Memory::default();
        let now = Seconds(1_764_000_777.0);
        decide(&mut memory, &Observation { at: now, ..Observation::default() }, &settings);
        let late = |part: usize| if part == 3 { 40.0 } else { 0.0 };
        let history = History {
            latency: settings.latency,
            percentile: settings.percentile,
            since: Seconds(1_763_997_300.0),
            part: Seconds(180.0),
            records: (0..20).map(|part| (2000.0, late(part))).collect(),
        };
        memory.recall_history(&history);
        let status = StreamJobStatus { attainment: attainment(&memory, &settings), ..StreamJobStatus::default() };
        (memory, settings, status, now)
    }

    #[test]
    fn attainment_and_error_budget_survive_a_restart() {
        let (before, settings, status, now) = counted();
        let written = serde_json::to_value(&status).unwrap();
        assert!(written["attainment"].to_string().len() < 400, "{written}");
        let read: StreamJobStatus = serde_json::from_value(written).unwrap();
        let mut after = Memory::default();
        after.recall_history(&history(&read, now).unwrap());
        let observation = Observation { at: now, ..Observation::default() };
        let told = |memory: &mut Memory, settings: &Settings| {
            let explain = decide(memory, &observation, settings).explain;
            (explain.attainment, explain.budget_left)
        };
        assert_eq!(told(&mut after, &settings), (Some(0.999), told(&mut before.clone(), &settings).1));
        // The counts hold for this objective only.
        let other = Settings { latency: Seconds(5.0), ..settings };
        assert_eq!(told(&mut after, &other), (None, None));
    }

    #[test]
    fn corrupted_history_is_ignored() {
        let (_, _, status, now) = counted();
        let told = status.attainment.unwrap();
        let of = |attainment: AttainmentStatus, now| {
            history(&StreamJobStatus { attainment: Some(attainment), ..StreamJobStatus::default() }, now)
        };
        assert!(of(told.clone(), now).is_some());
        let corrupted = [
            AttainmentStatus { latency_milliseconds: 0, ..told.clone() },
            AttainmentStatus { percentile_basis_points: 10_000, ..told.clone() },
            AttainmentStatus { part_seconds: 0, ..told.clone() },
            AttainmentStatus { part_seconds: i64::MAX, ..told.clone() },
            AttainmentStatus { late: vec![0; 19], ..told.clone() },
            AttainmentStatus { late: vec![2001; 20], ..told.clone() },
            AttainmentStatus { late: vec![-1; 20], ..told.clone() },
            AttainmentStatus { due: vec![i64::MAX; 20], ..told.clone() },
            AttainmentStatus { due: vec![5; 1000], late: vec![0; 1000], ..told.clone() },
        ];
        for attainment in corrupted {
            assert_eq!(of(attainment.clone(), now), None, "{attainment:?}");
        }
        assert_eq!(of(told.clone(), Seconds(1_763_997_299.0)), None, "it begins in the future");
        assert_eq!(of(told, now + Seconds(7200.0)), None, "the window has passed");
    }

    #[test]
    fn capacity_below_one_is_shown_in_thousandths() {
        let shown = model(&Model { capacity_per_worker: Some(0.4), ..Model::default() });
        assert_eq!((shown.capacity_per_worker, shown.capacity_per_worker_millis), (None, Some(400)));
    }

    #[test]
    fn corrupted_model_values_are_ignored() {
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
    fn learned_model_survives_a_restart() {
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
