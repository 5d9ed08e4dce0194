//! Detects that the cluster refuses to create more pods of a job, and how many it grants. Pure.
//!
//! A Deployment reports a refusal in a condition. A StatefulSet does not: there pods are missing although none of the
//! existing pods is starting or terminating.
//!
//! A refusal is remembered for 5 minutes after it was last observed. Once the replica count is lowered to the granted
//! one, no pod is refused any more, and without that memory Sluice would ask for more pods at once.

use sluice_api::conditions::reasons;
use sluice_base::units::Seconds;

use crate::cause::ConditionCause;
use crate::observe::live::PodFacts;
use crate::observe::pod_troubles::PROGRESS_DEADLINE;
use crate::observe::workload::WorkloadView;

/// The number of existing pods counts as granted after it has not changed for this long during a refusal, because pods
/// that were created before the refusal may appear in the cache later.
const SETTLES: Seconds = Seconds(10.0);

/// Missing pods count as refused after this long, if no controller reports a refusal.
const MISSING: Seconds = Seconds(60.0);

/// Time for which a refusal is remembered after it was last observed.
const REMEMBERED: Seconds = Seconds(300.0);

/// What is remembered of a job's refusals.
#[derive(Debug, Default)]
pub(crate) struct RefusalHistory {
    sign: Option<RefusalSign>,
    last: Option<SettledRefusal>,
    /// Start of the refusals that have lasted until now.
    since: Option<Seconds>,
}

/// A sign of a refusal.
#[derive(Debug)]
struct RefusalSign {
    /// The workload's controller reports it; otherwise pods are missing.
    is_reported: bool,
    /// Number of existing pods.
    existing: u32,
    /// Time since which neither has changed.
    since: Seconds,
}

/// The last refusal whose sign did not change for `SETTLES` or `MISSING`.
#[derive(Debug)]
struct SettledRefusal {
    seen: Seconds,
    existing: u32,
    cause: ConditionCause,
}

/// Whether the cluster refuses pods of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Number of workers that the cluster grants, at least 1: with no worker wanted none would be refused, and it would
    /// go unnoticed when the cluster allows pods again.
    pub(crate) granted: Option<u32>,
    /// Why pods are refused.
    pub(crate) cause: Option<ConditionCause>,
    /// Pods are refused now, and not only within the last 5 minutes.
    pub(crate) now: bool,
    /// Something other than a quota has refused pods for at least 10 minutes, so the user must act.
    pub(crate) lasting: bool,
}

impl RefusalHistory {
    /// Takes in an observation of the workload and its pods.
    pub(crate) fn observe(&mut self, workload: &WorkloadView, pods: &[PodFacts], now: Seconds) -> Refusal {
        let existing = u32::try_from(pods.iter().filter(|pod| !pod.terminating).count()).unwrap_or(u32::MAX);
        let reported = workload.replica_failure.as_deref().map(reported_by_controller);
        let is_reported = reported.is_some();
        let cause = reported.or_else(|| missing(workload, pods, existing));
        self.sign = cause.as_ref().map(|_| match self.sign.take() {
            Some(sign) if sign.is_reported == is_reported && sign.existing == existing => sign,
            _ => RefusalSign { is_reported, existing, since: now },
        });
        let is_settled =
            self.sign.as_ref().is_some_and(|sign| now - sign.since >= if is_reported { SETTLES } else { MISSING });
        if let (true, Some(cause)) = (is_settled, &cause) {
            self.last = Some(SettledRefusal { seen: now, existing, cause: cause.clone() });
        }
        // More pods than during the refusal exist: the cluster creates pods again.
        self.last.take_if(|last| existing > last.existing || now - last.seen >= REMEMBERED);
        let is_refused = is_settled || is_reported;
        // A remembered refusal counts too: after the replica count was lowered to the granted one, no pod is refused.
        self.since = (is_refused || self.last.is_some()).then(|| self.since.unwrap_or(now));
        let refused_for_long = self.since.is_some_and(|since| now - since >= PROGRESS_DEADLINE);
        let cause = cause.filter(|_| is_refused).or_else(|| self.last.as_ref().map(|last| last.cause.clone()));
        Refusal {
            granted: self.last.as_ref().map(|last| last.existing.max(1)),
            cause: cause.clone(),
            now: is_refused,
            lasting: refused_for_long && cause.is_some_and(|cause| cause.reason == reasons::PODS_REFUSED),
        }
    }
}

