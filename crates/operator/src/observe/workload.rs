//! What is read from a workload, whatever its kind. Pure: JSON in, facts out.

use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, OwnerReference};
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde_json::{Map, Value};

use crate::apply::writer::{SCALE_MANAGER, WORKLOAD_MANAGER};

/// Annotation on a workload of ours: hash of what was last applied to it.
pub(crate) const APPLIED_ANNOTATION: &str = "sluice.dev/applied";

/// One look at a workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct WorkloadView {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) being_deleted: bool,
    /// Its controller, if it has one.
    pub(crate) controller: Option<OwnerReference>,
    /// Workers that it asks for.
    pub(crate) desired: Option<u32>,
    /// Workers that it counts itself, where its scale subresource says so.
    pub(crate) counted: Option<u32>,
    /// Hash of what was last applied by us.
    pub(crate) applied: Option<String>,
    /// Who owns `spec.replicas`.
    pub(crate) owners: ReplicasOwners,
    /// A template is being rolled out.
    pub(crate) rolling_out: bool,
    /// Pods that its controller counts, if it has seen what is asked for and waits for none of them to become available.
    pub(crate) at_rest: Option<u32>,
    /// Why its controller cannot create pods, such as an exceeded quota.
    pub(crate) replica_failure: Option<String>,
    /// Its roll-out has not got on for longer than its deadline, in its controller's words.
    pub(crate) deadline_exceeded: Option<String>,
    /// Its pods' selector as the API's string form.
    pub(crate) selector: Option<String>,
}

/// Who owns `spec.replicas`, by managedFields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReplicasOwners {
    /// `sluice/workload`: from the first apply, until `sluice/scale` has taken over.
    pub(crate) workload: bool,
    /// `sluice/scale`. It writes nothing but the number of workers, so whatever it owns of a workload is that number, wherever
    /// the kind keeps it.
    pub(crate) scale: bool,
    /// Anyone else, by name. Empty after a foreign write that has left no entry.
    pub(crate) others: Vec<String>,
    /// `sluice/scale` has applied the very number that somebody had written before, who has a share in it until it changes.
    pub(crate) shared: bool,
}

impl WorkloadView {
    pub(crate) fn of(object: &DynamicObject) -> Self {
        let data = &object.data;
        let spec = &data["spec"];
        let status = &data["status"];
        Self {
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            generation: object.metadata.generation,
            being_deleted: object.metadata.deletion_timestamp.is_some(),
            controller: object.owner_references().iter().find(|reference| reference.controller == Some(true)).cloned(),
            desired: count(&spec["replicas"]),
            counted: None,
            applied: object.annotations().get(APPLIED_ANNOTATION).cloned(),
            owners: ReplicasOwners::of(object.managed_fields()),
            rolling_out: rolling_out(object, spec, status),
            at_rest: at_rest(object.metadata.generation, status),
            replica_failure: replica_failure(status),
            deadline_exceeded: deadline_exceeded(status),
            selector: selector(&spec["selector"]),
        }
    }

    /// Whether its controller is the object with this uid.
    pub(crate) fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller.as_ref().is_some_and(|controller| controller.uid == uid)
    }

    /// What the scale subresource says, for a kind whose own layout is not known.
    pub(crate) fn with_scale(self, scale: Scale) -> Self {
        let number = |number: i32| u32::try_from(number).ok();
        let status = scale.status;
        let desired = scale.spec.and_then(|spec| spec.replicas).and_then(number);
        // The API server says 0 also for an object that does not count at all.
        let is_told = |counted: &u32| *counted > 0 || desired == Some(0);
        Self {
            desired,
            // What its controller has seen of this is not known: another kind need not count as a Deployment does.
            at_rest: None,
            counted: status.as_ref().and_then(|status| number(status.replicas)).filter(is_told),
            selector: status.and_then(|status| status.selector).filter(|selector| !selector.is_empty()),
            ..self
        }
    }
}

/// Whether the fields of a workload are where those of a Deployment or a `StatefulSet` are.
fn is_built_in(object: &DynamicObject) -> bool {
    // What a watch brings has no type; it brings nothing else.
    object.types.as_ref().is_none_or(|types| types.api_version.starts_with("apps/"))
}

