//! The values that the API server fills in where a built-in object says nothing.

use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::meta::{self, entry};

fn default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    map.entry(key).or_insert_with(|| value.into());
}

fn each<'a>(map: &'a mut Map<String, Value>, list: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Fills in the defaults of an object of a built-in kind.
pub fn set(kind: &Kind, object: &mut Value) {
    let map = meta::as_map(object);
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => pod(map),
        ("", "Secret") => secret(map),
        ("", "Service") => service(entry(map, "spec")),
        ("", "Namespace") => {
            default(entry(map, "status"), "phase", "Active");
            if let Some(name) = map.get("metadata").and_then(|metadata| metadata.get("name")).cloned() {
                entry(entry(map, "metadata"), "labels").insert("kubernetes.io/metadata.name".to_owned(), name);
            }
        }
        ("apps", "Deployment") => deployment(entry(map, "spec")),
        ("apps", "StatefulSet") => stateful_set(entry(map, "spec")),
        ("apps", "ReplicaSet") => {
            let spec = entry(map, "spec");
            default(spec, "replicas", 1);
            template(spec);
        }
        ("batch", "Job") => job(map),
        ("rbac.authorization.k8s.io", _) => binding(map),
        ("apiextensions.k8s.io", _) => definition(entry(map, "spec")),
        _ => {}
    }
}

/// What is written as text is kept as bytes.
fn secret(map: &mut Map<String, Value>) {
    default(map, "type", "Opaque");
    if let Some(Value::Object(texts)) = map.remove("stringData") {
        let data = entry(map, "data");
        for (key, text) in texts {
            let bytes = ByteString(text.as_str().unwrap_or_default().as_bytes().to_vec());
            data.insert(key, json!(bytes));
        }
    }
}

fn pod(map: &mut Map<String, Value>) {
    let spec = entry(map, "spec");
    pod_spec(spec);
    default(spec, "enableServiceLinks", true);
    // Limits without requests are requests too.
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            let resources = entry(container, "resources");
            if let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() {
                let requests = entry(resources, "requests");
                limits.into_iter().for_each(|(name, amount)| default(requests, &name, amount));
            }
        }
    }
}

/// Fills in the defaults of `template.spec`.
fn template(spec: &mut Map<String, Value>) {
    pod_template(entry(spec, "template"));
}

/// Fills in the defaults of a pod template.
fn pod_template(template: &mut Map<String, Value>) {
    pod_spec(entry(template, "spec"));
}

fn pod_spec(spec: &mut Map<String, Value>) {
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "restartPolicy", "Always");
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", 30);
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        spec.insert("serviceAccount".to_owned(), account);
    }
    for list in ["containers", "initContainers"] {
        each(spec, list).for_each(container);
    }
    for volume in each(spec, "volumes") {
        for (source, key) in [("configMap", "defaultMode"), ("secret", "defaultMode"), ("projected", "defaultMode")] {
            if let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) {
                default(source, key, 0o644);
            }
        }
        if let Some(path) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
            default(path, "type", "");
        }
        // A volume that says nothing is an empty directory.
        if volume.len() == 1 {
            volume.insert("emptyDir".to_owned(), json!({}));
        }
    }
}

fn container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    default(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
    default(container, "resources", json!({}));
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    each(container, "ports").for_each(|port| default(port, "protocol", "TCP"));
    for variable in each(container, "env") {
        if let Some(field) = variable.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef")) {
            default(meta::as_map(field), "apiVersion", "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) else { continue };
        for (key, value) in
            [("failureThreshold", 3), ("periodSeconds", 10), ("successThreshold", 1), ("timeoutSeconds", 1)]
        {
            default(probe, key, value);
        }
        if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
            default(get, "path", "/");
            default(get, "scheme", "HTTP");
        }
    }
}

fn deployment(spec: &mut Map<String, Value>) {
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    let strategy = entry(spec, "strategy");
    default(strategy, "type", "RollingUpdate");
    if strategy.get("type").is_some_and(|kind| kind == "RollingUpdate") {
        let rolling = entry(strategy, "rollingUpdate");
        default(rolling, "maxSurge", "25%");
        default(rolling, "maxUnavailable", "25%");
    }
    template(spec);
}

fn stateful_set(spec: &mut Map<String, Value>) {
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    let strategy = entry(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if strategy.get("type").is_some_and(|kind| kind == "RollingUpdate") {
        default(entry(strategy, "rollingUpdate"), "partition", 0);
    }
    template(spec);
}

fn job(map: &mut Map<String, Value>) {
    let uid = map.get("metadata").and_then(|metadata| metadata.get("uid")).cloned();
    let name = map.get("metadata").and_then(|metadata| metadata.get("name")).cloned();
    let spec = entry(map, "spec");
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "podReplacementPolicy", "TerminatingOrFailed");
    default(spec, "manualSelector", false);
    template(spec);
    if spec.get("manualSelector") == Some(&Value::Bool(false)) {
        spec.remove("manualSelector");
        if let (Some(uid), Some(name)) = (uid, name)
            && !spec.contains_key("selector")
        {
            let labels = entry(entry(entry(spec, "template"), "metadata"), "labels");
            for (key, value) in [("controller-uid", &uid), ("job-name", &name)] {
                default(labels, key, value.clone());
                default(labels, &format!("batch.kubernetes.io/{key}"), value.clone());
            }
            let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
            spec.insert("selector".to_owned(), selector);
        }
    }
}

fn service(spec: &mut Map<String, Value>) {
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    if spec.get("type").is_some_and(|kind| kind != "ExternalName") {
        default(spec, "internalTrafficPolicy", "Cluster");
        default(spec, "ipFamilies", json!(["IPv4"]));
        default(spec, "ipFamilyPolicy", "SingleStack");
    }
    for port in each(spec, "ports") {
        default(port, "protocol", "TCP");
        if let Some(number) = port.get("port").cloned() {
            default(port, "targetPort", number);
        }
    }
}

fn binding(map: &mut Map<String, Value>) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    if let Some(role) = map.get_mut("roleRef").and_then(Value::as_object_mut) {
        default(role, "apiGroup", GROUP);
    }
    for subject in each(map, "subjects") {
        if subject.get("kind").is_some_and(|kind| kind == "User" || kind == "Group") {
            default(subject, "apiGroup", GROUP);
        }
    }
}

fn definition(spec: &mut Map<String, Value>) {
    default(entry(spec, "conversion"), "strategy", "None");
    let names = entry(spec, "names");
    let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    default(names, "singular", kind.to_lowercase());
    default(names, "listKind", format!("{kind}List"));
}
