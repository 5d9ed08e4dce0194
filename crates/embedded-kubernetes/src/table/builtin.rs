//! The columns of the built-in kinds.

use serde_json::{Map, Value};

use super::since::since;
use super::{Column, holds, items, number, pod, text};
use crate::meta;

/// Makes the cells of an object, in the order of the columns.
pub(super) type Cells = fn(&Value, &str) -> Vec<Value>;

/// The columns after the name, and what makes the cells.
///
/// Behind the semicolon those that only `-o wide` shows; columns of numbers end in `#`.
pub(super) fn of(kind: &str) -> (Vec<Column>, Cells) {
    let (columns, cells): (&str, Cells) = match kind {
        "Pod" => ("Ready,Status,Restarts,Age;IP,Node,Nominated Node,Readiness Gates", pod::cells),
        "Namespace" => {
            ("Status,Age", |object, now| vec![name(object), text(object, "/status/phase").into(), age(object, now)])
        }
        "ControllerRevision" => ("Controller,Revision#,Age", |object, now| {
            let controller = meta::controller(object).map_or_else(String::new, |owner| {
                let group = text(owner, "/apiVersion").split('/').next().unwrap_or_default();
                format!("{}.{group}/{}", text(owner, "/kind").to_ascii_lowercase(), text(owner, "/name"))
            });
            vec![name(object), controller.into(), number(object, "/revision").into(), age(object, now)]
        }),
        "ReplicaSet" => ("Desired#,Current#,Ready#,Age;Containers,Images,Selector", replica_set),
        "Deployment" => ("Ready,Up-to-date,Available,Age;Containers,Images,Selector", deployment),
        "StatefulSet" => ("Ready,Age;Containers,Images", stateful_set),
        "Job" => ("Status,Completions,Duration,Age;Containers,Images,Selector", job),
        "ConfigMap" => ("Data,Age", |object, now| {
            vec![name(object), (count(object, "/data") + count(object, "/binaryData")).into(), age(object, now)]
        }),
        "Secret" => ("Type,Data,Age", |object, now| {
            vec![name(object), text(object, "/type").into(), count(object, "/data").into(), age(object, now)]
        }),
        "Service" => ("Type,Cluster-IP,External-IP,Port(s),Age;Selector", service),
        "ServiceAccount" => {
            ("Secrets,Age", |object, now| vec![name(object), items(object, "/secrets").len().into(), age(object, now)])
        }
        "Node" => ("Status,Roles,Age,Version;Internal-IP,External-IP,OS-Image,Kernel-Version,Container-Runtime", node),
        "Event" => return (event_columns(), event),
        "Lease" => ("Holder,Age", |object, now| {
            vec![name(object), text(object, "/spec/holderIdentity").into(), age(object, now)]
        }),
        "PodDisruptionBudget" => ("Min Available,Max Unavailable,Allowed Disruptions#,Age", disruption_budget),
        "ResourceQuota" => ("Request,Limit,Age", quota),
        "RoleBinding" | "ClusterRoleBinding" => ("Role,Age;Users,Groups,ServiceAccounts", role_binding),
        _ => {
            let created: Cells = |object, _| vec![name(object), text(object, "/metadata/creationTimestamp").into()];
            return (vec![Column::name(), Column::new("Created At", "date", "", 0)], created);
        }
    };
    let mut all = vec![Column::name()];
    for (columns, priority) in columns.split(';').zip(0..) {
        all.extend(columns.split(',').map(|column| match column.strip_suffix('#') {
            Some(column) => Column::new(column, "integer", "", priority),
            None => Column::new(column, "string", "", priority),
        }));
    }
    (all, cells)
}

fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

fn age(object: &Value, now: &str) -> Value {
    since(text(object, "/metadata/creationTimestamp"), now).into()
}

fn count(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, Map::len)
}

/// A field of each container of the template.
fn containers(object: &Value, field: &str) -> Value {
    let all: Vec<&str> = items(object, "/spec/template/spec/containers").iter().map(|item| text(item, field)).collect();
    all.join(",").into()
}

