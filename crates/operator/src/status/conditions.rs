//! What the user reads back: conditions and numbers. Pure.
//!
//! Messages carry numbers, so that another message alone is no reason to write. When it is written: [`news`](super::news).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use sluice_api::conditions::{
    self, METRICS_AVAILABLE, READY, RECONCILING, SCALING_ACTIVE, SCALING_LIMITED, STALLED, WITHIN_TARGET, reasons,
};
use sluice_api::status::{DecisionStatus, StreamJobStatus, Summary};
use sluice_base::words;
use sluice_policy::Mode;
use sluice_policy::{Decision, Limit, Settings, WithinTarget};

use crate::apply::ownership::Standing;
use crate::apply::refusal::Refusal;
use crate::observe::pod_troubles::Trouble;
use crate::status::events::Start;
use crate::status::learned;
use crate::status::sentences;
use crate::status::signals::Verdict;
use crate::validate::Problem;

/// Most decisions that a status keeps.
pub(crate) const RECENT: usize = 10;

/// Everything that a status is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts<'a> {
    pub(crate) generation: Option<i64>,
    pub(crate) problems: &'a [Problem],
    pub(crate) settings: Option<&'a Settings>,
    pub(crate) selector: Option<String>,
    pub(crate) replicas: u32,
    pub(crate) ready: u32,
    pub(crate) decision: Option<&'a Decision>,
    /// A workload of the name that is not ours, or a target that does not exist, or a refusal by the API server.
    pub(crate) workload_trouble: Option<Verdict>,
    pub(crate) source_trouble: Option<Verdict>,
    pub(crate) missing_signal: Option<Verdict>,
    /// What is to be known of the signals although nothing is missing.
    pub(crate) signal_note: Option<String>,
    pub(crate) rolling_out: bool,
    /// What the cluster refuses.
    pub(crate) refusal: Refusal,
    pub(crate) unschedulable: Option<String>,
    /// Why pods cannot start.
    pub(crate) failing: Option<Trouble>,
    /// Pods that crash again and again.
    pub(crate) crashing: Option<Trouble>,
    /// The roll-out has not got on for longer than its deadline, in its controller's words.
    pub(crate) deadline_exceeded: Option<String>,
    /// Members of the consumer groups that are no workers of the job.
    pub(crate) strangers: Option<String>,
    /// What is as in any start.
    pub(crate) start: Start,
    pub(crate) standing: Option<Standing>,
    pub(crate) foreign_writer: Option<String>,
    /// Another job names the same workload, or reads from the same group.
    pub(crate) contested: Option<Verdict>,
    /// There is no workload whose number of workers could be written.
    pub(crate) is_not_scaled: bool,
    /// The workload does not say which pods are its own.
    pub(crate) pods_unknown: bool,
    /// A change that was just made.
    pub(crate) changed: Option<DecisionStatus>,
    /// Earlier changes that may not have been told; the newest first.
    pub(crate) untold: &'a [DecisionStatus],
}

/// The status that follows from the facts.
pub(crate) fn build(previous: &StreamJobStatus, facts: &Facts<'_>, now: Timestamp) -> StreamJobStatus {
    let told = &previous.recent_decisions;
    let untold = facts.changed.iter().chain(facts.untold).filter(|change| !told.contains(change));
    let recent: Vec<DecisionStatus> = untold.chain(told).take(RECENT).cloned().collect();
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

/// One condition before it is compared with the last one.
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

/// Whether the status tells of members of the consumer group that are no workers of the job.
pub(crate) fn tells_of_strangers(status: Option<&StreamJobStatus>) -> bool {
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|condition| condition.reason == reasons::STRANGERS_IN_GROUP)
}

/// Keeps the transition time while the status stays.
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
    let words: Vec<String> = facts.problems.iter().map(ToString::to_string).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

