//! Generates random requests for few names, so that they affect each other.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::kinds::{self, TestKind, combine, minimal, with_changes};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) kind: TestKind,
    /// The name of the object. Empty: the collection.
    pub(super) name: String,
    /// The rest of the URL: a subresource, a query.
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
    fn new(method: &'static str, kind: TestKind, name: &str, rest: impl Into<String>) -> Self {
        let (name, rest) = (name.to_owned(), rest.into());
        Self { method, kind, name, rest, content_type: JSON, body: Value::Null }
    }

    fn with(mut self, content_type: &'static str, body: Value) -> Self {
        (self.content_type, self.body) = (content_type, body);
        self
    }

    /// Creates a request that lists all objects of a kind.
    pub(super) fn list(kind: TestKind) -> Self {
        Self::new("GET", kind, "", "")
    }

    /// Returns a short description of the kind of request.
    pub(super) fn brief(&self) -> String {
        let path = self.rest.split('?').next().unwrap_or_default();
        let how = if self.method == "PATCH" { self.content_type.trim_start_matches("application/") } else { "" };
        format!("{} {:?}{path} {how}", self.method, self.kind).trim_end().to_owned()
    }

    /// Returns whether the garbage collector has to complete the deletion.
    pub(super) fn needs_garbage_collector(&self) -> bool {
        let policy = &self.body["propagationPolicy"];
        // If there is a body, the query is ignored.
        self.method == "DELETE" && (policy == "Foreground" || policy == "Orphan") && self.body.get("dryRun").is_none()
    }
}

/// Generates sequences of up to 50 requests.
pub(super) fn sequences() -> impl Strategy<Value = Vec<Request>> {
    prop::collection::vec(request(), 1..=50)
}

