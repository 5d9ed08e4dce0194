//! What the demo sees: the job's status, the pods and their logs, and the operator's live values.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, LogParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::cluster::Cluster;
use super::page::Live;
use sluice_api::JOB_LABEL;
use sluice_api::status::{DecisionStatus, StreamJobStatus};
use sluice_report::run::{Change, Point};
use sluice_report::totals::{Ledger, Totals};

/// For a look at a page or a list: less than the second until the next one.
const LOOK: Duration = Duration::from_millis(900);
/// Between two attempts to read a log that is not there yet, or no more.
const LOG_RETRY: Duration = Duration::from_millis(500);

/// What the background tasks have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) status: StreamJobStatus,
    /// Every decision ever shown in the status, by time.
    pub(super) decisions: Vec<DecisionStatus>,
    pub(super) ledger: Ledger,
}

impl Seen {
    /// Takes over a status; the decisions that are new are kept, because the status only holds the newest ones.
    fn take(&mut self, status: StreamJobStatus) {
        for decision in status.recent_decisions.iter().chain(&status.last_decision) {
            if !self.decisions.contains(decision) {
                self.decisions.push(decision.clone());
            }
        }
        self.decisions.sort_by_key(|decision| decision.time.0);
        self.status = status;
    }

    /// The decisions, in seconds since `start` (Unix seconds).
    pub(super) fn changes(&self, start: f64) -> Vec<Change> {
        let number = |workers: i32| u32::try_from(workers).unwrap_or(0);
        self.decisions
            .iter()
            .filter(|decision| decision.from != decision.to)
            .map(|decision| Change {
                at: decision.time.0.as_duration().as_secs_f64() - start,
                from: number(decision.from),
                to: number(decision.to),
                reason: decision.reason.clone(),
                bound_by: decision.bound_by.clone(),
                message: decision.message.clone(),
            })
            .collect()
    }

    /// Why there is no ready worker, as far as the status says.
    pub(super) fn trouble(&self) -> String {
        let bad = self.status.conditions.iter().filter(|condition| match condition.type_.as_str() {
            "Ready" => condition.status != "True",
            "Stalled" | "ScalingLimited" => condition.status == "True",
            _ => false,
        });
        let words: Vec<String> = bad.map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message)).collect();
        if words.is_empty() { "the job's status says nothing about it".to_owned() } else { words.join("; ") }
    }
}

/// Looks at everything; the tasks end with it.
pub(super) struct Watch {
    cluster: Cluster,
    job: String,
    page: String,
    http: reqwest::Client,
    seen: Arc<Mutex<Seen>>,
    followed: BTreeSet<String>,
    /// Dropped with us, which ends it.
    _status: JoinSet<()>,
    logs: JoinSet<()>,
}

