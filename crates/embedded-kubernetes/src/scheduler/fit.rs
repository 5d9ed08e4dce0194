//! Checks whether a node can run a pod: the pod's needs, the node's free resources, and the node's restrictions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::meta;
use crate::quantity::Quantity;
use crate::quota;
use crate::selector::Selector;

/// The resources that a pod uses on its node.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    amounts: BTreeMap<String, Quantity>,
    /// The host ports, by protocol and number.
    ports: Vec<(String, i64)>,
}

impl Needs {
    /// Returns the needs of a pod.
    pub(super) fn for_pod(pod: &Value) -> Self {
        let mut amounts = BTreeMap::new();
        let mut ports = Vec::new();
        for list in ["containers", "initContainers"] {
            let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array).into_iter().flatten();
            for container in containers {
                let requests = container.pointer("/resources/requests").and_then(Value::as_object);
                for (what, _) in requests.into_iter().flatten() {
                    amounts.entry(what.clone()).or_insert_with(|| quota::pod_resource(pod, "requests", what));
                }
                let open = container.get("ports").and_then(Value::as_array).into_iter().flatten();
                ports.extend(open.filter_map(|port| {
                    let number = meta::number(port, "/hostPort").filter(|number| *number != 0)?;
                    Some((meta::text(port, "/protocol").to_owned(), number))
                }));
            }
        }
        Self { amounts, ports }
    }
}

/// The pods on a node by key, and the sum of their needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Load {
    pods: BTreeMap<String, Needs>,
    sums: BTreeMap<String, Quantity>,
}

impl Load {
    /// Adds a pod, or replaces its needs.
    pub(super) fn add(&mut self, key: &str, needs: Needs) {
        self.remove(key);
        for (what, amount) in &needs.amounts {
            let sum = self.sums.entry(what.clone()).or_default();
            *sum = sum.plus(*amount);
        }
        self.pods.insert(key.to_owned(), needs);
    }

    /// Removes a pod.
    pub(super) fn remove(&mut self, key: &str) {
        for (what, amount) in self.pods.remove(key).unwrap_or_default().amounts {
            let sum = self.sums.entry(what).or_default();
            *sum = sum.minus(amount);
        }
    }

    /// Returns whether there are no pods.
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }
}

/// The reasons why a node cannot run a pod.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reasons: Vec<String>,
    /// Whether the node could not run the pod even if it were empty.
    pub(super) permanent: bool,
}

/// A node, and the pods that it runs.
pub(super) struct Candidate<'a> {
    pub(super) node: &'a Value,
    pub(super) load: &'a Load,
}

impl Candidate<'_> {
    /// Returns the resources that the pod would leave free, in millionths of the node, or why the node cannot run it.
    /// The first check that fails is the reason, in the order of the real scheduler.
    pub(super) fn evaluate(&self, pod: &Value, needs: &Needs) -> Result<i128, Refusal> {
        let never = |reason: &str| Err(Refusal { reasons: vec![reason.to_owned()], permanent: true });
        let node = self.node;
        let unschedulable = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) && !tolerates(pod, &unschedulable) {
            return never("node(s) were unschedulable");
        }
        let taints = node.pointer("/spec/taints").and_then(Value::as_array).into_iter().flatten();
        let mut repelling = taints.filter(|taint| matches!(meta::text(taint, "/effect"), "NoSchedule" | "NoExecute"));
        if repelling.any(|taint| !tolerates(pod, taint)) {
            return never("node(s) had untolerated taint(s)");
        }
        if !matches_node_selection(pod, node) {
            return never("node(s) didn't match Pod's node affinity/selector");
        }
        let busy = |port: &(String, i64)| self.load.pods.values().any(|other| other.ports.contains(port));
        if needs.ports.iter().any(busy) {
            let reason = "node(s) didn't have free ports for the requested pod ports".to_owned();
            return Err(Refusal { reasons: vec![reason], permanent: false });
        }
        self.fit(needs)
    }

    fn allocatable(&self, what: &str) -> Quantity {
        let amount = |field: &str| self.node.pointer(&format!("/status/{field}"))?.get(what).and_then(quota::quantity);
        amount("allocatable").or_else(|| amount("capacity")).unwrap_or_default()
    }

    fn used(&self, what: &str) -> Quantity {
        self.load.sums.get(what).copied().unwrap_or_default()
    }

    fn fit(&self, needs: &Needs) -> Result<i128, Refusal> {
        let mut refusal = Refusal { reasons: Vec::new(), permanent: false };
        let count = i64::try_from(self.load.pods.len()).unwrap_or(i64::MAX).saturating_add(1);
        if Quantity::whole(count) > self.allocatable("pods") {
            refusal.reasons.push("Too many pods".to_owned());
        }
        for (what, amount) in needs.amounts.iter().filter(|(_, amount)| !amount.is_zero()) {
            let allocatable = self.allocatable(what);
            if self.used(what).plus(*amount) > allocatable {
                refusal.reasons.push(format!("Insufficient {what}"));
                refusal.permanent |= *amount > allocatable;
            }
        }
        if !refusal.reasons.is_empty() {
            return Err(refusal);
        }
        let asked = |what: &str| needs.amounts.get(what).copied().unwrap_or_default();
        let left = |what: &str| {
            let used = self.used(what).plus(asked(what));
            1_000_000 - used.millionths_of(self.allocatable(what))
        };
        // Of two nodes with the same resources left, the one with fewer pods is better.
        Ok((left("cpu") + left("memory")).saturating_mul(1_000) - i128::from(count))
    }
}

