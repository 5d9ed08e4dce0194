//! The kinds of the random requests and the values that are written: few fields with few values, so that requests
//! affect each other.
//!
//! On a real cluster controllers act on some of the objects. Deployments are therefore paused, so that they get no
//! pods, and a pod is on a node without a kubelet or waits for a scheduler that does not exist.

use serde_json::{Value, json};

use crate::patch;

/// The kinds that are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TestKind {
    ConfigMap,
    Deployment,
    Pod,
    Widget,
}

impl TestKind {
    pub(super) const ALL: [Self; 4] = [Self::ConfigMap, Self::Deployment, Self::Pod, Self::Widget];

    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::ConfigMap | Self::Pod => "v1",
            Self::Deployment => "apps/v1",
            Self::Widget => "example.test/v1",
        }
    }
}

/// Applies a merge patch to an object.
pub(super) fn with_changes(base: &Value, changes: &Value) -> Value {
    patch::merge(base, changes)
}

/// Combines two merge patches into one. Nulls, which remove a field, stay in the result.
pub(super) fn combine(mut one: Value, other: Value) -> Value {
    match (&mut one, other) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                let before = into.remove(&key).unwrap_or_default();
                into.insert(key, combine(before, value));
            }
        }
        (into, from) => *into = from,
    }
    one
}

/// Returns the smallest valid object of a kind.
pub(super) fn minimal(kind: TestKind, name: &str) -> Value {
    let body = match kind {
        TestKind::ConfigMap => json!({}),
        TestKind::Widget => json!({"spec": {}}),
        TestKind::Pod => json!({"spec": {"nodeName": "nowhere", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "x:1"}]}}),
        TestKind::Deployment => json!({"spec": {"paused": true, "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}}}),
    };
    combine(json!({"apiVersion": kind.api_version(), "kind": format!("{kind:?}"), "metadata": {"name": name}}), body)
}

/// Returns changes of the metadata, as merge patches.
pub(super) fn metadata() -> Vec<Value> {
    vec![
        json!({}),
        json!({"labels": {"x": "1"}}),
        json!({"labels": {"x": "2", "y": "1"}}),
        json!({"labels": {"x": null}}),
        json!({"labels": {"x": "not a label"}}),
        json!({"labels": {}}),
        json!({"labels": null}),
        json!({"annotations": {"n": "1"}}),
        json!({"annotations": {"n": null, "m": ""}}),
        json!({"finalizers": ["example.test/hold"]}),
        json!({"finalizers": ["example.test/hold", "example.test/more"]}),
        json!({"finalizers": []}),
        json!({"finalizers": null}),
        json!({"generation": 7}),
        json!({"deletionTimestamp": null}),
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n"}]}),
    ]
}

/// Returns changes of the rest of an object, as merge patches.
pub(super) fn content(kind: TestKind) -> Vec<Value> {
    match kind {
        TestKind::ConfigMap => vec![
            json!({}),
            json!({"data": {"k": "1"}}),
            json!({"data": {"k": "2", "l": ""}}),
            json!({"data": {"k": null}}),
            json!({"data": null}),
            json!({"data": {"not a key": "1"}}),
            json!({"data": {"k": 1}}),
            json!({"binaryData": {"b": "MQ=="}}),
            json!({"binaryData": {"k": "MQ=="}}),
            json!({"immutable": true}),
            json!({"immutable": false}),
            json!({"unknown": 1}),
        ],
        TestKind::Widget => vec![
            json!({}),
            json!({"spec": {"color": "red"}}),
            json!({"spec": {"color": "blue", "size": 1}}),
            json!({"spec": {"color": null}}),
            json!({"spec": {"color": "a color with far too many letters"}}),
            json!({"spec": {"size": "big"}}),
            json!({"spec": {"size": 1.5}}),
            json!({"spec": {"replicas": 3}}),
            json!({"spec": {"replicas": null}}),
            json!({"spec": {"replicas": -1}}),
            json!({"spec": {"parts": [{"name": "p", "count": 1}]}}),
            json!({"spec": {"parts": [{"name": "q"}, {"name": "p", "count": 2}]}}),
            json!({"spec": {"parts": [{"name": "p"}, {"name": "p"}]}}),
            json!({"spec": {"parts": [{"count": 1}]}}),
            json!({"spec": {"parts": []}}),
            json!({"spec": {"unknown": 1}}),
            json!({"spec": null}),
            json!({"status": {"note": "n"}}),
        ],
        TestKind::Pod => vec![
            json!({}),
            json!({"spec": {"containers": [{"name": "c", "image": "x:2"}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "x:1"}, {"name": "d", "image": "x"}]}}),
            json!({"spec": {"containers": []}}),
            json!({"spec": {"nodeName": null, "schedulerName": "none-such"}}),
            json!({"spec": {"terminationGracePeriodSeconds": 5}}),
            json!({"spec": {"activeDeadlineSeconds": 100}}),
            json!({"spec": {"restartPolicy": "Never"}}),
            json!({"spec": {"tolerations": [{"key": "k", "operator": "Exists"}]}}),
            json!({"spec": {"priorityClassName": "none-such"}}),
            json!({"status": {"phase": "Running"}}),
        ],
        TestKind::Deployment => vec![
            json!({}),
            json!({"spec": {"replicas": 0}}),
            json!({"spec": {"replicas": 3}}),
            json!({"spec": {"replicas": null}}),
            json!({"spec": {"replicas": -1}}),
            json!({"spec": {"minReadySeconds": 5}}),
            json!({"spec": {"progressDeadlineSeconds": 5, "minReadySeconds": 5}}),
            json!({"spec": {"revisionHistoryLimit": 3}}),
            json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}),
            json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "10%"}}}}),
            json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}}),
            json!({"spec": {"selector": {"matchLabels": {"app": "b"}}}}),
            json!({"spec": {"selector": null}}),
            json!({"spec": {"template": {"metadata": {"labels": {"z": "1"}}}}}),
            json!({"spec": {"template": {"metadata": {"labels": {"app": "b"}}}}}),
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:2",
                "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 80}]}]}}}}),
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:1",
                "readinessProbe": {"httpGet": {"port": 80}}}]}}}}),
            json!({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}),
        ],
    }
}

