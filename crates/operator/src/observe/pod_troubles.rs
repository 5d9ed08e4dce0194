//! Pods that cannot start, have not started for long, or crash again and again: how many, why, and whether a person is needed. Pure.

use sluice_base::units::Seconds;

use crate::observe::live::PodFacts;
use crate::status::sentences;

/// Trouble that lasts for so long needs a person. It is as long as Kubernetes gives a Deployment to get on, by default.
pub(crate) const PROGRESS_DEADLINE: Seconds = Seconds(600.0);

/// A pod that was given a node and has not started for so long is told of. Large images take minutes.
const SLOW_START: Seconds = Seconds(300.0);

/// A crash loop is remembered for so long after it was last seen: between two crashes a container runs for a while, and the
/// longest wait for the next start is five minutes.
const CRASH_REMEMBERED: Seconds = Seconds(360.0);

/// Pods that are in trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// How many, and what is wrong with one of them.
    pub(crate) message: String,
    /// It has been so for long: what passes by itself would have passed.
    pub(crate) lasting: bool,
}

/// The pods that cannot start or have not started for long; `None`: there are none.
pub(crate) fn failing(pods: &[PodFacts], now: Seconds) -> Option<Trouble> {
    let staying = || pods.iter().filter(|pod| !pod.terminating);
    let all = staying().count();
    let failing: Vec<(&PodFacts, &String)> =
        staying().filter_map(|pod| pod.failing.as_ref().map(|why| (pod, why))).collect();
    if let Some((first, why)) = failing.first() {
        let since = |pod: &PodFacts| pod.unready_since.or(pod.created_at);
        let lasts = |pod: &PodFacts| since(pod).is_some_and(|since| now - since >= PROGRESS_DEADLINE);
        let number = sentences::pods(failing.len(), all, "cannot start", "cannot start");
        return Some(Trouble {
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
    Some(Trouble {
        message: format!(
            "{number} within 5 minutes, such as {}: {why}; the pod's events say why, such as a Secret, a ConfigMap or a volume that is missing, or an image that is large",
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
    /// One look at the pods: those that crash again and again, now or a few minutes ago.
    pub(crate) fn look(&mut self, pods: &[PodFacts], now: Seconds) -> Option<Trouble> {
        let staying = || pods.iter().filter(|pod| !pod.terminating);
        let crashing: Vec<(&PodFacts, &String)> =
            staying().filter_map(|pod| pod.crash_looping.as_ref().map(|why| (pod, why))).collect();
        // What another pod has done is no matter any more once it is gone.
        self.0.take_if(|last| {
            now - last.seen > CRASH_REMEMBERED || (crashing.is_empty() && staying().all(|pod| pod.uid != last.uid))
        });
        if let Some((first, why)) = crashing.first() {
            let since = self.0.as_ref().map_or(now, |last| last.since);
            let number =
                sentences::pods(crashing.len(), staying().count(), "crashes again and again", "crash again and again");
            let message = format!(
                "{number}, such as {}: {why}; see the log of the previous run (kubectl logs --previous)",
                first.name
            );
            self.0 = Some(CrashLoop { since, seen: now, uid: first.uid.clone(), message });
        }
        let last = self.0.as_ref()?;
        Some(Trouble { message: last.message.clone(), lasting: now - last.since >= PROGRESS_DEADLINE })
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
    fn pods_that_cannot_start_are_counted_and_one_is_named() {
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
        // It ran for days, and its container cannot be started again since a minute ago.
        let once = PodFacts { unready_since: Some(Seconds(640.0)), ..pod("w-1", Some(why), 0.0) };
        assert!(!failing(&[once], Seconds(700.0)).unwrap().lasting);
    }

    #[test]
    fn a_pod_that_has_a_node_and_does_not_start_is_told_after_five_minutes_and_needs_a_person_after_ten() {
        let unstarted = Unstarted { since: Seconds(100.0), why: "container app: ContainerCreating".to_owned() };
        let pods = [pod("w-0"), PodFacts { unstarted: Some(unstarted), ..pod("w-1") }];
        assert_eq!(failing(&pods, Seconds(399.0)), None);
        let told = failing(&pods, Seconds(400.0)).unwrap();
        let start = "1 of 2 pods has not started within 5 minutes, such as w-1: container app: ContainerCreating; the pod's events";
        assert!(told.message.starts_with(start) && !told.lasting, "{}", told.message);
        assert!(failing(&pods, Seconds(700.0)).unwrap().lasting);
    }

    #[test]
    fn a_crash_loop_goes_on_between_two_crashes_and_needs_a_person_after_ten_minutes() {
        let mut crashes = CrashLoops::default();
        let well = pod("w-0");
        let crashing = PodFacts { crash_looping: Some("container app: exit code 1".to_owned()), ..pod("w-1") };
        assert_eq!(crashes.look(&[well.clone(), pod("w-1")], Seconds(0.0)), None);
        for minute in 0..=10 {
            // It runs for a while in every other minute.
            let second = if minute % 2 == 0 { crashing.clone() } else { pod("w-1") };
            let told = crashes.look(&[well.clone(), second], Seconds(60.0 * f64::from(minute))).unwrap();
            let message = "1 of 2 pods crashes again and again, such as w-1: container app: exit code 1; see the log of the previous run (kubectl logs --previous)";
            assert_eq!((told.message.as_str(), told.lasting), (message, minute >= 10));
        }
        // It has run for six minutes since.
        assert!(crashes.look(&[well.clone(), pod("w-1")], Seconds(960.0)).is_some());
        assert_eq!(crashes.look(&[well.clone(), pod("w-1")], Seconds(961.0)), None);
        // Another crash begins another count; and the pod that crashed is replaced by one that does not.
        assert!(!crashes.look(&[well.clone(), crashing], Seconds(970.0)).unwrap().lasting);
        assert_eq!(crashes.look(&[well, pod("w-2")], Seconds(980.0)), None);
    }
}
