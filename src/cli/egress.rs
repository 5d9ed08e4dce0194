//! Flags that restrict which addresses the operator connects to for its users' jobs, and the API server's own
//! addresses.

use axum::http::Uri;

use sluice_signals::Egress;
use sluice_signals::egress::{AddressRange, NamespaceRanges};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of `sluice operator`.
#[derive(Debug, clap::Args)]
pub(super) struct EgressArgs {
    /// Always allow connections to these addresses; overrides --egress-deny and the built-in deny list
    ///
    /// Ranges are separated by commas: 10.0.0.0/8, 10.1.2.3:9092, `[fd00::]/8:9092`.
    #[arg(long = "egress-allow", value_name = "RANGES", value_delimiter = ',', env = "SLUICE_EGRESS_ALLOW")]
    allow: Vec<AddressRange>,
    /// Never connect to these addresses for any job, unless --egress-allow contains them
    ///
    /// The built-in deny list always applies as well: loopback, link-local and metadata addresses, the API server, and
    /// the ports of kubelets and etcd.
    #[arg(long = "egress-deny", value_name = "RANGES", value_delimiter = ',', env = "SLUICE_EGRESS_DENY")]
    deny: Vec<AddressRange>,
    /// Restrict the jobs of a namespace to these addresses, in addition to the other rules
    ///
    /// Example: team-a=10.1.0.0/16,10.2.3.4:9092. Repeat the flag for several namespaces; in the environment variable,
    /// separate them with semicolons. An empty list after the = denies everything.
    #[arg(
        long = "egress-namespace",
        value_name = "NAMESPACE=RANGES",
        value_delimiter = ';',
        env = "SLUICE_EGRESS_NAMESPACES"
    )]
    namespaces: Vec<NamespaceRanges>,
    /// Deny all connections for jobs of namespaces that no --egress-namespace names
    #[arg(long = "egress-namespaces-only", env = "SLUICE_EGRESS_NAMESPACES_ONLY")]
    namespaces_only: bool,
}

impl EgressArgs {
    /// Returns the egress policy of an operator whose API server is at `cluster_url`.
    pub(super) async fn policy(self, cluster_url: &Uri) -> Result<Egress, Error> {
        let host = cluster_url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let default_port = if cluster_url.scheme_str() == Some("http") { 80 } else { 443 };
        let port = cluster_url.port_u16().unwrap_or(default_port);
        // In a pod, the service address of the API server. Nothing else is at that address, so every port of it is
        // denied.
        let service = std::env::var("KUBERNETES_SERVICE_HOST").ok().filter(|host| !host.is_empty());
        let mut api_server = Vec::new();
        for (host, port) in [(host, Some(port))].into_iter().chain(service.map(|host| (host, None))) {
            let addresses = tokio::net::lookup_host((host.as_str(), 0)).await.map_err(|error| {
                format!("failed to resolve the API server {host}: {error}; check the kubeconfig and the cluster's DNS")
            })?;
            api_server.extend(addresses.map(|address| AddressRange::for_address(address.ip(), port)));
        }
        Ok(Egress::new(self.allow, self.deny, api_server).with_namespaces(self.namespaces, self.namespaces_only))
    }
}
