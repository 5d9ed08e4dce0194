//! Gathers the facts of one reconcile from which the status is built.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use sluice_api::conditions::reasons;
use sluice_api::status::DecisionStatus;
use sluice_api::{JOB_LABEL, StreamJob};
use sluice_base::units::Seconds;
use sluice_policy::{Decision, Mode};
use sluice_signals::{JobKey, JobSamples};

use crate::apply::refusal::Refusal;
use crate::cause::ConditionCause;
use crate::context::Context;
use crate::job_state::JobState;
use crate::observe::claims::Rivals;
use crate::observe::live::{PodFacts, Workload};
use crate::observe::pod_troubles;
use crate::reconcile::SET_ASIDE;
use crate::status::conditions::{self, Facts};
use crate::status::events::StartUp;
use crate::status::signals;
use crate::validate::{Job, Target};

/// Returns the facts of a job whose reconcile has panicked.
pub(crate) fn after_panic(object: &StreamJob) -> Facts<'static> {
    let message = format!(
        "the operator failed on this StreamJob because of a bug in Sluice. The workers keep running, and the operator tries again every {} s: report the bug together with the operator's log",
        SET_ASIDE.0
    );
    let trouble = ConditionCause { reason: reasons::INTERNAL_ERROR, message };
    Facts { generation: object.metadata.generation, workload_trouble: Some(trouble), ..last_known(object) }
}

/// Returns whether the operator has just started and has nothing new to report: the status that an earlier run wrote
/// stays until the job's sources and workers have had the time to answer.
pub(crate) fn is_quiet_restart(
    object: &StreamJob,
    job: &Job,
    state: &mut JobState,
    facts: &Facts<'_>,
    now: Seconds,
) -> bool {
    let begun = state.first_seen(now);
    let was_written = object.status.as_ref().is_some_and(|status| status.observed_generation == job.generation);
    let has_news = facts.workload_trouble.is_some() || facts.source_trouble.is_some() || facts.changed.is_some();
    was_written && facts.missing_signal.is_some() && !has_news && now - begun < signals::stale_after(job.latency)
}

/// Returns the worker counts of the last status, for a job that was not observed.
pub(crate) fn last_known(object: &StreamJob) -> Facts<'static> {
    let status = object.status.clone().unwrap_or_default();
    let count = |count: i32| u32::try_from(count).unwrap_or(0);
    Facts { replicas: count(status.replicas), ready: count(status.ready_replicas), ..Facts::default() }
}

/// One observation of a job, and the decision that was based on it.
pub(crate) struct JobSnapshot<'a> {
    pub(crate) job: &'a Job,
    pub(crate) pods: &'a [PodFacts],
    /// It is unknown which pods belong to the job.
    pub(crate) pods_unknown: bool,
    pub(crate) workload: Option<&'a Workload>,
    pub(crate) samples: &'a JobSamples,
    pub(crate) decision: &'a Decision,
    /// Pods that the cluster refuses to create.
    pub(crate) refusal: Refusal,
}

/// Returns the facts that follow from a snapshot, without the result of scaling.
pub(crate) fn from_snapshot<'a>(
    context: &Context,
    object: &StreamJob,
    state: &mut JobState,
    snapshot: &JobSnapshot<'a>,
    now: Seconds,
) -> Facts<'a> {
    let JobSnapshot { job, pods, workload, samples, decision, .. } = *snapshot;
    let number = |wanted: fn(&&PodFacts) -> bool| u32::try_from(pods.iter().filter(wanted).count()).unwrap_or(u32::MAX);
    let selector = match &job.target {
        Target::Owned(_) => Some(format!("{JOB_LABEL}={}", job.key.name)),
        Target::Existing { .. } => workload.and_then(|workload| workload.view.selector.clone()),
    };
    let begun = state.first_seen(now);
    let were_reported = conditions::reports_strangers(object.status.as_ref());
    let strangers = match decision.explain.strangers {
        Some(_) => state.strangers.observe(job, pods, samples, were_reported, now),
        None => state.strangers.observe_none(now),
    };
    let failing = pod_troubles::failing(pods, now);
    let unschedulable = pods.iter().find_map(|pod| pod.unschedulable.clone());
    let hindered = failing.is_some() || unschedulable.is_some() || snapshot.refusal.now;
    let start = StartUp {
        workers: !hindered && signals::workers_start(pods, begun, now),
        signals: signals::signals_start(samples, job.latency, begun, now),
    };
    let counted = workload.and_then(|workload| workload.view.counted);
    let (replicas, ready) = if snapshot.pods_unknown {
        // Unknown counts stay as they were last reported.
        let last = last_known(object);
        (counted.unwrap_or(last.replicas), last.ready)
    } else {
        (number(|pod| !pod.terminating), number(|pod| pod.ready && !pod.terminating))
    };
    Facts {
        generation: job.generation,
        settings: Some(&job.settings),
        selector,
        replicas,
        ready,
        pods_unknown: snapshot.pods_unknown,
        decision: Some(decision),
        source_trouble: signals::source_trouble(samples, job.latency, now),
        missing_signal: signals::missing_signal(samples, pods, job.latency, now)
            .or_else(|| signals::contradiction(decision))
            .or_else(|| signals::unverifiable(decision)),
        signal_note: signals::timestamp_remark(samples),
        rolling_out: workload.is_some_and(|workload| workload.view.rolling_out),
        unschedulable,
        failing,
        deadline_exceeded: workload.and_then(|workload| workload.view.deadline_exceeded.clone()),
        contested: contested(context, job),
        refusal: snapshot.refusal.clone(),
        crashing: state.crash_loops.observe(pods, now),
        strangers,
        start,
        foreign_writer: state.ownership.foreign_writer().map(str::to_owned),
        ..Facts::default()
    }
}

