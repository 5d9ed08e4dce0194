//! The write path.
//!
//! Architecture invariant: only this module writes to tenants' objects. Each write has its own field manager, a uid or
//! resource version where a late write could do harm, a timeout and a counter, and is made only while this process
//! holds the lease. Callers send no write that would change nothing.

use std::future::Future;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::serve::metrics::Metrics;
use sluice_api::StreamJob;
use sluice_base::clock::Clock;
use sluice_signals::JobKey;

use crate::annotations::{LEAVING_POD_COST, POD_DELETION_COST};
use crate::apply::removal_order::DeletionMark;
use crate::error::Error;
use crate::lease::{Leadership, WRITE_TIMEOUT};

/// Owns every applied field of a workload except its replica count.
pub(crate) const WORKLOAD_MANAGER: &str = "sluice/workload";
/// Owns the replica count of a workload, written through /scale, and the deletion costs of its pods.
pub(crate) const SCALE_MANAGER: &str = "sluice/scale";
/// Owns the status of a `StreamJob`.
pub(crate) const STATUS_MANAGER: &str = "sluice/status";
/// Owns the `ConfigMap` with the processing file.
pub(crate) const PROCESSING_MANAGER: &str = "sluice/processing";

/// A kind of write: its metric label, and its description in an error ("failed to …").
#[derive(Debug, Clone, Copy)]
struct Verb {
    label: &'static str,
    description: &'static str,
}

const CREATE: Verb = Verb { label: "create", description: "create the workload" };
const APPLY: Verb = Verb { label: "apply", description: "apply the workload" };
const SCALE: Verb = Verb { label: "scale", description: "scale the workload" };
const MARK: Verb = Verb { label: "mark", description: "mark the pod" };
const PROCESSING: Verb = Verb { label: "processing", description: "apply the processing file" };
const STATUS: Verb = Verb { label: "status", description: "write the status" };

/// The write path.
#[derive(Clone)]
pub(crate) struct Applier {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Metrics,
}

/// One write of the replica count of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScaleWrite {
    pub(crate) replicas: u32,
    /// Uid of the object that was read. The API server refuses a write to another object.
    pub(crate) uid: String,
    /// Version of the object that was read. The API server refuses a write to another version.
    pub(crate) resource_version: String,
    /// Take the field from its owner.
    pub(crate) force: bool,
}

impl Applier {
    /// Creates or applies a workload of a job. `body` contains the uid and the version that were read, unless it
    /// creates it.
    pub(crate) async fn workload(
        &self,
        resource: &ApiResource,
        key: &JobKey,
        body: &Value,
    ) -> Result<DynamicObject, Error> {
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &key.namespace, resource);
        let params = PatchParams::apply(WORKLOAD_MANAGER).force();
        let verb = if body["metadata"]["uid"].is_null() { CREATE } else { APPLY };
        self.write(verb, api.patch(&key.name, &params, &Patch::Apply(body))).await
    }

    /// Writes the replica count through /scale.
    pub(crate) async fn scale(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        write: &ScaleWrite,
    ) -> Result<(), Error> {
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, resource);
        let metadata = json!({ "name": name, "namespace": namespace, "uid": write.uid, "resourceVersion": write.resource_version });
        let spec = json!({ "replicas": write.replicas });
        // Observed on 1.34: the API server answers an apply on /scale of a custom kind with 500, but accepts a merge
        // patch and records its manager. For built-in kinds it is the other way round.
        if !matches!(resource.group.as_str(), "" | "apps") {
            let params = PatchParams { field_manager: Some(SCALE_MANAGER.to_owned()), ..PatchParams::default() };
            let body = Patch::Merge(json!({ "metadata": metadata, "spec": spec }));
            return self.write(SCALE, api.patch_scale(name, &params, &body)).await.map(|_| ());
        }
        let params = PatchParams { force: write.force, ..PatchParams::apply(SCALE_MANAGER) };
        let body = json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec });
        self.write(SCALE, api.patch_scale(name, &params, &Patch::Apply(&body))).await.map(|_| ())
    }

    /// Marks a pod as one that leaves first, or removes the mark. Not forced: a cost that another client has set stays.
    pub(crate) async fn mark(&self, namespace: &str, mark: &DeletionMark) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let mut body = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": mark.pod, "namespace": namespace, "uid": mark.uid },
        });
        // An apply without the annotation removes it, because no other manager owns it.
        if mark.leaves {
            body["metadata"]["annotations"] = json!({ POD_DELETION_COST: LEAVING_POD_COST.to_string() });
        }
        let params = PatchParams::apply(SCALE_MANAGER);
        self.write(MARK, api.patch_metadata(&mark.pod, &params, &Patch::Apply(&body))).await.map(|_| ())
    }

    /// Applies the `ConfigMap` with the processing file.
    pub(crate) async fn processing(&self, namespace: &str, name: &str, body: &Value) -> Result<(), Error> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let params = PatchParams::apply(PROCESSING_MANAGER).force();
        self.write(PROCESSING, api.patch(name, &params, &Patch::Apply(body))).await.map(|_| ())
    }

    /// Applies the status of a `StreamJob`. `body` contains the version that was read, so that a late status does not
    /// replace a newer one.
    pub(crate) async fn status(&self, key: &JobKey, body: &Value) -> Result<StreamJob, Error> {
        let api = Api::<StreamJob>::namespaced(self.client.clone(), &key.namespace);
        let params = PatchParams::apply(STATUS_MANAGER).force();
        self.write(STATUS, api.patch_status(&key.name, &params, &Patch::Apply(body))).await
    }

    /// Merges fields into the status of a `StreamJob` that cannot be decoded. An apply would remove the other fields.
    pub(crate) async fn merge_status(&self, key: &JobKey, body: &Value) -> Result<(), Error> {
        let resource = ApiResource::erase::<StreamJob>(&());
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let params = PatchParams { field_manager: Some(STATUS_MANAGER.to_owned()), ..PatchParams::default() };
        self.write(STATUS, api.patch_status(&key.name, &params, &Patch::Merge(body))).await.map(|_| ())
    }

    async fn write<T>(&self, verb: Verb, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        let Verb { label, description: verb } = verb;
        let result = if self.leadership.may_write(self.clock.monotonic()) {
            match timeout(WRITE_TIMEOUT, request).await {
                Ok(result) => result.map_err(|source| Error::Api { verb, source }),
                Err(_) => Err(Error::Timeout { verb, timeout: WRITE_TIMEOUT }),
            }
        } else {
            Err(Error::NotLeader { verb })
        };
        self.metrics.api_write(label, result.as_ref().err().map_or("ok", Error::category));
        result
    }
}
