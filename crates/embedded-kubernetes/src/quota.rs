//! Calculates what an object uses of a `ResourceQuota`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::kinds::{Kind, Resource};
use super::meta;
use super::quantity::Quantity;

/// Amounts by the names that a quota uses.
pub type Amounts = BTreeMap<String, Quantity>;

/// Kinds that a quota counts by their plural alone.
const BY_PLURAL: &[&str] =
    &["configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"];

/// Returns the amounts at a JSON pointer.
pub fn amounts(object: &Value, pointer: &str) -> Amounts {
    let map = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, amount)| Some((name.clone(), quantity(amount)?))).collect()
}

/// Parses an amount that is written as text or as a number.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text),
        other => Quantity::parse(&other.to_string()),
    }
}

/// Returns the resource whose objects a name in a quota counts.
pub fn counted_by(name: &str) -> Resource {
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return Resource::new(group, plural);
    }
    let plural = name.split('.').next().unwrap_or_default();
    if BY_PLURAL.contains(&plural) { Resource::new("", plural) } else { Resource::new("", "pods") }
}

/// Returns what an object uses of the names that a quota limits. Names of which it uses nothing are left out.
pub fn usage(kind: &Kind, object: &Value, quota: &Value) -> Amounts {
    let resource = kind.resource();
    let is_pod = kind.is("", "Pod");
    if !in_scope(is_pod, object, quota) {
        return Amounts::new();
    }
    let hard = quota.pointer("/spec/hard").and_then(Value::as_object).into_iter().flatten();
    let names = hard.map(|(name, _)| name).filter(|name| counted_by(name) == resource);
    let over = matches!(meta::text(object, "/status/phase"), "Succeeded" | "Failed");
    let amount = |name: &str| {
        if name.starts_with("count/") || BY_PLURAL.contains(&name) {
            return Quantity::whole(1);
        }
        match (is_pod, name) {
            (true, _) if over => Quantity::default(),
            (true, "pods") => Quantity::whole(1),
            (true, name) => pod_usage(object, name),
            (false, "services.loadbalancers") => one_if(meta::text(object, "/spec/type") == "LoadBalancer"),
            (false, "services.nodeports") => node_ports(object),
            (false, _) => Quantity::default(),
        }
    };
    names.map(|name| (name.clone(), amount(name))).filter(|(_, amount)| !amount.is_zero()).collect()
}

fn one_if(is: bool) -> Quantity {
    Quantity::whole(i64::from(is))
}

fn node_ports(service: &Value) -> Quantity {
    if !matches!(meta::text(service, "/spec/type"), "NodePort" | "LoadBalancer") {
        return Quantity::default();
    }
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map_or(0, Vec::len);
    Quantity::whole(i64::try_from(ports).unwrap_or(i64::MAX))
}

/// Returns where the resources of a container have a quota's name: `requests.cpu`, also written `cpu`.
fn container_field(name: &str) -> (&'static str, &str) {
    match name.split_once('.') {
        Some(("limits", what)) => ("limits", what),
        Some(("requests", what)) => ("requests", what),
        _ => ("requests", name),
    }
}

fn pod_usage(pod: &Value, name: &str) -> Quantity {
    let (list, what) = container_field(name);
    pod_resource(pod, list, what)
}

/// Returns the requests or limits of a pod for one resource: the sum over its containers, or the amount of a single
/// init container if that is larger.
pub fn pod_resource(pod: &Value, list: &str, what: &str) -> Quantity {
    let containers =
        |field: &str| pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array).into_iter().flatten();
    let amount = |container: &Value| {
        let amount = container.pointer("/resources").and_then(|resources| resources.get(list)?.get(what));
        amount.and_then(quantity).unwrap_or_default()
    };
    let mut together = containers("containers").map(amount).fold(Quantity::default(), Quantity::plus);
    let mut before = Quantity::default();
    for container in containers("initContainers") {
        // An init container that keeps running counts beside the others.
        if meta::text(container, "/restartPolicy") == "Always" {
            together = together.plus(amount(container));
        } else {
            before = before.larger_of(amount(container));
        }
    }
    together.larger_of(before)
}

