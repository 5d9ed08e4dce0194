//! The test bed: a namespace with the operator in it, installed by its chart.

use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use sluice_api::{JOB_LABEL, StreamJob, crds};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::Failure;
use super::job;

const NAMESPACE: &str = "sluice-bench";
const MANAGER: &str = "sluice-bench";
const RELEASE: &str = "sluice";
/// Timeout of requests to the API server, and of the deletion of objects.
const TIMEOUT: Duration = Duration::from_mins(2);

/// The cluster, Kafka, and the image of the workers.
pub(crate) struct Bed {
    pub(crate) client: Client,
    pub(crate) namespace: &'static str,
    /// Bootstrap servers as this computer reaches them.
    pub(crate) kafka: String,
    /// Bootstrap servers as pods reach them.
    pub(crate) kafka_in_pods: String,
    pub(crate) image: String,
}

/// Returns an environment variable that hack/with-testbed sets.
fn environment(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| format!("{name} is not set: run this with make bench-real").into())
}

impl Bed {
    pub(crate) async fn new() -> Result<Self, Failure> {
        // This fails only if a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        environment("KUBECONFIG")?;
        let client = Client::try_default().await?;
        timeout(TIMEOUT, client.apiserver_version()).await??;
        Ok(Self {
            client,
            namespace: NAMESPACE,
            kafka: environment("SLUICE_TEST_KAFKA_HOST")?,
            kafka_in_pods: environment("SLUICE_TEST_KAFKA_POD")?,
            image: environment("SLUICE_TEST_IMAGE")?,
        })
    }

    /// Installs the definitions and the operator in a new namespace. The namespace of an earlier run is deleted first.
    pub(crate) async fn install(&self) -> Result<(), Failure> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for definition in crds() {
            let name = definition.name_any();
            definitions.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&definition)).await?;
            timeout(TIMEOUT, await_condition(definitions.clone(), &name, is_crd_established())).await??;
        }
        self.delete_namespace().await?;
        let namespace = json!({"metadata": {"name": NAMESPACE,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        let namespace: Namespace = serde_json::from_value(namespace)?;
        self.namespaces().create(&PostParams::default(), &namespace).await?;
        let (repository, tag) = self.image.rsplit_once(':').ok_or("SLUICE_TEST_IMAGE has no tag")?;
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/sluice");
        let settings =
            format!("image.repository={repository},image.tag={tag},watchNamespaces={{{NAMESPACE}}},replicas=1");
        let mut command = Command::new("helm");
        command.args(["upgrade", "--install", RELEASE]).arg(chart);
        helm(command.args(["--namespace", NAMESPACE, "--wait", "--timeout", "90s", "--set", &settings])).await
    }

    /// Deletes everything except the definitions.
    pub(crate) async fn clean_up(&self) {
        let mut command = Command::new("helm");
        let command = command.args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found"]);
        for outcome in [helm(command).await, self.delete_namespace().await] {
            if let Err(error) = outcome {
                eprintln!("{error}");
            }
        }
    }

    pub(crate) async fn apply(&self, job: &Value) -> Result<(), Failure> {
        self.jobs().patch(job::NAME, &PatchParams::apply(MANAGER), &Patch::Apply(job)).await?;
        Ok(())
    }

    /// Deletes the job and waits until its pods are gone.
    pub(crate) async fn delete_job(&self) -> Result<(), Failure> {
        match self.jobs().delete(job::NAME, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            outcome => drop(outcome?),
        }
        let workers = ListParams::default().labels(&format!("{JOB_LABEL}={}", job::NAME));
        let gone = async {
            while !self.pods().list_metadata(&workers).await?.items.is_empty() {
                sleep(Duration::from_millis(500)).await;
            }
            Ok::<_, kube::Error>(())
        };
        Ok(timeout(TIMEOUT, gone).await.map_err(|_| format!("workers still existed after {TIMEOUT:?}"))??)
    }

    /// Writes the operator's log of the last `seconds` to CELL.operator.log.
    pub(crate) async fn save_operator_log(&self, cell: &str, seconds: f64, out: &Path) {
        let operators = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
        #[allow(clippy::cast_possible_truncation, reason = "an hour or two")]
        let params = LogParams { since_seconds: Some(seconds.ceil() as i64), ..LogParams::default() };
        let mut text = String::new();
        for pod in self.pods().list(&operators).await.into_iter().flatten() {
            text += &self.pods().logs(&pod.name_any(), &params).await.unwrap_or_else(|error| error.to_string());
        }
        if let Err(error) = fs::write(out.join(format!("{cell}.operator.log")), text) {
            eprintln!("failed to write the operator's log: {error}");
        }
    }

    async fn delete_namespace(&self) -> Result<(), Failure> {
        match self.namespaces().delete(NAMESPACE, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            outcome => drop(outcome?),
        }
        let gone = await_condition(self.namespaces(), NAMESPACE, |namespace: Option<&Namespace>| namespace.is_none());
        timeout(TIMEOUT, gone).await.map_err(|_| format!("the namespace still existed after {TIMEOUT:?}"))??;
        Ok(())
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    pub(crate) fn jobs(&self) -> Api<StreamJob> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

async fn helm(command: &mut Command) -> Result<(), Failure> {
    let output = command.output().await.map_err(|error| format!("failed to run helm: {error}; hack/tools helm"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("helm: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
