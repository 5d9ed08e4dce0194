//! The write path.
//!
//! Architecture invariant: only this module writes to tenants' objects. Each write has a field manager of its own, a
//! uid or resource version where it could do harm, a timeout and a counter, and asks the lease first. Callers send
//! nothing that would change nothing.

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

use crate::apply::removal_order::{COST_ANNOTATION, LEAVES, Mark};
use crate::error::Error;
use crate::lease::{Leadership, WRITE_TIMEOUT};

/// Everything of a workload but its replicas.
pub(crate) const WORKLOAD_MANAGER: &str = "sluice/workload";
/// `spec.replicas`, through /scale; and which pods leave first.
pub(crate) const SCALE_MANAGER: &str = "sluice/scale";
/// Status of a `StreamJob`.
pub(crate) const STATUS_MANAGER: &str = "sluice/status";
/// The `ConfigMap` with the processing file.
pub(crate) const PROCESSING_MANAGER: &str = "sluice/processing";

/// What a write does: as a metric label, and in the words of an error ("failed to …").
#[derive(Debug, Clone, Copy)]
struct Verb {
    label: &'static str,
    words: &'static str,
}

const CREATE: Verb = Verb { label: "create", words: "create the workload" };
const APPLY: Verb = Verb { label: "apply", words: "apply the workload" };
const SCALE: Verb = Verb { label: "scale", words: "scale the workload" };
const MARK: Verb = Verb { label: "mark", words: "mark the pod" };
const PROCESSING: Verb = Verb { label: "processing", words: "apply the processing file" };
const STATUS: Verb = Verb { label: "status", words: "write the status" };

/// The write path.
#[derive(Clone)]
pub(crate) struct Applier {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Metrics,
}

/// One write of `spec.replicas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScaleWrite {
    pub(crate) replicas: u32,
    /// What was seen: a write that is based on anything else is refused.
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    /// Take the field from whoever owns it.
    pub(crate) force: bool,
}

impl Applier {
    /// Applies a workload of our own. `body` carries the uid and the version that were seen, unless the workload is to be created.
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

    /// Sets the number of workers.
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
        // Seen on 1.34: an apply on /scale of a custom kind is answered with 500, a merge patch is taken and leaves the name
        // of its manager. On built-in kinds it is the other way round.
        if !matches!(resource.group.as_str(), "" | "apps") {
            let params = PatchParams { field_manager: Some(SCALE_MANAGER.to_owned()), ..PatchParams::default() };
            let body = Patch::Merge(json!({ "metadata": metadata, "spec": spec }));
            return self.write(SCALE, api.patch_scale(name, &params, &body)).await.map(|_| ());
        }
        let params = PatchParams { force: write.force, ..PatchParams::apply(SCALE_MANAGER) };
        let body = json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec });
        self.write(SCALE, api.patch_scale(name, &params, &Patch::Apply(&body))).await.map(|_| ())
    }

    /// Marks a pod as one that leaves first, or takes that mark away. Not forced: a cost of somebody else's stays.
    pub(crate) async fn mark(&self, namespace: &str, mark: &Mark) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let mut body = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": mark.pod, "namespace": namespace, "uid": mark.uid },
        });
        // Left out it is removed: the field is ours alone.
        if mark.leaves {
            body["metadata"]["annotations"] = json!({ COST_ANNOTATION: LEAVES.to_string() });
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

    /// Applies the status of a `StreamJob`. `body` carries the version that was seen: a status that arrives late must not
    /// replace a newer one.
    pub(crate) async fn status(&self, key: &JobKey, body: &Value) -> Result<StreamJob, Error> {
        let api = Api::<StreamJob>::namespaced(self.client.clone(), &key.namespace);
        let params = PatchParams::apply(STATUS_MANAGER).force();
        self.write(STATUS, api.patch_status(&key.name, &params, &Patch::Apply(body))).await
    }

    /// Changes some of the status of a `StreamJob` that cannot be read; an apply would take the rest away.
    pub(crate) async fn status_unread(&self, key: &JobKey, body: &Value) -> Result<(), Error> {
        let resource = ApiResource::erase::<StreamJob>(&());
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let params = PatchParams { field_manager: Some(STATUS_MANAGER.to_owned()), ..PatchParams::default() };
        self.write(STATUS, api.patch_status(&key.name, &params, &Patch::Merge(body))).await.map(|_| ())
    }

    async fn write<T>(&self, verb: Verb, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        let Verb { label, words: verb } = verb;
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
