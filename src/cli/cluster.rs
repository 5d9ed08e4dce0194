//! The flags that choose the cluster a command connects to.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of every command that connects to a cluster.
#[derive(Debug, clap::Args)]
pub(super) struct ClusterArgs {
    /// Use the kubeconfig PATH [default: $KUBECONFIG, else ~/.kube/config, else the pod's service account]
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Use the context NAME of the kubeconfig [default: the current context]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl ClusterArgs {
    /// Selects the cluster of this kubeconfig and context.
    #[cfg(feature = "development")]
    pub(super) fn new(kubeconfig: Option<PathBuf>, context: Option<String>) -> Self {
        Self { kubeconfig, context }
    }

    /// Returns a client of the cluster. Its default namespace is that of the context.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// Returns the address of the cluster and the credentials for it.
    pub(super) async fn config(&self) -> Result<Config, Error> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        Ok(match &self.kubeconfig {
            None if self.context.is_some() => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| format!("failed to use the kubeconfig: {error}; choose another with --kubeconfig"))?,
            None => Config::infer().await.map_err(|error| {
                format!("failed to find a cluster: {error}; pass --kubeconfig, or run in a pod with a service account")
            })?,
            Some(path) => {
                let read = Kubeconfig::read_from(path)
                    .map_err(|error| format!("failed to read the kubeconfig {}: {error}", path.display()))?;
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .map_err(|error| format!("failed to use the kubeconfig {}: {error}", path.display()))?
            }
        })
    }
}
