//! Judges the signals of a job, for the conditions Ready and `MetricsAvailable`. Pure.

use std::time::Duration;

use sluice_api::conditions::reasons;
use sluice_base::units::Seconds;
use sluice_policy::Decision;
use sluice_signals::{Category, JobSamples, SourceReading};

use crate::cause::ConditionCause;
use crate::observe::live::PodFacts;

/// A ready worker counts as unread when its metrics were not read for this long. New workers have the same time to
/// start.
const WORKER_GRACE: Seconds = Seconds(15.0);

/// An ordinary start-up without a ready worker takes at most this long, from the creation of the pods or the start of
/// the operator.
const START: Seconds = Seconds(300.0);

/// Returns the age from which samples are stale: three sampling intervals and the deadline of a request.
pub(crate) fn stale_after(latency: Duration) -> Seconds {
    let interval = (latency.as_secs_f64() / 5.0).clamp(0.5, 5.0);
    Seconds(interval * 3.0 + 5.0)
}

/// Returns why a source does not answer, or `None` if all do.
pub(crate) fn source_trouble(samples: &JobSamples, latency: Duration, now: Seconds) -> Option<ConditionCause> {
    samples.sources.iter().find_map(|source| {
        let failure = source.failure.as_ref()?;
        // A single lost request is not an outage: the last sample must have become stale.
        let fresh = source.sample.as_ref().is_some_and(|sample| now - sample.at < stale_after(latency));
        let reason = match failure.category {
            Category::Unreachable | Category::Protocol | Category::LimitExceeded if fresh => return None,
            Category::Unreachable | Category::Protocol => reasons::SOURCE_UNREACHABLE,
            Category::Unauthorised => reasons::AUTHENTICATION_FAILED,
            Category::DestinationRefused => reasons::DESTINATION_REFUSED,
            Category::LimitExceeded => reasons::LIMIT_EXCEEDED,
            Category::TopicMissing => reasons::TOPIC_NOT_FOUND,
        };
        Some(ConditionCause { reason, message: format!("source {}: {}", source.name, failure.message) })
    })
}

