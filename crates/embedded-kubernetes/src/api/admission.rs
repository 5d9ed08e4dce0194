//! Admission: objects must fit the quotas of their namespace, and pods its level of security.
//!
//! As in the real server, admission comes last, when the object is otherwise valid.

use std::sync::MutexGuard;

use serde_json::{Map, Value, json};

use super::call::Call;
use super::{Server, pod_security};
use crate::kinds::{Kind, Resource};
use crate::meta;
use crate::quota::{self, Amounts};
use crate::status::Status;

/// An object that may be created. Until it is stored or dropped, no other object that a quota counts is admitted.
pub(super) struct Admitted<'a> {
    counting: Option<MutexGuard<'a, ()>>,
    /// The quotas that the object uses: the key, the revision that was read, and the new quota.
    charges: Vec<(String, u64, Value)>,
    /// The warnings for the client.
    pub(super) warnings: Vec<String>,
}

impl Admitted<'_> {
    /// Adds what the object uses to the quotas.
    pub(super) fn charge(&self, server: &Server) -> Result<(), Status> {
        debug_assert!(
            self.counting.is_some() || self.charges.is_empty(),
            "two objects could use the same part of a quota"
        );
        for (key, revision, quota) in &self.charges {
            let written = server.store().put(&quotas(), key, Some(*revision), quota.clone());
            written.map_err(|_| Status::modified("", "resourcequotas", meta::name(quota)))?;
        }
        Ok(())
    }
}

/// Returns the name for an error about an object that is refused.
fn display_name(object: &Value) -> &str {
    match meta::name(object) {
        "" => "Unknown",
        name => name,
    }
}

fn quotas() -> Resource {
    Resource::new("", "resourcequotas")
}

/// Fills in the fields of a new object that admission sets: a pod gets a service account and a priority.
pub(super) fn complete(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    if !kind.is("", "Pod") {
        return Ok(());
    }
    let name = display_name(object).to_owned();
    let spec = meta::entry(meta::as_map(object), "spec");
    let account = spec.get("serviceAccountName").cloned().unwrap_or_else(|| json!("default"));
    spec.insert("serviceAccountName".to_owned(), account.clone());
    spec.insert("serviceAccount".to_owned(), account);
    let priority = match spec.get("priorityClassName").and_then(Value::as_str) {
        None | Some("") => 0,
        Some("system-cluster-critical") => 2_000_000_000,
        Some("system-node-critical") => 2_000_001_000,
        Some(class) => {
            let why = format!("no PriorityClass with name {class} was found");
            return Err(Status::forbidden("", "pods", &name, why));
        }
    };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|given| *given != priority) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        );
        return Err(Status::forbidden("", "pods", &name, why));
    }
    spec.insert("priority".to_owned(), priority.into());
    spec.entry("preemptionPolicy").or_insert_with(|| "PreemptLowerPriority".into());
    add_tolerations(spec);
    Ok(())
}

/// Fills in the fields that admission sets on an update.
pub(super) fn complete_update(kind: &Kind, live: &Value, object: &mut Value) {
    if !kind.is("", "Pod") {
        return;
    }
    let spec = meta::entry(meta::as_map(object), "spec");
    for field in ["priority", "preemptionPolicy"] {
        if let Some(value) = live.pointer(&format!("/spec/{field}")).filter(|_| !spec.contains_key(field)) {
            spec.insert(field.to_owned(), value.clone());
        }
    }
    add_tolerations(spec);
}

