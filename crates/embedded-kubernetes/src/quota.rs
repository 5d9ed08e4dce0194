//! What a `ResourceQuota` counts, and how much of it an object takes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::kinds::{Kind, Resource};
use super::meta;
use super::quantity::Quantity;

/// Amounts by the names that a quota gives them.
pub type Amounts = BTreeMap<String, Quantity>;

/// Kinds that are counted by their plural alone.
const BY_PLURAL: &[&str] =
    &["configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"];

/// The amounts at a JSON pointer.
pub fn amounts(object: &Value, pointer: &str) -> Amounts {
    let map = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, amount)| Some((name.clone(), quantity(amount)?))).collect()
}

/// An amount, written as text or as a number.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text),
        other => Quantity::parse(&other.to_string()),
    }
}

/// The resource that has to be counted for a name in a quota.
pub fn counted_by(name: &str) -> Resource {
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return Resource::new(group, plural);
    }
    let plural = name.split('.').next().unwrap_or_default();
    if BY_PLURAL.contains(&plural) { Resource::new("", plural) } else { Resource::new("", "pods") }
}

/// How much an object takes of what a quota counts. What it takes nothing of is left out.
pub fn taken(kind: &Kind, object: &Value, quota: &Value) -> Amounts {
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
            (true, name) => of_pod(object, name),
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

/// What a name of a quota is in the resources of a container: `requests.cpu`, and `cpu` for short.
fn in_container(name: &str) -> (&'static str, &str) {
    match name.split_once('.') {
        Some(("limits", what)) => ("limits", what),
        Some(("requests", what)) => ("requests", what),
        _ => ("requests", name),
    }
}

fn of_pod(pod: &Value, name: &str) -> Quantity {
    let (list, what) = in_container(name);
    of_containers(pod, list, what)
}

/// How much a pod requests of something, or is limited to: what its containers need together or, if that is more,
/// what one needs that runs before them.
pub fn of_containers(pod: &Value, list: &str, what: &str) -> Quantity {
    let containers = |of: &str| pod.pointer(&format!("/spec/{of}")).and_then(Value::as_array).into_iter().flatten();
    let amount = |container: &Value| {
        let amount = container.pointer("/resources").and_then(|resources| resources.get(list)?.get(what));
        amount.and_then(quantity).unwrap_or_default()
    };
    let mut together = containers("containers").map(amount).fold(Quantity::default(), Quantity::plus);
    let mut before = Quantity::default();
    for container in containers("initContainers") {
        // One that goes on running counts beside the others.
        if meta::text(container, "/restartPolicy") == "Always" {
            together = together.plus(amount(container));
        } else {
            before = before.or_more(amount(container));
        }
    }
    together.or_more(before)
}

/// The containers that do not say what a quota counts of cpu and memory, in the words of the real server.
pub fn unsaid(pod: &Value, quota: &Value) -> Option<String> {
    const MUST: &[&str] = &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    let hard = quota.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, _) in hard.filter(|(name, _)| MUST.contains(&name.as_str())) {
        let (list, what) = in_container(name);
        for of in ["/spec/containers", "/spec/initContainers"] {
            for container in pod.pointer(of).and_then(Value::as_array).into_iter().flatten() {
                let said = container.pointer("/resources").and_then(|resources| resources.get(list)?.get(what));
                if said.is_none() {
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

/// Whether a quota is about the object.
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

/// Amounts in one line: `cpu=1,pods=2`.
pub fn listed<'a>(amounts: impl Iterator<Item = (&'a String, &'a Quantity)>) -> String {
    amounts.map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Registry;
    use serde_json::json;

    #[test]
    fn a_pod_takes_what_its_containers_need_together_or_one_before_them() {
        let registry = Registry::new(std::iter::empty());
        let kind = registry.at("", "v1", "pods").unwrap();
        let cpu = |amount: &str| json!({"resources": {"requests": {"cpu": amount}, "limits": {"memory": "1Gi"}}});
        let pod = json!({"spec": {"containers": [cpu("500m"), cpu("1")], "initContainers": [cpu("2")]}});
        let hard = json!({"pods": "1", "cpu": "9", "requests.cpu": "9", "limits.memory": "9Gi", "count/pods": 1, "secrets": 1});
        let quota = json!({"spec": {"hard": hard}});
        assert_eq!(
            listed(taken(kind, &pod, &quota).iter()),
            "count/pods=1,cpu=2,limits.memory=2Gi,pods=1,requests.cpu=2"
        );
        let over = json!({"spec": pod["spec"], "status": {"phase": "Failed"}});
        assert_eq!(listed(taken(kind, &over, &quota).iter()), "count/pods=1");
    }

    #[test]
    fn scopes_narrow_a_quota() {
        let quota = json!({"spec": {"scopes": ["BestEffort"]}});
        assert!(in_scope(true, &json!({"status": {"qosClass": "BestEffort"}}), &quota));
        assert!(!in_scope(true, &json!({"status": {"qosClass": "Burstable"}}), &quota));
        assert!(!in_scope(false, &json!({}), &quota));
    }
}
