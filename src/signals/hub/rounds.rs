//! The task of one cluster: one client, and everything that is due asked in one round.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tracing::debug;

use super::state::{NewCluster, Outcome, Plan, Slot, When};
use super::{Shared, pace};
use crate::signals::sample::{Category, SourceSample};
use crate::signals::source::{Cluster, GroupTopic};

pub(super) async fn run(shared: Arc<Shared>, task: NewCluster) {
    let stop = task.stop.clone();
    stop.run_until_cancelled(sample(shared, task)).await;
}

async fn sample(shared: Arc<Shared>, task: NewCluster) {
    let cluster = shared.connect.connect(&task.key);
    loop {
        let plan = shared.state().plan(&task.key, &task.stop, shared.clock.monotonic());
        let slots = match plan {
            Plan::Stop => return,
            Plan::Wait(until) => {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = task.wake.notified() => {}
                }
                continue;
            }
            Plan::Round(slots) => slots,
        };
        let began = shared.clock.monotonic();
        let outcomes = ask(cluster.as_ref(), &slots).await;
        shared.counters.round();
        let when =
            When { began, ended: shared.clock.monotonic(), at: shared.clock.now(), jitter: shared.dice.jitter() };
        for (slot, outcome) in slots.iter().zip(outcomes) {
            let failed = outcome.as_ref().err().map(|(category, message)| {
                debug!(job = %slot.job, category = category.as_str(), message, "could not read a source");
                *category
            });
            if shared.state().sampled(&task.key, slot, outcome, &when) {
                shared.counters.source(failed);
                shared.updates.tell(&slot.job);
            }
        }
    }
}

/// Asks for every slot, the same question once. As many outcomes as slots, whatever happens.
async fn ask(cluster: &dyn Cluster, slots: &[Slot]) -> Vec<Outcome<SourceSample>> {
    let mut places: HashMap<&GroupTopic, usize> = HashMap::new();
    let mut requests: Vec<GroupTopic> = Vec::new();
    let asked: Vec<usize> = slots
        .iter()
        .map(|slot| {
            *places.entry(&slot.request).or_insert_with(|| {
                requests.push(slot.request.clone());
                requests.len() - 1
            })
        })
        .collect();
    let fastest = slots.iter().map(Slot::interval).min().unwrap_or_default();
    let deadline = pace::deadline(fastest, requests.len());
    let answers = answers(cluster, &requests, deadline).await;
    asked
        .into_iter()
        .map(|place| match answers.as_ref().map(|answers| answers.get(place)) {
            Ok(Some(answer)) => answer.clone().map_err(|error| (error.category(), error.to_string())),
            Ok(None) => Err((Category::Protocol, "failed to sample: fewer answers than requests".to_owned())),
            Err(failure) => Err(failure.clone()),
        })
        .collect()
}

async fn answers(
    cluster: &dyn Cluster,
    requests: &[GroupTopic],
    deadline: Duration,
) -> Outcome<crate::signals::source::Answers> {
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
