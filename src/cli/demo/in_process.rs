//! A cluster and a broker in this process, for a demo that needs no other program. All files are in one temporary
//! folder, which is removed however the demo ends.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;

use super::broker::Broker;
use super::environment::Environment;
use super::scenario::BrokerFault;
use super::{Failure, print_message};
use crate::cli::folder::Folder;
use crate::cli::local::{self, kubeconfig};
use embedded_kubernetes::cluster::{Cluster, Setup};
use embedded_kubernetes::node::SHUTDOWN;
use sluice_base::clock::Clock;

/// Time for the cluster to stop beyond the time that its pods may take to end.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// A running cluster and broker. The folder is declared last, because it must be removed last.
pub(super) struct InProcess {
    broker: Broker,
    cluster: Cluster,
    kubeconfig: PathBuf,
    _folder: Folder,
}

impl InProcess {
    /// Starts the broker and the cluster.
    pub(super) async fn start(clock: Clock) -> Result<Self, Failure> {
        let folder = Folder::new(None, "demo")?;
        let broker = Broker::start(clock).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(|error| format!("failed to listen on 127.0.0.1: {error}"))?;
        let cluster = Cluster::start(Setup {
            listener,
            folder: folder.path().to_owned(),
            keep: false,
            images: local::images(&[])?,
            certificate_name: local::CERTIFICATE_NAME.to_owned(),
        })?;
        let kubeconfig = folder.path().join("kubeconfig");
        kubeconfig::write(&kubeconfig, cluster.address(), cluster.authority(), cluster.token())?;
        let in_process = Self { broker, cluster, kubeconfig, _folder: folder };
        print_message(&format!("a Kubernetes cluster is running in this process: {}", in_process.kubectl_hint()));
        Ok(in_process)
    }

    /// Returns the environment, which the rest of the demo uses as it would use a real cluster.
    pub(super) fn environment(&self) -> Environment {
        Environment {
            client: self.cluster.client().clone(),
            brokers: self.broker.address(),
            brokers_in_pods: self.broker.address(),
            image: local::OWN_IMAGE.to_owned(),
            // The only protocol in which the test broker supports groups of several members.
            group_protocol: Some("consumer"),
        }
    }

    /// Returns the shell command that points kubectl at the cluster.
    pub(super) fn kubectl_hint(&self) -> String {
        format!("export KUBECONFIG={}", self.kubeconfig.display())
    }

    /// Injects the fault into the broker when it is due, `at` seconds after the load began.
    pub(super) fn inject(&self, fault: &mut BrokerFault, at: f64) {
        match fault {
            BrokerFault::None => {}
            BrokerFault::Outage { from, to } => {
                if at >= *from {
                    self.broker.stop_serving();
                    print_message("fault injection: the broker is unavailable");
                    *fault = BrokerFault::Unavailable { until: *to };
                }
            }
            BrokerFault::Unavailable { until } => {
                if at >= *until {
                    self.broker.resume_serving();
                    print_message("fault injection: the broker is available again");
                    *fault = BrokerFault::None;
                }
            }
            BrokerFault::CorruptBatch { from } => {
                if at >= *from && self.broker.append_corrupt_batch() {
                    print_message("fault injection: appended a batch that cannot be decoded");
                    *fault = BrokerFault::None;
                }
            }
        }
    }

    /// Waits until the cluster fails, and returns the cause.
    pub(super) async fn failed(&mut self) -> Failure {
        self.cluster.failed().await.into()
    }

    /// Stops the cluster and the broker.
    pub(super) async fn stop(mut self) {
        if timeout(SHUTDOWN + STOP_MARGIN, self.cluster.stop()).await.is_err() {
            print_message("some workers did not stop in time; they are killed when this process ends");
        }
        // The folder is removed later; the credentials must not be readable any longer than the cluster runs.
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_removes_the_temporary_folder() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut folder = PathBuf::new();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let _ = rustls::crypto::ring::default_provider().install_default();
                let in_process = InProcess::start(Clock::system()).await.unwrap();
                in_process.kubeconfig.parent().unwrap().clone_into(&mut folder);
                assert!(folder.exists());
                panic!("a defect");
            });
        }));
        assert!(panic.is_err());
        assert!(folder.is_absolute() && !folder.exists());
    }
}
