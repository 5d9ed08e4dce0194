//! Builds the status of a job, its conditions and numbers, from the facts of one reconcile. Pure.
//!
//! Messages contain numbers, so not every changed message is worth a write. [`significance`](super::significance)
//! decides when the status is written.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use sluice_api::conditions::{
    self, METRICS_AVAILABLE, READY, RECONCILING, SCALING_ACTIVE, SCALING_LIMITED, STALLED, WITHIN_TARGET, reasons,
};
use sluice_api::status::{DecisionStatus, StreamJobStatus, Summary};
use sluice_base::words;
use sluice_policy::{Decision, Limit, Mode, Settings, WithinTarget};

use crate::apply::ownership::OwnershipState;
use crate::apply::refusal::Refusal;
use crate::cause::ConditionCause;
use crate::observe::pod_troubles::PodTrouble;
use crate::status::events::StartUp;
use crate::status::learned;
use crate::status::sentences;
use crate::validate::Problem;

/// Maximum number of decisions that a status keeps.
pub(crate) const RECENT: usize = 10;

/// The facts of one reconcile from which the status is built.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts<'a> {
    pub(crate) generation: Option<i64>,
    pub(crate) problems: &'a [Problem],
    pub(crate) settings: Option<&'a Settings>,
    pub(crate) selector: Option<String>,
    pub(crate) replicas: u32,
    pub(crate) ready: u32,
    pub(crate) decision: Option<&'a Decision>,
    /// Why there is no workload as the spec asks for: a name that is taken, a missing target, or a refusal by the API
    /// server.
    pub(crate) workload_trouble: Option<ConditionCause>,
    pub(crate) source_trouble: Option<ConditionCause>,
    pub(crate) missing_signal: Option<ConditionCause>,
    /// A remark about signals that are complete.
    pub(crate) signal_note: Option<String>,
    pub(crate) rolling_out: bool,
    /// Pods that the cluster refuses to create.
    pub(crate) refusal: Refusal,
    pub(crate) unschedulable: Option<String>,
    /// Why pods cannot start.
    pub(crate) failing: Option<PodTrouble>,
    /// Pods that crash repeatedly.
    pub(crate) crashing: Option<PodTrouble>,
    /// The rollout has made no progress for longer than its deadline, in its controller's words.
    pub(crate) deadline_exceeded: Option<String>,
    /// Members of the consumer groups that are not workers of the job, as a sentence.
    pub(crate) strangers: Option<String>,
    /// Bad conditions that an ordinary start-up explains.
    pub(crate) start: StartUp,
    pub(crate) ownership: Option<OwnershipState>,
    pub(crate) foreign_writer: Option<String>,
    /// Another job names the same workload or reads in the same consumer group.
    pub(crate) contested: Option<ConditionCause>,
    /// There is no workload whose replica count could be written.
    pub(crate) is_not_scaled: bool,
    /// It is unknown which pods belong to the workload.
    pub(crate) pods_unknown: bool,
    /// The change that this reconcile made.
    pub(crate) changed: Option<DecisionStatus>,
    /// Earlier changes that the status may not contain yet; newest first.
    pub(crate) unreported: &'a [DecisionStatus],
}