impl ReplicasOwners {
    fn of(entries: &[ManagedFieldsEntry]) -> Self {
        let mut owners = Self::default();
        let mut updates = Vec::new();
        for entry in entries {
            match entry.manager.as_deref() {
                Some(SCALE_MANAGER) => owners.scale |= entry.fields_v1.as_ref().is_some_and(owns_something),
                _ if !entry.fields_v1.as_ref().is_some_and(owns_replicas) => {}
                Some(WORKLOAD_MANAGER) => owners.workload = true,
                other => {
                    let applied = entry.operation.as_deref() == Some("Apply");
                    let list = if applied { &mut owners.others } else { &mut updates };
                    list.push(other.unwrap_or("unknown").to_owned());
                }
            }
        }
        // An update takes the field from everybody else, and one that changes nothing owns nothing: who has written so and is
        // beside us now came before us.
        if owners.scale {
            owners.shared = !updates.is_empty();
        } else {
            owners.others.append(&mut updates);
        }
        owners
    }
}

/// Where the number of workers is in a tree of owned fields.
pub(crate) const REPLICAS: [&str; 2] = ["f:spec", "f:replicas"];

/// Whether the number of workers is among these fields.
pub(crate) fn owns_replicas(fields: &FieldsV1) -> bool {
    !fields.0[REPLICAS[0]][REPLICAS[1]].is_null()
}

fn owns_something(fields: &FieldsV1) -> bool {
    fields.0.as_object().is_some_and(|fields| !fields.is_empty())
}

/// A non-negative count in JSON.
pub(crate) fn count(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|count| u32::try_from(count).ok())
}

/// A new template is being rolled out; ordinary scaling is not a roll-out.
fn rolling_out(object: &DynamicObject, spec: &Value, status: &Value) -> bool {
    let number = |name: &str| count(&status[name]);
    if !is_built_in(object) {
        // Another kind need not say how many of its pods are of the present template.
        return number("updatedReplicas").is_some_and(|updated| number("replicas").is_some_and(|all| all > updated));
    }
    if status.is_null() {
        return true;
    }
    if let (Some(current), Some(update)) = (status["currentRevision"].as_str(), status["updateRevision"].as_str()) {
        let strategy = &spec["updateStrategy"];
        // Pods below the partition keep their template; with OnDelete all do, until somebody deletes them.
        let kept = count(&strategy["rollingUpdate"]["partition"]).unwrap_or(0);
        let to_update = number("replicas").unwrap_or(0).saturating_sub(kept);
        let is_partial = kept > 0 && number("updatedReplicas").unwrap_or(0) >= to_update;
        return current != update && strategy["type"] != "OnDelete" && !is_partial;
    }
    let observed = status["observedGeneration"].as_i64();
    let old_pods = number("replicas").unwrap_or(0) > number("updatedReplicas").unwrap_or(0);
    old_pods && observed.is_some() && object.metadata.generation.is_some()
}

fn at_rest(generation: Option<i64>, status: &Value) -> Option<u32> {
    let number = |name: &str| count(&status[name]).unwrap_or(0);
    let seen = generation.is_none() || status["observedGeneration"].as_i64() >= generation;
    (seen && number("availableReplicas") >= number("replicas")).then(|| number("replicas"))
}

fn replica_failure(status: &Value) -> Option<String> {
    status["conditions"].as_array()?.iter().find_map(|condition| {
        (condition["type"] == "ReplicaFailure" && condition["status"] == "True")
            .then(|| condition["message"].as_str().unwrap_or("pods cannot be created").to_owned())
    })
}