fn ready(facts: &Facts<'_>) -> Draft {
    if let Some(message) = invalid(facts) {
        return draft(READY, false, reasons::INVALID_SPEC, message);
    }
    if let Some(trouble) = &facts.workload_trouble {
        return draft(READY, false, trouble.reason, trouble.message.as_str());
    }
    if facts.settings.is_some_and(|settings| settings.suspend) {
        return draft(READY, true, reasons::SUSPENDED, "spec.suspend is set: no workers run");
    }
    if let Some(trouble) = &facts.source_trouble {
        return draft(READY, false, trouble.reason, trouble.message.as_str());
    }
    let desired = facts.decision.and_then(|decision| decision.desired);
    if facts.settings.is_some_and(|settings| settings.pinned == Some(0)) && desired == Some(0) {
        return draft(READY, true, reasons::PINNED, "spec.replicas pins the job to 0: no workers run");
    }
    if desired == Some(0) {
        return draft(READY, true, reasons::ASLEEP, "no records arrive, and no workers run until some do");
    }
    if facts.ready == 0 && !facts.pods_unknown {
        let refused = facts.refusal.verdict.as_ref().filter(|_| facts.refusal.now).map(|verdict| &verdict.message);
        let trouble = |trouble: &'_ Option<Trouble>| trouble.as_ref().map(|trouble| trouble.message.clone());
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
        "nothing is rolled out while the spec cannot be used; workers that exist stay as they are"
    } else if facts.workload_trouble.is_some() {
        "nothing is rolled out: the condition Ready says why"
    } else {
        "every pod has the pod template of the workload"
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
    if facts.standing == Some(Standing::Conflict) {
        let message = format!(
            "{} has written the number of workers twice within 30 minutes, and Sluice has stopped: remove the other writer, then run `sluice resume`, or change the spec (any field)",
            writer(facts)
        );
        return draft(STALLED, true, reasons::CONFLICT, message);
    }
    // For how long is forgotten by a restart: what was lasting and is there still, is lasting.
    let told = |reason: &str| {
        let stalled = previous.iter().find(|condition| condition.type_ == STALLED);
        stalled.is_some_and(|stalled| stalled.status == "True" && stalled.reason == reason)
    };
    if let Some(failing) = facts.failing.as_ref().filter(|failing| failing.lasting) {
        return draft(STALLED, true, reasons::PODS_FAILING, failing.message.as_str());
    }
    let refused = facts.refusal.verdict.as_ref().filter(|verdict| verdict.reason == reasons::PODS_REFUSED);
    if let Some(refused) = refused.filter(|refused| facts.refusal.lasting || told(refused.reason)) {
        return draft(STALLED, true, reasons::PODS_REFUSED, format!("pods are refused: {}", refused.message));
    }
    if let Some(crashing) = facts.crashing.as_ref().filter(|crashing| crashing.lasting || told(reasons::CRASH_LOOPING))
    {
        return draft(STALLED, true, reasons::CRASH_LOOPING, crashing.message.as_str());
    }
    if let Some(message) = &facts.deadline_exceeded {
        let message = format!("the roll-out makes no progress: {message} Look at the new pods and their events");
        return draft(STALLED, true, reasons::PROGRESS_DEADLINE_EXCEEDED, message);
    }
    let message = match &facts.workload_trouble {
        Some(trouble) => format!("the problem may end without a person: {}", trouble.message),
        None => "nothing needs a person".to_owned(),
    };
    draft(STALLED, false, reasons::PROGRESSING, message)
}

fn writer<'a>(facts: &'a Facts<'_>) -> &'a str {
    facts.foreign_writer.as_deref().unwrap_or("someone else")
}

fn within_target(facts: &Facts<'_>) -> Draft {
    let Some(decision) = facts.decision else { return unknown(WITHIN_TARGET, "nothing has been measured yet") };
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

/// Whoever decides the number, another job that names the same workload or group is told of.
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
    // First, since then no other word is in force: neither suspend nor the pinned number.
    match facts.standing {
        Some(Standing::Respected { until }) => {
            let until = crate::timestamp(until);
            return off(
                reasons::FOREIGN_WRITER,
                format!("{} has written the number of workers, which stays as it is until {until:.0}", writer(facts)),
            );
        }
        Some(Standing::Conflict) => {
            return off(
                reasons::FOREIGN_WRITER,
                format!("{} keeps writing the number of workers: the condition Stalled says what to do", writer(facts)),
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
            format!("spec.replicas pins the job to {pinned}; remove the field to hand the decision back"),
        );
    }
    if settings.mode == Mode::Recommend {
        let message = facts.decision.map_or("nothing is recommended yet", |decision| decision.message.as_str());
        return off(reasons::RECOMMEND, message.to_owned());
    }
    let some = [reasons::PARTIAL_SIGNAL, reasons::CONTRADICTORY_SIGNAL, reasons::LATENCY_UNVERIFIABLE];
    if let Some(missing) = facts.missing_signal.as_ref().filter(|missing| !some.contains(&missing.reason)) {
        return off(reasons::NO_SIGNAL, missing.message.clone());
    }
    draft(SCALING_ACTIVE, true, reasons::ACTIVE, "Sluice decides the number of workers")
}

fn scaling_limited(facts: &Facts<'_>) -> Draft {
    let limited = |reason, message: String| draft(SCALING_LIMITED, true, reason, message);
    let Refusal { verdict: refused, now: is_refused, .. } = &facts.refusal;
    if let Some(refused) = refused.as_ref().filter(|_| *is_refused) {
        return limited(refused.reason, refused.message.clone());
    }
    if let Some(failing) = &facts.failing {
        return limited(reasons::PODS_FAILING, failing.message.clone());
    }
    let decided = facts.settings.is_some_and(|settings| settings.pinned.is_none() && !settings.suspend);
    let desired = facts.decision.and_then(|decision| decision.desired);
    let limit = facts.decision.and_then(|decision| decision.limited.as_ref()).filter(|_| decided);
    // A large step down that is taken in several is no limit that anybody has to know of.
    if let Some(limit) = limit.filter(|limit| limit.by != Limit::StepLimit || Some(limit.wanted) > desired) {
        // What the core knows as granted, the cluster has explained.
        return match refused.as_ref().filter(|_| limit.by == Limit::QuotaExceeded) {
            Some(refused) => limited(refused.reason, format!("{}: {}", limit.message, refused.message)),
            None => limited(limit_reason(limit.by), limit.message.clone()),
        };
    }
    if let Some(why) = &facts.unschedulable {
        return limited(reasons::UNSCHEDULABLE, why.clone());
    }
    draft(SCALING_LIMITED, false, reasons::NOT_LIMITED, "nothing keeps the job from the workers it needs")
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
        _ if facts.settings.is_none() => unknown(METRICS_AVAILABLE, "nothing is measured: the spec is not in use"),
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
