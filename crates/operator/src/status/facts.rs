//! What there is to tell of a job: gathered from one look at it, for its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use sluice_api::conditions::reasons;
use sluice_api::status::DecisionStatus;
use sluice_api::{JOB_LABEL, StreamJob};
use sluice_base::units::Seconds;
use sluice_policy::Decision;
use sluice_policy::Mode;
use sluice_signals::{JobKey, JobSamples};

use crate::apply::refusal::Refusal;
use crate::context::{Context, JobState};
use crate::observe::claims::Rivals;
use crate::observe::live::{PodFacts, Workload};
use crate::observe::pod_troubles;
use crate::reconcile::SET_ASIDE;
use crate::status::conditions;
use crate::status::conditions::Facts;
use crate::status::events::Start;
use crate::status::signals;
use crate::status::signals::Verdict;
use crate::validate::{Job, Target};

/// What the status says of a job that has brought a fault of ours to light.
pub(crate) fn panicked(object: &StreamJob) -> Facts<'static> {
    let message = format!(
        "the operator failed on this StreamJob because of a bug in Sluice. The workers keep running, and the operator tries again every {} s: report the bug with the operator's log",
        SET_ASIDE.0
    );
    let trouble = Verdict { reason: reasons::INTERNAL_ERROR, message };
    Facts { generation: object.metadata.generation, workload_trouble: Some(trouble), ..last_known(object) }
}

/// A restart is no news: what the operator before has told of the job holds until its sources and workers have had the time
/// to answer.
pub(crate) fn unheard(object: &StreamJob, job: &Job, state: &mut JobState, facts: &Facts<'_>, now: Seconds) -> bool {
    let begun = *state.begun.get_or_insert(now);
    let told = object.status.as_ref().is_some_and(|status| status.observed_generation == job.generation);
    let news = facts.workload_trouble.is_some() || facts.source_trouble.is_some() || facts.changed.is_some();
    told && facts.missing_signal.is_some() && !news && now - begun < signals::stale_after(job.latency)
}

/// What a job's status says of its workers while its spec cannot be used.
pub(crate) fn last_known(object: &StreamJob) -> Facts<'static> {
    let status = object.status.clone().unwrap_or_default();
    let count = |count: i32| u32::try_from(count).unwrap_or(0);
    Facts { replicas: count(status.replicas), ready: count(status.ready_replicas), ..Facts::default() }
}

/// One look at a job: what was seen, and what came of it.
pub(crate) struct Look<'a> {
    pub(crate) job: &'a Job,
    pub(crate) pods: &'a [PodFacts],
    /// It is not known which pods there are.
    pub(crate) pods_unknown: bool,
    pub(crate) workload: Option<&'a Workload>,
    pub(crate) samples: &'a JobSamples,
    pub(crate) decision: &'a Decision,
    /// What the cluster refuses.
    pub(crate) refusal: Refusal,
}

/// What there is to tell after a look, but for what was done.
pub(crate) fn of_look<'a>(
    context: &Context,
    object: &StreamJob,
    state: &mut JobState,
    look: &Look<'a>,
    now: Seconds,
) -> Facts<'a> {
    let Look { job, pods, workload, samples, decision, .. } = *look;
    let number = |wanted: fn(&&PodFacts) -> bool| u32::try_from(pods.iter().filter(wanted).count()).unwrap_or(u32::MAX);
    let selector = match &job.target {
        Target::Owned(_) => Some(format!("{JOB_LABEL}={}", job.key.name)),
        Target::Existing { .. } => workload.and_then(|workload| workload.view.selector.clone()),
    };
    let begun = *state.begun.get_or_insert(now);
    let told = conditions::tells_of_strangers(object.status.as_ref());
    let strangers = match decision.explain.strangers {
        Some(_) => state.strangers.look(job, pods, samples, told, now),
        None => state.strangers.none(now),
    };
    let failing = pod_troubles::failing(pods, now);
    let unschedulable = pods.iter().find_map(|pod| pod.unschedulable.clone());
    let hindered = failing.is_some() || unschedulable.is_some() || look.refusal.now;
    let start = Start {
        workers: !hindered && signals::workers_start(pods, begun, now),
        signals: signals::signals_start(samples, job.latency, begun, now),
    };
    let counted = workload.and_then(|workload| workload.view.counted);
    let (replicas, ready) = if look.pods_unknown {
        // What is unknown stays as it was told last.
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
        pods_unknown: look.pods_unknown,
        decision: Some(decision),
        source_trouble: signals::source_trouble(samples, job.latency, now),
        missing_signal: signals::missing_signal(samples, pods, job.latency, now)
            .or_else(|| signals::contradiction(decision))
            .or_else(|| signals::unverifiable(decision)),
        signal_note: signals::note(samples),
        rolling_out: workload.is_some_and(|workload| workload.view.rolling_out),
        unschedulable,
        failing,
        deadline_exceeded: workload.and_then(|workload| workload.view.deadline_exceeded.clone()),
        contested: contested(context, job),
        refusal: look.refusal.clone(),
        crashing: state.crash_loops.look(pods, now),
        strangers,
        start,
        foreign_writer: state.conflict_with.clone(),
        ..Facts::default()
    }
}

pub(crate) fn change(from: u32, decision: &Decision, now: Seconds) -> Option<DecisionStatus> {
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

/// In mode Recommend a new recommendation is told like a decision, though nothing is written.
pub(crate) fn recommendation(
    job: &Job,
    state: &mut JobState,
    desired: Option<u32>,
    decision: &Decision,
    now: Seconds,
) -> Option<DecisionStatus> {
    let (Some(desired), Some(wanted)) = (desired, decision.recommended) else { return None };
    if job.settings.mode != Mode::Recommend || job.settings.pinned.is_some() || job.settings.suspend {
        state.recommended = None;
        return None;
    }
    let last = state.recommended.replace(wanted);
    let news = last != Some(wanted) && (last.is_some() || wanted != desired);
    news.then(|| change(desired, &Decision { desired: Some(wanted), ..decision.clone() }, now)).flatten()
}

/// Other jobs that name the same workload, or read from the same group.
fn contested(context: &Context, job: &Job) -> Option<Verdict> {
    let Rivals { want_workload, share_group, .. } = context.claims.rivals(&job.key);
    if !want_workload.is_empty() && job.settings.mode != Mode::Recommend {
        let message = format!(
            "{} names the same workload in spec.targetRef and does not scale it: delete it, or change its spec.targetRef",
            named(&want_workload, &job.key.namespace)
        );
        return Some(Verdict { reason: reasons::TARGET_CONTESTED, message });
    }
    let (group, others) = share_group?;
    let message = format!(
        "{} reads the same topic in the same consumer group, {group}. The jobs share the records, but each is sized for all of them: give each job its own group",
        named(&others, &job.key.namespace)
    );
    Some(Verdict { reason: reasons::SHARED_CONSUMER_GROUP, message })
}

/// The first of these jobs, and how many more there are. A tenant does not learn the names of another's.
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
    fn a_tenant_does_not_learn_the_names_of_anothers_jobs() {
        let key = |namespace: &str, name: &str| JobKey { namespace: namespace.to_owned(), name: name.to_owned() };
        let (theirs, own) = (key("secret", "merger"), key("team", "b"));
        assert_eq!(named(std::slice::from_ref(&theirs), "team"), "a StreamJob of another namespace");
        assert_eq!(named(&[theirs, own], "team"), "StreamJob b (and 1 more)");
    }
}
