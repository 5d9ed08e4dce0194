//! Scenarios of changes to a job and its environment.

use serde_json::{Value, json};

use sluice_testkit::world::{NAMESPACE, job};

/// A change in a scenario.
#[derive(Clone)]
pub(crate) enum Step {
    /// The user applies an object.
    Apply(Value),
    /// The user deletes an object.
    Delete(Value),
    /// The arrival rate changes, records per second.
    Rate(u32),
    /// The source becomes unreachable or reachable.
    Away(bool),
}

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Changes, with their times from the start, seconds.
    pub(crate) steps: Vec<(u64, Step)>,
    /// Time after the last step before the run may end, seconds.
    pub(crate) quiet: u64,
}

/// A load that three workers process well, records per second.
const STEADY: u32 = 220;

fn changed(change: &Value) -> Step {
    let mut object = job("orders");
    merge(&mut object, change);
    Step::Apply(object)
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, change) in change {
                merge(into.entry(key).or_insert(Value::Null), change);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

fn quota(pods: u32) -> Step {
    Step::Apply(json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": NAMESPACE},
        "spec": {"hard": {"pods": pods.to_string()}},
    }))
}

/// Scenarios that run by default.
pub(crate) const DEFAULT: [&str; 8] =
    ["create", "scale-up", "scale-down", "template", "delete", "pin", "pause", "quota"];

pub(crate) fn all() -> Vec<Scenario> {
    let begin = |mut more: Vec<(u64, Step)>| {
        // No load before the job is running, so that no fault leaves a backlog.
        let mut steps = vec![(0, Step::Rate(0)), (0, changed(&json!({}))), (45, Step::Rate(STEADY))];
        steps.append(&mut more);
        steps
    };
    let scenario = |name, more| Scenario { name, steps: begin(more), quiet: 60 };
    vec![
        scenario("create", vec![]),
        scenario("scale-up", vec![(90, Step::Rate(2 * STEADY))]),
        Scenario { quiet: 600, ..scenario("scale-down", vec![(90, Step::Rate(60))]) },
        scenario(
            "template",
            vec![(90, changed(&json!({"spec": {"workload": {"template": {"metadata": {"labels": {"v": "2"}}}}}})))],
        ),
        scenario("delete", vec![(90, Step::Delete(job("orders")))]),
        scenario("pin", vec![(90, changed(&json!({"spec": {"replicas": 6}})))]),
        // A backlog would make the result depend on timing; `tests/faults/` covers that.
        scenario(
            "pause",
            vec![
                (80, Step::Rate(0)),
                (90, changed(&json!({"spec": {"replicas": 3, "suspend": true}}))),
                (150, changed(&json!({"spec": {"replicas": 3, "suspend": false}}))),
                (180, Step::Rate(STEADY)),
            ],
        ),
        // The back-off of the ReplicaSet grows with the number of refused pods.
        Scenario {
            steps: vec![
                (0, quota(4)),
                (0, Step::Rate(0)),
                (0, changed(&json!({"spec": {"replicas": 5}}))),
                (45, Step::Rate(STEADY / 2)),
                (90, quota(40)),
            ],
            quiet: 1200,
            ..scenario("quota", vec![])
        },
        scenario("outage", vec![(90, Step::Away(true)), (150, Step::Away(false))]),
        // No load in between, for the same reason.
        Scenario {
            quiet: 600,
            ..scenario(
                "recreate",
                vec![
                    (80, Step::Rate(0)),
                    (90, Step::Delete(job("orders"))),
                    (92, changed(&json!({"spec": {"scaling": {"initialReplicas": 4}}}))),
                    (150, Step::Rate(STEADY)),
                ],
            )
        },
    ]
}
