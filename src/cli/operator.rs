//! `sluice operator`: runs the operator as a pod, or outside the cluster with a kubeconfig.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use sluice_base::clock::Clock;
use sluice_operator::serve::access::Access;
use sluice_operator::serve::metrics::Metrics;
use sluice_operator::serve::tls::{Certificate, CertificateFiles};
use sluice_operator::serve::{self, Health};
use sluice_operator::{Election, Operator, Stopped};
use sluice_signals::{Egress, Hub, Limits, limits};

/// Interval at which the resource use of sources and workers is exported as metrics.
const STATS_INTERVAL: Duration = Duration::from_secs(5);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of `sluice operator`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: super::cluster::ClusterArgs,
    #[command(flatten)]
    egress: super::egress::EgressArgs,
    /// Limit the memory for data of sources and workers to MIB mebibytes
    ///
    /// Half is for responses in flight and half for stored samples; one namespace may use half of the samples' share.
    /// Each job may always store 1 MiB (about 500 partitions).
    #[arg(long, value_name = "MIB", default_value_t = 256, env = "SLUICE_SOURCE_MEMORY",
          value_parser = clap::value_parser!(u32).range(16..=65_536))]
    source_memory: u32,
    /// Serve /livez, /readyz and /metrics at ADDRESS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080", env = "SLUICE_LISTEN")]
    listen: SocketAddr,
    /// Require a bearer token whose user may `get` the nonResourceURL /metrics
    #[arg(long, env = "SLUICE_METRICS_AUTH")]
    metrics_auth: bool,
    /// Serve over TLS only, with the certificate chain in the PEM file PATH; the file is reloaded when it changes
    #[arg(long, value_name = "PATH", requires = "tls_key", env = "SLUICE_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, a PEM file
    #[arg(long, value_name = "PATH", requires = "tls_cert", env = "SLUICE_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Watch only these namespaces, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', env = "SLUICE_WATCH_NAMESPACES")]
    watch_namespaces: Vec<String>,
    /// Do not manage jobs in these namespaces, separated by commas; only report in their status that they are ignored
    ///
    /// --watch-namespaces takes precedence: a namespace in both lists is watched.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        env = "SLUICE_EXCLUDE_NAMESPACES",
        default_value = "kube-system,kube-public,kube-node-lease"
    )]
    exclude_namespaces: Vec<String>,
    /// Take part in leader election, so that several replicas of the operator can run
    #[arg(long, env = "SLUICE_LEADER_ELECT")]
    leader_elect: bool,
    /// Namespace of the lease [default: the pod's namespace, else default]
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = "default", hide_default_value = true)]
    lease_namespace: String,
    /// Name of the lease
    #[arg(long, value_name = "NAME", default_value = "sluice")]
    lease_name: String,
    /// Identity in the leader election, to which a random suffix is added [default: the pod's name, else the host's]
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,
    /// Log level (error, warn, info, debug or trace), or a tracing filter such as sluice=debug
    #[arg(long, value_name = "FILTER", default_value = "info", env = "SLUICE_LOG")]
    log: String,
    /// Format of log lines
    #[arg(long, value_enum, default_value = "json", env = "SLUICE_LOG_FORMAT")]
    log_format: super::LogFormat,
}

