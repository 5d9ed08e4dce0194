//! Jobs: run pods until enough of them have succeeded or too many have failed.

mod tally;

use serde_json::{Map, Value, json};

use super::condition::{self, Condition};
use super::drive::{Controller, Next};
use super::events::{Severity, record_event};
use super::{core, pods, replicaset};
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::Event;
use tally::{TRACKING, failed, tracked, untracked};

const SOURCE: &str = "job-controller";
/// The wait before the next pod after the first failure, seconds. It doubles with each further failure.
const FIRST_BACKOFF: i64 = 10;
/// The longest wait after failures, seconds.
const LONGEST_BACKOFF: i64 = 600;

/// The prefix of keys for pods that no job counts.
const UNCOUNTED: &str = "pod:";

/// The job controller.
#[derive(Debug)]
pub(super) struct Jobs;

fn jobs() -> Resource {
    Resource::new("batch", "jobs")
}

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![jobs(), core("pods")]
    }

    fn affected(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        if resource.plural == "pods" {
            let mut keys = pods::affected_owners(actor, event, "Job", "jobs", "batch");
            if tracked(&event.object.value) && meta::controller(&event.object.value).is_none() {
                keys.push(format!("{UNCOUNTED}{}", event.key));
            }
            return keys;
        }
        vec![event.key.clone()]
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        if let Some(key) = key.strip_prefix(UNCOUNTED) {
            return release_pod(actor, key).map(|()| Next::Change);
        }
        let Some(job) = actor.get(&jobs(), key) else {
            release_pods(actor, key)?;
            return Ok(Next::Change);
        };
        let job = &job.value;
        let status = job.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(finished) = finished_at(&status) {
            return clean_up(actor, job, finished);
        }
        if meta::text(job, "/spec/completionMode") == "Indexed" {
            let message = "Skipped Job sync because completion mode Indexed is not supported here";
            record_event(actor, SOURCE, job, Severity::Warning, "UnknownCompletionMode", message);
            return Ok(Next::Change);
        }
        let mine = pods::claim(actor, job, pods::all(actor, meta::namespace(job)), |_| true)?;
        let pods = mine.iter().map(|pod| pod.value.clone()).collect();
        Pass { actor, job, status, pods, next: Next::Change }.run()
    }
}

/// Returns when a job finished, in Unix seconds.
fn finished_at(status: &Map<String, Value>) -> Option<i64> {
    let kind = ["Complete", "Failed"].into_iter().find(|kind| condition::holds(status, kind))?;
    pods::seconds(meta::text(condition::find(status, kind)?, "/lastTransitionTime"))
}

/// Removes the tracking finalizer from the pods of a job that is gone.
fn release_pods(actor: &Actor, key: &str) -> Result<(), Status> {
    let Some((namespace, name)) = key.split_once('/') else { return Ok(()) };
    for pod in pods::all(actor, namespace) {
        let of_job = meta::controller(&pod.value)
            .is_some_and(|owner| meta::text(owner, "/kind") == "Job" && meta::text(owner, "/name") == name);
        if of_job && tracked(&pod.value) {
            pods::ignore_gone(actor.replace(&untracked(&pod.value), ""))?;
        }
    }
    Ok(())
}

/// Removes the tracking finalizer from a pod without a job.
fn release_pod(actor: &Actor, key: &str) -> Result<(), Status> {
    let pod = actor.get(&core("pods"), key);
    let Some(pod) = pod.filter(|pod| tracked(&pod.value) && meta::controller(&pod.value).is_none()) else {
        return Ok(());
    };
    pods::ignore_gone(actor.replace(&untracked(&pod.value), "")).map(|_| ())
}

/// Deletes a finished job after its time to live.
fn clean_up(actor: &Actor, job: &Value, finished: i64) -> Result<Next, Status> {
    let Some(keep) = meta::number(job, "/spec/ttlSecondsAfterFinished") else { return Ok(Next::Change) };
    if meta::deleting(job) {
        return Ok(Next::Change);
    }
    let left = finished.saturating_add(keep).saturating_sub(actor.clock().unix());
    if left > 0 {
        return Ok(Next::After(left));
    }
    actor.delete(job, "Foreground", None).map(|()| Next::Change)
}