/// Returns the status that follows from the facts.
pub(crate) fn build(previous: &StreamJobStatus, facts: &Facts<'_>, now: Timestamp) -> StreamJobStatus {
    let reported = &previous.recent_decisions;
    let unreported = facts.changed.iter().chain(facts.unreported).filter(|change| !reported.contains(change));
    let recent: Vec<DecisionStatus> = unreported.chain(reported).take(RECENT).cloned().collect();
    let explain = facts.decision.map(|decision| &decision.explain);
    let number = |value: fn(&sluice_policy::Explain) -> Option<f64>| explain.and_then(value);
    let (lag, latency) = (number(|explain| explain.lag), number(|explain| explain.latency_seconds));
    let (rate, attainment) = (number(|explain| explain.arrival_rate), number(|explain| explain.attainment));
    StreamJobStatus {
        observed_generation: facts.generation,
        observed_time: Some(Time(now)),
        replicas: count(facts.replicas),
        ready_replicas: count(facts.ready),
        desired_replicas: facts.decision.and_then(|decision| {
            let recommends = facts.settings.is_some_and(|settings| settings.mode == Mode::Recommend);
            (if recommends { decision.recommended } else { decision.desired }).map(count)
        }),
        selector: facts.selector.clone().or_else(|| previous.selector.clone()),
        lag_records: lag.and_then(whole),
        latency_milliseconds: latency.and_then(|seconds| whole(seconds * 1000.0)),
        arrival_rate_per_second: rate.and_then(whole),
        attainment_basis_points: attainment
            .and_then(|share| whole(share * 10_000.0))
            .and_then(|points| i32::try_from(points).ok()),
        partitions: explain.and_then(|explain| explain.partitions).map(count),
        summary: explain.map(|_| Summary {
            lag: lag.map(words::count),
            latency: latency.map(words::seconds),
            rate: rate.map(words::rate),
            attainment: attainment.map(words::percent),
            capacity_per_worker: explain.and_then(|explain| explain.model.capacity_per_worker).map(words::rate),
        }),
        attainment: previous.attainment.clone(),
        model: explain.map(|explain| learned::model(&explain.model)).or_else(|| previous.model.clone()),
        last_decision: recent.first().or(previous.last_decision.as_ref()).cloned(),
        recent_decisions: recent,
        conditions: conditions(&previous.conditions, facts, now),
    }
}

fn count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[allow(clippy::cast_possible_truncation, reason = "a float to integer cast saturates, and NaN was turned away")]
pub(crate) fn whole(value: f64) -> Option<i64> {
    value.is_finite().then(|| value.round() as i64)
}

/// A condition before it gets its transition time.
struct Draft {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn draft(kind: &'static str, status: bool, reason: &'static str, message: impl Into<String>) -> Draft {
    Draft { kind, status: if status { "True" } else { "False" }, reason, message: message.into() }
}

fn unknown(kind: &'static str, message: impl Into<String>) -> Draft {
    Draft { kind, status: "Unknown", reason: reasons::UNKNOWN, message: message.into() }
}

fn conditions(previous: &[Condition], facts: &Facts<'_>, now: Timestamp) -> Vec<Condition> {
    let drafts = [
        ready(facts),
        reconciling(facts),
        stalled(facts, previous),
        within_target(facts),
        scaling_active(facts),
        scaling_limited(facts),
        metrics_available(facts),
    ];
    debug_assert_eq!(drafts.each_ref().map(|draft| draft.kind), conditions::ALL);
    drafts.into_iter().map(|draft| settle(previous, draft, facts, now)).collect()
}

/// Returns whether the status reports members of the consumer group that are not workers of the job.
pub(crate) fn reports_strangers(status: Option<&StreamJobStatus>) -> bool {
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|condition| condition.reason == reasons::STRANGERS_IN_GROUP)
}

/// Completes a condition; its transition time stays while its status does.
fn settle(previous: &[Condition], draft: Draft, facts: &Facts<'_>, now: Timestamp) -> Condition {
    let before = previous.iter().find(|condition| condition.type_ == draft.kind);
    let same = before.filter(|before| before.status == draft.status);
    Condition {
        type_: draft.kind.to_owned(),
        status: draft.status.to_owned(),
        reason: draft.reason.to_owned(),
        message: draft.message,
        observed_generation: facts.generation,
        last_transition_time: same.map_or(Time(now), |before| before.last_transition_time.clone()),
    }
}

fn invalid(facts: &Facts<'_>) -> Option<String> {
    let messages: Vec<String> = facts.problems.iter().map(ToString::to_string).collect();
    (!messages.is_empty()).then(|| messages.join("; "))
}