fn request() -> impl Strategy<Value = Request> {
    (select(&TestKind::ALL), select(&["a", "b"])).prop_flat_map(|(kind, name)| {
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

/// Generates the query of a write.
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

/// Generates changes of the metadata, of the rest, or of both.
fn changes(kind: TestKind) -> impl Strategy<Value = Value> {
    let two = (select(kinds::metadata()), select(kinds::content(kind)))
        .prop_map(|(metadata, content)| combine(json!({"metadata": metadata}), content));
    prop_oneof![
        select(kinds::content(kind)),
        select(kinds::metadata()).prop_map(|metadata| json!({"metadata": metadata})),
        two
    ]
}

/// Generates whole objects.
fn whole(kind: TestKind, name: &'static str) -> impl Strategy<Value = Value> {
    changes(kind).prop_map(move |changes| with_changes(&minimal(kind, name), &changes))
}

fn create(kind: TestKind, name: &'static str) -> impl Strategy<Value = Request> {
    let invalid = prop::option::weighted(0.1, select(kinds::invalid()));
    (whole(kind, name), invalid, query()).prop_map(move |(object, invalid, query)| {
        let object = invalid.map_or_else(|| object.clone(), |change| with_changes(&object, &change));
        Request::new("POST", kind, "", query).with(JSON, object)
    })
}

/// Generates the version or uid that a write requires. On a real cluster the version of a Deployment changes by
/// itself, so none is required.
fn preconditions(kind: TestKind) -> impl Strategy<Value = Value> {
    let uid = json!({"uid": "$uid"});
    let other = json!({"uid": "00000000-0000-4000-8000-000000000000"});
    if kind == TestKind::Deployment {
        return select(vec![json!({}), json!({}), uid, other]);
    }
    let (version, stale) = (json!({"resourceVersion": "$version"}), json!({"resourceVersion": "$stale"}));
    select(vec![json!({}), version.clone(), version, stale, uid, other])
}

fn put(kind: TestKind, name: &'static str) -> impl Strategy<Value = Request> {
    (whole(kind, name), preconditions(kind), query()).prop_map(move |(object, required, query)| {
        Request::new("PUT", kind, name, query).with(JSON, combine(object, json!({"metadata": required})))
    })
}

fn merge(kind: TestKind, name: &'static str) -> impl Strategy<Value = Request> {
    (changes(kind), prop::option::weighted(0.2, preconditions(kind)), query()).prop_map(
        move |(changes, required, query)| {
            let changes = required
                .map_or_else(|| changes.clone(), |required| combine(changes.clone(), json!({"metadata": required})));
            Request::new("PATCH", kind, name, query).with(MERGE, changes)
        },
    )
}

fn strategic(kind: TestKind, name: &'static str) -> impl Strategy<Value = Request> {
    let finalizers = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.test/hold"]}});
    let patch = prop_oneof![2 => select(kinds::strategic(kind)), 1 => Just(finalizers), 2 => changes(kind)];
    (patch, query()).prop_map(move |(patch, query)| Request::new("PATCH", kind, name, query).with(STRATEGIC, patch))
}

fn json_patch(kind: TestKind, name: &'static str) -> impl Strategy<Value = Request> {
    (prop::collection::vec(select(kinds::steps(kind)), 1..3), query())
        .prop_map(move |(steps, query)| Request::new("PATCH", kind, name, query).with(JSON_PATCH, steps.into()))
}

fn apply(kind: TestKind, name: &'static str) -> impl Strategy<Value = Request> {
    let force = prop::option::weighted(0.3, select(&["force=true", "force=false"]).prop_map(str::to_owned));
    let manager =
        prop::option::weighted(0.95, select(&["m1", "m2", "m3"]).prop_map(|name| format!("fieldManager={name}")));
    let dry_run = prop::option::weighted(0.1, Just("dryRun=All".to_owned()));
    (whole(kind, name), (force, manager, dry_run).prop_map(|(one, two, three)| join([one, two, three]))).prop_map(
        move |(mut object, query)| {
            // A known difference: the real server stores empty fields of an applied custom resource, but never shows
            // them.
            if let (TestKind::Widget, Some(metadata)) = (kind, object["metadata"].as_object_mut()) {
                metadata.retain(|_, value| *value != json!({}) && *value != json!([]));
            }
            Request::new("PATCH", kind, name, query).with(APPLY, object)
        },
    )
}

fn status(kind: TestKind, name: &'static str) -> impl Strategy<Value = Request> {
    let how = select(&["GET", "PUT", MERGE, STRATEGIC, APPLY]);
    (select(kinds::status(kind)), how, preconditions(kind)).prop_map(move |(status, how, required)| {
        let whole = with_changes(&combine(minimal(kind, name), json!({"metadata": required})), &status);
        match how {
            "GET" => Request::new("GET", kind, name, "/status"),
            "PUT" => Request::new("PUT", kind, name, "/status").with(JSON, whole),
            // Applying the status of a Deployment would conflict with its controller.
            APPLY if kind != TestKind::Deployment => {
                let (version, name_of) = (kind.api_version(), format!("{kind:?}"));
                let applied =
                    combine(json!({"apiVersion": version, "kind": name_of, "metadata": {"name": name}}), status);
                Request::new("PATCH", kind, name, "/status?fieldManager=m4").with(APPLY, applied)
            }
            STRATEGIC => Request::new("PATCH", kind, name, "/status").with(STRATEGIC, status),
            _ => Request::new("PATCH", kind, name, "/status").with(MERGE, status),
        }
    })
}

fn scale(kind: TestKind, name: &'static str) -> impl Strategy<Value = Request> {
    let replicas = select(vec![json!(0), json!(2), json!(5), json!(-1), json!("two"), Value::Null]);
    let how = select(&["GET", "PUT", MERGE, STRATEGIC, JSON_PATCH, APPLY]);
    (replicas, how, preconditions(kind)).prop_map(move |(replicas, how, required)| {
        let metadata = combine(json!({"name": name}), required);
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

fn delete(kind: TestKind, name: &'static str) -> impl Strategy<Value = Request> {
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
        json!({"propagationPolicy": "Foreground", "dryRun": ["All"]}),
        json!({"gracePeriodSeconds": 1, "dryRun": ["All"]}),
    ]);
    let dry_run = prop::option::weighted(0.1, Just("dryRun=All".to_owned()));
    let one = (options, prop::option::weighted(0.3, preconditions(kind)), dry_run.clone()).prop_map(
        move |(options, required, dry_run)| {
            let options = required.map_or_else(
                || options.clone(),
                |required| combine(options.clone(), json!({"preconditions": required})),
            );
            Request::new("DELETE", kind, name, join([dry_run])).with(JSON, options)
        },
    );
    let some = (select(&["x%3D1", "x%20in%20(1,2)", "y"]), dry_run).prop_map(move |(selector, dry_run)| {
        let selector = Some(format!("labelSelector={selector}"));
        Request::new("DELETE", kind, "", join([selector, dry_run]))
    });
    prop_oneof![5 => one, 1 => some]
}

fn read(kind: TestKind, name: &'static str) -> impl Strategy<Value = Request> {
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
