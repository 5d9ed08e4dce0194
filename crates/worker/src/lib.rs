//! The reference worker: consumes a topic in a group and says what it has done (docs/worker-metrics.md).
//!
//! It shows what a worker owes Sluice, and is what the demo, the tests and a first try run. A record's work is a wait
//! or processor time; its content is not looked at.
//!
//! ```text
//! broker ─► consume (polls, commits) ─► lanes (plan) ─► engine (carries out) ─► totals ─► metrics, totals line
//!               ▲                          ▲
//!          membership              processing_file
//! ```

mod bucket;
mod consume;
mod engine;
mod http;
mod lanes;
pub mod load;
mod membership;
mod metrics;
mod process;
pub mod processing_file;
#[cfg(test)]
mod tests;
mod totals;
mod work;

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
pub use self::totals::Snapshot;
pub use self::work::Cost;
use sluice_api::v1alpha1::{Delivery, LogLevel};
use sluice_base::clock::Clock;

/// How often the totals line is printed when something has changed.
const TOTALS_EVERY: Duration = Duration::from_secs(1);

/// Where records come from.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// Brokers to ask first: host:port, separated by commas.
    pub bootstrap_servers: String,
    /// The topic read.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// How the group shares its partitions out.
    pub group_protocol: GroupProtocol,
    /// Where to begin without a committed offset.
    pub start: Start,
    /// Whether the worker's name is its `group.instance.id`.
    pub static_membership: bool,
    /// Whether a static member gives its place up when it stops.
    pub leave_on_stop: LeaveOnStop,
    /// Classic protocol: after this time without a heartbeat the group goes on without the worker.
    pub session_timeout: Duration,
}

/// How a consumer group shares its partitions out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GroupProtocol {
    /// The members agree, one of them assigning (any Kafka).
    Classic,
    /// The broker assigns (KIP-848, Kafka 4.0); the classic protocol where the broker cannot.
    Consumer,
}

/// Where to begin in a partition without a committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Start {
    /// At its oldest record: none is lost.
    Earliest,
    /// At its end.
    Latest,
}

/// What a static member does with its place in the group when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LeaveOnStop {
    /// Gives it up: others take its partitions over at once, and again when it comes back.
    Always,
    /// Keeps it: nobody touches its partitions until it is back, or its session has timed out.
    Never,
}

/// Everything a worker needs to know at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its source.
    pub kafka: KafkaSettings,
    /// Value of the label `source` on its series.
    pub source: String,
    /// Its name: client id, static instance id, and `worker` in the totals line.
    pub name: String,
    /// Where it answers over HTTP.
    pub listen: SocketAddr,
    /// What a record costs.
    pub cost: Cost,
    /// How long after its start it joins its group; zero: at once. With a wait it is ready while it waits.
    pub join_after: Duration,
    /// How often it commits.
    pub commit_interval: Duration,
    /// How long it may take to stop.
    pub drain_timeout: Duration,
    /// Where the processing file is, if there is one.
    pub processing_file: Option<PathBuf>,
    /// Whether to print the totals line.
    pub totals: bool,
}

/// Why a worker could not run. Faults of the broker are not among them: the worker outlasts those.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address for metrics and probes is not to be had.
    #[error("failed to listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs a worker until `stop`, drains it, and returns what it has done.
///
/// `log_level` is called with the level to log at, at the start and whenever the processing file changes it.
pub async fn run(
    settings: &Settings,
    clock: Clock,
    stop: CancellationToken,
    log_level: impl Fn(LogLevel) + Send + 'static,
) -> Result<Snapshot, Error> {
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|source| Error::Listen { address: settings.listen, source })?;
    // What outlasts the drain: the probes and the work on the last records.
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
    tasks.spawn(announce(processing.clone(), end.clone(), log_level));

    let engine = Arc::new(Engine::new(processing, clock.clone()));
    let registry = metrics::registry(Arc::clone(&engine), settings.source.clone(), settings.kafka.topic.clone());
    let ready_early = !settings.join_after.is_zero();
    let router = http::router(Arc::clone(&engine), registry, stop.clone(), ready_early);
    tasks.spawn({
        let end = end.clone();
        async move {
            // It ends with `end`; its errors are those of single connections.
            let _ = axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned()).await;
        }
    });

    let labour = work::Labour::measure(settings.cost, clock).await;
    for task in [true, false] {
        let (engine, end, labour) = (Arc::clone(&engine), end.clone(), labour.clone());
        tasks.spawn(async move {
            if task {
                engine.run(labour, end).await;
            } else {
                engine.follow_limits(end).await;
            }
        });
    }
    if settings.totals {
        tasks.spawn(print_totals(Arc::clone(&engine), settings.name.clone(), end.clone()));
    }

    let consuming = consume::Consuming {
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
    // A connection that someone keeps open must not keep the worker.
    let _ = tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await;
    let snapshot = engine.snapshot();
    if settings.totals {
        print_line(&snapshot, &settings.name);
    }
    Ok(snapshot)
}

/// Hands on the log level, and says what a promise is worth here.
async fn announce(
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
            tracing::warn!(
                "delivery is ExactlyOnce: the reference worker writes nothing that could be made to count once, and \
                 processes at least once"
            );
        }
        match end.run_until_cancelled(processing.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

/// Prints the totals line every second in which something has changed.
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

/// The totals are this command's result, so they go to stdout; the log goes to stderr.
fn print_line(snapshot: &Snapshot, name: &str) {
    use std::io::Write as _;
    if let Ok(line) = snapshot.line(name) {
        // Nobody reads any more: no reason to stop working.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}