/// A label selector as it stands in a query.
fn selector(object: &Value) -> Value {
    let mut terms = pairs(object.pointer("/spec/selector/matchLabels"));
    for expression in items(object, "/spec/selector/matchExpressions") {
        let values: Vec<&str> = items(expression, "/values").iter().filter_map(Value::as_str).collect();
        let (key, values) = (text(expression, "/key"), values.join(","));
        terms.push(match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    none_if_empty(&terms)
}

fn pairs(labels: Option<&Value>) -> Vec<String> {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect()
}

fn none_if_empty(terms: &[String]) -> Value {
    if terms.is_empty() { "<none>".into() } else { terms.join(",").into() }
}

fn ready_of(object: &Value) -> Value {
    format!("{}/{}", number(object, "/status/readyReplicas"), number(object, "/spec/replicas")).into()
}

fn replica_set(object: &Value, now: &str) -> Vec<Value> {
    vec![
        name(object),
        number(object, "/spec/replicas").into(),
        number(object, "/status/replicas").into(),
        number(object, "/status/readyReplicas").into(),
        age(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
        selector(object),
    ]
}

fn deployment(object: &Value, now: &str) -> Vec<Value> {
    vec![
        name(object),
        ready_of(object),
        number(object, "/status/updatedReplicas").into(),
        number(object, "/status/availableReplicas").into(),
        age(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
        selector(object),
    ]
}

fn stateful_set(object: &Value, now: &str) -> Vec<Value> {
    vec![name(object), ready_of(object), age(object, now), containers(object, "/name"), containers(object, "/image")]
}

fn job(object: &Value, now: &str) -> Vec<Value> {
    let succeeded = number(object, "/status/succeeded");
    let completions = match (object.pointer("/spec/completions"), number(object, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let duration = match (text(object, "/status/startTime"), text(object, "/status/completionTime")) {
        ("", _) => String::new(),
        (start, "") => since(start, now),
        (start, end) => since(start, end),
    };
    let status = [("Complete", "Complete"), ("Failed", "Failed")]
        .into_iter()
        .chain(object.pointer("/metadata/deletionTimestamp").map(|_| ("", "Terminating")))
        .chain([
            ("Suspended", "Suspended"),
            ("FailureTarget", "FailureTarget"),
            ("SuccessCriteriaMet", "SuccessCriteriaMet"),
        ])
        .find(|(kind, _)| kind.is_empty() || holds(object, kind))
        .map_or("Running", |(_, word)| word);
    vec![
        name(object),
        status.into(),
        completions.into(),
        duration.into(),
        age(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
        selector(object),
    ]
}

fn service(object: &Value, now: &str) -> Vec<Value> {
    let ports: Vec<String> = items(object, "/spec/ports")
        .iter()
        .map(|port| {
            let (number_, protocol) = (number(port, "/port"), text(port, "/protocol"));
            match number(port, "/nodePort") {
                0 => format!("{number_}/{protocol}"),
                node => format!("{number_}:{node}/{protocol}"),
            }
        })
        .collect();
    let listed = |pointer: &str, field: &str| -> Vec<String> {
        items(object, pointer)
            .iter()
            .map(|item| item.as_str().unwrap_or_else(|| text(item, field)).to_owned())
            .collect()
    };
    let mut external = listed("/spec/externalIPs", "");
    let kind = text(object, "/spec/type");
    let external = match kind {
        "ExternalName" => text(object, "/spec/externalName").into(),
        "LoadBalancer" => {
            let mut all = listed("/status/loadBalancer/ingress", "/ip");
            all.append(&mut external);
            if all.is_empty() { "<pending>".into() } else { all.join(",").into() }
        }
        _ => none_if_empty(&external),
    };
    let internal = match text(object, "/spec/clusterIPs/0") {
        "" => "<none>",
        address => address,
    };
    let labels = pairs(object.pointer("/spec/selector"));
    vec![
        name(object),
        kind.into(),
        internal.into(),
        external,
        none_if_empty(&ports),
        age(object, now),
        none_if_empty(&labels),
    ]
}

fn node(object: &Value, now: &str) -> Vec<Value> {
    let mut status = match super::condition(object, "Ready") {
        None => "Unknown".to_owned(),
        Some(_) if holds(object, "Ready") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
    };
    if object.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let mut roles: Vec<String> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role.to_owned()),
            None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort();
    let address = |kind: &str| -> Value {
        let found = items(object, "/status/addresses").iter().find(|address| text(address, "/type") == kind);
        found.map_or("<none>", |found| text(found, "/address")).into()
    };
    let info = |field: &str| -> Value {
        match text(object, &format!("/status/nodeInfo/{field}")) {
            "" => "<unknown>".into(),
            text => text.into(),
        }
    };
    vec![
        name(object),
        status.into(),
        none_if_empty(&roles),
        age(object, now),
        text(object, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn event_columns() -> Vec<Column> {
    let columns = [
        ("Last Seen", 0),
        ("Type", 0),
        ("Reason", 0),
        ("Object", 0),
        ("Subobject", 1),
        ("Source", 1),
        ("Message", 0),
        ("First Seen", 1),
        ("Count", 1),
    ];
    let columns = columns.into_iter().map(|(name, priority)| Column::new(name, "string", "", priority));
    columns.chain([Column::new("Name", "string", "name", 1)]).collect()
}

/// Of both groups: the newer one calls the same things otherwise.
fn event(object: &Value, now: &str) -> Vec<Value> {
    let either = |one: &str, other: &str| match text(object, one) {
        "" => text(object, other).to_owned(),
        text => text.to_owned(),
    };
    let ago = |time: &str| since(time, now);
    let first = match either("/firstTimestamp", "/deprecatedFirstTimestamp").as_str() {
        "" => ago(text(object, "/eventTime")),
        time => ago(time),
    };
    let mut last = match either("/lastTimestamp", "/deprecatedLastTimestamp").as_str() {
        "" => first.clone(),
        time => ago(time),
    };
    let mut count = number(object, "/count").max(number(object, "/deprecatedCount"));
    if object.get("series").is_some_and(Value::is_object) {
        last = ago(text(object, "/series/lastObservedTime"));
        count = number(object, "/series/count");
    } else if count == 0 {
        count = 1;
    }
    let regarding = if object.get("regarding").is_some() { "/regarding" } else { "/involvedObject" };
    let about = |field: &str| text(object, &format!("{regarding}/{field}"));
    let kind = about("kind").to_lowercase();
    let target = if about("name").is_empty() { kind } else { format!("{kind}/{}", about("name")) };
    let component = match either("/source/component", "/deprecatedSource/component").as_str() {
        "" => either("/reportingComponent", "/reportingController"),
        component => component.to_owned(),
    };
    let host = match either("/source/host", "/deprecatedSource/host").as_str() {
        "" => text(object, "/reportingInstance").to_owned(),
        host => host.to_owned(),
    };
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    vec![
        last.into(),
        text(object, "/type").into(),
        text(object, "/reason").into(),
        target.into(),
        about("fieldPath").into(),
        source.into(),
        either("/message", "/note").trim().into(),
        first.into(),
        count.into(),
        name(object),
    ]
}

fn disruption_budget(object: &Value, now: &str) -> Vec<Value> {
    let bound = |field: &str| -> Value {
        match object.pointer(&format!("/spec/{field}")) {
            None | Some(Value::Null) => "N/A".into(),
            Some(Value::String(text)) => text.as_str().into(),
            Some(other) => other.to_string().into(),
        }
    };
    let allowed = number(object, "/status/disruptionsAllowed");
    vec![name(object), bound("minAvailable"), bound("maxUnavailable"), allowed.into(), age(object, now)]
}

fn quota(object: &Value, now: &str) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in object.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten() {
        let amount = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("0").to_owned();
        let used = object.pointer("/status/used").and_then(|used| used.get(resource));
        let line = format!("{resource}: {}/{}", amount(used), amount(Some(hard)));
        if resource.starts_with("limits.") { &mut limits } else { &mut requests }.push(line);
    }
    vec![name(object), requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
}

fn role_binding(object: &Value, now: &str) -> Vec<Value> {
    let subjects = |kind: &str| -> Value {
        let subjects = items(object, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
        let names: Vec<String> = subjects
            .map(|subject| match (kind, text(subject, "/name")) {
                ("ServiceAccount", name) => format!("{}/{name}", text(subject, "/namespace")),
                (_, name) => name.to_owned(),
            })
            .collect();
        names.join(", ").into()
    };
    let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
    vec![name(object), role.into(), age(object, now), subjects("User"), subjects("Group"), subjects("ServiceAccount")]
}