/// Returns a remark about signals that are complete: timestamps that do not give the time of appending.
pub(crate) fn timestamp_remark(samples: &JobSamples) -> Option<String> {
    let with = |producer_time: Option<bool>| {
        let such = |source: &&SourceReading| {
            source.sample.as_ref().is_some_and(|sample| sample.producer_time == producer_time)
        };
        let names: Vec<&str> = samples.sources.iter().filter(such).map(|source| source.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let by_producers = with(Some(true)).map(|names| {
        format!(
            "the timestamps of source {names} are the producers' (message.timestamp.type=CreateTime), not append times; Sluice estimates due records from observed offsets"
        )
    });
    let unknown = with(None).map(|names| {
        format!(
            "it is unknown whether the timestamps of source {names} are the producers'; Sluice estimates due records from observed offsets: grant the operator DescribeConfigs on the topic"
        )
    });
    let remarks: Vec<String> = by_producers.into_iter().chain(unknown).collect();
    (!remarks.is_empty()).then(|| remarks.join("; "))
}

/// Returns whether no worker is ready because all pods are new, or because none exists yet.
pub(crate) fn workers_start(pods: &[PodFacts], begun: Seconds, now: Seconds) -> bool {
    let young = |pod: &PodFacts| pod.created_at.is_some_and(|created| now - created < START);
    if pods.is_empty() { now - begun < START } else { pods.iter().all(young) }
}

/// Returns whether sources are unread because there was no time for an answer yet.
pub(crate) fn signals_start(samples: &JobSamples, latency: Duration, begun: Seconds, now: Seconds) -> bool {
    let unread = samples.sources.is_empty() || samples.sources.iter().any(|source| source.sample.is_none());
    unread && samples.sources.iter().all(|source| source.failure.is_none()) && now - begun < stale_after(latency)
}

/// Returns the worst problem of the signals, or `None` if they are complete.
pub(crate) fn missing_signal(
    samples: &JobSamples,
    pods: &[PodFacts],
    latency: Duration,
    now: Seconds,
) -> Option<ConditionCause> {
    let cause = |reason, message| Some(ConditionCause { reason, message });
    for source in &samples.sources {
        let name = &source.name;
        let why = source.failure.as_ref().map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        let Some(sample) = &source.sample else {
            return cause(reasons::NO_SIGNAL, format!("source {name} has not been read yet{why}"));
        };
        let age = now - sample.at;
        if age > stale_after(latency) {
            let age = sluice_base::words::seconds(age.0);
            return cause(reasons::STALE_SIGNAL, format!("source {name} was last read {age} ago{why}"));
        }
    }
    if samples.sources.is_empty() {
        return cause(reasons::NO_SIGNAL, "no source has been read yet".to_owned());
    }
    samples.sources.iter().find_map(partial).or_else(|| unread_worker(samples, pods, now))
}

/// Returns how the signals contradict each other, if they do.
pub(crate) fn contradiction(decision: &Decision) -> Option<ConditionCause> {
    let message = decision.explain.contradiction.clone()?;
    Some(ConditionCause { reason: reasons::CONTRADICTORY_SIGNAL, message })
}

/// Returns why the objective cannot be verified with these signals, and what to configure.
pub(crate) fn unverifiable(decision: &Decision) -> Option<ConditionCause> {
    let message = decision.explain.unverifiable.clone()?;
    Some(ConditionCause { reason: reasons::LATENCY_UNVERIFIABLE, message })
}

fn partial(source: &SourceReading) -> Option<ConditionCause> {
    let sample = source.sample.as_ref()?;
    let broken: Vec<&str> = sample
        .partitions
        .iter()
        .filter(|partition| partition.end.is_none() || partition.committed.is_none())
        .map(|partition| partition.id.as_str())
        .collect();
    let first = broken.first()?;
    let problem = sample.partitions.iter().find_map(|partition| partition.problem.as_deref()).unwrap_or("no answer");
    let message = format!(
        "source {}: {} of {} partitions are unknown, such as {first}: {problem}",
        source.name,
        broken.len(),
        sample.partitions.len()
    );
    Some(ConditionCause { reason: reasons::PARTIAL_SIGNAL, message })
}

fn unread_worker(samples: &JobSamples, pods: &[PodFacts], now: Seconds) -> Option<ConditionCause> {
    let unread: Vec<&PodFacts> = pods
        .iter()
        .filter(|pod| pod.metrics_port.is_some() && pod.ready && !pod.terminating)
        .filter(|pod| pod.created_at.is_some_and(|created| now - created > WORKER_GRACE))
        .filter(|pod| {
            let reading = samples.workers.iter().find(|reading| reading.uid == pod.uid);
            let sample = reading.and_then(|reading| reading.sample.as_ref());
            sample.is_none_or(|sample| now - sample.at > WORKER_GRACE)
        })
        .collect();
    let first = unread.first()?;
    let failure =
        samples.workers.iter().find(|reading| reading.uid == first.uid).and_then(|reading| reading.failure.as_ref());
    let why = failure.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
    let workers = if unread.len() == 1 { "1 worker".to_owned() } else { format!("{} workers", unread.len()) };
    let message = format!("the metrics of {workers} cannot be read, such as those of {}{why}", first.name);
    Some(ConditionCause { reason: reasons::PARTIAL_SIGNAL, message })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use sluice_signals::{Failure, SourceSample};

    #[test]
    fn source_failure_category_selects_the_ready_reason() {
        let reason = |category, read_at: Option<f64>| {
            let failure = Failure { at: Seconds(100.0), since: Seconds(90.0), category, message: "m".to_owned() };
            let sample = read_at.map(|at| Arc::new(SourceSample { at: Seconds(at), ..SourceSample::default() }));
            let source = SourceReading { name: "in".to_owned(), sample, failure: Some(failure) };
            let samples = JobSamples { sources: vec![source], workers: Vec::new() };
            source_trouble(&samples, Duration::from_secs(10), Seconds(100.0)).map(|cause| cause.reason)
        };
        assert_eq!(reason(Category::DestinationRefused, None), Some("DestinationRefused"));
        assert_eq!(reason(Category::DestinationRefused, Some(99.0)), Some("DestinationRefused"));
        assert_eq!(reason(Category::Unauthorised, None), Some("AuthenticationFailed"));
        assert_eq!(reason(Category::LimitExceeded, None), Some("LimitExceeded"));
        assert_eq!(reason(Category::LimitExceeded, Some(99.0)), None, "the last sample is still fresh");
    }
}
