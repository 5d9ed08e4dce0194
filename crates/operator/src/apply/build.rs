//! Builds the bodies that are applied for a job. Pure: no client, no clock.

use kube::core::{ApiResource, GroupVersionKind, ObjectMeta};
use serde_json::{Map, Value, json};

use sluice_api::v1alpha1::WorkloadKind;
use sluice_api::{JOB_LABEL, PROCESSING_FILE, PROCESSING_FILE_ENV};

use crate::annotations;
use crate::validate::{Job, OwnedWorkload, Target};

/// Key of the processing file in its `ConfigMap`.
const PROCESSING_KEY: &str = "processing.json";
/// Name of the volume with the processing file.
pub(crate) const PROCESSING_VOLUME: &str = "sluice-processing";

/// Returns the type of a workload that Sluice creates.
pub(crate) fn workload_resource(kind: WorkloadKind) -> ApiResource {
    let kind = match kind {
        WorkloadKind::Deployment => "Deployment",
        WorkloadKind::StatefulSet => "StatefulSet",
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind))
}

/// The body of a workload for server-side apply, without replicas.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkloadBody {
    pub(crate) body: Value,
    /// Hash of the body; different bodies have different hashes.
    pub(crate) hash: String,
}

impl WorkloadBody {
    /// Returns this body with the strategy and the template of the live workload, if the live `rollingUpdate` would
    /// make the API server refuse the wanted strategy, Recreate or `OnDelete`. The API server has defaulted
    /// `rollingUpdate`, so it has no owner, and an apply without the field keeps it. An apply that contains it makes
    /// Sluice the owner, and the next apply removes it (observed on 1.34).
    pub(crate) fn with_strategy_of(&self, live: &Value) -> Option<Self> {
        ["strategy", "updateStrategy"].into_iter().find_map(|field| {
            let (wanted, present) = (&self.body["spec"][field], &live["spec"][field]);
            let does_not_roll = matches!(wanted["type"].as_str(), Some("Recreate" | "OnDelete"));
            let conflicts = does_not_roll && wanted["rollingUpdate"].is_null() && !present["rollingUpdate"].is_null();
            conflicts.then(|| {
                let mut same = self.clone();
                same.body["spec"][field] = present.clone();
                // Keep the live template: with the old strategy, pods of a new template would start beside the old
                // ones.
                same.body["spec"]["template"] = live["spec"]["template"].clone();
                same
            })
        })
    }

    /// Returns the body that is sent: with the uid and the version of the object that was `seen`, so that a late write
    /// changes neither another object of this name nor a newer version; and with `replicas` while `sluice/scale` does
    /// not own them.
    pub(crate) fn with(&self, seen: Option<&ObjectMeta>, replicas: Option<u32>) -> Value {
        let mut body = self.body.clone();
        if let Some(seen) = seen {
            body["metadata"]["uid"] = json!(seen.uid);
            body["metadata"]["resourceVersion"] = json!(seen.resource_version);
        }
        if let Some(replicas) = replicas {
            body["spec"]["replicas"] = json!(replicas);
        }
        body
    }
}

/// A job and the hashes of the bodies that are applied for it, calculated once for each spec. The bodies are built when
/// they are needed: those of 5,000 jobs took 100 MiB.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) job: Job,
    /// `None`: the workload exists already, and Sluice does not apply it.
    pub(crate) workload_hash: Option<String>,
    pub(crate) processing_hash: String,
}

impl Prepared {
    pub(crate) fn new(job: Job) -> Self {
        let workload_hash = match &job.target {
            Target::Owned(owned) => Some(workload(&job, owned).hash),
            Target::Existing { .. } => None,
        };
        Self { workload_hash, processing_hash: hash(&processing(&job)), job }
    }
}

