//! Extracts facts from a workload of any kind. Pure.

use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, OwnerReference};
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde_json::{Map, Value};

use crate::annotations;
use crate::apply::writer::{SCALE_MANAGER, WORKLOAD_MANAGER};

/// Facts about a workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct WorkloadView {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) being_deleted: bool,
    /// Owner reference to the workload's controller.
    pub(crate) controller: Option<OwnerReference>,
    /// Replica count that the workload asks for.
    pub(crate) desired: Option<u32>,
    /// Number of workers in the status of the scale subresource.
    pub(crate) counted: Option<u32>,
    /// Hash of the body that Sluice applied last.
    pub(crate) applied: Option<String>,
    /// Field managers that own `spec.replicas`.
    pub(crate) owners: ReplicasOwners,
    /// A new pod template is being rolled out.
    pub(crate) rolling_out: bool,
    /// Number of pods that the controller counts, if it has observed the spec and waits for no pod to become available.
    pub(crate) at_rest: Option<u32>,
    /// Why the controller cannot create pods, such as an exceeded quota.
    pub(crate) replica_failure: Option<String>,
    /// The controller's message if the rollout has made no progress for longer than its deadline.
    pub(crate) deadline_exceeded: Option<String>,
    /// Label selector of the pods, in the API's string form.
    pub(crate) selector: Option<String>,
}

/// Field managers that own `spec.replicas`, by managedFields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReplicasOwners {
    /// `sluice/workload` owns it: from the first apply until `sluice/scale` has taken over.
    pub(crate) workload: bool,
    /// `sluice/scale` owns it. It writes nothing but the replica count, so any field that it owns is the replica count,
    /// wherever the kind keeps it.
    pub(crate) scale: bool,
    /// Names of other managers that own it. Empty after a foreign write that has left no entry.
    pub(crate) others: Vec<String>,
    /// `sluice/scale` has applied the same number that another manager had written before, which stays co-owner until
    /// it changes.
    pub(crate) shared: bool,
}

impl WorkloadView {
    pub(crate) fn from_object(object: &DynamicObject) -> Self {
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
            applied: object.annotations().get(annotations::APPLIED).cloned(),
            owners: ReplicasOwners::from_managed_fields(object.managed_fields()),
            rolling_out: rolling_out(object, spec, status),
            at_rest: at_rest(object.metadata.generation, status),
            replica_failure: replica_failure(status),
            deadline_exceeded: deadline_exceeded(status),
            selector: selector(&spec["selector"]),
        }
    }

    /// Returns whether the workload's controller is the object with this uid.
    pub(crate) fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller.as_ref().is_some_and(|controller| controller.uid == uid)
    }

    /// Replaces the facts that the scale subresource provides, for a kind whose layout is unknown.
    pub(crate) fn with_scale(self, scale: Scale) -> Self {
        let number = |number: i32| u32::try_from(number).ok();
        let status = scale.status;
        let desired = scale.spec.and_then(|spec| spec.replicas).and_then(number);
        // The API server returns 0 also for an object that has no count.
        let is_counted = |counted: &u32| *counted > 0 || desired == Some(0);
        Self {
            desired,
            // Another kind need not report its observed generation and counts as a Deployment does.
            at_rest: None,
            counted: status.as_ref().and_then(|status| number(status.replicas)).filter(is_counted),
            selector: status.and_then(|status| status.selector).filter(|selector| !selector.is_empty()),
            ..self
        }
    }
}

/// Returns whether a workload has the fields of a Deployment or a `StatefulSet`.
fn is_built_in(object: &DynamicObject) -> bool {
    // Objects from a watch have no type, and only these kinds are watched.
    object.types.as_ref().is_none_or(|types| types.api_version.starts_with("apps/"))
}

impl ReplicasOwners {
    fn from_managed_fields(entries: &[ManagedFieldsEntry]) -> Self {
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
        // An Update takes the field from all other managers, and one that changes nothing owns nothing. So an Update
        // owner beside `sluice/scale` has written before it.
        if owners.scale {
            owners.shared = !updates.is_empty();
        } else {
            owners.others.append(&mut updates);
        }
        owners
    }
}

/// Path of the replica count in a tree of owned fields.
pub(crate) const REPLICAS: [&str; 2] = ["f:spec", "f:replicas"];

