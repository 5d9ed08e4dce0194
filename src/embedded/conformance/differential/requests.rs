//! The requests that are drawn: few names, few fields, few values, so that they meet each other.
//!
//! On a real cluster controllers act on some of the objects. Deployments are paused, so that they get no pods; a pod is on
//! a node that is not there, or waits for a scheduler that is not there.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::embedded::patch;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// The kinds that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ConfigMap,
    Deployment,
    Pod,
    Widget,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::ConfigMap, Self::Deployment, Self::Pod, Self::Widget];

    fn api_version(self) -> &'static str {
        match self {
            Self::ConfigMap | Self::Pod => "v1",
            Self::Deployment => "apps/v1",
            Self::Widget => "example.test/v1",
        }
    }
}

#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) kind: Kind,
    /// Empty for the collection.
    pub(super) name: String,
    /// What follows in the URL: a subresource, a query.
    pub(super) rest: String,
    pub(super) content_type: &'static str,
    pub(super) body: Value,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, kind, name, rest, content_type, body } = self;
        write!(f, "{method} {kind:?}/{name}{rest}")?;
        if !body.is_null() {
            write!(f, " {content_type} {body}")?;
        }
        Ok(())
    }
}

impl Request {
    fn new(method: &'static str, kind: Kind, name: &str, rest: impl Into<String>) -> Self {
        let (name, rest) = (name.to_owned(), rest.into());
        Self { method, kind, name, rest, content_type: JSON, body: Value::Null }
    }

    fn with(mut self, content_type: &'static str, body: Value) -> Self {
        (self.content_type, self.body) = (content_type, body);
        self
    }

    /// All objects of a kind.
    pub(super) fn list(kind: Kind) -> Self {
        Self::new("GET", kind, "", "")
    }

    /// Whether the garbage collector has the last word.
    pub(super) fn hands_over(&self) -> bool {
        let policy = &self.body["propagationPolicy"];
        self.method == "DELETE" && (policy == "Foreground" || policy == "Orphan") && !self.rest.contains("dryRun=All")
    }
}

/// Sequences of up to 50 requests.
pub(super) fn sequences() -> impl Strategy<Value = Vec<Request>> {
    prop::collection::vec(request(), 1..=50)
}

fn request() -> impl Strategy<Value = Request> {
    (select(&Kind::ALL), select(&["a", "b"])).prop_flat_map(|(kind, name)| {
        prop_oneof![
            5 => create(kind, name),
            2 => put(kind, name),
            3 => merge(kind, name),
            2 => strategic(kind, name),
            3 => json_patch(kind, name),
            4 => apply(kind, name),
            2 => status(kind, name),
            2 => scale(kind, name),
            3 => delete(kind, name),
            2 => read(kind, name),
        ]
    })
}

/// What writes may be asked.
fn query() -> impl Strategy<Value = String> {
    let dry_run = prop::option::weighted(0.1, Just("dryRun=All".to_owned()));
    let validation = select(&["Strict", "Ignore", "Warn", "Other"]).prop_map(|how| format!("fieldValidation={how}"));
    let manager = select(&["m1", "m2"]).prop_map(|manager| format!("fieldManager={manager}"));
    let parts = (dry_run, prop::option::weighted(0.1, validation), prop::option::weighted(0.3, manager));
    parts.prop_map(|(one, two, three)| join([one, two, three]))
}

fn join(parts: impl IntoIterator<Item = Option<String>>) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

/// A whole object with a merge patch on top.
fn onto(base: &Value, changes: &Value) -> Value {
    patch::merge(base, changes)
}

/// One merge patch that does what two do: what is to be removed stays in it.
fn both(mut one: Value, other: Value) -> Value {
    match (&mut one, other) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                let before = into.remove(&key).unwrap_or_default();
                into.insert(key, both(before, value));
            }
        }
        (into, from) => *into = from,
    }
    one
}

