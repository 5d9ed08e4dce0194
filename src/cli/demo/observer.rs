//! Collects the measurements of the demo: the job's status, the pods and their logs, and the operator's metrics.

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
use super::metrics_page::JobGauges;
use sluice_api::JOB_LABEL;
use sluice_api::status::{DecisionStatus, StreamJobStatus};
use sluice_report::run::{Change, Point};
use sluice_report::totals::{Ledger, Totals};

/// Timeout of a read of the metrics page or the pods; less than the second until the next measurement.
const READ_TIMEOUT: Duration = Duration::from_millis(900);
/// Interval between attempts to read a log that does not exist yet or no longer exists.
const LOG_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The state that the background tasks have collected.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) status: StreamJobStatus,
    /// Every decision that was ever in the status, by time.
    pub(super) decisions: Vec<DecisionStatus>,
    /// The workers' totals.
    pub(super) ledger: Ledger,
}

impl Observed {
    /// Records a status. New decisions are accumulated, because the status contains only the newest ones.
    fn record_status(&mut self, status: StreamJobStatus) {
        for decision in status.recent_decisions.iter().chain(&status.last_decision) {
            if !self.decisions.contains(decision) {
                self.decisions.push(decision.clone());
            }
        }
        self.decisions.sort_by_key(|decision| decision.time.0);
        self.status = status;
    }

    /// Returns the decisions that changed the replica count, with times in seconds since `start` (Unix seconds).
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

    /// Describes why no worker is ready, as far as the status contains the cause.
    pub(super) fn unready_cause(&self) -> String {
        let bad = self.status.conditions.iter().filter(|condition| match condition.type_.as_str() {
            "Ready" => condition.status != "True",
            "Stalled" | "ScalingLimited" => condition.status == "True",
            _ => false,
        });
        let causes: Vec<String> =
            bad.map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message)).collect();
        if causes.is_empty() { "the job's status contains no cause".to_owned() } else { causes.join("; ") }
    }
}

/// Observes the job. Dropping it ends its background tasks.
pub(super) struct Observer {
    cluster: Cluster,
    job: String,
    metrics_url: String,
    http: reqwest::Client,
    observed: Arc<Mutex<Observed>>,
    /// The uids of pods whose logs are being read.
    followed: BTreeSet<String>,
    /// The task that watches the status; dropping it ends the task.
    _status: JoinSet<()>,
    logs: JoinSet<()>,
}

impl Observer {
    /// Starts to observe the job. `metrics_url` is the address of the operator's metrics page.
    pub(super) fn start(cluster: &Cluster, job: &str, metrics_url: String) -> Self {
        let observed = Arc::new(Mutex::new(Observed::default()));
        let mut status = JoinSet::new();
        status.spawn(follow_status(cluster.clone(), job.to_owned(), Arc::clone(&observed)));
        Self {
            cluster: cluster.clone(),
            job: job.to_owned(),
            metrics_url,
            http: reqwest::Client::new(),
            observed,
            followed: BTreeSet::new(),
            _status: status,
            logs: JoinSet::new(),
        }
    }

    /// Returns the state that the background tasks have collected so far.
    pub(super) fn observed(&self) -> MutexGuard<'_, Observed> {
        lock(&self.observed)
    }

    /// Returns whether the operator's metrics page can be read.
    pub(super) async fn operator_responds(&self) -> bool {
        self.read_metrics_page().await.is_some()
    }

    /// Takes one measurement. `at` and `rate` are the time and the load to record with it. A page that does not respond
    /// in time leaves its values unknown.
    pub(super) async fn measure(&mut self, at: f64, rate: Option<f64>) -> Point {
        let (page, pods) = tokio::join!(self.read_metrics_page(), self.read_pods());
        let gauges =
            page.map(|page| JobGauges::from_page(&page, &self.cluster.namespace, &self.job)).unwrap_or_default();
        let pods = pods.map(|pods| {
            for pod in &pods {
                self.follow_log(pod);
            }
            let existing = pods.iter().filter(|pod| !finished(pod)).count();
            let ready = pods.iter().filter(|pod| ready(pod)).count();
            (u32::try_from(existing).unwrap_or(u32::MAX), u32::try_from(ready).unwrap_or(u32::MAX))
        });
        let from_status = self.observed().status.desired_replicas.and_then(|desired| u32::try_from(desired).ok());
        Point {
            at,
            rate,
            capacity: gauges.capacity.zip(pods).map(|(one, (_, ready))| one * f64::from(ready)),
            lag: gauges.lag,
            latency: gauges.latency,
            desired: gauges.desired.and_then(replica_count).or(from_status),
            replicas: pods.map(|(existing, _)| existing),
            ready: pods.map(|(_, ready)| ready),
        }
    }

    /// Waits until every log has been read to its end, that is, until the pods no longer exist.
    pub(super) async fn finish_logs(&mut self, limit: Duration) {
        let all = async { while self.logs.join_next().await.is_some() {} };
        if timeout(limit, all).await.is_err() {
            super::print_message(&format!(
                "{} logs were still open after {limit:?}; their last lines may be missing",
                self.logs.len()
            ));
        }
    }

    async fn read_metrics_page(&self) -> Option<String> {
        let read = async { self.http.get(&self.metrics_url).send().await?.error_for_status()?.text().await };
        timeout(READ_TIMEOUT, read).await.ok()?.ok()
    }

    async fn read_pods(&self) -> Option<Vec<Pod>> {
        let selector = ListParams::default().labels(&format!("{JOB_LABEL}={}", self.job));
        let pods = self.cluster.pods();
        Some(timeout(READ_TIMEOUT, pods.list(&selector)).await.ok()?.ok()?.items)
    }

    fn follow_log(&mut self, pod: &Pod) {
        if self.followed.insert(pod.uid().unwrap_or_default()) {
            self.logs.spawn(follow_log(self.cluster.pods(), pod.name_any(), pod.uid(), Arc::clone(&self.observed)));
        }
    }
}

