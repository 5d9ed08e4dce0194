//! Reads an existing workload (`spec.targetRef`) and its pods. They do not have the job's label, so no watch covers
//! them: they are read live, and cached for some seconds.
//!
//! Architecture invariant: a reconcile never blocks for long. All reads of a target share one timeout of 3 s, and a
//! failed read is not repeated within its back-off, whatever triggers the reconcile.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::time::timeout;

use sluice_base::units::Seconds;

use crate::context::Context;
use crate::error::{Blocked, Error};
use crate::observe::live::{self, ObservedWorkload, PodFacts, Workload};
use crate::validate::Job;

/// Time for which a read is cached. A foreign write is noticed this much later than on a workload that Sluice has
/// created.
const CACHED_FOR: Seconds = Seconds(15.0);
/// Time for which a read is cached while pods start or stop, because the decision core counts them.
const CACHED_FOR_UNSETTLED: Seconds = Seconds(3.0);
/// Timeout of all reads of a target together.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The last read of a job's target.
#[derive(Debug, Default)]
pub(crate) struct TargetCache {
    last: Option<TargetRead>,
}

/// One read of a target.
#[derive(Debug, Clone)]
struct TargetRead {
    at: Seconds,
    /// Generation of the job at that time, because another spec may name another target.
    generation: Option<i64>,
    observed: ObservedWorkload,
}

impl TargetRead {
    fn is_fresh(&self, job: &Job, now: Seconds) -> bool {
        let desired = self.observed.workload.as_ref().and_then(|workload| workload.view.desired);
        // Unknown pods cannot settle, so they are not waited for.
        let settled = self.observed.pods.as_ref().is_none_or(|pods| {
            let ready = pods.iter().filter(|pod| pod.ready && !pod.terminating).count();
            pods.len() == ready && desired.is_none_or(|desired| usize::try_from(desired) == Ok(ready))
        });
        self.generation == job.generation && now - self.at < if settled { CACHED_FOR } else { CACHED_FOR_UNSETTLED }
    }
}

impl TargetCache {
    /// Returns the target and its pods from the last read, if it is still fresh.
    pub(crate) fn fresh(&self, job: &Job, now: Seconds) -> Option<ObservedWorkload> {
        self.last.as_ref().filter(|last| last.is_fresh(job, now)).map(|last| last.observed.clone())
    }

    /// Reads the target and its pods from the API server.
    pub(crate) async fn read(
        &mut self,
        context: &Context,
        job: &Job,
        now: Seconds,
    ) -> Result<ObservedWorkload, Blocked> {
        self.last = None;
        let reads = async {
            let workload = live::live_workload(context, job, now).await?;
            let pods = match &workload {
                Some(workload) => pods(&context.client, job, workload).await?,
                None => Some(Vec::new()),
            };
            Ok::<_, Blocked>(ObservedWorkload { workload, pods })
        };
        let verb = "read the target";
        let late = |_| Err(Error::Timeout { verb, timeout: TIMEOUT }.into());
        let observed = timeout(TIMEOUT, reads).await.unwrap_or_else(late)?;
        self.last = Some(TargetRead { at: now, generation: job.generation, observed: observed.clone() });
        Ok(observed)
    }

    /// Replaces the workload with a newer read, such as the one before a write.
    pub(crate) fn update_workload(&mut self, live: Option<&Workload>) {
        if let Some(last) = &mut self.last {
            last.observed.workload = live.cloned();
        }
    }
}

/// Reads the pods of the target. Returns `None` if it is unknown which pods belong to it.
async fn pods(client: &Client, job: &Job, workload: &Workload) -> Result<Option<Vec<PodFacts>>, Error> {
    let Some(selector) = workload.view.selector.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    let api = Api::<Pod>::namespaced(client.clone(), &job.key.namespace);
    // `match_any` lets the API server answer from its cache.
    let params = ListParams::default().labels(selector).match_any();
    let list = live::read("list the pods of the target", api.list(&params)).await?;
    let pods = live::pod_facts(list.items.iter(), job, Some(workload));
    // The selector matches pods and the workload counts some, but no owner reference shows that they belong to it.
    let is_unknown =
        pods.is_empty() && !list.items.is_empty() && workload.view.counted.is_some_and(|counted| counted > 0);
    Ok((!is_unknown).then_some(pods))
}
