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

use sluice_base::units::Seconds;

use crate::context::Context;
use crate::error::{Error, Refused};
use crate::observe::live::{self, PodFacts, Seen, Workload};
use crate::validate::Job;

/// A look holds for so long. A foreign write shows this much later than on a workload of ours.
const HOLDS: Seconds = Seconds(15.0);
/// And for so long while pods come or go: the decision core counts them.
const HOLDS_UNSETTLED: Seconds = Seconds(3.0);
/// All reads of one look.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What was last seen of a job's target.
#[derive(Debug, Default)]
pub(crate) struct Existing {
    look: Option<Look>,
}

/// One look.
#[derive(Debug, Clone)]
struct Look {
    at: Seconds,
    /// Generation of the job then: another spec may name another target.
    generation: Option<i64>,
    seen: Seen,
}

impl Look {
    fn holds(&self, job: &Job, now: Seconds) -> bool {
        let desired = self.seen.workload.as_ref().and_then(|workload| workload.view.desired);
        // Pods that cannot be told are not waited for.
        let settled = self.seen.pods.as_ref().is_none_or(|pods| {
            let ready = pods.iter().filter(|pod| pod.ready && !pod.terminating).count();
            pods.len() == ready && desired.is_none_or(|desired| usize::try_from(desired) == Ok(ready))
        });
        self.generation == job.generation && now - self.at < if settled { HOLDS } else { HOLDS_UNSETTLED }
    }
}

impl Existing {
    /// The target and its pods from the last look, if that still holds.
    pub(crate) fn held(&self, job: &Job, now: Seconds) -> Option<Seen> {
        self.look.as_ref().filter(|look| look.holds(job, now)).map(|look| look.seen.clone())
    }

    /// Looks at the target and its pods.
    pub(crate) async fn look(&mut self, context: &Context, job: &Job, now: Seconds) -> Result<Seen, Refused> {
        self.look = None;
        let reads = async {
            let workload = live::live_workload(context, job, now).await?;
            let pods = match &workload {
                Some(workload) => pods(&context.client, job, workload).await?,
                None => Some(Vec::new()),
            };
            Ok::<_, Refused>(Seen { workload, pods })
        };
        let verb = "read the target";
        let late = |_| Err(Error::Timeout { verb, timeout: TIMEOUT }.into());
        let seen = timeout(TIMEOUT, reads).await.unwrap_or_else(late)?;
        self.look = Some(Look { at: now, generation: job.generation, seen: seen.clone() });
        Ok(seen)
    }

    /// A newer look at the workload alone, as a write takes it.
    pub(crate) fn note(&mut self, live: Option<&Workload>) {
        if let Some(look) = &mut self.look {
            look.seen.workload = live.cloned();
        }
    }
}

/// The pods of the target; unknown where it does not say which they are.
async fn pods(client: &Client, job: &Job, workload: &Workload) -> Result<Option<Vec<PodFacts>>, Error> {
    let Some(selector) = workload.view.selector.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    let api = Api::<Pod>::namespaced(client.clone(), &job.key.namespace);
    // From the API server's cache.
    let params = ListParams::default().labels(selector).match_any();
    let list = live::read("list the pods of the target", api.list(&params)).await?;
    let pods = live::pods(list.items.iter(), job, Some(workload));
    // The selector finds pods, the workload counts some, and none of them shows whose it is.
    let is_unknown =
        pods.is_empty() && !list.items.is_empty() && workload.view.counted.is_some_and(|counted| counted > 0);
    Ok((!is_unknown).then_some(pods))
}