fn ready(facts: &Facts<'_>) -> Draft {
    if let Some(message) = invalid(facts) {
        return draft(READY, false, reasons::INVALID_SPEC, message);
    }
    if let Some(trouble) = &facts.workload_trouble {
        return draft(READY, false, trouble.reason, trouble.message.as_str());
    }
    if facts.settings.is_some_and(|settings| settings.suspend) {
        return draft(READY, true, reasons::SUSPENDED, "no workers run: spec.suspend is set");
    }
    if let Some(trouble) = &facts.source_trouble {
        return draft(READY, false, trouble.reason, trouble.message.as_str());
    }
    let desired = facts.decision.and_then(|decision| decision.desired);
    if facts.settings.is_some_and(|settings| settings.pinned == Some(0)) && desired == Some(0) {
        return draft(READY, true, reasons::PINNED, "no workers run: spec.replicas pins the replica count to 0");
    }
    if desired == Some(0) {
        return draft(
            READY,
            true,
            reasons::ASLEEP,
            "no workers run: no records arrive; Sluice starts workers when records arrive",
        );
    }
    if facts.ready == 0 && !facts.pods_unknown {
        let refused = facts.refusal.cause.as_ref().filter(|_| facts.refusal.now).map(|cause| &cause.message);
        let trouble = |trouble: &'_ Option<PodTrouble>| trouble.as_ref().map(|trouble| trouble.message.clone());
        let why = trouble(&facts.failing).or_else(|| facts.unschedulable.clone()).or_else(|| refused.cloned());
        let message = match (why.or_else(|| trouble(&facts.crashing)), facts.replicas) {
            (Some(why), _) => format!("no worker is ready: {why}"),
            (None, 0) => "no worker is ready: no pod exists".to_owned(),
            (None, 1) => "no worker is ready: 1 pod exists, and it is not ready".to_owned(),
            (None, pods) => format!("no worker is ready: {pods} pods exist, and none of them is ready"),
        };
        return draft(READY, false, reasons::NO_READY_WORKERS, message);
    }
    let troubles = [&facts.failing, &facts.crashing].into_iter().flatten();
    let unread = facts.missing_signal.as_ref().is_some_and(|missing| missing.reason == reasons::NO_SIGNAL);
    let good =
        if unread { "workers run; not every source has been read yet" } else { "workers run and the source answers" };
    let good = [good.to_owned()];
    let words: Vec<String> =
        good.into_iter().chain(troubles.map(|trouble| format!("but {}", trouble.message))).collect();
    draft(READY, true, reasons::READY, words.join("; "))
}

fn reconciling(facts: &Facts<'_>) -> Draft {
    if facts.rolling_out && facts.problems.is_empty() && facts.workload_trouble.is_none() {
        return draft(RECONCILING, true, reasons::ROLLING_OUT, "a new pod template is being rolled out");
    }
    let message = if !facts.problems.is_empty() {
        "no rollout: the spec cannot be used; existing workers keep running"
    } else if facts.workload_trouble.is_some() {
        "no rollout: see the condition Ready"
    } else {
        "no rollout is under way"
    };
    draft(RECONCILING, false, reasons::ROLLED_OUT, message)
}

fn stalled(facts: &Facts<'_>, previous: &[Condition]) -> Draft {
    if let Some(message) = invalid(facts) {
        return draft(STALLED, true, reasons::INVALID_SPEC, message);
    }
    let lasting = [
        reasons::NAME_TAKEN,
        reasons::TARGET_TAKEN,
        reasons::TARGET_FORBIDDEN,
        reasons::WORKLOAD_LEFT_BEHIND,
        reasons::WORKLOAD_REJECTED,
        reasons::NAMESPACE_EXCLUDED,
    ];
    if let Some(trouble) = facts.workload_trouble.as_ref().filter(|trouble| lasting.contains(&trouble.reason)) {
        return draft(STALLED, true, trouble.reason, trouble.message.as_str());
    }
    if facts.ownership == Some(OwnershipState::Conflict) {
        let message = format!(
            "{} changed the replica count twice within 30 minutes; autoscaling is stopped: remove the other writer, then run `sluice resume` or change the spec (any field)",
            writer(facts)
        );
        return draft(STALLED, true, reasons::CONFLICT, message);
    }
    // A restart forgets how long a problem has lasted. One that was reported as Stalled and still exists is still
    // lasting.
    let was_stalled = |reason: &str| {
        let stalled = previous.iter().find(|condition| condition.type_ == STALLED);
        stalled.is_some_and(|stalled| stalled.status == "True" && stalled.reason == reason)
    };
    if let Some(failing) = facts.failing.as_ref().filter(|failing| failing.lasting) {
        return draft(STALLED, true, reasons::PODS_FAILING, failing.message.as_str());
    }
    let refused = facts.refusal.cause.as_ref().filter(|cause| cause.reason == reasons::PODS_REFUSED);
    if let Some(refused) = refused.filter(|refused| facts.refusal.lasting || was_stalled(refused.reason)) {
        return draft(STALLED, true, reasons::PODS_REFUSED, format!("pods are refused: {}", refused.message));
    }
    let is_lasting = |crashing: &&PodTrouble| crashing.lasting || was_stalled(reasons::CRASH_LOOPING);
    if let Some(crashing) = facts.crashing.as_ref().filter(is_lasting) {
        return draft(STALLED, true, reasons::CRASH_LOOPING, crashing.message.as_str());
    }
    if let Some(message) = &facts.deadline_exceeded {
        let message = format!("the rollout makes no progress: {message} Check the new pods and their events");
        return draft(STALLED, true, reasons::PROGRESS_DEADLINE_EXCEEDED, message);
    }
    let message = match &facts.workload_trouble {
        Some(trouble) => format!("the problem may pass without a change: {}", trouble.message),
        None => "no action required".to_owned(),
    };
    draft(STALLED, false, reasons::PROGRESSING, message)
}