/// The least that an object of the kind has.
fn least(kind: Kind, name: &str) -> Value {
    let body = match kind {
        Kind::ConfigMap => json!({}),
        Kind::Widget => json!({"spec": {}}),
        Kind::Pod => json!({"spec": {"nodeName": "nowhere", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "x:1"}]}}),
        Kind::Deployment => json!({"spec": {"paused": true, "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}}}),
    };
    both(json!({"apiVersion": kind.api_version(), "kind": format!("{kind:?}"), "metadata": {"name": name}}), body)
}

/// Changes of metadata, as a merge patch.
fn metadata() -> impl Strategy<Value = Value> {
    select(vec![
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
    ])
}

/// Changes of the rest, as a merge patch.
fn content(kind: Kind) -> impl Strategy<Value = Value> {
    select(match kind {
        Kind::ConfigMap => vec![
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
        Kind::Widget => vec![
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
        Kind::Pod => vec![
            json!({}),
            json!({"spec": {"containers": [{"name": "c", "image": "x:2"}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "x:1"}, {"name": "d", "image": "x"}]}}),
            json!({"spec": {"containers": []}}),
            json!({"spec": {"nodeName": null, "schedulerName": "nobody"}}),
            json!({"spec": {"terminationGracePeriodSeconds": 5}}),
            json!({"spec": {"activeDeadlineSeconds": 100}}),
            json!({"spec": {"restartPolicy": "Never"}}),
            json!({"spec": {"tolerations": [{"key": "k", "operator": "Exists"}]}}),
            json!({"spec": {"priorityClassName": "none-such"}}),
            json!({"status": {"phase": "Running"}}),
        ],
        Kind::Deployment => vec![
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
    })
}

/// Any changes: of metadata, of the rest, or of both.
fn changes(kind: Kind) -> impl Strategy<Value = Value> {
    let two = (metadata(), content(kind)).prop_map(|(metadata, content)| both(json!({"metadata": metadata}), content));
    prop_oneof![content(kind), metadata().prop_map(|metadata| json!({"metadata": metadata})), two]
}

/// A whole object.
fn whole(kind: Kind, name: &'static str) -> impl Strategy<Value = Value> {
    changes(kind).prop_map(move |changes| onto(&least(kind, name), &changes))
}

fn create(kind: Kind, name: &'static str) -> impl Strategy<Value = Request> {
    let odd = prop::option::weighted(
        0.1,
        select(vec![
            json!({"metadata": {"resourceVersion": "1"}}),
            json!({"metadata": {"name": "Not_A_Name"}}),
            json!({"metadata": {"name": null}}),
            json!({"metadata": {"namespace": "elsewhere"}}),
            json!({"kind": "Other"}),
            json!({"apiVersion": "example.test/v9"}),
        ]),
    );
    (whole(kind, name), odd, query()).prop_map(move |(object, odd, query)| {
        let object = odd.map_or_else(|| object.clone(), |odd| onto(&object, &odd));
        Request::new("POST", kind, "", query).with(JSON, object)
    })
}

/// What a write says that it has seen. On a real cluster Deployments have a version that changes by itself.
fn seen(kind: Kind) -> impl Strategy<Value = Value> {
    let uid = json!({"uid": "$uid"});
    let other = json!({"uid": "00000000-0000-4000-8000-000000000000"});
    if kind == Kind::Deployment {
        return select(vec![json!({}), json!({}), uid, other]);
    }
    let (version, stale) = (json!({"resourceVersion": "$version"}), json!({"resourceVersion": "$stale"}));
    select(vec![json!({}), version.clone(), version, stale, uid, other])
}

fn put(kind: Kind, name: &'static str) -> impl Strategy<Value = Request> {
    (whole(kind, name), seen(kind), query()).prop_map(move |(object, seen, query)| {
        Request::new("PUT", kind, name, query).with(JSON, both(object, json!({"metadata": seen})))
    })
}

fn merge(kind: Kind, name: &'static str) -> impl Strategy<Value = Request> {
    (changes(kind), prop::option::weighted(0.2, seen(kind)), query()).prop_map(move |(changes, seen, query)| {
        let changes = seen.map_or_else(|| changes.clone(), |seen| both(changes.clone(), json!({"metadata": seen})));
        Request::new("PATCH", kind, name, query).with(MERGE, changes)
    })
}

fn strategic(kind: Kind, name: &'static str) -> impl Strategy<Value = Request> {
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
    let special = match kind {
        Kind::Pod => lists(|spec| json!({"spec": spec})),
        Kind::Deployment => lists(|spec| json!({"spec": {"template": {"spec": spec}}})),
        _ => vec![
            json!({"metadata": {"labels": {"$patch": "replace", "x": "3"}}}),
            json!({"data": {"$patch": "delete"}}),
        ],
    };
    let finalizers = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.test/hold"]}});
    let patch = prop_oneof![2 => select(special), 1 => Just(finalizers), 2 => changes(kind)];
    (patch, query()).prop_map(move |(patch, query)| Request::new("PATCH", kind, name, query).with(STRATEGIC, patch))
}

fn json_patch(kind: Kind, name: &'static str) -> impl Strategy<Value = Request> {
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
        Kind::ConfigMap => vec![
            json!({"op": "add", "path": "/data", "value": {"k": "3"}}),
            json!({"op": "replace", "path": "/data/k", "value": "4"}),
            json!({"op": "move", "from": "/data/k", "path": "/data/m"}),
            json!({"op": "remove", "path": "/data"}),
        ],
        Kind::Widget => vec![
            json!({"op": "replace", "path": "/spec/replicas", "value": 2}),
            json!({"op": "add", "path": "/spec/parts/-", "value": {"name": "r"}}),
            json!({"op": "remove", "path": "/spec/parts/0"}),
            json!({"op": "remove", "path": "/spec"}),
            json!({"op": "add", "path": "/spec/color", "value": 1}),
        ],
        Kind::Pod => vec![
            json!({"op": "replace", "path": "/spec/containers/0/image", "value": "x:4"}),
            json!({"op": "remove", "path": "/spec/containers/0"}),
            json!({"op": "replace", "path": "/spec/nodeName", "value": "elsewhere"}),
        ],
        Kind::Deployment => vec![
            json!({"op": "replace", "path": "/spec/replicas", "value": 2}),
            json!({"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "x:4"}),
            json!({"op": "remove", "path": "/spec/template/spec/containers/0/image"}),
            json!({"op": "remove", "path": "/spec/strategy"}),
        ],
    });
    (prop::collection::vec(select(steps), 1..3), query())
        .prop_map(move |(steps, query)| Request::new("PATCH", kind, name, query).with(JSON_PATCH, steps.into()))
}

fn apply(kind: Kind, name: &'static str) -> impl Strategy<Value = Request> {
    let force = prop::option::weighted(0.3, select(&["force=true", "force=false"]).prop_map(str::to_owned));
    let manager =
        prop::option::weighted(0.95, select(&["m1", "m2", "m3"]).prop_map(|name| format!("fieldManager={name}")));
    let dry_run = prop::option::weighted(0.1, Just("dryRun=All".to_owned()));
    (whole(kind, name), (force, manager, dry_run).prop_map(|(one, two, three)| join([one, two, three])))
        .prop_map(move |(object, query)| Request::new("PATCH", kind, name, query).with(APPLY, object))
}

fn status(kind: Kind, name: &'static str) -> impl Strategy<Value = Request> {
    let status = select(match kind {
        Kind::Widget => vec![
            json!({"status": {"note": "n"}}),
            json!({"status": {"replicas": 2, "selector": "app=a"}}),
            json!({"status": {"replicas": "two"}}),
            json!({"status": null}),
            json!({"status": {"note": "n"}, "spec": {"color": "green"}}),
            json!({"status": {"note": "m"}, "metadata": {"labels": {"x": "4"}}}),
        ],
        Kind::Pod => vec![
            json!({"status": {"phase": "Running"}}),
            json!({"status": {"phase": "Succeeded", "reason": "Why"}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False"}]}}),
            json!({"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}}),
            json!({"status": {"phase": "Running"}, "metadata": {"labels": {"x": "4"}}}),
        ],
        Kind::Deployment => vec![json!({"metadata": {"labels": {"x": "4"}}}), json!({"spec": {"replicas": 4}})],
        Kind::ConfigMap => vec![json!({"data": {"k": "5"}})],
    });
    let how = select(&["GET", "PUT", MERGE, STRATEGIC, APPLY]);
    (status, how, seen(kind)).prop_map(move |(status, how, seen)| {
        let whole = onto(&both(least(kind, name), json!({"metadata": seen})), &status);
        match how {
            "GET" => Request::new("GET", kind, name, "/status"),
            "PUT" => Request::new("PUT", kind, name, "/status").with(JSON, whole),
            // What is applied to a Deployment's status is in the way of its controller.
            APPLY if kind != Kind::Deployment => {
                let (version, name_of) = (kind.api_version(), format!("{kind:?}"));
                let applied = both(json!({"apiVersion": version, "kind": name_of, "metadata": {"name": name}}), status);
                Request::new("PATCH", kind, name, "/status?fieldManager=m4").with(APPLY, applied)
            }
            STRATEGIC => Request::new("PATCH", kind, name, "/status").with(STRATEGIC, status),
            _ => Request::new("PATCH", kind, name, "/status").with(MERGE, status),
        }
    })
}

fn scale(kind: Kind, name: &'static str) -> impl Strategy<Value = Request> {
    let replicas = select(vec![json!(0), json!(2), json!(5), json!(-1), json!("two"), Value::Null]);
    let how = select(&["GET", "PUT", MERGE, STRATEGIC, JSON_PATCH, APPLY]);
    (replicas, how, seen(kind)).prop_map(move |(replicas, how, seen)| {
        let metadata = both(json!({"name": name}), seen);
        let whole =
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": {"replicas": replicas}});
        let patch = |content_type, body| Request::new("PATCH", kind, name, "/scale").with(content_type, body);
        match how {
            "GET" => Request::new("GET", kind, name, "/scale"),
            "PUT" => Request::new("PUT", kind, name, "/scale").with(JSON, whole),
            JSON_PATCH => patch(JSON_PATCH, json!([{"op": "replace", "path": "/spec/replicas", "value": replicas}])),
            APPLY => Request::new("PATCH", kind, name, "/scale?fieldManager=m5").with(APPLY, whole),
            other => patch(other, json!({"spec": {"replicas": replicas}})),
        }
    })
}

fn delete(kind: Kind, name: &'static str) -> impl Strategy<Value = Request> {
    let options = select(vec![
        Value::Null,
        json!({}),
        json!({"gracePeriodSeconds": 0}),
        json!({"gracePeriodSeconds": 5}),
        json!({"gracePeriodSeconds": -1}),
        json!({"propagationPolicy": "Background"}),
        json!({"propagationPolicy": "Foreground"}),
        json!({"propagationPolicy": "Orphan"}),
        json!({"propagationPolicy": "Other"}),
        json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
    ]);
    let dry_run = prop::option::weighted(0.1, Just("dryRun=All".to_owned()));
    let one = (options, prop::option::weighted(0.3, seen(kind)), dry_run.clone()).prop_map(
        move |(options, seen, dry_run)| {
            let options =
                seen.map_or_else(|| options.clone(), |seen| both(options.clone(), json!({"preconditions": seen})));
            Request::new("DELETE", kind, name, join([dry_run])).with(JSON, options)
        },
    );
    let some = (select(&["x%3D1", "x%20in%20(1,2)", "y"]), dry_run).prop_map(move |(selector, dry_run)| {
        let selector = Some(format!("labelSelector={selector}"));
        Request::new("DELETE", kind, "", join([selector, dry_run]))
    });
    prop_oneof![5 => one, 1 => some]
}

fn read(kind: Kind, name: &'static str) -> impl Strategy<Value = Request> {
    let one = Just(Request::new("GET", kind, name, ""));
    let selectors = [
        "labelSelector=x",
        "labelSelector=x%3D1,y",
        "labelSelector=!x",
        "labelSelector=x%20notin%20(1)",
        "labelSelector=x%20in%20(",
        "labelSelector=x%3D%3D2",
        "fieldSelector=metadata.name%3Da",
        "fieldSelector=metadata.name!%3Da",
        "fieldSelector=status.phase%3DRunning",
        "fieldSelector=spec.nodeName%3Dnowhere",
    ];
    let list =
        select(selectors.to_vec()).prop_map(move |selector| Request::new("GET", kind, "", format!("?{selector}")));
    prop_oneof![one, list]
}