/// Adds the default tolerations: a pod stays for five minutes on a node that is not ready or unreachable.
fn add_tolerations(spec: &mut Map<String, Value>) {
    let all = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Value::Array(all) = all else { return };
    let given = all.clone();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let is = |toleration: &Value, field: &str, value: &str| {
            let given = meta::text(toleration, field);
            given.is_empty() || given == value
        };
        if !given.iter().any(|given| is(given, "/key", key) && is(given, "/effect", "NoExecute")) {
            all.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// Decides whether an object may be created.
pub(super) fn create<'a>(server: &'a Server, call: &Call, object: &Value) -> Result<Admitted<'a>, Status> {
    let mut admitted = Admitted { counting: None, charges: Vec::new(), warnings: Vec::new() };
    if !call.kind.namespaced {
        return Ok(admitted);
    }
    let (kind, name) = (&call.kind, display_name(object));
    let forbid = |why: String| Status::forbidden(&kind.group, &kind.plural, name, why);
    let namespace = server.store().get(&Resource::new("", "namespaces"), &call.path.namespace);
    if let Some(namespace) = &namespace {
        admitted.warnings = pod_security::check(&call.kind, object, &namespace.value).map_err(forbid)?;
    }
    if call.kind.is("", "Pod") {
        check_service_account(server, call, object).map_err(forbid)?;
    }
    let present = || {
        let page = server.store().list(&quotas(), Some(&call.path.namespace), None, None);
        page.map(|page| page.objects).unwrap_or_default()
    };
    if present().is_empty() {
        return Ok(admitted);
    }
    admitted.counting = Some(server.lock_quotas());
    for (key, found) in present() {
        let quota = &found.value;
        let is_pod = call.kind.is("", "Pod");
        if !quota::in_scope(is_pod, object, quota) {
            continue;
        }
        if is_pod && let Some(missing) = quota::missing_resources(object, quota) {
            return Err(forbid(format!("failed quota: {}: {missing}", meta::name(quota))));
        }
        let usage = quota::usage(&call.kind, object, quota);
        if !usage.is_empty() {
            let new = charged_quota(quota, &usage).map_err(forbid)?;
            admitted.charges.push((key, found.revision, new));
        }
    }
    Ok(admitted)
}

/// Refuses a pod whose service account does not exist. `default` is exempt because a controller creates it later.
fn check_service_account(server: &Server, call: &Call, pod: &Value) -> Result<(), String> {
    let (namespace, name) = (&call.path.namespace, meta::text(pod, "/spec/serviceAccountName"));
    let key = crate::store::key(namespace, name);
    if name == "default" || server.store().get(&Resource::new("", "serviceaccounts"), &key).is_some() {
        return Ok(());
    }
    Err(format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"))
}

/// Returns the quota with the usage added, if it has room for it.
fn charged_quota(quota: &Value, usage: &Amounts) -> Result<Value, String> {
    let (hard, used) = (quota::amounts(quota, "/status/hard"), quota::amounts(quota, "/status/used"));
    let unknown: Vec<&str> =
        usage.keys().filter(|name| hard.contains_key(*name) && !used.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let name = meta::name(quota);
        return Err(format!("status unknown for quota: {name}, resources: {}", unknown.join(",")));
    }
    // A limit that the controller has not copied from the specification to the status yet is not enforced.
    let limited = usage.iter().filter(|(name, _)| hard.contains_key(*name));
    let sums: Amounts = limited
        .map(|(name, amount)| (name.clone(), used.get(name).copied().unwrap_or_default().plus(*amount)))
        .collect();
    let exceeded: Vec<&String> = sums
        .iter()
        .filter(|(name, sum)| hard.get(*name).is_some_and(|hard| *sum > hard))
        .map(|(name, _)| name)
        .collect();
    if !exceeded.is_empty() {
        let only = |amounts: &Amounts| quota::listed(amounts.iter().filter(|(name, _)| exceeded.contains(name)));
        return Err(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            meta::name(quota),
            only(usage),
            only(&used),
            only(&hard)
        ));
    }
    let mut new = quota.clone();
    let written = meta::entry(meta::entry(meta::as_map(&mut new), "status"), "used");
    written.extend(sums.iter().map(|(name, sum)| (name.clone(), sum.to_string().into())));
    Ok(new)
}