fn writer<'a>(facts: &'a Facts<'_>) -> &'a str {
    facts.foreign_writer.as_deref().unwrap_or("another writer")
}

fn within_target(facts: &Facts<'_>) -> Draft {
    let Some(decision) = facts.decision else { return unknown(WITHIN_TARGET, "no measurement yet") };
    let target = facts.settings.map(|settings| settings.latency.0);
    let message = sentences::within_target(decision.within_target, &decision.explain, target);
    match decision.within_target {
        WithinTarget::Met => draft(WITHIN_TARGET, true, reasons::MET, message),
        WithinTarget::Behind => draft(WITHIN_TARGET, false, reasons::BEHIND, message),
        WithinTarget::CatchingUp { .. } => draft(WITHIN_TARGET, false, reasons::CATCHING_UP, message),
        WithinTarget::ObjectiveBelowFloor { .. } => {
            draft(WITHIN_TARGET, false, reasons::OBJECTIVE_BELOW_FLOOR, message)
        }
        WithinTarget::Unknown => unknown(WITHIN_TARGET, message),
    }
}

/// Returns the condition `ScalingActive`. It reports a job that names the same workload or consumer group in addition.
fn scaling_active(facts: &Facts<'_>) -> Draft {
    let plain = who_decides(facts);
    let first = [reasons::FOREIGN_WRITER, reasons::RECOMMEND];
    let may_scale = facts.settings.is_some() && !facts.is_not_scaled && !first.contains(&plain.reason);
    match facts.contested.as_ref().filter(|_| may_scale) {
        Some(contested) => {
            let message = format!("{}; {}", plain.message, contested.message);
            Draft { reason: contested.reason, message, ..plain }
        }
        None => plain,
    }
}

fn who_decides(facts: &Facts<'_>) -> Draft {
    let off = |reason, message: String| draft(SCALING_ACTIVE, false, reason, message);
    let Some(settings) = facts.settings else {
        let trouble = facts.workload_trouble.as_ref();
        return off(
            trouble.map_or(reasons::INVALID_SPEC, |trouble| trouble.reason),
            trouble.map_or_else(|| "the spec cannot be used".to_owned(), |trouble| trouble.message.clone()),
        );
    };
    if let Some(trouble) = facts.workload_trouble.as_ref().filter(|_| facts.is_not_scaled) {
        return off(trouble.reason, trouble.message.clone());
    }
    // This check comes first: while another writer's number is respected, neither suspend nor a pinned number applies.
    match facts.ownership {
        Some(OwnershipState::Respected { until }) => {
            let until = crate::timestamp(until);
            return off(
                reasons::FOREIGN_WRITER,
                format!("{} changed the replica count; Sluice leaves it unchanged until {until:.0}", writer(facts)),
            );
        }
        Some(OwnershipState::Conflict) => {
            return off(
                reasons::FOREIGN_WRITER,
                format!("{} keeps changing the replica count; see the condition Stalled", writer(facts)),
            );
        }
        _ => {}
    }
    if settings.suspend {
        return off(reasons::SUSPENDED, "spec.suspend is set".to_owned());
    }
    if let Some(pinned) = settings.pinned {
        return off(
            reasons::PINNED,
            format!("spec.replicas pins the replica count to {pinned}; remove the field to let Sluice decide"),
        );
    }
    if settings.mode == Mode::Recommend {
        let message = facts.decision.map_or("no recommendation yet", |decision| decision.message.as_str());
        return off(reasons::RECOMMEND, message.to_owned());
    }
    let some = [reasons::PARTIAL_SIGNAL, reasons::CONTRADICTORY_SIGNAL, reasons::LATENCY_UNVERIFIABLE];
    if let Some(missing) = facts.missing_signal.as_ref().filter(|missing| !some.contains(&missing.reason)) {
        return off(reasons::NO_SIGNAL, missing.message.clone());
    }
    draft(SCALING_ACTIVE, true, reasons::ACTIVE, "Sluice decides the replica count")
}

