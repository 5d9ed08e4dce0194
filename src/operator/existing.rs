//! A workload that someone else made (`spec.targetRef`), and its pods. Neither carries our label, so no watch covers
//! them: they are read live, and what was read holds for a while.
//!
//! Architecture invariant: reconciling never blocks long. All reads of one look share one timeout, and after a failure it
//! is not asked again for a while, whatever wakes the job up.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::time::timeout;

use crate::policy::units::Seconds;

use super::error::Error;
use super::observe::{self, PodFacts, Workload};
use super::validate::Job;

/// A look holds for so long. A foreign write shows this much later than on a workload of ours.
const HOLDS: Seconds = Seconds(15.0);
/// And for so long while pods come or go: the decision core counts them.
const HOLDS_UNSETTLED: Seconds = Seconds(3.0);
/// All reads of one look.
const TIMEOUT: Duration = Duration::from_secs(3);
/// After a look that failed.
pub(super) const RETRY: Duration = Duration::from_secs(10);

/// What was last seen of a job's target.
#[derive(Debug, Default)]
pub(super) struct Existing {
    look: Option<Look>,
    /// The last look failed; not again before then.
    not_before: Option<Seconds>,
}

/// One look.
#[derive(Debug, Clone)]
struct Look {
    at: Seconds,
    /// Generation of the job then: another spec may name another target.
    generation: Option<i64>,
    workload: Option<Workload>,
    pods: Vec<PodFacts>,
}

impl Look {
    fn holds(&self, job: &Job, now: Seconds) -> bool {
        let desired = self.workload.as_ref().and_then(|workload| workload.view.desired);
        let ready = self.pods.iter().filter(|pod| pod.ready && !pod.terminating).count();
        let settled = self.pods.len() == ready && desired.is_none_or(|desired| usize::try_from(desired) == Ok(ready));
        self.generation == job.generation && now - self.at < if settled { HOLDS } else { HOLDS_UNSETTLED }
    }
}

impl Existing {
    /// The target and its pods, from the last look if that still holds. `None`: the last look failed, and it is too soon
    /// for another.
    pub(super) async fn look(
        &mut self,
        client: &Client,
        job: &Job,
        now: Seconds,
    ) -> Result<Option<(Option<Workload>, Vec<PodFacts>)>, Error> {
        if let Some(look) = self.look.as_ref().filter(|look| look.holds(job, now)) {
            return Ok(Some((look.workload.clone(), look.pods.clone())));
        }
        if self.not_before.is_some_and(|until| now < until) {
            return Ok(None);
        }
        self.look = None;
        let reads = async {
            let workload = observe::live_workload(client, job).await?;
            let pods = pods(client, job, workload.as_ref()).await?;
            Ok((workload, pods))
        };
        let verb = "read the target";
        let read = timeout(TIMEOUT, reads).await.unwrap_or(Err(Error::Timeout { verb, timeout: TIMEOUT }));
        self.not_before = read.is_err().then(|| now + Seconds(RETRY.as_secs_f64()));
        let (workload, pods) = read?;
        self.look = Some(Look { at: now, generation: job.generation, workload: workload.clone(), pods: pods.clone() });
        Ok(Some((workload, pods)))
    }

    /// A newer look at the workload alone, as a write takes it.
    pub(super) fn note(&mut self, live: Option<&Workload>) {
        if let Some(look) = &mut self.look {
            look.workload = live.cloned();
        }
    }
}

async fn pods(client: &Client, job: &Job, workload: Option<&Workload>) -> Result<Vec<PodFacts>, Error> {
    let selector = workload.and_then(|workload| workload.view.selector.as_deref());
    let Some(selector) = selector.filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let api = Api::<Pod>::namespaced(client.clone(), &job.key.namespace);
    // From the API server's cache.
    let params = ListParams::default().labels(selector).match_any();
    let list = observe::read("list the pods of the target", api.list(&params)).await?;
    Ok(observe::pods(list.items.iter(), job))
}
