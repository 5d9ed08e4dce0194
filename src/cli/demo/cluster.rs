//! The demo's objects in the cluster: creates and deletes the definitions, a namespace and the job.

use std::fmt::Display;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt as _};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use super::Failure;
use sluice_api::{JOB_LABEL, StreamJob, crds};

const MANAGER: &str = "sluice-demo";
/// Label of the namespaces that a demo created, and that a later demo may delete.
const DEMO_LABEL: &str = "sluice.dev/demo";
/// Timeout of each request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// An event of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobEvent {
    /// Time of the last occurrence, RFC 3339.
    time: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    message: String,
}

/// The cluster and the demo's namespace in it.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    pub(super) namespace: String,
}

impl Cluster {
    /// Checks that the client's cluster responds.
    pub(super) async fn connect(client: Client, namespace: &str) -> Result<Self, Failure> {
        request("reach the cluster", client.apiserver_version()).await?;
        Ok(Self { client, namespace: namespace.to_owned() })
    }

    /// Applies the resource definitions and waits until the server has established them.
    pub(super) async fn install_definitions(&self) -> Result<(), Failure> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in crds() {
            let name = crd.name_any();
            let (params, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&crd));
            request(&format!("apply the definition {name}"), api.patch(&name, &params, &patch)).await?;
            let established = await_condition(api.clone(), &name, is_crd_established());
            request(&format!("wait for the definition {name} to be established"), established).await?;
        }
        Ok(())
    }

    /// Creates the namespace. If an earlier demo left it, it is deleted first; a namespace that no demo created is an
    /// error. `created` is set before the request is sent, so that the namespace is also cleaned up after an
    /// interruption.
    pub(super) async fn create_namespace(&self, created: &mut bool) -> Result<(), Failure> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        if let Some(old) = request("read the namespace", api.get_opt(&self.namespace)).await? {
            if !old.labels().contains_key(DEMO_LABEL) {
                let name = &self.namespace;
                return Err(
                    format!("the namespace {name} was not created by a demo; choose another with --namespace").into()
                );
            }
            super::print_message(&format!("deleting the namespace {} of an earlier demo", self.namespace));
            self.delete_namespace(Duration::from_secs(90)).await?;
        }
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {
                "name": self.namespace,
                "labels": {DEMO_LABEL: "true", "pod-security.kubernetes.io/enforce": "restricted"},
            }
        }))
        .map_err(|error| format!("failed to build the namespace: {error}"))?;
        *created = true;
        request("create the namespace", api.create(&PostParams::default(), &namespace)).await?;
        Ok(())
    }

    /// Applies the job as a user would, with server-side apply.
    pub(super) async fn apply(&self, job: &StreamJob) -> Result<(), Failure> {
        let (name, params) = (job.name_any(), PatchParams::apply(MANAGER));
        request("apply the job", self.jobs().patch(&name, &params, &Patch::Apply(job))).await?;
        Ok(())
    }

    /// Deletes the job and waits until its pods are gone.
    pub(super) async fn delete_job(&self, name: &str, limit: Duration) -> Result<(), Failure> {
        let pods = self.pods();
        match timeout(REQUEST_TIMEOUT, self.jobs().delete(name, &DeleteParams::background())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if not_found(&error) => {}
            Ok(Err(error)) => return Err(format!("failed to delete the job: {error}").into()),
            Err(_) => return Err("failed to delete the job: no response".into()),
        }
        let selector = ListParams::default().labels(&format!("{JOB_LABEL}={name}"));
        let gone = async {
            while !request("list the pods", pods.list_metadata(&selector)).await?.items.is_empty() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok::<_, Failure>(())
        };
        timeout(limit, gone).await.map_err(|_| format!("pods of {name} still existed after {limit:?}"))?
    }

    /// Deletes the namespace and waits until it is gone.
    pub(super) async fn delete_namespace(&self, limit: Duration) -> Result<(), Failure> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        match timeout(REQUEST_TIMEOUT, api.delete(&self.namespace, &DeleteParams::default())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if not_found(&error) => return Ok(()),
            Ok(Err(error)) => return Err(format!("failed to delete the namespace: {error}").into()),
            Err(_) => return Err("failed to delete the namespace: no response".into()),
        }
        let gone = await_condition(api, &self.namespace, |namespace: Option<&Namespace>| namespace.is_none());
        match timeout(limit, gone).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("failed to wait for the namespace to be deleted: {error}").into()),
            Err(_) => Err(format!("the namespace {} still existed after {limit:?}", self.namespace).into()),
        }
    }

    /// Returns the events of the job, oldest first.
    pub(super) async fn events(&self, name: &str) -> Result<Vec<JobEvent>, Failure> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = ListParams::default().fields(&format!("involvedObject.name={name},involvedObject.kind=StreamJob"));
        let list = request("list the events", api.list(&params)).await?;
        let mut events: Vec<JobEvent> = list
            .into_iter()
            .map(|event| JobEvent {
                time: event
                    .event_time
                    .map(|time| time.0)
                    .or_else(|| event.last_timestamp.map(|time| time.0))
                    .map(|time| time.to_string()),
                kind: event.type_.unwrap_or_default(),
                reason: event.reason.unwrap_or_default(),
                message: event.message.unwrap_or_default(),
            })
            .collect();
        events.sort_by(|a, b| a.time.cmp(&b.time));
        Ok(events)
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(super) fn jobs(&self) -> Api<StreamJob> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Waits at most [`REQUEST_TIMEOUT`] for a response. The error names the `action` that failed.
async fn request<T, E: Display>(action: &str, call: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    match timeout(REQUEST_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("failed to {action}: {error}").into()),
        Err(_) => Err(format!("failed to {action}: no response within {REQUEST_TIMEOUT:?}").into()),
    }
}