fn scaling_limited(facts: &Facts<'_>) -> Draft {
    let limited = |reason, message: String| draft(SCALING_LIMITED, true, reason, message);
    let Refusal { cause: refused, now: is_refused, .. } = &facts.refusal;
    if let Some(refused) = refused.as_ref().filter(|_| *is_refused) {
        return limited(refused.reason, refused.message.clone());
    }
    if let Some(failing) = &facts.failing {
        return limited(reasons::PODS_FAILING, failing.message.clone());
    }
    let decided = facts.settings.is_some_and(|settings| settings.pinned.is_none() && !settings.suspend);
    let desired = facts.decision.and_then(|decision| decision.desired);
    let limit = facts.decision.and_then(|decision| decision.limited.as_ref()).filter(|_| decided);
    // The core may raise a limited step to the wanted count; then there is no limit to report.
    if let Some(limit) = limit.filter(|limit| limit.by != Limit::StepLimit || Some(limit.wanted) > desired) {
        // The decision core knows only how many pods are granted; the cluster's message gives the reason.
        return match refused.as_ref().filter(|_| limit.by == Limit::QuotaExceeded) {
            Some(refused) => limited(refused.reason, format!("{}: {}", limit.message, refused.message)),
            None => limited(limit_reason(limit.by), limit.message.clone()),
        };
    }
    if let Some(why) = &facts.unschedulable {
        return limited(reasons::UNSCHEDULABLE, why.clone());
    }
    draft(SCALING_LIMITED, false, reasons::NOT_LIMITED, "no limit keeps the job below the replica count that it needs")
}

fn limit_reason(limit: Limit) -> &'static str {
    match limit {
        Limit::AtMaxReplicas => reasons::AT_MAX_REPLICAS,
        Limit::AtPartitionCount => reasons::AT_PARTITION_COUNT,
        Limit::Skewed => reasons::SKEWED,
        Limit::ExternalBottleneck => reasons::EXTERNAL_BOTTLENECK,
        Limit::PartitionStuck => reasons::PARTITION_STUCK,
        Limit::QuotaExceeded => reasons::QUOTA_EXCEEDED,
        Limit::Unschedulable => reasons::UNSCHEDULABLE,
        Limit::CrashLooping => reasons::CRASH_LOOPING,
        Limit::PodsFailing => reasons::PODS_FAILING,
        Limit::PodsNotReady => reasons::PODS_NOT_READY,
        Limit::RescaleBudget => reasons::RESCALE_BUDGET,
        Limit::StepLimit => reasons::STEP_LIMIT,
        Limit::OutOnly => reasons::OUT_ONLY,
        Limit::InOnly => reasons::IN_ONLY,
    }
}

fn metrics_available(facts: &Facts<'_>) -> Draft {
    match &facts.missing_signal {
        _ if facts.settings.is_none() => unknown(METRICS_AVAILABLE, "no measurement: the spec is not in use"),
        Some(missing) => draft(METRICS_AVAILABLE, false, missing.reason, missing.message.as_str()),
        None => {
            let note = facts.signal_note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
            match &facts.strangers {
                Some(strangers) => {
                    draft(METRICS_AVAILABLE, true, reasons::STRANGERS_IN_GROUP, format!("{strangers}{note}"))
                }
                None => {
                    draft(METRICS_AVAILABLE, true, reasons::FRESH, format!("every source and worker is read{note}"))
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "conditions_test.rs"]
mod tests;
