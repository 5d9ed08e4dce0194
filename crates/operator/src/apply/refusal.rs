//! Whether the cluster refuses to make more pods of a job, and how many it lets the job have. Pure.
//!
//! A Deployment says so in a condition. A StatefulSet does not: there it shows in pods that are missing, although none of those
//! that exist is on its way up or down.
//!
//! A refusal is remembered for a while after it was last seen. Where the number of workers is lowered to what is granted,
//! nothing is refused any more, and without that memory more would be asked for at once.

use sluice_api::conditions::reasons;
use sluice_base::units::Seconds;

use crate::observe::live::PodFacts;
use crate::observe::pod_troubles::PROGRESS_DEADLINE;
use crate::observe::workload::WorkloadView;
use crate::status::signals::Verdict;

/// The number of pods counts as what is granted after it has stood for so long beside a refusal: the pods that were made
/// before it may come into view later.
const SETTLES: Seconds = Seconds(10.0);

/// Pods that nobody says are refused are taken for refused after they have been missing for so long.
const MISSING: Seconds = Seconds(60.0);

/// A refusal is remembered for so long after it was last seen.
const REMEMBERED: Seconds = Seconds(300.0);

/// What is remembered of a job's refusals.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    standing: Option<Standing>,
    last: Option<Last>,
    /// Since when pods are refused again and again.
    since: Option<Seconds>,
}

/// A sign of refusal, and since when there have been so many pods beside it.
#[derive(Debug)]
struct Standing {
    told: bool,
    existing: u32,
    since: Seconds,
}

/// The last refusal that has stood.
#[derive(Debug)]
struct Last {
    seen: Seconds,
    existing: u32,
    verdict: Verdict,
}

/// What there is to say of refusals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Workers that the cluster lets the job have. At least one: with none wanted, none would be refused, and nobody would
    /// notice when the cluster lets them in again.
    pub(crate) granted: Option<u32>,
    /// Why, in words for a condition.
    pub(crate) verdict: Option<Verdict>,
    /// Pods are refused now, and not only a while ago.
    pub(crate) now: bool,
    /// Something other than a quota has refused them for so long that a person is needed.
    pub(crate) lasting: bool,
}

impl Refusals {
    /// One look at the workload and its pods.
    pub(crate) fn look(&mut self, workload: &WorkloadView, pods: &[PodFacts], now: Seconds) -> Refusal {
        let existing = u32::try_from(pods.iter().filter(|pod| !pod.terminating).count()).unwrap_or(u32::MAX);
        let verdict = workload.replica_failure.as_deref().map(told).or_else(|| missing(workload, pods, existing));
        let sign = verdict.as_ref().map(|_| workload.replica_failure.is_some());
        self.standing = sign.map(|told| match self.standing.take() {
            Some(standing) if standing.told == told && standing.existing == existing => standing,
            _ => Standing { told, existing, since: now },
        });
        let stood = self
            .standing
            .as_ref()
            .is_some_and(|standing| now - standing.since >= if standing.told { SETTLES } else { MISSING });
        if let (true, Some(verdict)) = (stood, &verdict) {
            self.last = Some(Last { seen: now, existing, verdict: verdict.clone() });
        }
        // More pods than then: they are made again.
        self.last.take_if(|last| existing > last.existing || now - last.seen >= REMEMBERED);
        let is_refused = stood || sign == Some(true);
        // What is remembered counts too: where the number is lowered to what is granted, nothing is refused for a while.
        self.since = (is_refused || self.last.is_some()).then(|| self.since.unwrap_or(now));
        let refused_for_long = self.since.is_some_and(|since| now - since >= PROGRESS_DEADLINE);
        let verdict = verdict.filter(|_| is_refused).or_else(|| self.last.as_ref().map(|last| last.verdict.clone()));
        Refusal {
            granted: self.last.as_ref().map(|last| last.existing.max(1)),
            verdict: verdict.clone(),
            now: is_refused,
            lasting: refused_for_long && verdict.is_some_and(|verdict| verdict.reason == reasons::PODS_REFUSED),
        }
    }
}

/// What the workload's own controller says.
fn told(message: &str) -> Verdict {
    let reason = if message.contains("exceeded quota") { reasons::QUOTA_EXCEEDED } else { reasons::PODS_REFUSED };
    Verdict { reason, message: message.to_owned() }
}

