//! Finds pods that cannot start, start slowly or crash repeatedly: their number, the cause, and whether the user must
//! act. Pure.

use sluice_base::units::Seconds;

use crate::observe::live::PodFacts;
use crate::status::sentences;

/// Trouble that lasts this long needs the user's action. It is the default `progressDeadlineSeconds` of a Deployment.
pub(crate) const PROGRESS_DEADLINE: Seconds = Seconds(600.0);

/// A pod with a node that has not started within this time is reported. Large images take minutes.
const SLOW_START: Seconds = Seconds(300.0);

/// A crash loop is remembered for this long after it was last observed: between two crashes a container runs for some
/// time, and the maximum back-off before the next start is 5 minutes.
const CRASH_REMEMBERED: Seconds = Seconds(360.0);

/// Pods that fail to start or crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodTrouble {
    /// The number of these pods, and the cause for one of them.
    pub(crate) message: String,
    /// The trouble has lasted for at least `PROGRESS_DEADLINE`, so it is not expected to pass by itself.
    pub(crate) lasting: bool,
}

/// Returns the trouble of pods that cannot start or start slowly, if there are any.
pub(crate) fn failing(pods: &[PodFacts], now: Seconds) -> Option<PodTrouble> {
    let staying = || pods.iter().filter(|pod| !pod.terminating);
    let all = staying().count();
    let failing: Vec<(&PodFacts, &String)> =
        staying().filter_map(|pod| pod.failing.as_ref().map(|why| (pod, why))).collect();
    if let Some((first, why)) = failing.first() {
        let since = |pod: &PodFacts| pod.unready_since.or(pod.created_at);
        let lasts = |pod: &PodFacts| since(pod).is_some_and(|since| now - since >= PROGRESS_DEADLINE);
        let number = sentences::pods(failing.len(), all, "cannot start", "cannot start");
        return Some(PodTrouble {
            message: format!("{number}, such as {}: {why}", first.name),
            lasting: failing.iter().any(|(pod, _)| lasts(pod)),
        });
    }
    let waits =
        |pod: &PodFacts, long: Seconds| pod.unstarted.as_ref().is_some_and(|unstarted| now - unstarted.since >= long);
    let slow: Vec<&PodFacts> = staying().filter(|pod| waits(pod, SLOW_START)).collect();
    let first = slow.first()?;
    let why = first.unstarted.as_ref().map_or("", |unstarted| &unstarted.why);
    let number = sentences::pods(slow.len(), all, "has not started", "have not started");
    Some(PodTrouble {
        message: format!(
            "{number} within 5 minutes, such as {}: {why}; see the pod's events: a Secret, a ConfigMap or a volume may be missing, or the image may be large",
            first.name
        ),
        lasting: slow.iter().any(|pod| waits(pod, PROGRESS_DEADLINE)),
    })
}

/// What is remembered of a job's crash loops.
#[derive(Debug, Default)]
pub(crate) struct CrashLoops(Option<CrashLoop>);

#[derive(Debug)]
struct CrashLoop {
    since: Seconds,
    seen: Seconds,
    uid: String,
    message: String,
}