/// Returns whether a pod tolerates a taint.
fn tolerates(pod: &Value, taint: &Value) -> bool {
    let tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array).into_iter().flatten();
    let text = |object: &'_ Value, key: &str| meta::text(object, key).to_owned();
    tolerations.into_iter().any(|toleration| {
        let (key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
        let value = text(toleration, "/value") == text(taint, "/value");
        let exists = text(toleration, "/operator") == "Exists";
        (effect.is_empty() || effect == text(taint, "/effect"))
            && (key == text(taint, "/key") || (key.is_empty() && exists))
            && (exists || value)
    })
}

/// Returns whether the pod's node selector and node affinity select the node.
fn matches_node_selection(pod: &Value, node: &Value) -> bool {
    let labels = json!({"matchLabels": pod.pointer("/spec/nodeSelector")});
    if !Selector::from_label_selector(&labels).selects(node) {
        return false;
    }
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let Some(terms) = pod.pointer(required).and_then(Value::as_array) else { return true };
    terms.iter().any(|term| {
        let expressions = |key: &str| term.get(key).and_then(Value::as_array).filter(|list| !list.is_empty());
        let (labels, fields) = (expressions("matchExpressions"), expressions("matchFields"));
        let by_labels = labels.is_none_or(|_| Selector::from_label_selector(term).selects(node));
        let by_name = fields.is_none_or(|fields| {
            fields.iter().all(|field| {
                let named = meta::texts(field, "/values").iter().any(|name| name == meta::name(node));
                named == (meta::text(field, "/operator") == "In")
            })
        });
        // A term without conditions selects no node.
        (labels.is_some() || fields.is_some()) && by_labels && by_name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(changes: &Value) -> Value {
        let mut node = json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd", "size": "8"}}, "spec": {},
            "status": {"allocatable": {"cpu": "2", "memory": "2Gi", "pods": "2"}},
        });
        for (key, value) in changes.as_object().into_iter().flatten() {
            node["spec"][key] = value.clone();
        }
        node
    }

    fn pod(spec: &Value) -> Value {
        let requests = json!({"cpu": "500m", "memory": "1Gi"});
        let mut pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            pod["spec"][key] = value.clone();
        }
        pod
    }

    fn refusal_reasons(node: &Value, pod: &Value, pods: usize) -> Vec<String> {
        let needs = Needs::for_pod(pod);
        let mut load = Load::default();
        (0..pods).for_each(|number| load.add(&number.to_string(), needs.clone()));
        Candidate { node, load: &load }.evaluate(pod, &needs).err().map(|refusal| refusal.reasons).unwrap_or_default()
    }

    #[test]
    fn node_is_full_when_any_resource_is_used_up() {
        let plain = pod(&json!({}));
        assert!(refusal_reasons(&node(&json!({})), &plain, 1).is_empty());
        assert_eq!(refusal_reasons(&node(&json!({})), &plain, 2), ["Too many pods", "Insufficient memory"]);
        assert_eq!(
            refusal_reasons(&node(&json!({})), &plain, 4),
            ["Too many pods", "Insufficient cpu", "Insufficient memory"]
        );
    }

    #[test]
    fn taints_repel_pods_without_tolerations() {
        let tainted = node(&json!({"taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]}));
        assert_eq!(refusal_reasons(&tainted, &pod(&json!({})), 0), ["node(s) had untolerated taint(s)"]);
        for toleration in [
            json!({"key": "a", "value": "b"}),
            json!({"key": "a", "operator": "Exists"}),
            json!({"operator": "Exists"}),
        ] {
            assert!(
                refusal_reasons(&tainted, &pod(&json!({"tolerations": [toleration]})), 0).is_empty(),
                "{toleration}"
            );
        }
        let other = json!({"tolerations": [{"key": "a", "value": "b", "effect": "NoExecute"}]});
        assert_eq!(refusal_reasons(&tainted, &pod(&other), 0).len(), 1);
        let soft = node(&json!({"taints": [{"key": "a", "effect": "PreferNoSchedule"}]}));
        assert!(refusal_reasons(&soft, &pod(&json!({})), 0).is_empty());
        let closed = node(&json!({"unschedulable": true}));
        assert_eq!(refusal_reasons(&closed, &pod(&json!({})), 0), ["node(s) were unschedulable"]);
    }

    #[test]
    fn pod_selects_its_node_by_labels_and_name() {
        let affinity = |term: &Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [term]}}}})
        };
        let by_size = |operator: &str, bound: &str| {
            affinity(&json!({"matchExpressions": [{"key": "size", "operator": operator, "values": [bound]}]}))
        };
        let by_name = |name: &str| {
            affinity(&json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}))
        };
        for yes in [json!({"nodeSelector": {"disk": "ssd"}}), by_size("Gt", "7"), by_name("n")] {
            assert!(refusal_reasons(&node(&json!({})), &pod(&yes), 0).is_empty(), "{yes}");
        }
        for no in [json!({"nodeSelector": {"disk": "hdd"}}), by_size("Lt", "7"), by_name("m"), affinity(&json!({}))] {
            let reason = "node(s) didn't match Pod's node affinity/selector";
            assert_eq!(refusal_reasons(&node(&json!({})), &pod(&no), 0), [reason], "{no}");
        }
    }
}