/// Returns changes that make an object invalid, or invalid at its path.
pub(super) fn invalid() -> Vec<Value> {
    vec![
        json!({"metadata": {"resourceVersion": "1"}}),
        json!({"metadata": {"name": "Not_A_Name"}}),
        json!({"metadata": {"name": null}}),
        json!({"metadata": {"namespace": "elsewhere"}}),
        json!({"kind": "Other"}),
        json!({"apiVersion": "example.test/v9"}),
    ]
}

/// Returns changes that only a strategic merge patch can express.
pub(super) fn strategic(kind: TestKind) -> Vec<Value> {
    let lists = |prefix: fn(Value) -> Value| {
        vec![
            prefix(json!({"containers": [{"name": "c", "image": "x:3"}]})),
            prefix(json!({"containers": [{"name": "c", "$patch": "delete"}]})),
            prefix(json!({"containers": [{"name": "c", "env": [{"name": "B", "value": "2"}]}]})),
            prefix(json!({"$setElementOrder/containers": [{"name": "d"}, {"name": "c"}],
                "containers": [{"name": "d", "image": "x:1"}]})),
            prefix(json!({"tolerations": [{"key": "l", "operator": "Exists"}]})),
        ]
    };
    match kind {
        TestKind::Pod => lists(|spec| json!({"spec": spec})),
        TestKind::Deployment => lists(|spec| json!({"spec": {"template": {"spec": spec}}})),
        _ => vec![
            json!({"metadata": {"labels": {"$patch": "replace", "x": "3"}}}),
            json!({"data": {"$patch": "delete"}}),
        ],
    }
}

/// Returns operations of a JSON patch.
pub(super) fn steps(kind: TestKind) -> Vec<Value> {
    let mut steps = vec![
        json!({"op": "add", "path": "/metadata/labels", "value": {"x": "1"}}),
        json!({"op": "add", "path": "/metadata/labels/x", "value": "2"}),
        json!({"op": "remove", "path": "/metadata/labels/x"}),
        json!({"op": "test", "path": "/metadata/labels/x", "value": "1"}),
        json!({"op": "copy", "from": "/metadata/labels", "path": "/metadata/annotations"}),
        json!({"op": "add", "path": "/metadata/finalizers/-", "value": "example.test/hold"}),
        json!({"op": "remove", "path": "/metadata/finalizers"}),
        json!({"op": "replace", "path": "/metadata/name", "value": "c"}),
        json!({"op": "none", "path": "/metadata/name"}),
    ];
    steps.extend(match kind {
        TestKind::ConfigMap => vec![
            json!({"op": "add", "path": "/data", "value": {"k": "3"}}),
            json!({"op": "replace", "path": "/data/k", "value": "4"}),
            json!({"op": "move", "from": "/data/k", "path": "/data/m"}),
            json!({"op": "remove", "path": "/data"}),
        ],
        TestKind::Widget => vec![
            json!({"op": "replace", "path": "/spec/replicas", "value": 2}),
            json!({"op": "add", "path": "/spec/parts/-", "value": {"name": "r"}}),
            json!({"op": "remove", "path": "/spec/parts/0"}),
            json!({"op": "remove", "path": "/spec"}),
            json!({"op": "add", "path": "/spec/color", "value": 1}),
        ],
        TestKind::Pod => vec![
            json!({"op": "replace", "path": "/spec/containers/0/image", "value": "x:4"}),
            json!({"op": "remove", "path": "/spec/containers/0"}),
            json!({"op": "replace", "path": "/spec/nodeName", "value": "elsewhere"}),
        ],
        TestKind::Deployment => vec![
            json!({"op": "replace", "path": "/spec/replicas", "value": 2}),
            json!({"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "x:4"}),
            json!({"op": "remove", "path": "/spec/template/spec/containers/0/image"}),
            json!({"op": "remove", "path": "/spec/strategy"}),
        ],
    });
    steps
}

/// Returns changes of the status.
pub(super) fn status(kind: TestKind) -> Vec<Value> {
    match kind {
        TestKind::Widget => vec![
            json!({"status": {"note": "n"}}),
            json!({"status": {"replicas": 2, "selector": "app=a"}}),
            json!({"status": {"replicas": "two"}}),
            json!({"status": null}),
            json!({"status": {"note": "n"}, "spec": {"color": "green"}}),
            json!({"status": {"note": "m"}, "metadata": {"labels": {"x": "4"}}}),
        ],
        TestKind::Pod => vec![
            json!({"status": {"phase": "Running"}}),
            json!({"status": {"phase": "Succeeded", "reason": "Why"}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False"}]}}),
            json!({"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}}),
            json!({"status": {"phase": "Running"}, "metadata": {"labels": {"x": "4"}}}),
        ],
        TestKind::Deployment => vec![json!({"metadata": {"labels": {"x": "4"}}}), json!({"spec": {"replicas": 4}})],
        TestKind::ConfigMap => vec![json!({"data": {"k": "5"}})],
    }
}