impl Watch {
    /// Starts to watch the job. `page` is the address of the operator's metrics.
    pub(super) fn start(cluster: &Cluster, job: &str, page: String) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut status = JoinSet::new();
        status.spawn(follow_status(cluster.clone(), job.to_owned(), Arc::clone(&seen)));
        Self {
            cluster: cluster.clone(),
            job: job.to_owned(),
            page,
            http: reqwest::Client::new(),
            seen,
            followed: BTreeSet::new(),
            _status: status,
            logs: JoinSet::new(),
        }
    }

    /// What the tasks have seen so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Whether the operator's page answers.
    pub(super) async fn operator_answers(&self) -> bool {
        self.read_page().await.is_some()
    }

    /// Looks once. `at` and `rate` are the time and the load to write beside it. Unknown is unknown: a page that does not
    /// answer in time leaves a gap.
    pub(super) async fn look(&mut self, at: f64, rate: Option<f64>) -> Point {
        let (page, pods) = tokio::join!(self.read_page(), self.read_pods());
        let live = page.map(|page| Live::on_page(&page, &self.cluster.namespace, &self.job)).unwrap_or_default();
        let pods = pods.map(|pods| {
            for pod in &pods {
                self.follow_log(pod);
            }
            let existing = pods.iter().filter(|pod| !finished(pod)).count();
            let ready = pods.iter().filter(|pod| ready(pod)).count();
            (u32::try_from(existing).unwrap_or(u32::MAX), u32::try_from(ready).unwrap_or(u32::MAX))
        });
        let from_status = self.seen().status.desired_replicas.and_then(|desired| u32::try_from(desired).ok());
        Point {
            at,
            rate,
            capacity: live.capacity.zip(pods).map(|(one, (_, ready))| one * f64::from(ready)),
            lag: live.lag,
            latency: live.latency,
            desired: live.desired.and_then(whole).or(from_status),
            replicas: pods.map(|(existing, _)| existing),
            ready: pods.map(|(_, ready)| ready),
        }
    }

    /// Waits until every log has been read to its end, which comes when the pods are gone.
    pub(super) async fn last_logs(&mut self, patience: Duration) {
        let all = async { while self.logs.join_next().await.is_some() {} };
        if timeout(patience, all).await.is_err() {
            super::say(&format!(
                "{} logs were still open after {patience:?}; their last lines may be missing",
                self.logs.len()
            ));
        }
    }

    async fn read_page(&self) -> Option<String> {
        let read = async { self.http.get(&self.page).send().await?.error_for_status()?.text().await };
        timeout(LOOK, read).await.ok()?.ok()
    }

    async fn read_pods(&self) -> Option<Vec<Pod>> {
        let selector = ListParams::default().labels(&format!("{JOB_LABEL}={}", self.job));
        let pods = self.cluster.pods();
        Some(timeout(LOOK, pods.list(&selector)).await.ok()?.ok()?.items)
    }

    fn follow_log(&mut self, pod: &Pod) {
        if self.followed.insert(pod.uid().unwrap_or_default()) {
            self.logs.spawn(follow_log(self.cluster.pods(), pod.name_any(), pod.uid(), Arc::clone(&self.seen)));
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow_status(cluster: Cluster, job: String, seen: Arc<Mutex<Seen>>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={job}"));
    let mut stream = watcher(cluster.jobs(), config).default_backoff().applied_objects().boxed();
    while let Some(update) = stream.next().await {
        match update {
            Ok(job) => lock(&seen).take(job.status.unwrap_or_default()),
            // The stream mends itself; the view shows that nothing new comes.
            Err(error) => tracing::debug!(%error, "the watch on the job broke"),
        }
    }
}

/// Reads a pod's log, from one container to the next, until the pod is gone.
async fn follow_log(pods: Api<Pod>, name: String, uid: Option<String>, seen: Arc<Mutex<Seen>>) {
    let mut read_to_the_end = None;
    loop {
        match pods.get_opt(&name).await {
            Ok(Some(pod)) if pod.uid() == uid => {
                if let Some(container) = container(&pod).filter(|id| Some(id) != read_to_the_end.as_ref()) {
                    let whole = read_log(&pods, &name, &container, &seen).await;
                    // A stream can also break off; it has come to its end when the container has.
                    if whole && ended(&pods, &name, &container).await {
                        read_to_the_end = Some(container);
                    }
                }
            }
            Ok(_) => return,
            Err(error) => tracing::debug!(%error, pod = name, "failed to look at the pod"),
        }
        sleep(LOG_RETRY).await;
    }
}

/// Whether the log was read without an error.
async fn read_log(pods: &Api<Pod>, name: &str, container: &str, seen: &Mutex<Seen>) -> bool {
    let params = LogParams { follow: true, ..LogParams::default() };
    let lines = match pods.log_stream(name, &params).await {
        Ok(log) => log.lines(),
        Err(error) => {
            tracing::debug!(%error, pod = name, "the log is not there");
            return false;
        }
    };
    let each = lines.try_for_each(|line| {
        if let Some(totals) = Totals::in_line(&line) {
            lock(seen).ledger.record(container, totals);
        }
        futures::future::ready(Ok(()))
    });
    each.await.is_ok()
}

async fn ended(pods: &Api<Pod>, name: &str, id: &str) -> bool {
    match pods.get_opt(name).await {
        Ok(Some(pod)) => container(&pod).is_none_or(|now| now != id) || !running(&pod),
        Ok(None) => true,
        Err(_) => false,
    }
}

fn first_status(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// The id of the pod's container, which is another one after a crash.
fn container(pod: &Pod) -> Option<String> {
    first_status(pod)?.container_id.clone()
}

fn running(pod: &Pod) -> bool {
    first_status(pod).and_then(|status| status.state.as_ref()).is_some_and(|state| state.running.is_some())
}

fn finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// A gauge that counts workers, as a number of workers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: between 0 and a million")]
fn whole(gauge: f64) -> Option<u32> {
    (0.0..=1e6).contains(&gauge).then(|| gauge.round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(second: i64, from: i32, to: i32) -> DecisionStatus {
        let time = k8s_openapi::jiff::Timestamp::from_second(second).unwrap();
        DecisionStatus {
            time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time),
            from,
            to,
            reason: "Growth".into(),
            bound_by: "Objective".into(),
            message: String::new(),
        }
    }

    #[test]
    fn decisions_are_kept_when_the_status_has_forgotten_them() {
        let mut seen = Seen::default();
        let status = |recent: Vec<DecisionStatus>| StreamJobStatus {
            last_decision: recent.first().cloned(),
            recent_decisions: recent,
            ..StreamJobStatus::default()
        };
        seen.take(status(vec![decision(110, 1, 2)]));
        seen.take(status(vec![decision(130, 3, 5), decision(120, 2, 3)]));
        let changes: Vec<_> = seen.changes(100.0).iter().map(|c| (c.at, c.from, c.to)).collect();
        assert_eq!(changes, [(10.0, 1, 2), (20.0, 2, 3), (30.0, 3, 5)]);
    }

    #[test]
    fn trouble_names_the_conditions_that_are_bad() {
        let mut seen = Seen::default();
        assert_eq!(seen.trouble(), "the job's status says nothing about it");
        let condition = |type_: &str, status: &str| {
            serde_json::from_value(serde_json::json!({
                "type": type_, "status": status, "reason": "Why", "message": "because",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }))
            .unwrap()
        };
        seen.status.conditions = vec![condition("Ready", "False"), condition("Stalled", "False")];
        assert_eq!(seen.trouble(), "Ready=False Why: because");
    }
}
