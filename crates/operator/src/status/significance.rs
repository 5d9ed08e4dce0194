//! Decides when a status is worth a write: at once when a state or a decision has changed; at a bounded rate when its
//! numbers or messages have changed so much that the written ones mislead. A steady hour therefore costs no write, and
//! neither does a restart. Pure.
//!
//! Each write replaces all numbers and messages, and sets `observedTime`.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use sluice_api::conditions::{METRICS_AVAILABLE, READY, RECONCILING, SCALING_LIMITED, STALLED, WITHIN_TARGET};
use sluice_api::status::{ModelStatus, StreamJobStatus};
use sluice_policy::{Confidence, Settings};

use crate::status::conditions::whole;

/// Minimum time between two writes because of misleading numbers.
const NUMBERS: SignedDuration = SignedDuration::from_secs(30);

/// Minimum time between two writes because of changed messages.
const MESSAGES: SignedDuration = SignedDuration::from_mins(5);

/// Minimum time between two writes because of attainment.
const ATTAINMENT: SignedDuration = SignedDuration::from_hours(1);

/// Change of attainment that is worth a write, as a share of the error budget.
const BUDGET: f64 = 0.25;

/// Returns whether the next status is worth a write. `next.observed_time` is the current time.
pub(crate) fn needs_write(previous: &StreamJobStatus, next: &StreamJobStatus, settings: Option<&Settings>) -> bool {
    // After a restart the confidence starts low; only a rise above the written confidence is a change.
    let known = [Confidence::None, Confidence::Low, Confidence::Medium, Confidence::High];
    let confidence = |status: &StreamJobStatus| {
        let written = status.model.as_ref().map(|model| model.confidence.as_str());
        known.iter().position(|confidence| Some(confidence.as_str()) == written)
    };
    let older_than = |age: SignedDuration| match (&previous.observed_time, &next.observed_time) {
        (Some(before), Some(now)) => now.0.duration_since(before.0) >= age,
        _ => true,
    };
    !same(previous, next)
        || confidence(next) > confidence(previous)
        || become_known(previous, next)
        || (older_than(NUMBERS) && numbers_mislead(previous, next, settings))
        || (older_than(MESSAGES) && messages_differ(previous, next))
        || (older_than(ATTAINMENT) && attainment_misleads(previous, next, settings))
}

/// Returns whether only numbers and messages differ. The status is destructured without `..`, so that a new field must
/// be handled here.
fn same(before: &StreamJobStatus, after: &StreamJobStatus) -> bool {
    let StreamJobStatus {
        observed_generation,
        observed_time: _,
        replicas,
        ready_replicas,
        desired_replicas,
        selector,
        lag_records: _,
        latency_milliseconds: _,
        arrival_rate_per_second: _,
        attainment_basis_points: _,
        partitions,
        summary: _,
        attainment: _,
        model,
        last_decision,
        recent_decisions,
        conditions,
    } = before;
    // The learned values are numbers, too.
    let template = |model: &Option<ModelStatus>| model.as_ref().map(|model| model.template.clone());
    *observed_generation == after.observed_generation
        && *replicas == after.replicas
        && *ready_replicas == after.ready_replicas
        && *desired_replicas == after.desired_replicas
        && *selector == after.selector
        && *partitions == after.partitions
        && template(model) == template(&after.model)
        && *last_decision == after.last_decision
        && *recent_decisions == after.recent_decisions
        && conditions.len() == after.conditions.len()
        && conditions.iter().zip(&after.conditions).all(|(before, after)| same_state(before, after))
}

/// Returns whether two conditions differ at most in their messages.
fn same_state(before: &Condition, after: &Condition) -> bool {
    let Condition { type_, status, reason, message: _, observed_generation, last_transition_time } = before;
    *type_ == after.type_
        && *status == after.status
        && *reason == after.reason
        && *observed_generation == after.observed_generation
        && *last_transition_time == after.last_transition_time
}

/// Returns whether a number has become known. A number that is no longer known stays until a condition reports the
/// missing signal.
fn become_known(before: &StreamJobStatus, after: &StreamJobStatus) -> bool {
    let numbers = |status: &StreamJobStatus| {
        [status.lag_records, status.latency_milliseconds, status.arrival_rate_per_second].map(|number| number.is_some())
    };
    numbers(before).iter().zip(numbers(after)).any(|(before, after)| !before && after)
}

/// Returns whether the written lag, latency or rate mislead: by a factor of 2 while the target is missed, otherwise by
/// a factor of 10, and only above a negligible amount.
fn numbers_mislead(before: &StreamJobStatus, after: &StreamJobStatus, settings: Option<&Settings>) -> bool {
    // A tenth of the target, and the records that arrive in that time, are negligible.
    let latency = settings.and_then(|settings| whole(settings.latency.0 * 100.0)).unwrap_or(1000);
    let lag = after.arrival_rate_per_second.unwrap_or(0).saturating_mul(latency) / 1000;
    let met = |condition: &Condition| condition.type_ == WITHIN_TARGET && condition.status == "True";
    let factor = if after.conditions.iter().any(met) { 10 } else { 2 };
    let differ = |before: Option<i64>, after: Option<i64>, negligible: i64| {
        let (Some(before), Some(after)) = (before, after) else { return false };
        let negligible = negligible.max(1);
        before.max(after).max(negligible) / before.min(after).max(negligible) >= factor
    };
    differ(before.latency_milliseconds, after.latency_milliseconds, latency)
        || differ(before.lag_records, after.lag_records, lag.max(100))
        || differ(before.arrival_rate_per_second, after.arrival_rate_per_second, 10)
}

