//! Which cluster a command speaks to.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of every command that speaks to a cluster.
#[derive(Debug, clap::Args)]
pub(super) struct ClusterArgs {
    /// Kubeconfig to use; default: $KUBECONFIG, else ~/.kube/config, else the service account of the pod.
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl ClusterArgs {
    /// The cluster of this kubeconfig and context.
    #[cfg(feature = "development")]
    pub(super) fn of(kubeconfig: Option<PathBuf>, context: Option<String>) -> Self {
        Self { kubeconfig, context }
    }

    /// A client of that cluster. Its default namespace is the context's.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// Where that cluster is, and how to get in.
    pub(super) async fn config(&self) -> Result<Config, Error> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        Ok(match &self.kubeconfig {
            None if self.context.is_some() => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| format!("failed to use the kubeconfig: {error}; give another with --kubeconfig"))?,
            None => Config::infer().await.map_err(|error| {
                format!("failed to find a cluster: {error}; give --kubeconfig, or run in a pod with a service account")
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