/// Builds the workload of a job.
pub(crate) fn workload(job: &Job, owned: &OwnedWorkload) -> WorkloadBody {
    let workload = &owned.workload;
    let name = &job.key.name;
    let mut spec = Map::new();
    spec.insert("selector".to_owned(), json!({ "matchLabels": { JOB_LABEL: name } }));
    spec.insert("template".to_owned(), template(name, &workload.template));
    if workload.min_ready_seconds > 0 {
        spec.insert("minReadySeconds".to_owned(), json!(workload.min_ready_seconds));
    }
    let strategy = workload.strategy.as_ref().map(|strategy| json!(strategy));
    match workload.kind {
        WorkloadKind::Deployment => {
            spec.extend(strategy.map(|strategy| ("strategy".to_owned(), strategy)));
        }
        WorkloadKind::StatefulSet => {
            spec.insert("serviceName".to_owned(), json!(name));
            // Workers do not depend on each other: one that cannot start must not delay the others.
            spec.insert("podManagementPolicy".to_owned(), json!("Parallel"));
            spec.extend(strategy.map(|strategy| ("updateStrategy".to_owned(), strategy)));
            let claims = workload.volume_claim_templates.as_ref();
            spec.extend(claims.map(|claims| ("volumeClaimTemplates".to_owned(), json!(claims))));
            let policy = workload.persistent_volume_claim_retention_policy.as_ref();
            spec.extend(policy.map(|policy| ("persistentVolumeClaimRetentionPolicy".to_owned(), json!(policy))));
        }
    }
    let resource = workload_resource(workload.kind);
    let mut body = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": name,
            "namespace": job.key.namespace,
            "labels": labels(name),
            "ownerReferences": [job.owner],
        },
        "spec": spec,
    });
    let hash = hash(&body);
    body["metadata"]["annotations"] = json!({ annotations::APPLIED: hash });
    WorkloadBody { body, hash }
}

fn labels(name: &str) -> Value {
    json!({ JOB_LABEL: name, "app.kubernetes.io/managed-by": "sluice", "app.kubernetes.io/instance": name })
}

/// Returns the user's template with the job's label, and with the processing file mounted in every container.
pub(crate) fn template(name: &str, template: &Map<String, Value>) -> Value {
    let mut template = json!(template);
    let pod_labels = &mut template["metadata"]["labels"];
    if !pod_labels.is_object() {
        *pod_labels = json!({});
    }
    pod_labels[JOB_LABEL] = json!(name);
    let pod = &mut template["spec"];
    for list in ["containers", "initContainers"] {
        for container in pod[list].as_array_mut().into_iter().flatten() {
            push(container, "env", json!({ "name": PROCESSING_FILE_ENV, "value": PROCESSING_FILE }));
            let directory = PROCESSING_FILE.rsplit_once('/').map_or("/", |(directory, _)| directory);
            push(
                container,
                "volumeMounts",
                json!({ "name": PROCESSING_VOLUME, "mountPath": directory, "readOnly": true }),
            );
        }
    }
    if pod["initContainers"].is_null()
        && let Some(pod) = pod.as_object_mut()
    {
        pod.remove("initContainers");
    }
    // Optional, so that a pod can start although the file cannot be written (a quota on ConfigMaps).
    let volume = json!({ "name": PROCESSING_VOLUME, "configMap": { "name": processing_name(name), "optional": true } });
    push(pod, "volumes", volume);
    template
}

fn push(object: &mut Value, list: &str, item: Value) {
    match object[list].as_array_mut() {
        Some(items) => items.push(item),
        None => object[list] = json!([item]),
    }
}

/// Returns the name of the `ConfigMap` with the processing file.
pub(crate) fn processing_name(job: &str) -> String {
    format!("{job}-processing")
}

/// Builds the `ConfigMap` with the processing file.
pub(crate) fn processing(job: &Job) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": processing_name(&job.key.name),
            "namespace": job.key.namespace,
            "labels": labels(&job.key.name),
            "ownerReferences": [job.owner],
        },
        "data": { PROCESSING_KEY: json!(job.processing).to_string() },
    })
}

/// Returns the 64-bit FNV-1a hash of the canonical JSON (`serde_json`'s maps are sorted). It distinguishes bodies, and
/// is not meant as protection against forgery.
pub(crate) fn hash(value: &Value) -> String {
    let bytes = value.to_string();
    let hash = bytes
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicting_rolling_update_is_applied_before_its_removal() {
        let body =
            |strategy: Value| WorkloadBody { body: json!({"spec": {"strategy": strategy}}), hash: String::new() };
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}});
        let live = json!({"spec": {"strategy": rolling, "template": {"old": true}}});
        let first = body(json!({"type": "Recreate"})).with_strategy_of(&live).unwrap();
        assert_eq!(first.body, live);
        assert_eq!(
            body(json!({"type": "Recreate"})).with_strategy_of(&json!({"spec": {"strategy": {"type": "Recreate"}}})),
            None
        );
        assert_eq!(body(rolling.clone()).with_strategy_of(&live), None);
        // The API server reports what is wrong with this one.
        assert_eq!(body(json!({"type": "Recreate", "rollingUpdate": {}})).with_strategy_of(&live), None);
    }
}