/// Returns whether a message has changed, apart from numbers and from names such as those of pods. The two conditions
/// whose messages consist of numbers are left out.
fn messages_differ(before: &StreamJobStatus, after: &StreamJobStatus) -> bool {
    let compared = [READY, RECONCILING, STALLED, SCALING_LIMITED, METRICS_AVAILABLE];
    before.conditions.iter().zip(&after.conditions).any(|(before, after)| {
        compared.contains(&before.type_.as_str()) && !words(&before.message).eq(words(&after.message))
    })
}

fn words(message: &str) -> impl Iterator<Item = &str> {
    message.split_whitespace().filter(|word| !word.contains(|letter: char| letter.is_ascii_digit() || letter == '-'))
}

/// Returns whether at least `BUDGET` of the error budget was spent or regained since attainment was written.
fn attainment_misleads(before: &StreamJobStatus, after: &StreamJobStatus, settings: Option<&Settings>) -> bool {
    let Some(settings) = settings else { return false };
    let left = |status: &StreamJobStatus| {
        let late = f64::from(10_000 - status.attainment_basis_points?) / 10_000.0;
        // Beyond twice the budget a further change is not notable.
        Some((1.0 - late / (1.0 - settings.percentile).max(1e-4)).max(-1.0))
    };
    left(before).zip(left(after)).is_some_and(|(before, after)| (before - after).abs() >= BUDGET)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use sluice_base::units::Seconds;

    fn status(lag: i64, latency: i64, rate: i64) -> StreamJobStatus {
        StreamJobStatus {
            lag_records: Some(lag),
            latency_milliseconds: Some(latency),
            arrival_rate_per_second: Some(rate),
            ..StreamJobStatus::default()
        }
    }

    fn at(second: i64, status: StreamJobStatus) -> StreamJobStatus {
        StreamJobStatus { observed_time: Some(Time(Timestamp::from_second(second).unwrap())), ..status }
    }

    fn with(kind: &str, state: &str, message: &str, status: StreamJobStatus) -> StreamJobStatus {
        let condition = Condition {
            type_: kind.to_owned(),
            status: state.to_owned(),
            reason: "Any".to_owned(),
            message: message.to_owned(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        StreamJobStatus { conditions: vec![condition], ..status }
    }

    fn met(status: StreamJobStatus) -> StreamJobStatus {
        with(WITHIN_TARGET, "True", "", status)
    }

    #[test]
    fn noise_of_a_steady_job_causes_no_write() {
        let needs = |before, after| needs_write(&met(before), &met(after), None);
        // Between two commits the lag rises from 0 to the records of one second.
        assert!(!needs(status(3, 20, 600), status(1160, 1100, 580)));
        assert!(needs(status(3, 20, 600), status(9000, 1100, 600)), "fifteen seconds of records wait");
        assert!(needs(status(3, 20, 600), status(3, 10_000, 600)), "latency");
        assert!(needs(status(3, 20, 60), status(3, 20, 600)), "rate");
        assert!(needs_write(&StreamJobStatus::default(), &status(3, 20, 60), None), "the first numbers");
    }

    #[test]
    fn doubled_numbers_are_written_after_30_s_while_behind() {
        let behind = |status| with(WITHIN_TARGET, "False", "", status);
        let needs = |second, after| needs_write(&at(0, behind(status(5740, 12_000, 600))), &at(second, after), None);
        let after = behind(status(18_000, 15_000, 600));
        assert_eq!((needs(29, after.clone()), needs(30, after)), (false, true));
        assert!(!needs(3000, behind(status(9000, 15_000, 700))));
    }

    #[test]
    fn changed_message_is_written_after_5_minutes_but_not_numbers() {
        let with_message = |message: &str| with(METRICS_AVAILABLE, "False", message, StreamJobStatus::default());
        let first = at(0, with_message("source orders was last read 35s ago: no answer from kafka-0:9092"));
        let numbers = with_message("source orders was last read 6m10s ago: no answer from kafka-2:9092");
        let other = with_message("source orders was last read 6m10s ago: the certificate has expired");
        let needs = |second, after: &StreamJobStatus| needs_write(&first, &at(second, after.clone()), None);
        assert!(!needs(36_000, &numbers));
        assert_eq!((needs(299, &other), needs(300, &other)), (false, true));
    }

    #[test]
    fn attainment_is_written_hourly_if_a_quarter_of_budget_moved() {
        let settings = Settings::for_objective(Seconds(10.0), 0.99, (1, 9));
        let of = |points| StreamJobStatus { attainment_basis_points: Some(points), ..StreamJobStatus::default() };
        let needs = |before, second, after| needs_write(&at(0, of(before)), &at(second, of(after)), Some(&settings));
        assert_eq!((needs(9970, 3599, 10_000), needs(9970, 3600, 10_000)), (false, true));
        assert!(!needs(9980, 36_000, 10_000));
        assert!(!needs(9000, 36_000, 9500), "spent many times over, before and now");
        assert!(
            !needs_write(&at(0, StreamJobStatus::default()), &at(36_000, of(9000)), Some(&settings)),
            "no earlier value"
        );
    }
}