impl CrashLoops {
    /// Takes in an observation of the pods, and returns those that crash repeatedly, now or within `CRASH_REMEMBERED`.
    pub(crate) fn observe(&mut self, pods: &[PodFacts], now: Seconds) -> Option<PodTrouble> {
        let staying = || pods.iter().filter(|pod| !pod.terminating);
        let crashing: Vec<(&PodFacts, &String)> =
            staying().filter_map(|pod| pod.crash_looping.as_ref().map(|why| (pod, why))).collect();
        // A crash loop is forgotten once its pod is gone.
        self.0.take_if(|last| {
            now - last.seen > CRASH_REMEMBERED || (crashing.is_empty() && staying().all(|pod| pod.uid != last.uid))
        });
        if let Some((first, why)) = crashing.first() {
            let since = self.0.as_ref().map_or(now, |last| last.since);
            let number = sentences::pods(crashing.len(), staying().count(), "crashes repeatedly", "crash repeatedly");
            let message = format!(
                "{number}, such as {}: {why}; see the log of the previous run (kubectl logs --previous)",
                first.name
            );
            self.0 = Some(CrashLoop { since, seen: now, uid: first.uid.clone(), message });
        }
        let last = self.0.as_ref()?;
        Some(PodTrouble { message: last.message.clone(), lasting: now - last.since >= PROGRESS_DEADLINE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::live::Unstarted;

    fn pod(name: &str) -> PodFacts {
        PodFacts { name: name.to_owned(), uid: format!("uid-{name}"), ..PodFacts::default() }
    }

    #[test]
    fn failing_pods_are_counted_and_one_is_named() {
        let pod = |name: &str, failing: Option<&str>, created: f64| PodFacts {
            failing: failing.map(str::to_owned),
            created_at: Some(Seconds(created)),
            ..pod(name)
        };
        let why = "container app: ErrImagePull";
        let pods = [pod("w-0", None, 0.0), pod("w-1", Some(why), 100.0), pod("w-2", Some(why), 300.0)];
        let told = failing(&pods, Seconds(699.0)).unwrap();
        assert_eq!(told.message, "2 of 3 pods cannot start, such as w-1: container app: ErrImagePull");
        assert!(!told.lasting);
        assert!(failing(&pods, Seconds(700.0)).unwrap().lasting);
        let leaving = PodFacts { terminating: true, ..pod("w-1", Some(why), 0.0) };
        assert_eq!(failing(&[leaving], Seconds(0.0)), None);
        // The pod ran for days, and its container has failed to restart for a minute.
        let once = PodFacts { unready_since: Some(Seconds(640.0)), ..pod("w-1", Some(why), 0.0) };
        assert!(!failing(&[once], Seconds(700.0)).unwrap().lasting);
    }

    #[test]
    fn unstarted_pod_is_reported_after_5_minutes_lasting_after_10() {
        let unstarted = Unstarted { since: Seconds(100.0), why: "container app: ContainerCreating".to_owned() };
        let pods = [pod("w-0"), PodFacts { unstarted: Some(unstarted), ..pod("w-1") }];
        assert_eq!(failing(&pods, Seconds(399.0)), None);
        let told = failing(&pods, Seconds(400.0)).unwrap();
        let start = "1 of 2 pods has not started within 5 minutes, such as w-1: container app: ContainerCreating; see the pod's events";
        assert!(told.message.starts_with(start) && !told.lasting, "{}", told.message);
        assert!(failing(&pods, Seconds(700.0)).unwrap().lasting);
    }

    #[test]
    fn crash_loop_between_crashes_is_lasting_after_10_minutes() {
        let mut crashes = CrashLoops::default();
        let well = pod("w-0");
        let crashing = PodFacts { crash_looping: Some("container app: exit code 1".to_owned()), ..pod("w-1") };
        assert_eq!(crashes.observe(&[well.clone(), pod("w-1")], Seconds(0.0)), None);
        for minute in 0..=10 {
            // The container runs in every other minute.
            let second = if minute % 2 == 0 { crashing.clone() } else { pod("w-1") };
            let told = crashes.observe(&[well.clone(), second], Seconds(60.0 * f64::from(minute))).unwrap();
            let message = "1 of 2 pods crashes repeatedly, such as w-1: container app: exit code 1; see the log of the previous run (kubectl logs --previous)";
            assert_eq!((told.message.as_str(), told.lasting), (message, minute >= 10));
        }
        // The container has run for six minutes since.
        assert!(crashes.observe(&[well.clone(), pod("w-1")], Seconds(960.0)).is_some());
        assert_eq!(crashes.observe(&[well.clone(), pod("w-1")], Seconds(961.0)), None);
        // Another crash starts a new count. Then the pod is replaced by one that does not crash.
        assert!(!crashes.observe(&[well.clone(), crashing], Seconds(970.0)).unwrap().lasting);
        assert_eq!(crashes.observe(&[well, pod("w-2")], Seconds(980.0)), None);
    }
}
