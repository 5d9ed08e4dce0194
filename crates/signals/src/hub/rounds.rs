//! The task of one cluster: it has one client, and reads everything that is due in one round.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tracing::debug;

use super::state::{AttemptTimes, EntryId, NewCluster, NextStep, Outcome, ScheduleEntry};
use super::{Shared, pace};
use crate::sample::{Category, SourceSample};
use crate::source::{Cluster, GroupTopic, SampleResults, SourceError};

pub(super) async fn run(shared: Arc<Shared>, task: NewCluster) {
    let stop = task.stop.clone();
    stop.run_until_cancelled(sample_until_stopped(shared, task)).await;
}

async fn sample_until_stopped(shared: Arc<Shared>, task: NewCluster) {
    let cluster = shared.connect.connect_to(&task.key);
    loop {
        let step = shared.state().next_step(&task.key, &task.stop, shared.clock.monotonic());
        let entries = match step {
            NextStep::Stop => return,
            NextStep::Wait(until) => {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = task.wake.notified() => {}
                }
                continue;
            }
            NextStep::Round(entries) => entries,
        };
        let began = shared.clock.monotonic();
        let (outcomes, too_large) = run_round(cluster.as_ref(), &entries).await;
        shared.counters.count_round();
        let when = AttemptTimes {
            began,
            ended: shared.clock.monotonic(),
            at: shared.clock.now(),
            jitter: shared.random.jitter(),
        };
        shared.state().adjust_round_size(&task.key, entries.len(), too_large);
        for ((id, entry), outcome) in entries.iter().zip(outcomes) {
            let reached = outcome.is_some();
            let failed = outcome.as_ref().and_then(|outcome| outcome.as_ref().err()).map(|(category, message)| {
                debug!(job = %entry.job, category = category.as_str(), message, "failed to read a source");
                *category
            });
            if shared.state().record_sample(&task.key, *id, outcome, &when) && reached {
                shared.counters.count_source(failed);
                shared.updates.publish(&entry.job);
            }
        }
    }
}

/// Asks the cluster for every source, and sends equal questions once. Returns an outcome for each source, or `None` if
/// the round did not reach it. Also returns whether the answers to several questions were too large together.
async fn run_round(
    cluster: &dyn Cluster,
    entries: &[(EntryId, ScheduleEntry)],
) -> (Vec<Option<Outcome<SourceSample>>>, bool) {
    let mut places: HashMap<&GroupTopic, usize> = HashMap::new();
    let mut requests: Vec<GroupTopic> = Vec::new();
    let asked: Vec<usize> = entries
        .iter()
        .map(|(_, entry)| {
            *places.entry(&entry.request).or_insert_with(|| {
                requests.push(entry.request.clone());
                requests.len() - 1
            })
        })
        .collect();
    let fastest = entries.iter().map(|(_, entry)| entry.interval()).min().unwrap_or_default();
    let deadline = pace::deadline(fastest, requests.len());
    let answers = match sample_with_deadline(cluster, &requests, deadline).await {
        Ok(answers) => answers,
        Err(failure) => return (entries.iter().map(|_| Some(Err(failure.clone()))).collect(), false),
    };
    let too_large = answers.iter().any(|answer| matches!(answer, Err(SourceError::RoundTooLarge { .. })));
    let several = requests.len() > 1;
    let outcomes: Vec<Option<Outcome<SourceSample>>> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(sample) => Some(Ok(Arc::new(sample))),
            Err(SourceError::NotReached { .. }) => None,
            // A smaller round will show which question it is.
            Err(SourceError::RoundTooLarge { .. }) if several => None,
            Err(error) => Some(Err((error.category(), error.to_string()))),
        })
        .collect();
    let fewer = || Some(Err((Category::Protocol, "failed to sample: fewer answers than requests".to_owned())));
    let of_slots = asked.into_iter().map(|place| outcomes.get(place).cloned().unwrap_or_else(fewer)).collect();
    (of_slots, too_large && several)
}

async fn sample_with_deadline(
    cluster: &dyn Cluster,
    requests: &[GroupTopic],
    deadline: Duration,
) -> Result<SampleResults, (Category, String)> {
    // The client library is young: a panic in it must not end the sampling of its cluster for good.
    let sampling = AssertUnwindSafe(cluster.sample(requests, deadline)).catch_unwind();
    match tokio::time::timeout(deadline, sampling).await {
        Ok(Ok(answers)) => Ok(answers),
        Ok(Err(_)) => {
            Err((Category::Protocol, "failed to sample the cluster: the client panicked; see the log".to_owned()))
        }
        Err(_) => Err((
            Category::Unreachable,
            format!(
                "failed to sample the cluster: no answer within {deadline:.1?}; check that its brokers are reachable and not overloaded"
            ),
        )),
    }
}