/// Returns the cause of a refusal that the workload's own controller reports.
fn reported_by_controller(message: &str) -> ConditionCause {
    let reason = if message.contains("exceeded quota") { reasons::QUOTA_EXCEEDED } else { reasons::PODS_REFUSED };
    ConditionCause { reason, message: message.to_owned() }
}

/// Returns the cause if pods are missing although the controller has observed the replica count and waits for no pod.
fn missing(workload: &WorkloadView, pods: &[PodFacts], existing: u32) -> Option<ConditionCause> {
    let desired = workload.desired.filter(|desired| *desired > existing)?;
    let at_rest =
        workload.at_rest.is_some_and(|made| made < desired) && pods.iter().all(|pod| pod.ready && !pod.terminating);
    // Without a selector the pods of the workload are unknown.
    (at_rest && workload.selector.is_some()).then(|| ConditionCause {
        reason: reasons::PODS_REFUSED,
        message: format!(
            "{existing} of {desired} pods exist and the controller creates no more: a quota, Pod Security or a webhook may refuse them; see the events of the workload"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: &str = "pods \"orders-x\" is forbidden: exceeded quota: small, requested: pods=1";

    fn workload(desired: u32, replica_failure: Option<&str>) -> WorkloadView {
        WorkloadView {
            desired: Some(desired),
            replica_failure: replica_failure.map(str::to_owned),
            at_rest: Some(0),
            selector: Some("app=orders".to_owned()),
            ..WorkloadView::default()
        }
    }

    fn pods(count: usize) -> Vec<PodFacts> {
        vec![PodFacts { ready: true, ..PodFacts::default() }; count]
    }

    fn reason(refusal: &Refusal) -> Option<&'static str> {
        refusal.cause.as_ref().map(|cause| cause.reason)
    }

    #[test]
    fn existing_pods_are_granted_once_a_refusal_has_settled() {
        let mut refusals = RefusalHistory::default();
        let quota = workload(8, Some(QUOTA));
        let at_once = refusals.observe(&quota, &pods(2), Seconds(0.0));
        assert_eq!((at_once.granted, at_once.now, reason(&at_once)), (None, true, Some(reasons::QUOTA_EXCEEDED)));
        // The third pod was created before the refusal, and appeared in the cache after it.
        assert_eq!(refusals.observe(&quota, &pods(3), Seconds(9.0)).granted, None);
        assert_eq!(refusals.observe(&quota, &pods(3), Seconds(18.0)).granted, None);
        assert_eq!(refusals.observe(&quota, &pods(3), Seconds(19.0)).granted, Some(3));
    }

    #[test]
    fn only_an_exceeded_quota_has_the_reason_quota_exceeded() {
        for message in [
            "pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
            "admission webhook \"policy.example\" denied the request",
            "pods \"a\" is forbidden: error looking up service account team/orders: serviceaccount \"orders\" not found",
            "pods \"a\" is forbidden: failed quota: small: must specify limits.cpu",
        ] {
            assert_eq!(
                reported_by_controller(message),
                ConditionCause { reason: reasons::PODS_REFUSED, message: message.to_owned() }
            );
        }
        assert_eq!(reported_by_controller(QUOTA).reason, reasons::QUOTA_EXCEEDED);
    }

    #[test]
    fn pods_missing_for_a_minute_count_as_refused() {
        let mut refusals = RefusalHistory::default();
        let silent = workload(6, None);
        assert_eq!(refusals.observe(&silent, &pods(4), Seconds(0.0)), Refusal::default());
        assert_eq!(refusals.observe(&silent, &pods(4), Seconds(59.0)), Refusal::default());
        let refused = refusals.observe(&silent, &pods(4), Seconds(60.0));
        assert_eq!((refused.granted, refused.now, reason(&refused)), (Some(4), true, Some(reasons::PODS_REFUSED)));
        assert!(refused.cause.unwrap().message.starts_with("4 of 6 pods exist"));
    }

    #[test]
    fn starting_and_terminating_pods_are_not_missing() {
        let starting = [pods(3), vec![PodFacts::default()]].concat();
        let leaving = [pods(3), vec![PodFacts { terminating: true, ready: true, ..PodFacts::default() }]].concat();
        let unseen = WorkloadView { at_rest: None, ..workload(6, None) };
        let counted = WorkloadView { at_rest: Some(6), ..workload(6, None) };
        let unknown = WorkloadView { selector: None, ..workload(6, None) };
        for (workload, pods) in [
            (workload(6, None), starting),
            (workload(6, None), leaving),
            (unseen, pods(4)),
            (counted, pods(4)),
            (unknown, pods(0)),
            (workload(4, None), pods(4)),
        ] {
            let mut refusals = RefusalHistory::default();
            for minute in 0..10 {
                let refusal = refusals.observe(&workload, &pods, Seconds(60.0 * f64::from(minute)));
                assert_eq!(refusal, Refusal::default(), "{workload:?}");
            }
        }
    }

    #[test]
    fn refusal_is_remembered_for_5_minutes_or_until_more_pods_exist() {
        let refused = || {
            let mut refusals = RefusalHistory::default();
            for second in [0.0, 10.0] {
                refusals.observe(&workload(8, Some(QUOTA)), &pods(3), Seconds(second));
            }
            refusals
        };
        // The replica count was lowered to the granted one: no pod is refused now.
        let mut lowered = refused();
        let after = lowered.observe(&workload(3, None), &pods(3), Seconds(11.0));
        assert_eq!((after.granted, after.now, reason(&after)), (Some(3), false, Some(reasons::QUOTA_EXCEEDED)));
        assert_eq!(lowered.observe(&workload(3, None), &pods(2), Seconds(309.0)).granted, Some(3));
        assert_eq!(lowered.observe(&workload(3, None), &pods(3), Seconds(310.0)), Refusal::default());
        let mut raised = refused();
        assert_eq!(raised.observe(&workload(8, None), &pods(4), Seconds(11.0)), Refusal::default());
    }

    #[test]
    fn refusal_is_lasting_after_10_minutes_unless_a_quota_refuses() {
        for (message, is_lasting) in [("violates PodSecurity \"restricted:latest\"", true), (QUOTA, false)] {
            let mut refusals = RefusalHistory::default();
            for minute in 0..=10 {
                // Every other minute no pod is refused, because no more pods are wanted than granted.
                let view = if minute % 2 == 0 { workload(8, Some(message)) } else { workload(3, None) };
                let at = |second: f64| Seconds(60.0 * f64::from(minute) + second);
                refusals.observe(&view, &pods(3), at(0.0));
                let refusal = refusals.observe(&view, &pods(3), at(20.0));
                assert_eq!(refusal.lasting, is_lasting && minute >= 10, "{minute}");
            }
            assert!(!refusals.observe(&workload(3, None), &pods(3), Seconds(1200.0)).lasting);
        }
    }

    #[test]
    fn at_least_one_worker_is_always_granted() {
        let mut refusals = RefusalHistory::default();
        refusals.observe(&workload(6, Some(QUOTA)), &[], Seconds(0.0));
        assert_eq!(refusals.observe(&workload(6, Some(QUOTA)), &[], Seconds(10.0)).granted, Some(1));
        assert_eq!(refusals.observe(&workload(6, None), &pods(1), Seconds(11.0)).granted, None, "a pod was created");
    }
}