/// Returns the error for containers that do not set cpu or memory although the quota limits it, as the real server
/// words it.
pub fn missing_resources(pod: &Value, quota: &Value) -> Option<String> {
    const MUST: &[&str] = &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    let hard = quota.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, _) in hard.filter(|(name, _)| MUST.contains(&name.as_str())) {
        let (list, what) = container_field(name);
        for list_path in ["/spec/containers", "/spec/initContainers"] {
            for container in pod.pointer(list_path).and_then(Value::as_array).into_iter().flatten() {
                let amount = container.pointer("/resources").and_then(|resources| resources.get(list)?.get(what));
                if amount.is_none() {
                    missing.entry(name).or_default().insert(meta::text(container, "/name"));
                }
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    let listed = missing
        .iter()
        .map(|(name, containers)| format!("{name} for: {}", containers.iter().copied().collect::<Vec<_>>().join(",")));
    Some(format!("must specify {}", listed.collect::<Vec<_>>().join("; ")))
}

/// Returns whether a quota applies to the object.
pub fn in_scope(is_pod: bool, object: &Value, quota: &Value) -> bool {
    let scopes = meta::texts(quota, "/spec/scopes");
    let plain = scopes.iter().map(|scope| (scope.as_str(), "Exists", Vec::new()));
    let expressions = quota.pointer("/spec/scopeSelector/matchExpressions").and_then(Value::as_array);
    let selected = expressions.into_iter().flatten().map(|expression| {
        let text = |key: &str| meta::text(expression, key);
        (text("/scopeName"), text("/operator"), meta::texts(expression, "/values"))
    });
    plain.chain(selected).all(|(scope, operator, values)| {
        if !is_pod {
            return false;
        }
        let terminating = object.pointer("/spec/activeDeadlineSeconds").is_some();
        let best_effort = meta::text(object, "/status/qosClass") == "BestEffort";
        let class = meta::text(object, "/spec/priorityClassName");
        match (scope, operator) {
            ("Terminating", _) => terminating,
            ("NotTerminating", _) => !terminating,
            ("BestEffort", _) => best_effort,
            ("NotBestEffort", _) => !best_effort,
            ("PriorityClass", "In") => values.iter().any(|value| value == class),
            ("PriorityClass", "NotIn") => values.iter().all(|value| value != class),
            ("PriorityClass", "DoesNotExist") => class.is_empty(),
            ("PriorityClass", _) => !class.is_empty(),
            _ => false,
        }
    })
}

/// Formats amounts on one line: `cpu=1,pods=2`.
pub fn listed<'a>(amounts: impl Iterator<Item = (&'a String, &'a Quantity)>) -> String {
    amounts.map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Registry;
    use serde_json::json;

    #[test]
    fn pod_usage_is_container_sum_or_largest_init_container() {
        let registry = Registry::new(std::iter::empty());
        let kind = registry.at("", "v1", "pods").unwrap();
        let cpu = |amount: &str| json!({"resources": {"requests": {"cpu": amount}, "limits": {"memory": "1Gi"}}});
        let pod = json!({"spec": {"containers": [cpu("500m"), cpu("1")], "initContainers": [cpu("2")]}});
        let hard = json!({"pods": "1", "cpu": "9", "requests.cpu": "9", "limits.memory": "9Gi", "count/pods": 1, "secrets": 1});
        let quota = json!({"spec": {"hard": hard}});
        assert_eq!(
            listed(usage(kind, &pod, &quota).iter()),
            "count/pods=1,cpu=2,limits.memory=2Gi,pods=1,requests.cpu=2"
        );
        let over = json!({"spec": pod["spec"], "status": {"phase": "Failed"}});
        assert_eq!(listed(usage(kind, &over, &quota).iter()), "count/pods=1");
    }

    #[test]
    fn scopes_restrict_a_quota() {
        let quota = json!({"spec": {"scopes": ["BestEffort"]}});
        assert!(in_scope(true, &json!({"status": {"qosClass": "BestEffort"}}), &quota));
        assert!(!in_scope(true, &json!({"status": {"qosClass": "Burstable"}}), &quota));
        assert!(!in_scope(false, &json!({}), &quota));
    }
}
