//! Whether a node will do for a pod: what the pod needs, what the node has, and whom the node lets in.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::meta;
use crate::quantity::Quantity;
use crate::quota;
use crate::selector::Selector;

/// What a pod takes up on its node.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    amounts: BTreeMap<String, Quantity>,
    /// Ports of the node: protocol and number.
    ports: Vec<(String, i64)>,
}

impl Needs {
    /// What a pod asks for.
    pub(super) fn of(pod: &Value) -> Self {
        let mut amounts = BTreeMap::new();
        let mut ports = Vec::new();
        for list in ["containers", "initContainers"] {
            let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array).into_iter().flatten();
            for container in containers {
                let requests = container.pointer("/resources/requests").and_then(Value::as_object);
                for (what, _) in requests.into_iter().flatten() {
                    amounts.entry(what.clone()).or_insert_with(|| quota::of_containers(pod, "requests", what));
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

/// The pods on a node, by key, and what they need together.
#[derive(Debug, Clone, Default)]
pub(super) struct Load {
    pods: BTreeMap<String, Needs>,
    sums: BTreeMap<String, Quantity>,
}

impl Load {
    /// Adds a pod, or what has become of one.
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

    /// Whether there is no pod.
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }
}

/// Why a node will not do.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reasons: Vec<String>,
    /// Whether it would not even if it were empty.
    pub(super) for_good: bool,
}

/// A node, and the pods on it.
pub(super) struct Place<'a> {
    pub(super) node: &'a Value,
    pub(super) load: &'a Load,
}

impl Place<'_> {
    /// How much room there would be left, in millionths of the node, or why it will not do. The first check that fails
    /// is the reason, in the order of the real scheduler.
    pub(super) fn judge(&self, pod: &Value, needs: &Needs) -> Result<i128, Refusal> {
        let never = |reason: &str| Err(Refusal { reasons: vec![reason.to_owned()], for_good: true });
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
        if !wanted(pod, node) {
            return never("node(s) didn't match Pod's node affinity/selector");
        }
        let busy = |port: &(String, i64)| self.load.pods.values().any(|other| other.ports.contains(port));
        if needs.ports.iter().any(busy) {
            let reason = "node(s) didn't have free ports for the requested pod ports".to_owned();
            return Err(Refusal { reasons: vec![reason], for_good: false });
        }
        self.fit(needs)
    }

    fn allocatable(&self, what: &str) -> Quantity {
        let amount = |of: &str| self.node.pointer(&format!("/status/{of}"))?.get(what).and_then(quota::quantity);
        amount("allocatable").or_else(|| amount("capacity")).unwrap_or_default()
    }

    fn used(&self, what: &str) -> Quantity {
        self.load.sums.get(what).copied().unwrap_or_default()
    }

    fn fit(&self, needs: &Needs) -> Result<i128, Refusal> {
        let mut refusal = Refusal { reasons: Vec::new(), for_good: false };
        let count = i64::try_from(self.load.pods.len()).unwrap_or(i64::MAX).saturating_add(1);
        if Quantity::whole(count) > self.allocatable("pods") {
            refusal.reasons.push("Too many pods".to_owned());
        }
        for (what, amount) in needs.amounts.iter().filter(|(_, amount)| !amount.is_zero()) {
            let there = self.allocatable(what);
            if self.used(what).plus(*amount) > there {
                refusal.reasons.push(format!("Insufficient {what}"));
                refusal.for_good |= *amount > there;
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
        // Of two that are as full, the one with fewer pods.
        Ok((left("cpu") + left("memory")).saturating_mul(1_000) - i128::from(count))
    }
}

/// Whether a pod bears a taint.
fn tolerates(pod: &Value, taint: &Value) -> bool {
    let tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array).into_iter().flatten();
    let text = |of: &'_ Value, key: &str| meta::text(of, key).to_owned();
    tolerations.into_iter().any(|toleration| {
        let (key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
        let value = text(toleration, "/value") == text(taint, "/value");
        let exists = text(toleration, "/operator") == "Exists";
        (effect.is_empty() || effect == text(taint, "/effect"))
            && (key == text(taint, "/key") || (key.is_empty() && exists))
            && (exists || value)
    })
}

/// Whether the node is one of those that the pod asks for.
fn wanted(pod: &Value, node: &Value) -> bool {
    let labels = json!({"matchLabels": pod.pointer("/spec/nodeSelector")});
    if !Selector::of_labels(&labels).selects(node) {
        return false;
    }
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let Some(terms) = pod.pointer(required).and_then(Value::as_array) else { return true };
    terms.iter().any(|term| {
        let expressions = |key: &str| term.get(key).and_then(Value::as_array).filter(|list| !list.is_empty());
        let (labels, fields) = (expressions("matchExpressions"), expressions("matchFields"));
        let by_labels = labels.is_none_or(|_| Selector::of_labels(term).selects(node));
        let by_name = fields.is_none_or(|fields| {
            fields.iter().all(|field| {
                let named = meta::texts(field, "/values").iter().any(|name| name == meta::name(node));
                named == (meta::text(field, "/operator") == "In")
            })
        });
        // A term that asks for nothing asks for no node.
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

    fn verdict(node: &Value, pod: &Value, there: usize) -> Vec<String> {
        let needs = Needs::of(pod);
        let mut load = Load::default();
        (0..there).for_each(|number| load.add(&number.to_string(), needs.clone()));
        Place { node, load: &load }.judge(pod, &needs).err().map(|refusal| refusal.reasons).unwrap_or_default()
    }

    #[test]
    fn a_node_is_full_when_anything_is_used_up() {
        let plain = pod(&json!({}));
        assert!(verdict(&node(&json!({})), &plain, 1).is_empty());
        assert_eq!(verdict(&node(&json!({})), &plain, 2), ["Too many pods", "Insufficient memory"]);
        assert_eq!(verdict(&node(&json!({})), &plain, 4), ["Too many pods", "Insufficient cpu", "Insufficient memory"]);
    }

    #[test]
    fn taints_repel_those_who_do_not_bear_them() {
        let tainted = node(&json!({"taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]}));
        assert_eq!(verdict(&tainted, &pod(&json!({})), 0), ["node(s) had untolerated taint(s)"]);
        for toleration in [
            json!({"key": "a", "value": "b"}),
            json!({"key": "a", "operator": "Exists"}),
            json!({"operator": "Exists"}),
        ] {
            assert!(verdict(&tainted, &pod(&json!({"tolerations": [toleration]})), 0).is_empty(), "{toleration}");
        }
        let other = json!({"tolerations": [{"key": "a", "value": "b", "effect": "NoExecute"}]});
        assert_eq!(verdict(&tainted, &pod(&other), 0).len(), 1);
        let soft = node(&json!({"taints": [{"key": "a", "effect": "PreferNoSchedule"}]}));
        assert!(verdict(&soft, &pod(&json!({})), 0).is_empty());
        let closed = node(&json!({"unschedulable": true}));
        assert_eq!(verdict(&closed, &pod(&json!({})), 0), ["node(s) were unschedulable"]);
    }

    #[test]
    fn a_pod_chooses_its_node_by_labels_and_name() {
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
            assert!(verdict(&node(&json!({})), &pod(&yes), 0).is_empty(), "{yes}");
        }
        for no in [json!({"nodeSelector": {"disk": "hdd"}}), by_size("Lt", "7"), by_name("m"), affinity(&json!({}))] {
            let reason = "node(s) didn't match Pod's node affinity/selector";
            assert_eq!(verdict(&node(&json!({})), &pod(&no), 0), [reason], "{no}");
        }
    }
}