/// Returns whether the replica count is among these fields.
pub(crate) fn owns_replicas(fields: &FieldsV1) -> bool {
    !fields.0[REPLICAS[0]][REPLICAS[1]].is_null()
}

fn owns_something(fields: &FieldsV1) -> bool {
    fields.0.as_object().is_some_and(|fields| !fields.is_empty())
}

/// Returns a non-negative count in JSON.
pub(crate) fn count(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|count| u32::try_from(count).ok())
}

/// Returns whether a new template is being rolled out. Ordinary scaling is not a rollout.
fn rolling_out(object: &DynamicObject, spec: &Value, status: &Value) -> bool {
    let number = |name: &str| count(&status[name]);
    if !is_built_in(object) {
        // Another kind need not report the number of pods with the current template.
        return number("updatedReplicas").is_some_and(|updated| number("replicas").is_some_and(|all| all > updated));
    }
    if status.is_null() {
        return true;
    }
    if let (Some(current), Some(update)) = (status["currentRevision"].as_str(), status["updateRevision"].as_str()) {
        let strategy = &spec["updateStrategy"];
        // Pods below the partition keep their template; with OnDelete all pods do, until they are deleted.
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
            .then(|| condition["message"].as_str().unwrap_or("the rollout makes no progress").to_owned())
    })
}

/// Returns a label selector in the API's string form.
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
    // Without a term that is not understood, the selector would match pods of other workloads, too.
    let terms: Option<Vec<String>> = equal.chain(others).collect();
    terms.filter(|terms| !terms.is_empty()).map(|terms| terms.join(","))
}

/// Returns name and number of every container port of a pod template.
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
        WorkloadView::from_object(&serde_json::from_value::<DynamicObject>(value).unwrap())
    }

    #[test]
    fn replica_owner_comes_from_managed_fields() {
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
        assert_eq!(
            owners(&[("kubectl", "Update"), ("sluice/scale", "Apply")]),
            shared,
            "kubectl has written before sluice/scale"
        );
    }

    #[test]
    fn selector_contains_the_match_expressions() {
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
    fn scaling_is_not_a_rollout() {
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
    fn pods_that_keep_their_template_are_not_rolled_out() {
        let set = |strategy: Value, updated: u32| {
            let status =
                json!({"currentRevision": "a", "updateRevision": "b", "replicas": 5, "updatedReplicas": updated});
            let spec = json!({"replicas": 5, "updateStrategy": strategy});
            view(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "a", "generation": 2}, "spec": spec, "status": status}))
                .rolling_out
        };
        assert!(set(json!({"type": "RollingUpdate"}), 0));
        assert!(!set(json!({"type": "OnDelete"}), 0), "it would be rolling out forever");
        let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}});
        assert!(set(partition.clone(), 1) && !set(partition, 2));
    }

    #[test]
    fn custom_kind_rolls_out_only_if_it_counts_updated_pods() {
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
    fn custom_kind_is_read_through_its_scale() {
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
        assert!(known.owners.scale, "any field that sluice/scale owns is the replica count");
        assert_eq!(scale(json!({"replicas": 3})).selector, None, "spec.selector of another layout is ignored");
        assert_eq!(
            scale(json!({"replicas": 0})).counted,
            None,
            "4 replicas are wanted: a kind without a count returns 0, too"
        );
    }

    #[test]
    fn workload_is_at_rest_when_no_pod_is_awaited() {
        let at_rest = |status: Value| super::at_rest(Some(2), &status);
        assert_eq!(at_rest(json!({"observedGeneration": 2, "replicas": 4, "availableReplicas": 4})), Some(4));
        assert_eq!(at_rest(json!({"observedGeneration": 2})), Some(0), "a Deployment leaves zeros out");
        assert_eq!(at_rest(json!({"observedGeneration": 1, "replicas": 4, "availableReplicas": 4})), None);
        assert_eq!(at_rest(json!({"observedGeneration": 2, "replicas": 4, "availableReplicas": 3})), None);
        assert_eq!(at_rest(Value::Null), None);
    }

    #[test]
    fn exceeded_progress_deadline_is_read_from_the_condition() {
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
    fn template_ports_include_native_sidecars() {
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
    fn replica_failure_is_read_from_the_condition() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {}, "status": {"conditions": [
            {"type": "ReplicaFailure", "status": "True", "message": "pods \"a-1\" is forbidden: exceeded quota: small"}]}});
        assert!(view(object).replica_failure.unwrap().contains("exceeded quota"));
    }
}