/// Returns the record of a decision that changed the replica count from `from`.
pub(crate) fn decision_status(from: u32, decision: &Decision, now: Seconds) -> Option<DecisionStatus> {
    let to = decision.desired?;
    let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    Some(DecisionStatus {
        time: Time(crate::timestamp(now)),
        from: count(from),
        to: count(to),
        reason: decision.reason.as_str().to_owned(),
        bound_by: decision.bound_by.as_str().to_owned(),
        message: decision.message.clone(),
    })
}

/// Returns the record of a new recommendation. In mode Recommend it is reported like a decision, although nothing is
/// written.
pub(crate) fn recommendation(
    job: &Job,
    state: &mut JobState,
    desired: Option<u32>,
    decision: &Decision,
    now: Seconds,
) -> Option<DecisionStatus> {
    let (Some(desired), Some(wanted)) = (desired, decision.recommended) else { return None };
    if job.settings.mode != Mode::Recommend || job.settings.pinned.is_some() || job.settings.suspend {
        state.reported.replace_recommendation(None);
        return None;
    }
    let last = state.reported.replace_recommendation(Some(wanted));
    let is_new = last != Some(wanted) && (last.is_some() || wanted != desired);
    is_new.then(|| decision_status(desired, &Decision { desired: Some(wanted), ..decision.clone() }, now)).flatten()
}

/// Returns a cause if other jobs name the same workload or read in the same consumer group.
fn contested(context: &Context, job: &Job) -> Option<ConditionCause> {
    let Rivals { want_workload, share_group, .. } = context.claims.rivals(&job.key);
    if !want_workload.is_empty() && job.settings.mode != Mode::Recommend {
        let message = format!(
            "{} names the same workload in spec.targetRef but does not scale it: delete that StreamJob or change its spec.targetRef",
            named(&want_workload, &job.key.namespace)
        );
        return Some(ConditionCause { reason: reasons::TARGET_CONTESTED, message });
    }
    let (group, others) = share_group?;
    let message = format!(
        "{} reads the same topic in the same consumer group, {group}. The jobs share the records, but each is sized for all of them: give each job its own group",
        named(&others, &job.key.namespace)
    );
    Some(ConditionCause { reason: reasons::SHARED_CONSUMER_GROUP, message })
}

/// Names the first of these jobs and the number of the others. A tenant does not learn the names of another tenant's
/// jobs.
fn named(jobs: &[JobKey], namespace: &str) -> String {
    let own = jobs.iter().find(|job| job.namespace == namespace);
    let first =
        own.map_or_else(|| "a StreamJob of another namespace".to_owned(), |job| format!("StreamJob {}", job.name));
    match jobs.len() {
        0 | 1 => first,
        more => format!("{first} (and {} more)", more - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_other_namespaces_are_not_named() {
        let key = |namespace: &str, name: &str| JobKey { namespace: namespace.to_owned(), name: name.to_owned() };
        let (theirs, own) = (key("secret", "merger"), key("team", "b"));
        assert_eq!(named(std::slice::from_ref(&theirs), "team"), "a StreamJob of another namespace");
        assert_eq!(named(&[theirs, own], "team"), "StreamJob b (and 1 more)");
    }
}
