//! Collects the data of a running cell: its pods, its workers' totals, and the operator's decisions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, LogParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use sluice_api::status::{DecisionStatus, StreamJobStatus};
use sluice_api::{JOB_LABEL, StreamJob};
use sluice_base::clock::Clock;
use sluice_report::totals::{Ledger, Totals};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::bed::Bed;
use super::job;
use super::pods::PodLifetimes;

/// Interval between attempts to read a log that does not exist yet or no longer exists.
const LOG_RETRY_INTERVAL: Duration = Duration::from_millis(300);

/// The data collected so far.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) pods: PodLifetimes,
    pub(crate) ledger: Ledger,
    pub(crate) status: StreamJobStatus,
    /// Every change of the replica count that was ever in the status, which contains only the newest ones.
    pub(crate) decisions: Vec<DecisionStatus>,
}

impl Observed {
    fn record_status(&mut self, status: StreamJobStatus) {
        for decision in status.recent_decisions.iter().chain(&status.last_decision) {
            if decision.from != decision.to && !self.decisions.contains(decision) {
                self.decisions.push(decision.clone());
            }
        }
        self.decisions.sort_by_key(|decision| decision.time.0);
        self.status = status;
    }
}

/// Observes a cell. Dropping it ends its tasks.
pub(crate) struct Observer {
    observed: Arc<Mutex<Observed>>,
    logs: Arc<Mutex<JoinSet<()>>>,
    _tasks: JoinSet<()>,
}

impl Observer {
    pub(crate) fn start(bed: &Bed, clock: &Clock) -> Self {
        let (observed, logs) = (Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_job(bed.jobs(), Arc::clone(&observed)));
        tasks.spawn(follow_pods(bed.pods(), clock.clone(), Arc::clone(&observed), Arc::clone(&logs)));
        Self { observed, logs, _tasks: tasks }
    }

    pub(crate) fn observed(&self) -> MutexGuard<'_, Observed> {
        lock(&self.observed)
    }

    /// Waits until every log has been read to its end, that is, until the pods no longer exist. Returns the number of
    /// logs that were not.
    pub(crate) async fn finish_logs(&self, limit: Duration) -> usize {
        let mut logs = std::mem::take(&mut *lock(&self.logs));
        let all = async { while logs.join_next().await.is_some() {} };
        let _ = timeout(limit, all).await;
        logs.len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow_job(jobs: Api<StreamJob>, observed: Arc<Mutex<Observed>>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={}", job::NAME));
    let mut stream = watcher(jobs, config).default_backoff().applied_objects().boxed();
    while let Some(update) = stream.next().await {
        if let Ok(job) = update {
            lock(&observed).record_status(job.status.unwrap_or_default());
        }
    }
}

async fn follow_pods(pods: Api<Pod>, clock: Clock, observed: Arc<Mutex<Observed>>, logs: Arc<Mutex<JoinSet<()>>>) {
    let config = watcher::Config::default().labels(&format!("{JOB_LABEL}={}", job::NAME));
    let mut stream = watcher(pods.clone(), config).default_backoff().boxed();
    while let Some(update) = stream.next().await {
        let Ok(event) = update else { continue };
        let new = lock(&observed).pods.record(&event, clock.now().0);
        if let Some(pod) = new {
            lock(&logs).spawn(follow_log(pods.clone(), pod.name_any(), pod.uid(), Arc::clone(&observed)));
        }
    }
}

/// Reads a worker's log, of each container after a restart, until the pod no longer exists.
async fn follow_log(pods: Api<Pod>, name: String, uid: Option<String>, observed: Arc<Mutex<Observed>>) {
    loop {
        match pods.get_opt(&name).await {
            Ok(Some(pod)) if pod.uid() == uid => {
                if let Some(container) = container(&pod) {
                    read_log(&pods, &name, &container, &observed).await;
                }
            }
            Ok(_) => return,
            Err(_) => {}
        }
        sleep(LOG_RETRY_INTERVAL).await;
    }
}

/// Reads the log to its end or until it breaks off. It is then read again from the start; totals are cumulative, so
/// nothing is counted twice.
async fn read_log(pods: &Api<Pod>, name: &str, container: &str, observed: &Mutex<Observed>) {
    let params = LogParams { follow: true, ..LogParams::default() };
    let Ok(log) = pods.log_stream(name, &params).await else { return };
    let each = log.lines().try_for_each(|line| {
        if let Some(totals) = Totals::in_line(&line) {
            lock(observed).ledger.record(container, totals);
        }
        futures::future::ready(Ok(()))
    });
    // The error does not matter: the log is read again as long as the pod exists.
    let _ = each.await;
}

/// Returns the id of the pod's container, which changes when the container restarts.
fn container(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.container_id.clone()
}
