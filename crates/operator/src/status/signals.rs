//! How good the signals of a job are: what the conditions Ready and `MetricsAvailable` say of its sources. Pure.

use std::time::Duration;

use sluice_api::conditions::reasons;
use sluice_base::units::Seconds;
use sluice_policy::Decision;
use sluice_signals::{Category, JobSamples, SourceReading};

use crate::observe::live::PodFacts;

/// A ready worker that has not been read for so long is missing; new ones are given the time to come up.
const WORKER_GRACE: Seconds = Seconds(15.0);

/// Until a pod is so old, or the job was looked at for so long, it is an ordinary start that no worker is ready.
const START: Seconds = Seconds(300.0);

/// A verdict with its words. `reason` is one of [`reasons`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Samples older than this are stale: three sampling intervals and a deadline.
pub(crate) fn stale_after(latency: Duration) -> Seconds {
    let interval = (latency.as_secs_f64() / 5.0).clamp(0.5, 5.0);
    Seconds(interval * 3.0 + 5.0)
}

/// Why the sources do not answer, in words for Ready; `None`: they do.
pub(crate) fn source_trouble(samples: &JobSamples, latency: Duration, now: Seconds) -> Option<Verdict> {
    samples.sources.iter().find_map(|source| {
        let failure = source.failure.as_ref()?;
        // One lost request is no outage: what was read last must have become stale.
        let fresh = source.sample.as_ref().is_some_and(|sample| now - sample.at < stale_after(latency));
        let reason = match failure.category {
            Category::Unreachable | Category::Protocol | Category::LimitExceeded if fresh => return None,
            Category::Unreachable | Category::Protocol => reasons::SOURCE_UNREACHABLE,
            Category::Unauthorised => reasons::AUTHENTICATION_FAILED,
            Category::DestinationRefused => reasons::DESTINATION_REFUSED,
            Category::LimitExceeded => reasons::LIMIT_EXCEEDED,
            Category::TopicMissing => reasons::TOPIC_NOT_FOUND,
        };
        Some(Verdict { reason, message: format!("source {}: {}", source.name, failure.message) })
    })
}

/// What a person is to know of the signals although nothing is missing.
pub(crate) fn note(samples: &JobSamples) -> Option<String> {
    let with = |producer_time: Option<bool>| {
        let such = |source: &&SourceReading| {
            source.sample.as_ref().is_some_and(|sample| sample.producer_time == producer_time)
        };
        let names: Vec<&str> = samples.sources.iter().filter(such).map(|source| source.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let by_producers = with(Some(true)).map(|names| {
        format!(
            "the timestamps of source {names} are the producers' (message.timestamp.type=CreateTime), not the time of appending: what is due is reckoned from the offsets seen"
        )
    });
    let unknown = with(None).map(|names| {
        format!(
            "it is not known whether the timestamps of source {names} are the producers', so that what is due is reckoned from the offsets seen: grant DescribeConfigs on the topic to the operator"
        )
    });
    let notes: Vec<String> = by_producers.into_iter().chain(unknown).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Whether no worker is ready because all of them have just been made, or none is made yet.
pub(crate) fn workers_start(pods: &[PodFacts], begun: Seconds, now: Seconds) -> bool {
    let young = |pod: &PodFacts| pod.created_at.is_some_and(|created| now - created < START);
    if pods.is_empty() { now - begun < START } else { pods.iter().all(young) }
}

/// Whether sources have not been read because it was not yet time for an answer.
pub(crate) fn signals_start(samples: &JobSamples, latency: Duration, begun: Seconds, now: Seconds) -> bool {
    let unread = samples.sources.is_empty() || samples.sources.iter().any(|source| source.sample.is_none());
    unread && samples.sources.iter().all(|source| source.failure.is_none()) && now - begun < stale_after(latency)
}

/// What is missing of the signals, the worst first; `None`: nothing.
pub(crate) fn missing_signal(
    samples: &JobSamples,
    pods: &[PodFacts],
    latency: Duration,
    now: Seconds,
) -> Option<Verdict> {
    let verdict = |reason, message| Some(Verdict { reason, message });
    for source in &samples.sources {
        let name = &source.name;
        let why = source.failure.as_ref().map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        let Some(sample) = &source.sample else {
            return verdict(reasons::NO_SIGNAL, format!("source {name} has not been read yet{why}"));
        };
        let age = now - sample.at;
        if age > stale_after(latency) {
            let age = sluice_base::words::seconds(age.0);
            return verdict(reasons::STALE_SIGNAL, format!("source {name} was last read {age} ago{why}"));
        }
    }
    if samples.sources.is_empty() {
        return verdict(reasons::NO_SIGNAL, "no source has been read yet".to_owned());
    }
    samples.sources.iter().find_map(partial).or_else(|| unread_worker(samples, pods, now))
}

/// What the signals say that cannot be so.
pub(crate) fn contradiction(decision: &Decision) -> Option<Verdict> {
    let message = decision.explain.contradiction.clone()?;
    Some(Verdict { reason: reasons::CONTRADICTORY_SIGNAL, message })
}

/// Why the objective cannot be verified with these signals, and what to set.
pub(crate) fn unverifiable(decision: &Decision) -> Option<Verdict> {
    let message = decision.explain.unverifiable.clone()?;
    Some(Verdict { reason: reasons::LATENCY_UNVERIFIABLE, message })
}

fn partial(source: &SourceReading) -> Option<Verdict> {
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
    Some(Verdict { reason: reasons::PARTIAL_SIGNAL, message })
}

fn unread_worker(samples: &JobSamples, pods: &[PodFacts], now: Seconds) -> Option<Verdict> {
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
    Some(Verdict { reason: reasons::PARTIAL_SIGNAL, message })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use sluice_signals::{Failure, SourceSample};

    #[test]
    fn a_destination_that_is_refused_and_a_limit_that_is_exceeded_are_called_so() {
        let told = |category, read_at: Option<f64>| {
            let failure = Failure { at: Seconds(100.0), since: Seconds(90.0), category, message: "m".to_owned() };
            let sample = read_at.map(|at| Arc::new(SourceSample { at: Seconds(at), ..SourceSample::default() }));
            let source = SourceReading { name: "in".to_owned(), sample, failure: Some(failure) };
            let samples = JobSamples { sources: vec![source], workers: Vec::new() };
            source_trouble(&samples, Duration::from_secs(10), Seconds(100.0)).map(|verdict| verdict.reason)
        };
        assert_eq!(told(Category::DestinationRefused, None), Some("DestinationRefused"));
        assert_eq!(told(Category::DestinationRefused, Some(99.0)), Some("DestinationRefused"));
        assert_eq!(told(Category::Unauthorised, None), Some("AuthenticationFailed"));
        assert_eq!(told(Category::LimitExceeded, None), Some("LimitExceeded"));
        assert_eq!(told(Category::LimitExceeded, Some(99.0)), None, "what was read last is fresh yet");
    }
}
