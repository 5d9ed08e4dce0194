//! What is seen of a cell while it runs: its pods, what its workers say of themselves, and the operator's decisions.

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
use super::pods::Pods;

/// Between two attempts to read a log that is not there yet, or no more.
const LOG_RETRY: Duration = Duration::from_millis(300);

/// What has been seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pods: Pods,
    pub(crate) ledger: Ledger,
    pub(crate) status: StreamJobStatus,
    /// Every change of the number of workers ever shown in the status, which holds the newest ones only.
    pub(crate) decisions: Vec<DecisionStatus>,
}

impl Seen {
    fn take(&mut self, status: StreamJobStatus) {
        for decision in status.recent_decisions.iter().chain(&status.last_decision) {
            if decision.from != decision.to && !self.decisions.contains(decision) {
                self.decisions.push(decision.clone());
            }
        }
        self.decisions.sort_by_key(|decision| decision.time.0);
        self.status = status;
    }
}

/// Looks on; the tasks end with it.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    logs: Arc<Mutex<JoinSet<()>>>,
    _tasks: JoinSet<()>,
}

impl Watch {
    pub(crate) fn start(bed: &Bed, clock: &Clock) -> Self {
        let (seen, logs) = (Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_job(bed.jobs(), Arc::clone(&seen)));
        tasks.spawn(follow_pods(bed.pods(), clock.clone(), Arc::clone(&seen), Arc::clone(&logs)));
        Self { seen, logs, _tasks: tasks }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Waits until every log has been read to its end, which comes when the pods are gone. Returns how many were not.
    pub(crate) async fn last_logs(&self, patience: Duration) -> usize {
        let mut logs = std::mem::take(&mut *lock(&self.logs));
        let all = async { while logs.join_next().await.is_some() {} };
        let _ = timeout(patience, all).await;
        logs.len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow_job(jobs: Api<StreamJob>, seen: Arc<Mutex<Seen>>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={}", job::NAME));
    let mut stream = watcher(jobs, config).default_backoff().applied_objects().boxed();
    while let Some(update) = stream.next().await {
        if let Ok(job) = update {
            lock(&seen).take(job.status.unwrap_or_default());
        }
    }
}

async fn follow_pods(pods: Api<Pod>, clock: Clock, seen: Arc<Mutex<Seen>>, logs: Arc<Mutex<JoinSet<()>>>) {
    let config = watcher::Config::default().labels(&format!("{JOB_LABEL}={}", job::NAME));
    let mut stream = watcher(pods.clone(), config).default_backoff().boxed();
    while let Some(update) = stream.next().await {
        let Ok(event) = update else { continue };
        let new = lock(&seen).pods.note(&event, clock.now().0);
        if let Some(pod) = new {
            lock(&logs).spawn(follow_log(pods.clone(), pod.name_any(), pod.uid(), Arc::clone(&seen)));
        }
    }
}

/// Reads a worker's log, from one container to the next, until the pod is gone.
async fn follow_log(pods: Api<Pod>, name: String, uid: Option<String>, seen: Arc<Mutex<Seen>>) {
    loop {
        match pods.get_opt(&name).await {
            Ok(Some(pod)) if pod.uid() == uid => {
                if let Some(container) = container(&pod) {
                    read_log(&pods, &name, &container, &seen).await;
                }
            }
            Ok(_) => return,
            Err(_) => {}
        }
        sleep(LOG_RETRY).await;
    }
}

/// To the end, or until it breaks off: then it is read again from the beginning, which counts nothing twice.
async fn read_log(pods: &Api<Pod>, name: &str, container: &str, seen: &Mutex<Seen>) {
    let params = LogParams { follow: true, ..LogParams::default() };
    let Ok(log) = pods.log_stream(name, &params).await else { return };
    let each = log.lines().try_for_each(|line| {
        if let Some(totals) = Totals::in_line(&line) {
            lock(seen).ledger.record(container, totals);
        }
        futures::future::ready(Ok(()))
    });
    // What breaks a log off is of no interest: that it must be read again is known by the pod that is still there.
    let _ = each.await;
}

/// The id of the pod's container, which is another one after a crash.
fn container(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.container_id.clone()
}