/// The reason why a job ends.
struct JobEnd {
    success: bool,
    reason: &'static str,
    message: &'static str,
}

const REACHED: JobEnd =
    JobEnd { success: true, reason: "CompletionsReached", message: "Reached expected number of succeeded pods" };

/// One reconciliation of a job.
struct Pass<'a> {
    actor: &'a Actor,
    job: &'a Value,
    status: Map<String, Value>,
    pods: Vec<Value>,
    next: Next,
}

impl Pass<'_> {
    fn run(mut self) -> Result<Next, Status> {
        let suspended = self.job.pointer("/spec/suspend") == Some(&Value::Bool(true));
        if !self.status.contains_key("startTime") && !suspended {
            self.status.insert("startTime".to_owned(), self.actor.clock().now().into());
        }
        self.record_ended();
        let end = if suspended { None } else { self.end_reason() };
        let managed = match &end {
            Some(_) => self.stop_all(true),
            None if meta::deleting(self.job) => Ok(()),
            None if suspended => self.stop_all(false).inspect(|()| self.record_suspension(true)),
            None => {
                self.record_suspension(false);
                self.manage()
            }
        };
        let end = end.filter(|_| managed.is_ok()).or_else(|| self.success());
        if let Some(end) = &end {
            let kind = if end.success { "SuccessCriteriaMet" } else { "FailureTarget" };
            self.set_condition(kind, "True", end.reason, end.message);
        }
        self.count_active();
        self.write()?;
        self.release_counted(end.is_some())?;
        if let Some(end) = end
            && !self.is_waiting()
        {
            self.finish(&end);
        }
        self.write()?;
        managed.map(|()| self.next)
    }

    fn active(&self) -> impl Iterator<Item = &Value> {
        self.pods.iter().filter(|pod| pods::active(pod))
    }

    /// Returns why the job must end without enough successes, or why it has begun to end.
    fn end_reason(&mut self) -> Option<JobEnd> {
        let limit = meta::number(self.job, "/spec/backoffLimit").unwrap_or(6);
        let begun = |kind: &str| condition::holds(&self.status, kind);
        let late = condition::find(&self.status, "FailureTarget").map(|condition| meta::text(condition, "/reason"));
        let too_many = JobEnd {
            success: false,
            reason: "BackoffLimitExceeded",
            message: "Job has reached the specified backoff limit",
        };
        let too_long = JobEnd {
            success: false,
            reason: "DeadlineExceeded",
            message: "Job was active longer than specified deadline",
        };
        if begun("SuccessCriteriaMet") {
            return Some(REACHED);
        }
        if begun("FailureTarget") {
            return Some(if late == Some("DeadlineExceeded") { too_long } else { too_many });
        }
        if self.total("failed") > limit || self.has_too_many_restarts(limit) {
            return Some(too_many);
        }
        let deadline = meta::number(self.job, "/spec/activeDeadlineSeconds")?;
        let start = self.status.get("startTime").and_then(Value::as_str).and_then(pods::seconds)?;
        let left = start.saturating_add(deadline).saturating_sub(self.actor.clock().unix());
        if left <= 0 {
            return Some(too_long);
        }
        self.next = self.next.or(Next::After(left));
        None
    }

    fn has_too_many_restarts(&self, limit: i64) -> bool {
        if meta::text(self.job, "/spec/template/spec/restartPolicy") != "OnFailure" {
            return false;
        }
        let restarts = |pod: &Value, list: &str| -> i64 {
            let statuses = pod.pointer(list).and_then(Value::as_array).into_iter().flatten();
            statuses.filter_map(|status| meta::number(status, "/restartCount")).sum()
        };
        let running = self.pods.iter().filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"));
        let all: i64 = running
            .map(|pod| {
                restarts(pod, "/status/containerStatuses")
                    .saturating_add(restarts(pod, "/status/initContainerStatuses"))
            })
            .sum();
        all > 0 && all >= limit
    }

    /// Returns the successful end of a job, if enough pods have succeeded.
    fn success(&self) -> Option<JobEnd> {
        let succeeded = self.total("succeeded");
        let enough = match meta::number(self.job, "/spec/completions") {
            Some(completions) => succeeded >= completions,
            None => succeeded > 0,
        };
        if enough && self.active().next().is_none() { Some(REACHED) } else { None }
    }

    /// Stops all pods. If `counted` is set, each of them counts as a failure.
    fn stop_all(&mut self, counted: bool) -> Result<(), Status> {
        let active: Vec<Value> = self.active().cloned().collect();
        active.iter().try_for_each(|pod| self.stop_pod(pod, counted))?;
        self.reload_pods();
        Ok(())
    }

    fn stop_pod(&self, pod: &Value, counted: bool) -> Result<(), Status> {
        if !counted && tracked(pod) {
            pods::ignore_gone(self.actor.replace(&untracked(pod), ""))?;
        }
        self.actor.delete(pod, "Background", None)?;
        let message = format!("Deleted pod: {}", meta::name(pod));
        record_event(self.actor, SOURCE, self.job, Severity::Normal, "SuccessfulDelete", &message);
        Ok(())
    }

    /// Reads the pods again after some have been created or stopped.
    fn reload_pods(&mut self) {
        let all = pods::all(self.actor, meta::namespace(self.job));
        let mine = all.into_iter().filter(|pod| meta::controlled_by(&pod.value, meta::uid(self.job)));
        self.pods = mine.map(|pod| pod.value.clone()).collect();
        self.record_ended();
    }

    /// Creates or stops pods.
    fn manage(&mut self) -> Result<(), Status> {
        let active: Vec<Value> = self.active().cloned().collect();
        let running = pods::count(active.iter());
        // By default a pod that is being deleted is replaced only once it is gone.
        let replaced_late = meta::text(self.job, "/spec/podReplacementPolicy") == "Failed";
        let terminating = pods::count(self.pods.iter().filter(|pod| meta::deleting(pod) && !pods::has_ended(pod)));
        let terminating = if replaced_late { terminating } else { 0 };
        let parallel = meta::number(self.job, "/spec/parallelism").unwrap_or(1);
        let succeeded = self.total("succeeded");
        let desired = match meta::number(self.job, "/spec/completions") {
            Some(completions) => parallel.min((completions - succeeded).max(0)),
            None if succeeded > 0 => running,
            None => parallel,
        };
        if running > parallel {
            for pod in active.iter().take(usize::try_from(running - parallel).unwrap_or_default()) {
                self.stop_pod(pod, false)?;
            }
            self.reload_pods();
            return Ok(());
        }
        let missing = desired - running - terminating;
        if missing <= 0 {
            return Ok(());
        }
        let wait = self.backoff();
        if wait > 0 {
            self.next = self.next.or(Next::After(wait));
            return Ok(());
        }
        let missing = usize::try_from(missing).unwrap_or_default().min(500);
        replicaset::in_growing_batches(missing, |_| self.create())?;
        self.reload_pods();
        Ok(())
    }

    /// Returns how long to wait after failures before another pod is created, seconds.
    fn backoff(&self) -> i64 {
        let ended = |pod: &&Value| failed(pod);
        let last = self.pods.iter().filter(ended).filter_map(ended_at).max();
        let success = self.pods.iter().filter(|pod| pods::phase(pod) == "Succeeded").filter_map(ended_at).max();
        let failures = self.pods.iter().filter(ended).filter(|pod| ended_at(pod) > success).count();
        let (Some(last), Some(doublings)) = (last, u32::try_from(failures).ok().and_then(|count| count.checked_sub(1)))
        else {
            return 0;
        };
        let wait = FIRST_BACKOFF.saturating_mul(2_i64.saturating_pow(doublings)).min(LONGEST_BACKOFF);
        (last.saturating_add(wait) - self.actor.clock().unix()).max(0)
    }

    fn create(&self) -> Result<(), Status> {
        let mut pod = pods::from_template(self.job.pointer("/spec/template").unwrap_or(&Value::Null), self.job);
        meta::set(&mut pod, "generateName", pods::prefix(self.job));
        let mut finalizers = meta::finalizers(&pod);
        finalizers.push(TRACKING.to_owned());
        meta::set_finalizers(&mut pod, finalizers);
        match self.actor.create(pod) {
            Ok(pod) => {
                let message = format!("Created pod: {}", meta::name(&pod.value));
                record_event(self.actor, SOURCE, self.job, Severity::Normal, "SuccessfulCreate", &message);
                Ok(())
            }
            Err(status) if pods::namespace_is_terminating(&status) => Ok(()),
            Err(status) => {
                let message = format!("Error creating: {status}");
                record_event(self.actor, SOURCE, self.job, Severity::Warning, "FailedCreate", &message);
                Err(status)
            }
        }
    }

    fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        if condition::find(&self.status, kind).is_some_and(|old| meta::text(old, "/status") == status) {
            return;
        }
        let now = self.actor.clock().now();
        let condition = Condition { kind, status, reason, message };
        condition::set(&mut self.status, condition, &now, json!({"lastProbeTime": now}));
    }

    fn record_suspension(&mut self, suspended: bool) {
        let was = condition::holds(&self.status, "Suspended");
        if suspended && !was {
            self.set_condition("Suspended", "True", "JobSuspended", "Job suspended");
            self.status.remove("startTime");
            record_event(self.actor, SOURCE, self.job, Severity::Normal, "Suspended", "Job suspended");
        } else if was && !suspended {
            self.set_condition("Suspended", "False", "JobResumed", "Job resumed");
            self.status.insert("startTime".to_owned(), self.actor.clock().now().into());
            record_event(self.actor, SOURCE, self.job, Severity::Normal, "Resumed", "Job resumed");
        }
    }

    fn count_active(&mut self) {
        let active = pods::count(self.active());
        let ready = pods::count(self.active().filter(|pod| pods::ready(pod)));
        let terminating = pods::count(self.pods.iter().filter(|pod| meta::deleting(pod) && !pods::has_ended(pod)));
        pods::set_counts(&mut self.status, &[("active", active)]);
        self.status.insert("ready".to_owned(), ready.into());
        self.status.insert("terminating".to_owned(), terminating.into());
    }

    fn finish(&mut self, end: &JobEnd) {
        let kind = if end.success { "Complete" } else { "Failed" };
        self.set_condition(kind, "True", end.reason, end.message);
        if end.success {
            self.status.insert("completionTime".to_owned(), self.actor.clock().now().into());
            record_event(self.actor, SOURCE, self.job, Severity::Normal, "Completed", "Job completed");
        } else {
            record_event(self.actor, SOURCE, self.job, Severity::Warning, end.reason, end.message);
        }
    }

    /// Writes the status to the current version of the job.
    fn write(&self) -> Result<(), Status> {
        let Some(now) = self.actor.get(&jobs(), &meta::key(self.job)) else { return Ok(()) };
        if meta::uid(&now.value) != meta::uid(self.job) {
            return Ok(());
        }
        pods::ignore_gone(self.actor.set_status(&now.value, Value::Object(self.status.clone()))).map(|_| ())
    }
}

/// Returns when a pod ended, in Unix seconds: its last container's end, or the time of its deletion.
fn ended_at(pod: &Value) -> Option<i64> {
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten();
    let ended = statuses.filter_map(|status| pods::seconds(meta::text(status, "/state/terminated/finishedAt"))).max();
    ended.or_else(|| pods::seconds(meta::text(pod, "/metadata/deletionTimestamp"))).or_else(|| Some(pods::created(pod)))
}