fn deadline_exceeded(status: &Value) -> Option<String> {
    status["conditions"].as_array()?.iter().find_map(|condition| {
        (condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded")
            .then(|| condition["message"].as_str().unwrap_or("the roll-out does not get on").to_owned())
    })
}

/// A label selector in the API's string form.
fn selector(selector: &Value) -> Option<String> {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let equal = labels.map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    let others = expressions.map(|expression| {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match expression["operator"].as_str()? {
            "In" => Some(format!("{key} in ({})", values.join(","))),
            "NotIn" => Some(format!("{key} notin ({})", values.join(","))),
            "Exists" => Some(key.to_owned()),
            "DoesNotExist" => Some(format!("!{key}")),
            _ => None,
        }
    });
    // One term that is not understood, and the rest would select somebody else's pods, too.
    let terms: Option<Vec<String>> = equal.chain(others).collect();
    terms.filter(|terms| !terms.is_empty()).map(|terms| terms.join(","))
}

/// Name and number of every container port of a pod template.
pub(crate) fn container_ports(template: &Map<String, Value>) -> impl Iterator<Item = (Option<&str>, u16)> {
    let list = |name: &str| template.get("spec").and_then(|spec| spec[name].as_array()).into_iter().flatten();
    let sidecars = list("initContainers").filter(|container| container["restartPolicy"] == "Always");
    let containers = list("containers").chain(sidecars);
    containers.flat_map(|container| container["ports"].as_array().into_iter().flatten()).filter_map(|port| {
        let number = u16::try_from(port["containerPort"].as_u64()?).ok()?;
        Some((port["name"].as_str(), number))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(value: Value) -> WorkloadView {
        WorkloadView::of(&serde_json::from_value::<DynamicObject>(value).unwrap())
    }

    #[test]
    fn replicas_belong_to_who_managed_fields_says() {
        let owners = |entries: &[(&str, &str)]| {
            let entry = |(manager, operation): &(&str, &str)| json!({"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:replicas": {}}}});
            let mut entries: Vec<Value> = entries.iter().map(entry).collect();
            entries.push(
                json!({"manager": "sluice/workload", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}),
            );
            let metadata = json!({"name": "a", "managedFields": entries});
            view(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 6}}))
                .owners
        };
        let ours = ReplicasOwners { scale: true, ..ReplicasOwners::default() };
        let other = |name: &str| vec![name.to_owned()];
        assert_eq!(owners(&[("sluice/scale", "Apply")]), ours);
        let applied = ReplicasOwners { others: other("flux"), ..ours.clone() };
        assert_eq!(owners(&[("sluice/scale", "Apply"), ("flux", "Apply")]), applied);
        let updated = ReplicasOwners { others: other("kubectl"), ..ReplicasOwners::default() };
        assert_eq!(owners(&[("kubectl", "Update")]), updated);
        let shared = ReplicasOwners { shared: true, ..ours };
        assert_eq!(owners(&[("kubectl", "Update"), ("sluice/scale", "Apply")]), shared, "it has written before us");
    }

    #[test]
    fn a_selector_has_its_expressions_too_or_it_would_select_too_much() {
        let of = |value: Value| selector(&value);
        let expressions = json!([{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]);
        assert_eq!(
            of(json!({"matchLabels": {"app": "x"}, "matchExpressions": expressions})).unwrap(),
            "app=x,tier in (a,b),!old"
        );
        assert_eq!(
            of(json!({"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "a", "operator": "New"}]})),
            None
        );
        assert_eq!(of(json!({})), None);
    }

    #[test]
    fn scaling_is_not_a_roll_out() {
        let deployment = |status: Value| {
            view(
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "generation": 2}, "spec": {"replicas": 6}, "status": status}),
            )
        };
        assert!(!deployment(json!({"observedGeneration": 1, "replicas": 4, "updatedReplicas": 4})).rolling_out);
        assert!(deployment(json!({"observedGeneration": 2, "replicas": 5, "updatedReplicas": 1})).rolling_out);
        assert!(!deployment(json!({"observedGeneration": 2})).rolling_out, "scaled to zero");
        assert!(deployment(json!({"currentRevision": "a", "updateRevision": "b"})).rolling_out);
    }

    #[test]
    fn what_is_not_to_be_updated_is_no_roll_out() {
        let set = |strategy: Value, updated: u32| {
            let status =
                json!({"currentRevision": "a", "updateRevision": "b", "replicas": 5, "updatedReplicas": updated});
            let spec = json!({"replicas": 5, "updateStrategy": strategy});
            view(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "a", "generation": 2}, "spec": spec, "status": status}))
                .rolling_out
        };
        assert!(set(json!({"type": "RollingUpdate"}), 0));
        assert!(!set(json!({"type": "OnDelete"}), 0), "it would be rolling out for ever");
        let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}});
        assert!(set(partition.clone(), 1) && !set(partition, 2));
    }

    #[test]
    fn another_kind_rolls_out_only_if_it_says_so() {
        let rolling = |status: Value| {
            view(json!({"apiVersion": "demo.test/v1", "kind": "Rollout", "metadata": {"name": "a", "generation": 2}, "spec": {}, "status": status}))
                .rolling_out
        };
        assert!(!rolling(Value::Null) && !rolling(json!({"replicas": 4, "observedGeneration": 1})));
        assert!(
            rolling(json!({"replicas": 4, "updatedReplicas": 1}))
                && !rolling(json!({"replicas": 4, "updatedReplicas": 4}))
        );
    }

    #[test]
    fn a_kind_that_keeps_its_number_elsewhere_is_understood_by_its_scale() {
        let entry = json!({"manager": "sluice/scale", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:size": {}}}});
        let object = json!({
            "apiVersion": "demo.test/v1", "kind": "Pipeline", "metadata": {"name": "a", "managedFields": [entry]},
            "spec": {"size": 4, "replicas": 9, "selector": {"matchLabels": {"not": "pods"}}},
        });
        let scale = |status: Value| {
            let scale = json!({"metadata": {}, "spec": {"replicas": 4}, "status": status});
            view(object.clone()).with_scale(serde_json::from_value(scale).unwrap())
        };
        let known = scale(json!({"replicas": 3, "selector": "app=x"}));
        assert_eq!((known.desired, known.counted, known.selector.as_deref()), (Some(4), Some(3), Some("app=x")));
        assert!(known.owners.scale, "what we have written is ours wherever it is");
        assert_eq!(scale(json!({"replicas": 3})).selector, None, "and not that of another layout");
        assert_eq!(
            scale(json!({"replicas": 0})).counted,
            None,
            "4 are asked for: a kind that does not count says 0, too"
        );
    }

    #[test]
    fn a_workload_is_at_rest_once_its_controller_has_seen_it_and_waits_for_no_pod() {
        let at_rest = |status: Value| super::at_rest(Some(2), &status);
        assert_eq!(at_rest(json!({"observedGeneration": 2, "replicas": 4, "availableReplicas": 4})), Some(4));
        assert_eq!(at_rest(json!({"observedGeneration": 2})), Some(0), "a Deployment leaves out what is zero");
        assert_eq!(at_rest(json!({"observedGeneration": 1, "replicas": 4, "availableReplicas": 4})), None);
        assert_eq!(at_rest(json!({"observedGeneration": 2, "replicas": 4, "availableReplicas": 3})), None);
        assert_eq!(at_rest(Value::Null), None);
    }

    #[test]
    fn a_deployment_that_does_not_get_on_says_so_itself() {
        let with = |status: &str, reason: &str| {
            let condition = json!({"type": "Progressing", "status": status, "reason": reason, "message": "ReplicaSet \"a-1\" has timed out progressing."});
            let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {}, "status": {"conditions": [condition]}});
            view(object).deadline_exceeded
        };
        let told = with("False", "ProgressDeadlineExceeded");
        assert_eq!(told.as_deref(), Some("ReplicaSet \"a-1\" has timed out progressing."));
        assert_eq!(with("True", "NewReplicaSetAvailable"), None);
    }

    #[test]
    fn the_ports_of_native_sidecars_are_ports_of_the_template() {
        let ports = |number: u16| json!([{"name": "metrics", "containerPort": number}]);
        let template = json!({"spec": {
            "containers": [{"name": "app"}],
            "initContainers": [
                {"name": "first", "ports": ports(1)},
                {"name": "exporter", "restartPolicy": "Always", "ports": ports(9100)},
            ],
        }});
        let found: Vec<_> = container_ports(template.as_object().unwrap()).collect();
        assert_eq!(found, [(Some("metrics"), 9100)]);
    }

    #[test]
    fn quota_shows_in_the_replica_failure_condition() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {}, "status": {"conditions": [
            {"type": "ReplicaFailure", "status": "True", "message": "pods \"a-1\" is forbidden: exceeded quota: small"}]}});
        assert!(view(object).replica_failure.unwrap().contains("exceeded quota"));
    }
}