/// Pods that are missing, by what its controller counts too, which has seen the number and waits for none of those that exist.
fn missing(workload: &WorkloadView, pods: &[PodFacts], existing: u32) -> Option<Verdict> {
    let desired = workload.desired.filter(|desired| *desired > existing)?;
    let at_rest =
        workload.at_rest.is_some_and(|made| made < desired) && pods.iter().all(|pod| pod.ready && !pod.terminating);
    // Without a selector it is not known which pods there are.
    (at_rest && workload.selector.is_some()).then(|| Verdict {
        reason: reasons::PODS_REFUSED,
        message: format!(
            "{existing} of {desired} pods exist and no other is made: a quota, Pod Security or a webhook may refuse them; the events of the workload say which"
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
        refusal.verdict.as_ref().map(|verdict| verdict.reason)
    }

    #[test]
    fn what_exists_is_granted_once_it_stands_beside_a_refusal() {
        let mut refusals = Refusals::default();
        let quota = workload(8, Some(QUOTA));
        let at_once = refusals.look(&quota, &pods(2), Seconds(0.0));
        assert_eq!((at_once.granted, at_once.now, reason(&at_once)), (None, true, Some(reasons::QUOTA_EXCEEDED)));
        // The third was made before the refusal, and came into view after it.
        assert_eq!(refusals.look(&quota, &pods(3), Seconds(9.0)).granted, None);
        assert_eq!(refusals.look(&quota, &pods(3), Seconds(18.0)).granted, None);
        assert_eq!(refusals.look(&quota, &pods(3), Seconds(19.0)).granted, Some(3));
    }

    #[test]
    fn only_a_quota_is_called_a_quota() {
        for message in [
            "pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
            "admission webhook \"policy.example\" denied the request",
            "pods \"a\" is forbidden: error looking up service account team/orders: serviceaccount \"orders\" not found",
            "pods \"a\" is forbidden: failed quota: small: must specify limits.cpu",
        ] {
            assert_eq!(told(message), Verdict { reason: reasons::PODS_REFUSED, message: message.to_owned() });
        }
        assert_eq!(told(QUOTA).reason, reasons::QUOTA_EXCEEDED);
    }

    #[test]
    fn pods_that_are_missing_for_a_minute_are_refused_though_nobody_says_so() {
        let mut refusals = Refusals::default();
        let silent = workload(6, None);
        assert_eq!(refusals.look(&silent, &pods(4), Seconds(0.0)), Refusal::default());
        assert_eq!(refusals.look(&silent, &pods(4), Seconds(59.0)), Refusal::default());
        let refused = refusals.look(&silent, &pods(4), Seconds(60.0));
        assert_eq!((refused.granted, refused.now, reason(&refused)), (Some(4), true, Some(reasons::PODS_REFUSED)));
        assert!(refused.verdict.unwrap().message.starts_with("4 of 6 pods exist"));
    }

    #[test]
    fn pods_that_are_on_their_way_are_not_missing() {
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
            let mut refusals = Refusals::default();
            for minute in 0..10 {
                let refusal = refusals.look(&workload, &pods, Seconds(60.0 * f64::from(minute)));
                assert_eq!(refusal, Refusal::default(), "{workload:?}");
            }
        }
    }

    #[test]
    fn a_refusal_is_remembered_until_more_pods_are_made_or_a_while_has_passed() {
        let refused = || {
            let mut refusals = Refusals::default();
            for second in [0.0, 10.0] {
                refusals.look(&workload(8, Some(QUOTA)), &pods(3), Seconds(second));
            }
            refusals
        };
        // The number was lowered to what is granted: nothing is refused now.
        let mut lowered = refused();
        let after = lowered.look(&workload(3, None), &pods(3), Seconds(11.0));
        assert_eq!((after.granted, after.now, reason(&after)), (Some(3), false, Some(reasons::QUOTA_EXCEEDED)));
        assert_eq!(lowered.look(&workload(3, None), &pods(2), Seconds(309.0)).granted, Some(3));
        assert_eq!(lowered.look(&workload(3, None), &pods(3), Seconds(310.0)), Refusal::default());
        let mut raised = refused();
        assert_eq!(raised.look(&workload(8, None), &pods(4), Seconds(11.0)), Refusal::default());
    }

    #[test]
    fn pods_that_something_other_than_a_quota_refuses_for_ten_minutes_need_a_person() {
        for (message, person) in [("violates PodSecurity \"restricted:latest\"", true), (QUOTA, false)] {
            let mut refusals = Refusals::default();
            for minute in 0..=10 {
                // Every other minute nothing is refused, for no more is asked for than is granted.
                let asked = if minute % 2 == 0 { workload(8, Some(message)) } else { workload(3, None) };
                let at = |second: f64| Seconds(60.0 * f64::from(minute) + second);
                refusals.look(&asked, &pods(3), at(0.0));
                let told = refusals.look(&asked, &pods(3), at(20.0));
                assert_eq!(told.lasting, person && minute >= 10, "{minute}");
            }
            assert!(!refusals.look(&workload(3, None), &pods(3), Seconds(1200.0)).lasting);
        }
    }

    #[test]
    fn one_worker_is_always_granted_or_nobody_would_notice_that_pods_are_let_in_again() {
        let mut refusals = Refusals::default();
        refusals.look(&workload(6, Some(QUOTA)), &[], Seconds(0.0));
        assert_eq!(refusals.look(&workload(6, Some(QUOTA)), &[], Seconds(10.0)).granted, Some(1));
        assert_eq!(refusals.look(&workload(6, None), &pods(1), Seconds(11.0)).granted, None, "one was made");
    }
}
