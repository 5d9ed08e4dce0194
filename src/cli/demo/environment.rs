//! The environment a demo runs in: the cluster, the brokers, and the image of the workers.

use kube::Client;

use super::{Args, Failure};
use crate::cli::cluster::ClusterArgs;

/// The cluster and the brokers of a demo.
pub(super) struct Environment {
    pub(super) client: Client,
    /// Bootstrap servers as this computer reaches them: host:port, separated by commas.
    pub(super) brokers: String,
    /// Bootstrap servers as pods reach them.
    pub(super) brokers_in_pods: String,
    /// Image of the workers.
    pub(super) image: String,
    /// Group protocol of the workers, if it is not their default.
    pub(super) group_protocol: Option<&'static str>,
}

impl Environment {
    /// Connects to the cluster and the Kafka that the arguments name. Returns `None` if they name none.
    pub(super) async fn from_args(args: &Args) -> Result<Option<Self>, Failure> {
        if args.kubeconfig.is_none() && args.context.is_none() {
            return Ok(None);
        }
        let (Some(brokers), Some(image)) = (args.kafka_host.clone(), args.image.clone()) else {
            return Err("a demo in a cluster needs --kafka-host and --image".into());
        };
        let client = ClusterArgs::new(args.kubeconfig.clone(), args.context.clone()).client().await?;
        let in_pods = args.kafka_pod.clone().filter(|brokers| !brokers.is_empty());
        let brokers_in_pods = in_pods.unwrap_or_else(|| brokers.clone());
        Ok(Some(Self { client, brokers, brokers_in_pods, image, group_protocol: None }))
    }
}
