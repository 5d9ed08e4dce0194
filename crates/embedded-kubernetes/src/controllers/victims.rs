//! Orders the pods of a set by which to delete first.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::pods;
use crate::meta;
use crate::store::Object;

/// The annotation with the cost of deleting a pod. Pods of lower cost are deleted first.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts pods so that those to delete come first, in the order of the real controller: pods without a node, pending
/// ones, unready ones, those of lower deletion cost, those with more related pods on their node, those that have been
/// ready for less time, those with more restarts, newer ones. Ages are compared by their order of magnitude; of two
/// pods of similar age, the uid decides. `related` are all pods of the same Deployment; `now` is in Unix seconds.
pub(super) fn sort_for_deletion(victims: &mut [Arc<Object>], related: &[Arc<Object>], now: i64) {
    let mut per_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in related.iter().filter(|pod| pods::active(&pod.value)) {
        *per_node.entry(node(&pod.value)).or_default() += 1;
    }
    let neighbours = |pod: &Value| per_node.get(node(pod)).copied().unwrap_or_default();
    victims.sort_by(|a, b| compare(&a.value, &b.value, neighbours, now));
}

fn compare(a: &Value, b: &Value, neighbours: impl Fn(&Value) -> usize, now: i64) -> Ordering {
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
        .then(neighbours(b).cmp(&neighbours(a)));
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
        // The real controller picks one of these at random.
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

/// Returns the binary logarithm of an age in nanoseconds, the unit of the real controller.
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
    fn least_needed_pods_are_deleted_first() {
        let none = Value::Null;
        let mut pods = vec![
            pod("old", "n1", "Running", Some(9_000), &none),
            pod("expensive", "n1", "Running", Some(10), &json!({COST: "5"})),
            pod("new", "n1", "Running", Some(10), &none),
            pod("cheap", "n1", "Running", Some(9_000), &json!({COST: "-5"})),
            pod("unready", "n1", "Running", None, &none),
            pod("pending", "n1", "Pending", None, &none),
            pod("nowhere", "", "Pending", None, &none),
            pod("crowded", "n2", "Running", Some(9_000), &none),
        ];
        let related = vec![pods[7].clone(); 9];
        sort_for_deletion(&mut pods, &related, NOW);
        assert_eq!(names(&pods), ["nowhere", "pending", "unready", "cheap", "crowded", "new", "old", "expensive"]);
    }

    #[test]
    fn uid_decides_between_pods_of_similar_age() {
        let mut pods = vec![
            pod("b", "n", "Running", Some(9_000), &Value::Null),
            pod("a", "n", "Running", Some(9_500), &Value::Null),
        ];
        sort_for_deletion(&mut pods, &[], NOW);
        assert_eq!(names(&pods), ["a", "b"]);
    }
}
