//! Where a demo plays: the cluster, the brokers, the image of the workers.

use kube::Client;

use super::{Args, Failure};
use crate::cli::cluster::ClusterArgs;

/// A place.
pub(super) struct Place {
    pub(super) client: Client,
    /// As this computer reaches them: host:port, separated by commas.
    pub(super) brokers: String,
    /// As pods do.
    pub(super) brokers_in_pods: String,
    pub(super) image: String,
    /// How the workers share the partitions out, if not as they do by themselves.
    pub(super) group_protocol: Option<&'static str>,
}

impl Place {
    /// The cluster and the Kafka that the arguments name. `None`: they name none.
    pub(super) async fn of(args: &Args) -> Result<Option<Self>, Failure> {
        if args.kubeconfig.is_none() && args.context.is_none() {
            return Ok(None);
        }
        let (Some(brokers), Some(image)) = (args.kafka_host.clone(), args.image.clone()) else {
            return Err("a demo in a cluster needs --kafka-host and --image".into());
        };
        let client = ClusterArgs::of(args.kubeconfig.clone(), args.context.clone()).client().await?;
        let in_pods = args.kafka_pod.clone().filter(|brokers| !brokers.is_empty());
        let brokers_in_pods = in_pods.unwrap_or_else(|| brokers.clone());
        Ok(Some(Self { client, brokers, brokers_in_pods, image, group_protocol: None }))
    }
}
