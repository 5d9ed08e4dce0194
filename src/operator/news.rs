//! When a status is worth a write: when a state or a decision has changed. Volatile numbers are refreshed with the next such
//! change, or when they have changed tenfold. A steady hour therefore costs no write, and neither does a restart. Pure.

use crate::api::status::{ModelStatus, StreamJobStatus};
use crate::policy::{Confidence, Settings};

use super::status::whole;

/// Whether the next status differs from the previous one in more than volatile numbers.
pub(super) fn needs_write(previous: &StreamJobStatus, next: &StreamJobStatus, settings: Option<&Settings>) -> bool {
    // A tenth of the target, and what arrives in that time, is as good as nothing.
    let latency = settings.and_then(|settings| whole(settings.latency.0 * 100.0)).unwrap_or(1000);
    let lag = next.arrival_rate_per_second.unwrap_or(0).saturating_mul(latency) / 1000;
    // A restart knows less than what it has been told, until it has seen as much.
    let known = [Confidence::None, Confidence::Low, Confidence::Medium, Confidence::High];
    let confidence = |status: &StreamJobStatus| {
        let told = status.model.as_ref().map(|model| model.confidence.as_str());
        known.iter().position(|confidence| Some(confidence.as_str()) == told)
    };
    !same(previous, next)
        || confidence(next) > confidence(previous)
        || tenfold(previous.latency_milliseconds, next.latency_milliseconds, latency)
        || tenfold(previous.lag_records, next.lag_records, lag.max(100))
        || tenfold(previous.arrival_rate_per_second, next.arrival_rate_per_second, 10)
}

/// Whether all is the same but volatile numbers. All fields are named, so that a new one is thought of here.
fn same(before: &StreamJobStatus, after: &StreamJobStatus) -> bool {
    let StreamJobStatus {
        observed_generation,
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
        model,
        last_decision,
        recent_decisions,
        conditions,
    } = before;
    // What has been learned is a number, too.
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
        && *conditions == after.conditions
}

/// Whether a number has become known, or has changed tenfold above what is as good as nothing.
fn tenfold(before: Option<i64>, after: Option<i64>, nothing: i64) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            let nothing = nothing.max(1);
            let (small, large) = (before.min(after).max(nothing), before.max(after).max(nothing));
            large / small >= 10
        }
        (None, Some(_)) => true,
        // An unknown value keeps its last number until the conditions say that the signal is gone.
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(lag: i64, latency: i64, rate: i64) -> StreamJobStatus {
        StreamJobStatus {
            lag_records: Some(lag),
            latency_milliseconds: Some(latency),
            arrival_rate_per_second: Some(rate),
            ..StreamJobStatus::default()
        }
    }

    #[test]
    fn the_noise_of_a_steady_job_is_no_news() {
        // Between two commits the lag goes from nothing to a second's worth of records.
        assert!(!needs_write(&status(3, 20, 600), &status(1160, 1100, 580), None));
        assert!(needs_write(&status(3, 20, 600), &status(9000, 1100, 600), None), "fifteen seconds of records wait");
        assert!(needs_write(&status(3, 20, 600), &status(3, 10_000, 600), None), "latency");
        assert!(needs_write(&status(3, 20, 60), &status(3, 20, 600), None), "rate");
        assert!(needs_write(&StreamJobStatus::default(), &status(3, 20, 60), None), "the first numbers");
    }
}
