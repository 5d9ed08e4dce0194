//! Where the operator may connect to for its users: the flags, and where the API server is.

use axum::http::Uri;

use sluice_signals::Egress;
use sluice_signals::egress::{AddressRange, NamespaceRanges};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of `sluice operator`.
#[derive(Debug, clap::Args)]
pub(super) struct EgressArgs {
    /// Addresses of brokers and workers that may be connected to whatever else says no, separated by commas: 10.0.0.0/8,
    /// 10.1.2.3:9092, `[fd00::]/8:9092`.
    #[arg(long = "egress-allow", value_name = "RANGES", value_delimiter = ',', env = "SLUICE_EGRESS_ALLOW")]
    allow: Vec<AddressRange>,
    /// Addresses that are not connected to for any job, unless --egress-allow has them. Closed in any case are loopback,
    /// link-local and metadata addresses, the API server, and the ports of kubelets and etcd.
    #[arg(long = "egress-deny", value_name = "RANGES", value_delimiter = ',', env = "SLUICE_EGRESS_DENY")]
    deny: Vec<AddressRange>,
    /// Addresses that the sources of one namespace's jobs may be at, beside what the other rules say:
    /// team-a=10.1.0.0/16,10.2.3.4:9092. May be given several times; in the environment, separated by semicolons. Nothing
    /// after the = closes everything.
    #[arg(
        long = "egress-namespace",
        value_name = "NAMESPACE=RANGES",
        value_delimiter = ';',
        env = "SLUICE_EGRESS_NAMESPACES"
    )]
    namespaces: Vec<NamespaceRanges>,
    /// Connect to no source for jobs of a namespace that no --egress-namespace names.
    #[arg(long = "egress-namespaces-only", env = "SLUICE_EGRESS_NAMESPACES_ONLY")]
    namespaces_only: bool,
}

impl EgressArgs {
    /// The policy of an operator whose API server is at `cluster_url`.
    pub(super) async fn policy(self, cluster_url: &Uri) -> Result<Egress, Error> {
        let host = cluster_url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let usual = if cluster_url.scheme_str() == Some("http") { 80 } else { 443 };
        let port = cluster_url.port_u16().unwrap_or(usual);
        // In a pod the address that every pod is told; nothing else is behind that one, at any port.
        let told = std::env::var("KUBERNETES_SERVICE_HOST").ok().filter(|host| !host.is_empty());
        let mut api_server = Vec::new();
        for (host, port) in [(host, Some(port))].into_iter().chain(told.map(|host| (host, None))) {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await.map_err(|error| {
                format!(
                    "failed to resolve the API server {host}: {error}; correct the kubeconfig, or the cluster's DNS"
                )
            })?;
            api_server.extend(found.map(|address| AddressRange::for_address(address.ip(), port)));
        }
        Ok(Egress::new(self.allow, self.deny, api_server).with_namespaces(self.namespaces, self.namespaces_only))
    }
}
