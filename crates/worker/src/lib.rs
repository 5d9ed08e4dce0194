//! The reference worker: consumes a topic in a consumer group and reports what it has processed
//! (docs/worker-metrics.md).
//!
//! It shows what Sluice requires of a worker, and is used by the demo and the tests. The work of a record is a wait or
//! processor time; the record's content is not read.
//!
//! ```text
//! broker ─► consume (polls, commits) ─► lanes (plan) ─► engine (carries out) ─► totals ─► metrics, totals line
//!               ▲                          ▲
//!          membership              processing_file
//! ```

mod consume;
mod engine;
mod http;
pub mod load;
mod membership;
mod metrics;
mod process;
pub mod processing_file;
mod scheduler;
mod simulated_work;
#[cfg(test)]
mod tests;
mod token_bucket;
mod totals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::engine::Engine;
use self::processing_file::{Follower, Processing};
pub use self::simulated_work::Cost;
pub use self::totals::Snapshot;
use sluice_api::v1alpha1::{Delivery, LogLevel};
use sluice_base::clock::Clock;

/// How often the totals line is printed if something has changed.
const TOTALS_EVERY: Duration = Duration::from_secs(1);

/// Where records come from.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// Bootstrap servers: host:port, separated by commas.
    pub bootstrap_servers: String,
    /// Name of the topic.
    pub topic: String,
    /// Name of the consumer group.
    pub group: String,
    /// How the group assigns its partitions.
    pub group_protocol: GroupProtocol,
    /// Where to start in a partition without a committed offset.
    pub start: Start,
    /// Whether the worker's name is its `group.instance.id`.
    pub static_membership: bool,
    /// Whether a static member leaves the group when it stops.
    pub leave_on_stop: LeaveOnStop,
    /// Session timeout of the classic protocol: after this time without a heartbeat, the group continues without the
    /// worker.
    pub session_timeout: Duration,
}

/// How a consumer group assigns its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GroupProtocol {
    /// One of the members assigns the partitions (any Kafka version)
    Classic,
    /// The broker assigns the partitions (KIP-848, Kafka 4.0); falls back to `classic` if the broker lacks this
    /// protocol
    Consumer,
}

/// Where to start in a partition without a committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Start {
    /// Start at the oldest record, so that none is lost
    Earliest,
    /// Start at the end, and skip the records before it
    Latest,
}

/// Whether a static member leaves the group when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LeaveOnStop {
    /// Leave the group: other members take over the partitions at once, and hand them back when the worker returns
    Always,
    /// Stay in the group: the partitions wait until the worker returns or its session times out
    Never,
}

/// The settings of a worker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where records come from.
    pub kafka: KafkaSettings,
    /// Value of the label `source` of the worker's series.
    pub source: String,
    /// Name of the worker: its client id, its static instance id, and `worker` in the totals line.
    pub name: String,
    /// Address for HTTP requests.
    pub listen: SocketAddr,
    /// Cost of a record.
    pub cost: Cost,
    /// Time from the start to joining the group. If it is not zero, the worker reports ready while it waits.
    pub join_after: Duration,
    /// Time between two commits.
    pub commit_interval: Duration,
    /// Maximum time of a drain.
    pub drain_timeout: Duration,
    /// Path of the processing file, if there is one.
    pub processing_file: Option<PathBuf>,
    /// Whether to print the totals line.
    pub totals: bool,
}

/// Why a worker could not run. Errors of the broker are not included, because the worker retries.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address for metrics and probes cannot be used.
    #[error("failed to listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Address of the listener.
        address: SocketAddr,
        /// Error of the system.
        source: std::io::Error,
    },
}

/// Runs a worker until `stop`, drains it, and returns its totals.
///
/// `log_level` is called with the log level at the start, and whenever the processing file changes it.
pub async fn run(
    settings: &Settings,
    clock: Clock,
    stop: CancellationToken,
    log_level: impl Fn(LogLevel) + Send + 'static,
) -> Result<Snapshot, Error> {
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|source| Error::Listen { address: settings.listen, source })?;
    // Cancelled after the drain: the probes and the work on the last records outlast `stop`.
    let end = CancellationToken::new();
    let tasks = TaskTracker::new();

    let processing = match &settings.processing_file {
        Some(path) => {
            let (follower, processing) = Follower::new(path).await;
            tasks.spawn(follower.run(end.clone()));
            processing
        }
        None => watch::channel(Processing::default()).1,
    };
    tasks.spawn(apply_log_level(processing.clone(), end.clone(), log_level));

    let engine = Arc::new(Engine::new(processing, clock.clone()));
    let registry = metrics::registry(Arc::clone(&engine), settings.source.clone(), settings.kafka.topic.clone());
    let ready_early = !settings.join_after.is_zero();
    let router = http::router(Arc::clone(&engine), registry, stop.clone(), ready_early);
    tasks.spawn({
        let end = end.clone();
        async move {
            // It ends with `end`; its errors concern single connections.
            let _ = axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned()).await;
        }
    });

    let simulated_work = simulated_work::SimulatedWork::measure(settings.cost, clock).await;
    for task in [true, false] {
        let (engine, end, simulated_work) = (Arc::clone(&engine), end.clone(), simulated_work.clone());
        tasks.spawn(async move {
            if task {
                engine.run(simulated_work, end).await;
            } else {
                engine.follow_limits(end).await;
            }
        });
    }
    if settings.totals {
        tasks.spawn(print_totals(Arc::clone(&engine), settings.name.clone(), end.clone()));
    }

    let consuming = consume::ConsumeLoop {
        settings: &settings.kafka,
        name: &settings.name,
        commit_interval: settings.commit_interval,
        drain_timeout: settings.drain_timeout,
        engine: Arc::clone(&engine),
    };
    if stop.run_until_cancelled(tokio::time::sleep(settings.join_after)).await.is_some() {
        consuming.run(&stop).await;
    }

    end.cancel();
    tasks.close();
    // An open connection must not keep the worker running.
    let _ = tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await;
    let snapshot = engine.snapshot();
    if settings.totals {
        print_line(&snapshot, &settings.name);
    }
    Ok(snapshot)
}

/// Applies the log level, and warns if the delivery guarantee is not available.
async fn apply_log_level(
    mut processing: watch::Receiver<Processing>,
    end: CancellationToken,
    log_level: impl Fn(LogLevel) + Send,
) {
    loop {
        let (level, delivery) = {
            let processing = processing.borrow_and_update();
            (processing.log_level, processing.delivery)
        };
        log_level(level);
        if delivery == Delivery::ExactlyOnce {
            tracing::warn!("ExactlyOnce is not supported; processing at least once");
        }
        match end.run_until_cancelled(processing.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

/// Prints the totals line each second if something has changed.
async fn print_totals(engine: Arc<Engine>, name: String, end: CancellationToken) {
    let mut printed = None;
    while end.run_until_cancelled(tokio::time::sleep(TOTALS_EVERY)).await.is_some() {
        let snapshot = engine.snapshot();
        if printed.as_ref() != Some(&snapshot) {
            print_line(&snapshot, &name);
            printed = Some(snapshot);
        }
    }
}

/// Prints the totals to stdout, because they are the result of this command; the log goes to stderr.
fn print_line(snapshot: &Snapshot, name: &str) {
    use std::io::Write as _;
    if let Ok(line) = snapshot.totals_line(name) {
        // An error means that stdout is closed, which is not a reason to stop working.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}
