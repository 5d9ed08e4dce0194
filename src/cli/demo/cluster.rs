//! What the demo does to the cluster: definitions, a namespace of its own, the job; and takes away again.

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
/// On the namespaces that a demo made, and that a later one may delete.
const MADE_BY_DEMO: &str = "sluice.dev/demo";
/// For an answer of the API server.
const PATIENCE: Duration = Duration::from_secs(15);

/// An event of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobEvent {
    /// When it was last seen, RFC 3339.
    time: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    message: String,
}

/// The cluster, and the namespace in it that belongs to the demo.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    pub(super) namespace: String,
}

impl Cluster {
    /// The cluster that the client speaks to, if it answers.
    pub(super) async fn connect(client: Client, namespace: &str) -> Result<Self, Failure> {
        answer("reach the cluster", client.apiserver_version()).await?;
        Ok(Self { client, namespace: namespace.to_owned() })
    }

    /// Applies the definitions and waits until the server knows them.
    pub(super) async fn define(&self) -> Result<(), Failure> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in crds() {
            let name = crd.name_any();
            let (params, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&crd));
            answer(&format!("apply the definition {name}"), api.patch(&name, &params, &patch)).await?;
            let established = await_condition(api.clone(), &name, is_crd_established());
            answer(&format!("see the definition {name} established"), established).await?;
        }
        Ok(())
    }

    /// Makes the namespace; one that an earlier demo has left is deleted first, and anyone else's is left alone.
    /// `made` is set before the server is asked, so that an interruption in between leaves nothing behind.
    pub(super) async fn make_namespace(&self, made: &mut bool) -> Result<(), Failure> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        if let Some(old) = answer("look for the namespace", api.get_opt(&self.namespace)).await? {
            if !old.labels().contains_key(MADE_BY_DEMO) {
                let name = &self.namespace;
                return Err(
                    format!("the namespace {name} was not made by a demo; name another with --namespace").into()
                );
            }
            super::say(&format!("deleting the namespace {} of an earlier demo", self.namespace));
            self.delete_namespace(Duration::from_secs(90)).await?;
        }
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {
                "name": self.namespace,
                "labels": {MADE_BY_DEMO: "true", "pod-security.kubernetes.io/enforce": "restricted"},
            }
        }))
        .map_err(|error| format!("failed to write the namespace: {error}"))?;
        *made = true;
        answer("create the namespace", api.create(&PostParams::default(), &namespace)).await?;
        Ok(())
    }

    /// Applies the job as a user would, with server-side apply.
    pub(super) async fn apply(&self, job: &StreamJob) -> Result<(), Failure> {
        let (name, params) = (job.name_any(), PatchParams::apply(MANAGER));
        answer("apply the job", self.jobs().patch(&name, &params, &Patch::Apply(job))).await?;
        Ok(())
    }

    /// Deletes the job and waits until its pods are gone.
    pub(super) async fn delete_job(&self, name: &str, patience: Duration) -> Result<(), Failure> {
        let pods = self.pods();
        match timeout(PATIENCE, self.jobs().delete(name, &DeleteParams::background())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if not_found(&error) => {}
            Ok(Err(error)) => return Err(format!("failed to delete the job: {error}").into()),
            Err(_) => return Err("failed to delete the job: no answer".into()),
        }
        let selector = ListParams::default().labels(&format!("{JOB_LABEL}={name}"));
        let gone = async {
            while !answer("list the pods", pods.list_metadata(&selector)).await?.items.is_empty() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok::<_, Failure>(())
        };
        timeout(patience, gone).await.map_err(|_| format!("pods of {name} were still there after {patience:?}"))?
    }

    /// Deletes the namespace and waits until it is gone.
    pub(super) async fn delete_namespace(&self, patience: Duration) -> Result<(), Failure> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        match timeout(PATIENCE, api.delete(&self.namespace, &DeleteParams::default())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if not_found(&error) => return Ok(()),
            Ok(Err(error)) => return Err(format!("failed to delete the namespace: {error}").into()),
            Err(_) => return Err("failed to delete the namespace: no answer".into()),
        }
        let gone = await_condition(api, &self.namespace, |namespace: Option<&Namespace>| namespace.is_none());
        match timeout(patience, gone).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("failed to wait for the namespace to go: {error}").into()),
            Err(_) => Err(format!("the namespace {} was still there after {patience:?}", self.namespace).into()),
        }
    }

    /// The events of the job, oldest first.
    pub(super) async fn events(&self, name: &str) -> Result<Vec<JobEvent>, Failure> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = ListParams::default().fields(&format!("involvedObject.name={name},involvedObject.kind=StreamJob"));
        let list = answer("list the events", api.list(&params)).await?;
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

/// The answer within [`PATIENCE`], or an error that says what was tried.
async fn answer<T, E: Display>(what: &str, call: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    match timeout(PATIENCE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("failed to {what}: {error}").into()),
        Err(_) => Err(format!("failed to {what}: no answer within {PATIENCE:?}").into()),
    }
}