fn lock(observed: &Mutex<Observed>) -> MutexGuard<'_, Observed> {
    observed.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow_status(cluster: Cluster, job: String, observed: Arc<Mutex<Observed>>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={job}"));
    let mut stream = watcher(cluster.jobs(), config).default_backoff().applied_objects().boxed();
    while let Some(update) = stream.next().await {
        match update {
            Ok(job) => lock(&observed).record_status(job.status.unwrap_or_default()),
            // The stream reconnects by itself.
            Err(error) => tracing::debug!(%error, "watch of the job interrupted"),
        }
    }
}

/// Reads a pod's log, of each container after a restart, until the pod no longer exists.
async fn follow_log(pods: Api<Pod>, name: String, uid: Option<String>, observed: Arc<Mutex<Observed>>) {
    let mut completely_read = None;
    loop {
        match pods.get_opt(&name).await {
            Ok(Some(pod)) if pod.uid() == uid => {
                if let Some(container) = container(&pod).filter(|id| Some(id) != completely_read.as_ref()) {
                    let without_error = read_log(&pods, &name, &container, &observed).await;
                    // The stream can also break off early; the log is complete only once the container has ended.
                    if without_error && ended(&pods, &name, &container).await {
                        completely_read = Some(container);
                    }
                }
            }
            Ok(_) => return,
            Err(error) => tracing::debug!(%error, pod = name, "failed to read the pod"),
        }
        sleep(LOG_RETRY_INTERVAL).await;
    }
}

/// Follows the log of a container and records its totals. Returns whether it was read without an error.
async fn read_log(pods: &Api<Pod>, name: &str, container: &str, observed: &Mutex<Observed>) -> bool {
    let params = LogParams { follow: true, ..LogParams::default() };
    let lines = match pods.log_stream(name, &params).await {
        Ok(log) => log.lines(),
        Err(error) => {
            tracing::debug!(%error, pod = name, "failed to open the log");
            return false;
        }
    };
    let each = lines.try_for_each(|line| {
        if let Some(totals) = Totals::in_line(&line) {
            lock(observed).ledger.record(container, totals);
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

/// Returns the id of the pod's container, which changes when the container restarts.
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

/// Converts a gauge that counts workers into a replica count.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: between 0 and a million")]
fn replica_count(gauge: f64) -> Option<u32> {
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
    fn decisions_outlive_their_removal_from_the_status() {
        let mut observed = Observed::default();
        let status = |recent: Vec<DecisionStatus>| StreamJobStatus {
            last_decision: recent.first().cloned(),
            recent_decisions: recent,
            ..StreamJobStatus::default()
        };
        observed.record_status(status(vec![decision(110, 1, 2)]));
        observed.record_status(status(vec![decision(130, 3, 5), decision(120, 2, 3)]));
        let changes: Vec<_> = observed.changes(100.0).iter().map(|c| (c.at, c.from, c.to)).collect();
        assert_eq!(changes, [(10.0, 1, 2), (20.0, 2, 3), (30.0, 3, 5)]);
    }

    #[test]
    fn unready_cause_lists_the_bad_conditions() {
        let mut observed = Observed::default();
        assert_eq!(observed.unready_cause(), "the job's status contains no cause");
        let condition = |type_: &str, status: &str| {
            serde_json::from_value(serde_json::json!({
                "type": type_, "status": status, "reason": "Why", "message": "because",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }))
            .unwrap()
        };
        observed.status.conditions = vec![condition("Ready", "False"), condition("Stalled", "False")];
        assert_eq!(observed.unready_cause(), "Ready=False Why: because");
    }
}
