//! A cluster and a broker in this process, for a demo that needs nothing but this program. Everything is in one temporary
//! folder, and nothing of it is left, however the demo ends.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;

use super::broker::Broker;
use super::place::Place;
use super::scenario::Mischief;
use super::{Failure, say};
use crate::cli::folder::Folder;
use crate::cli::local::{self, kubeconfig};
use embedded_kubernetes::cluster::{Cluster, Setup};
use embedded_kubernetes::node::SHUTDOWN;
use sluice_base::clock::Clock;

/// Beyond what pods may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// What runs. The folder is the last to go.
pub(super) struct Here {
    broker: Broker,
    cluster: Cluster,
    kubeconfig: PathBuf,
    _folder: Folder,
}

impl Here {
    pub(super) async fn start(clock: Clock) -> Result<Self, Failure> {
        let folder = Folder::new(None, "demo")?;
        let broker = Broker::start(clock).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(|error| format!("failed to serve at 127.0.0.1: {error}"))?;
        let cluster = Cluster::start(Setup {
            listener,
            folder: folder.path().to_owned(),
            keep: false,
            images: local::images(&[])?,
            certificate_name: local::CERTIFICATE_NAME.to_owned(),
        })?;
        let kubeconfig = folder.path().join("kubeconfig");
        kubeconfig::write(&kubeconfig, cluster.address(), cluster.authority(), cluster.token())?;
        let here = Self { broker, cluster, kubeconfig, _folder: folder };
        say(&format!("a small Kubernetes is up in this process: {}", here.way_in()));
        Ok(here)
    }

    /// For everything that would be no different in a real cluster.
    pub(super) fn place(&self) -> Place {
        Place {
            client: self.cluster.client().clone(),
            brokers: self.broker.address(),
            brokers_in_pods: self.broker.address(),
            image: local::OWN_IMAGE.to_owned(),
            // All that the broker's groups know of several members.
            group_protocol: Some("consumer"),
        }
    }

    /// The line that lets kubectl in.
    pub(super) fn way_in(&self) -> String {
        format!("export KUBECONFIG={}", self.kubeconfig.display())
    }

    /// Does to the broker what is due, `at` seconds after the load began.
    pub(super) fn play(&self, mischief: &mut Mischief, at: f64) {
        match mischief {
            Mischief::None => {}
            Mischief::Outage { from, to } => {
                if at >= *from {
                    self.broker.go_away();
                    say("the broker is away now");
                    *mischief = Mischief::Away { until: *to };
                }
            }
            Mischief::Away { until } => {
                if at >= *until {
                    self.broker.come_back();
                    say("the broker is back");
                    *mischief = Mischief::None;
                }
            }
            Mischief::Poison { from } => {
                if at >= *from && self.broker.poison() {
                    say("a batch that nobody can decode is in the topic now");
                    *mischief = Mischief::None;
                }
            }
        }
    }

    /// Waits until the cluster has failed, and says why.
    pub(super) async fn failed(&mut self) -> Failure {
        self.cluster.failed().await.into()
    }

    /// Ends everything.
    pub(super) async fn stop(mut self) {
        if timeout(SHUTDOWN + GRACE, self.cluster.stop()).await.is_err() {
            say("some workers did not end by themselves; they are killed with this process");
        }
        // It goes with the folder; but nobody may come in with it from here on.
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_takes_the_folder_with_it() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut folder = PathBuf::new();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let _ = rustls::crypto::ring::default_provider().install_default();
                let here = Here::start(Clock::system()).await.unwrap();
                here.kubeconfig.parent().unwrap().clone_into(&mut folder);
                assert!(folder.exists());
                panic!("a defect");
            });
        }));
        assert!(panic.is_err());
        assert!(folder.is_absolute() && !folder.exists());
    }
}
