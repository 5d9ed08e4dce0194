//! `sluice operator`: runs the controller in a cluster, or from a kubeconfig.

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

/// What sources and workers cost is shown anew after so long.
const SHOWN_EVERY: Duration = Duration::from_secs(5);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of `sluice operator`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: super::cluster::ClusterArgs,
    #[command(flatten)]
    egress: super::egress::EgressArgs,
    /// Memory for data of sources and workers, in MiB: half for answers in flight, half for samples that are kept, of which one
    /// namespace may use half. Each job may keep 1 MiB (some 500 partitions) in any case.
    #[arg(long, value_name = "MIB", default_value_t = 256, env = "SLUICE_SOURCE_MEMORY",
          value_parser = clap::value_parser!(u32).range(16..=65_536))]
    source_memory: u32,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080", env = "SLUICE_LISTEN")]
    listen: SocketAddr,
    /// Give /metrics only to who has a bearer token that the cluster knows, and the right to get the `nonResourceURL` /metrics.
    #[arg(long, env = "SLUICE_METRICS_AUTH")]
    metrics_auth: bool,
    /// A certificate in PEM, with those that it was signed by: what is served is served over TLS alone. It is read again when
    /// the file changes.
    #[arg(long, value_name = "PATH", requires = "tls_key", env = "SLUICE_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate in PEM.
    #[arg(long, value_name = "PATH", requires = "tls_cert", env = "SLUICE_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Namespaces to watch, separated by commas; default: all.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', env = "SLUICE_WATCH_NAMESPACES")]
    watch_namespaces: Vec<String>,
    /// Namespaces in which nothing is done for a job but to say so, separated by commas. One that is named by
    /// --watch-namespaces is not left out.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        env = "SLUICE_EXCLUDE_NAMESPACES",
        default_value = "kube-system,kube-public,kube-node-lease"
    )]
    exclude_namespaces: Vec<String>,
    /// Take part in a leader election, so that several replicas can stand by.
    #[arg(long, env = "SLUICE_LEADER_ELECT")]
    leader_elect: bool,
    /// Namespace of the lease; default: the namespace of the pod.
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// Name of the lease.
    #[arg(long, value_name = "NAME", default_value = "sluice")]
    lease_name: String,
    /// Who this process is in the election; default: the name of the pod or the host. A random number is added to it.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,
    /// What to log: error, warn, info, debug, trace, or a tracing filter such as sluice=debug.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "SLUICE_LOG")]
    log: String,
    /// Log lines as text or json.
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

/// Whether this process is a pod of a cluster: the kubelet tells every one where the API server is.
fn is_a_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty())
}

/// What the operator is run with.
pub(super) struct Setup {
    pub(super) client: Client,
    /// Those to watch; none: all.
    pub(super) namespaces: Vec<String>,
    /// Those to leave out.
    pub(super) excluded: BTreeSet<String>,
    pub(super) election: Option<Election>,
    /// Where /livez, /readyz and /metrics are served.
    pub(super) listener: TcpListener,
    /// Where sources and workers may be.
    pub(super) egress: Egress,
    /// What these may cost.
    pub(super) limits: Limits,
    /// Whether names without a dot are those of the job's namespace.
    pub(super) in_cluster: bool,
    /// Whether the API server is asked who may read the metrics.
    pub(super) metrics_auth: bool,
    /// What TLS is served with; `None`: plain HTTP is.
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// Runs the operator until it is told to stop or has lost its lease.
pub(super) async fn operate(setup: Setup, stop: CancellationToken) -> Result<Stopped, Failure> {
    let clock = Clock::system();
    let (health, metrics) = (Health::default(), Metrics::default());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %setup.listener.local_addr()?, "starting");
    let access = setup.metrics_auth.then(|| Access::new(setup.client.clone(), clock.clone()));
    let (health_shown, metrics_shown) = (health.clone(), metrics.clone());
    let serving = serve::run(setup.listener, health_shown, metrics_shown, access, setup.tls, stop.clone());
    let server = tokio::spawn(serving);
    let hub = super::hub(clock.clone(), setup.egress, setup.limits, setup.in_cluster)?;
    let updates = hub.updates();
    let showing = tokio::spawn(show(hub.clone(), metrics.clone()));
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
    showing.abort();
    hub.shutdown().await;
    server.await??;
    tracing::info!("stopped");
    Ok(stopped)
}

/// Those to watch, and those to leave out of them. Who names a namespace means it.
fn namespaces(watched: Vec<String>, excluded: Vec<String>) -> (Vec<String>, BTreeSet<String>) {
    let watched: Vec<String> = watched.into_iter().filter(|name| !name.is_empty()).collect();
    let excluded = excluded.into_iter().filter(|name| !name.is_empty() && !watched.contains(name)).collect();
    (watched, excluded)
}

/// Shows what sources and workers cost, again and again.
async fn show(hub: Hub, metrics: Metrics) {
    loop {
        metrics.sources(&hub.stats());
        tokio::time::sleep(SHOWN_EVERY).await;
    }
}

/// Who this process is, and no other: one of the same name must not take the lease for its own, nor a container that is
/// restarted in its pod.
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
    fn a_namespace_that_is_named_is_watched_whatever_is_excluded() {
        let names = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let none = || (Vec::new(), BTreeSet::new());
        assert_eq!(namespaces(names(""), names("")), none());
        assert_eq!(namespaces(names(""), names("a,b")).1, names("a,b").into_iter().collect());
        let (watched, excluded) = namespaces(names("b,c"), names("a,b"));
        assert_eq!((watched, excluded), (names("b,c"), names("a").into_iter().collect()));
    }

    /// With the process's number, which is 1 in every container, two with one name were one, and both led.
    #[test]
    fn t10_s6_two_processes_of_one_name_are_two_and_no_name_is_none() {
        let named = |name: &str| identity(Some(name.to_owned()));
        assert!(named("sluice-0").starts_with("sluice-0_"));
        assert_ne!(named("sluice-0"), named("sluice-0"));
        for empty in [Some(String::new()), Some(" ".to_owned()), None] {
            let made = identity(empty);
            assert_eq!(made.rsplit_once('_').unwrap().0, host_name());
        }
    }
}