pub(super) fn run(args: Args) -> super::Outcome {
    super::init_logging(&args.log, args.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> super::Outcome {
    let config = args.cluster.config().await?;
    let egress = args.egress.policy(&config.cluster_url).await?;
    let memory = usize::try_from(args.source_memory)? << 20;
    let limits = Limits::for_process(memory, limits::max_open_files());
    let client = Client::try_from(config)?;
    let stop = super::stop_on_signal()?;
    let tls = match args.tls_cert.zip(args.tls_key) {
        Some((certificate, key)) => {
            let certificate = Certificate::read(CertificateFiles { certificate, key }).await?;
            tokio::spawn(Arc::clone(&certificate).follow(stop.clone()));
            Some(certificate.config()?)
        }
        None => None,
    };
    let listener = serve::bind(args.listen).await?;
    let election = args.leader_elect.then(|| Election {
        namespace: args.lease_namespace,
        lease: args.lease_name,
        identity: identity(args.identity),
    });
    let (namespaces, excluded) = namespaces(args.watch_namespaces, args.exclude_namespaces);
    let metrics_auth = args.metrics_auth;
    let setup = Setup {
        client,
        namespaces,
        excluded,
        election,
        listener,
        egress,
        limits,
        in_cluster: is_a_pod(),
        metrics_auth,
        tls,
    };
    let stopped = operate(setup, stop).await?;
    Ok(if stopped == Stopped::Requested { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns whether this process runs in a pod: the kubelet sets this variable in every container.
fn is_a_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty())
}

/// Everything that the operator needs to run.
pub(super) struct Setup {
    pub(super) client: Client,
    /// The namespaces to watch; empty for all.
    pub(super) namespaces: Vec<String>,
    /// The namespaces whose jobs are not managed.
    pub(super) excluded: BTreeSet<String>,
    pub(super) election: Option<Election>,
    /// The socket that serves /livez, /readyz and /metrics.
    pub(super) listener: TcpListener,
    /// The addresses at which sources and workers may be contacted.
    pub(super) egress: Egress,
    /// Limits on the resources used for sources and workers.
    pub(super) limits: Limits,
    /// Whether host names without a dot are resolved in the job's namespace.
    pub(super) in_cluster: bool,
    /// Whether the API server authorizes each request for /metrics.
    pub(super) metrics_auth: bool,
    /// TLS configuration of the server; `None` for plain HTTP.
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// Runs the operator until it is asked to stop or has lost its lease.
pub(super) async fn operate(setup: Setup, stop: CancellationToken) -> Result<Stopped, Failure> {
    let clock = Clock::system();
    let (health, metrics) = (Health::default(), Metrics::default());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %setup.listener.local_addr()?, "starting");
    let access = setup.metrics_auth.then(|| Access::new(setup.client.clone(), clock.clone()));
    let serving = serve::run(setup.listener, health.clone(), metrics.clone(), access, setup.tls, stop.clone());
    let server = tokio::spawn(serving);
    let hub = super::hub(clock.clone(), setup.egress, setup.limits, setup.in_cluster)?;
    let updates = hub.updates();
    let exporting = tokio::spawn(export_stats(hub.clone(), metrics.clone()));
    let operator = Operator {
        client: setup.client,
        namespaces: setup.namespaces,
        excluded: setup.excluded,
        election: setup.election,
        signals: Arc::new(hub.clone()),
        health,
        metrics,
        clock,
    };
    let stopped = operator.run(updates, stop.clone()).await;
    stop.cancel();
    exporting.abort();
    hub.shutdown().await;
    server.await??;
    tracing::info!("stopped");
    Ok(stopped)
}

/// Returns the namespaces to watch and those to ignore. A namespace that is watched by name is not ignored.
fn namespaces(watched: Vec<String>, excluded: Vec<String>) -> (Vec<String>, BTreeSet<String>) {
    let watched: Vec<String> = watched.into_iter().filter(|name| !name.is_empty()).collect();
    let excluded = excluded.into_iter().filter(|name| !name.is_empty() && !watched.contains(name)).collect();
    (watched, excluded)
}

/// Exports the resource use of sources and workers every [`STATS_INTERVAL`].
async fn export_stats(hub: Hub, metrics: Metrics) {
    loop {
        metrics.sources(&hub.stats());
        tokio::time::sleep(STATS_INTERVAL).await;
    }
}

/// Returns an identity that no other process has: neither another one of the same name nor a restarted container of the
/// same pod may take the lease of this one for its own.
fn identity(name: Option<String>) -> String {
    let name = name.filter(|name| !name.trim().is_empty()).unwrap_or_else(host_name);
    format!("{name}_{:016x}", RandomState::new().hash_one(0))
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "sluice".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_watched_by_name_is_not_excluded() {
        let names = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let none = || (Vec::new(), BTreeSet::new());
        assert_eq!(namespaces(names(""), names("")), none());
        assert_eq!(namespaces(names(""), names("a,b")).1, names("a,b").into_iter().collect());
        let (watched, excluded) = namespaces(names("b,c"), names("a,b"));
        assert_eq!((watched, excluded), (names("b,c"), names("a").into_iter().collect()));
    }

    /// Catalogue: T10, S6. A process id is not enough as a suffix: it is 1 in every container, and two processes with
    /// one identity would both lead.
    #[test]
    fn identities_of_equally_named_processes_differ() {
        let named = |name: &str| identity(Some(name.to_owned()));
        assert!(named("sluice-0").starts_with("sluice-0_"));
        assert_ne!(named("sluice-0"), named("sluice-0"));
        for empty in [Some(String::new()), Some(" ".to_owned()), None] {
            let made = identity(empty);
            assert_eq!(made.rsplit_once('_').unwrap().0, host_name());
        }
    }
}
