//! Which pods leave first when there are too many.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::pods;
use crate::meta;
use crate::store::Object;

/// How much it costs to lose a pod, compared with others: those of lower cost leave first.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Puts first those that leave first, in the order of the real controller: those that run nowhere, are pending, are
/// not ready, cost less, stand beside more of their kind, have been ready for less time, have restarted more often, are
/// newer. Ages are compared by their magnitude: of two pods of about the same age either may go, by uid. `related` are
/// all pods of the same Deployment; `now` in Unix seconds.
pub(super) fn order(victims: &mut [Arc<Object>], related: &[Arc<Object>], now: i64) {
    let mut beside: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in related.iter().filter(|pod| pods::active(&pod.value)) {
        *beside.entry(node(&pod.value)).or_default() += 1;
    }
    let crowd = |pod: &Value| beside.get(node(pod)).copied().unwrap_or_default();
    victims.sort_by(|a, b| compare(&a.value, &b.value, crowd, now));
}

fn compare(a: &Value, b: &Value, crowd: impl Fn(&Value) -> usize, now: i64) -> Ordering {
    let assigned = |pod: &Value| !node(pod).is_empty();
    let phase = |pod: &Value| match pods::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let by_state = assigned(a)
        .cmp(&assigned(b))
        .then(phase(a).cmp(&phase(b)))
        .then(pods::ready(a).cmp(&pods::ready(b)))
        .then(cost(a).cmp(&cost(b)))
        .then(crowd(b).cmp(&crowd(a)));
    if by_state != Ordering::Equal {
        return by_state;
    }
    let uid = || meta::uid(a).cmp(meta::uid(b));
    if let (Some(since_a), Some(since_b)) = (pods::ready_since(a), pods::ready_since(b))
        && since_a != since_b
    {
        return magnitude(now - since_a).cmp(&magnitude(now - since_b)).then_with(uid);
    }
    let by_restarts = restarts(b).cmp(&restarts(a));
    if by_restarts != Ordering::Equal {
        return by_restarts;
    }
    let (born_a, born_b) = (pods::created(a), pods::created(b));
    if born_a == born_b {
        // The real controller leaves these to chance.
        return meta::name(a).cmp(meta::name(b));
    }
    magnitude(now - born_a).cmp(&magnitude(now - born_b)).then_with(uid)
}

fn node(pod: &Value) -> &str {
    meta::text(pod, "/spec/nodeName")
}

fn cost(pod: &Value) -> i32 {
    meta::annotation(pod, COST).and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

/// The binary logarithm of an age, in the nanoseconds that the real controller counts in.
fn magnitude(seconds: i64) -> Option<u32> {
    u128::try_from(seconds).ok()?.checked_mul(1_000_000_000)?.checked_ilog2()
}

fn restarts(pod: &Value) -> i64 {
    let statuses = |list: &str| pod.pointer(list).and_then(Value::as_array).into_iter().flatten();
    let all = statuses("/status/containerStatuses");
    all.filter_map(|status| meta::number(status, "/restartCount")).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_800_000_000;

    fn pod(name: &str, node: &str, phase: &str, ready: Option<i64>, changes: &Value) -> Arc<Object> {
        let time = |age: i64| jiff::Timestamp::from_second(NOW - age).unwrap().to_string();
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": time(10_000)},
            "spec": {"nodeName": node}, "status": {"phase": phase},
        });
        if let Some(age) = ready {
            pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "lastTransitionTime": time(age)}]);
        }
        pod["metadata"]["annotations"] = changes.clone();
        Arc::new(Object::new(1, pod))
    }

    fn names(pods: &[Arc<Object>]) -> Vec<&str> {
        pods.iter().map(|pod| meta::name(&pod.value)).collect()
    }

    #[test]
    fn those_leave_first_that_are_missed_least() {
        let none = Value::Null;
        let mut pods = vec![
            pod("old", "n1", "Running", Some(9_000), &none),
            pod("dear", "n1", "Running", Some(10), &json!({COST: "5"})),
            pod("new", "n1", "Running", Some(10), &none),
            pod("cheap", "n1", "Running", Some(9_000), &json!({COST: "-5"})),
            pod("unready", "n1", "Running", None, &none),
            pod("pending", "n1", "Pending", None, &none),
            pod("nowhere", "", "Pending", None, &none),
            pod("crowded", "n2", "Running", Some(9_000), &none),
        ];
        let related = vec![pods[7].clone(); 9];
        order(&mut pods, &related, NOW);
        assert_eq!(names(&pods), ["nowhere", "pending", "unready", "cheap", "crowded", "new", "old", "dear"]);
    }

    #[test]
    fn of_about_the_same_age_the_uid_decides() {
        let mut pods = vec![
            pod("b", "n", "Running", Some(9_000), &Value::Null),
            pod("a", "n", "Running", Some(9_500), &Value::Null),
        ];
        order(&mut pods, &[], NOW);
        assert_eq!(names(&pods), ["a", "b"]);
    }
}
