//! The operator: it validates StreamJobs, observes their workloads and sources, decides, applies and reports.
//!
//! There is one controller for each watched namespace, or one for all. It reconciles a job when its object or workload
//! changes, and when the hub has a new sample of it.
//!
//! Architecture invariant: workers outlive the operator. Nothing here stops a worker because the operator stops.

mod annotations;
mod apply;
mod cause;
mod context;
#[cfg(test)]
mod conversations;
mod error;
mod job_state;
pub mod lease;
mod observe;
mod reconcile;
pub mod serve;
mod status;
pub mod validate;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::serve::Health;
use crate::serve::metrics::Metrics;
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_signals::{JobKey, Signals};

use crate::apply::attempts::NamespaceRefusals;
use crate::apply::writer::Applier;

pub use crate::error::Error;
use crate::job_state::Jobs;
use crate::lease::{Elector, Leadership};
use crate::observe::claims::Claims;
use crate::observe::kinds::Kinds;
pub use crate::status::learned;
use crate::watch::{Scope, Shared};

/// Maximum number of changed jobs that wait to be reconciled, for each watched namespace. A job that finds no room is
/// reconciled with its next sample.
const FEED: usize = 4096;

/// The operator and its dependencies.
pub struct Operator {
    /// Client of the API server.
    pub client: Client,
    /// Namespaces to watch. Empty means all.
    pub namespaces: Vec<String>,
    /// Namespaces whose jobs are left alone; only their status reports it.
    pub excluded: BTreeSet<String>,
    /// Leader election. `None`: no other operator runs.
    pub election: Option<Election>,
    /// Samples of sources and workers.
    pub signals: Arc<dyn Signals>,
    /// State from which /livez and /readyz answer.
    pub health: Health,
    /// Metrics that /metrics serves.
    pub metrics: Metrics,
    /// Clock of all decisions and time-outs.
    pub clock: Clock,
}

/// The lease of a leader election, and this process's name in it.
#[derive(Debug, Clone)]
pub struct Election {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub lease: String,
    /// Name of this process; must differ between processes.
    pub identity: String,
}

/// Why the operator stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It was asked to stop.
    Requested,
    /// The lease was lost: the process must exit and start again as a stand-by.
    LeaseLost,
    /// A task panicked, which is a bug: the process must exit and start again.
    Failed,
}

impl Operator {
    /// Runs until `stop` is cancelled, the lease is lost or a task panics. `updates` yields the jobs that have a new
    /// sample.
    pub async fn run(
        mut self,
        updates: impl Stream<Item = JobKey> + Send + 'static,
        stop: CancellationToken,
    ) -> Stopped {
        self.client = watch::deadline::within_deadline(self.client);
        let Some(election) = self.election.clone() else {
            self.health.leading();
            let is_whole = self.lead(updates, Leadership::always(), "sluice", stop).await;
            return if is_whole { Stopped::Requested } else { Stopped::Failed };
        };
        self.health.standing_by();
        let api = Api::<Lease>::namespaced(self.client.clone(), &election.namespace);
        let mut elector = Elector::new(api, &election.lease, &election.identity, self.clock.clone());
        if !elector.acquire(&stop).await {
            return Stopped::Requested;
        }
        self.health.leading();
        let leadership = elector.leadership();
        // The controllers stop before the lease is released, so that no write of this process follows the release.
        let (stop_leading, release) = (CancellationToken::new(), CancellationToken::new());
        let mut leading = std::pin::pin!(self.lead(updates, leadership, &election.identity, stop_leading.clone()));
        let mut holding = std::pin::pin!(elector.hold(&release));
        tokio::select! {
            _ = &mut holding => {
                stop_leading.cancel();
                leading.await;
                Stopped::LeaseLost
            }
            () = stop.cancelled() => {
                stop_leading.cancel();
                // Reconciles under way may still write, so the lease is renewed until they have finished.
                let lost = tokio::select! {
                    _ = &mut leading => false,
                    _ = &mut holding => true,
                };
                if !lost {
                    release.cancel();
                    holding.await;
                }
                Stopped::Requested
            }
            // The controllers end by themselves only after a panic: a stand-by must take over.
            _ = &mut leading => {
                release.cancel();
                holding.await;
                Stopped::Failed
            }
        }
    }

    /// Runs the controllers. Returns false if a task has panicked and all others were stopped.
    async fn lead(
        &self,
        updates: impl Stream<Item = JobKey> + Send + 'static,
        leadership: Leadership,
        identity: &str,
        stop: CancellationToken,
    ) -> bool {
        let reporter = Reporter { controller: "sluice".to_owned(), instance: Some(identity.to_owned()) };
        let applier = Applier {
            client: self.client.clone(),
            clock: self.clock.clone(),
            leadership,
            metrics: self.metrics.clone(),
        };
        let shared = Shared {
            client: self.client.clone(),
            clock: self.clock.clone(),
            signals: Arc::clone(&self.signals),
            applier,
            metrics: self.metrics.clone(),
            recorder: Recorder::new(self.client.clone(), reporter),
            jobs: Jobs::default(),
            excluded: Arc::new(self.excluded.clone()),
            health: self.health.clone(),
            claims: Claims::default(),
            kinds: Kinds::default(),
            namespace_refusals: NamespaceRefusals::default(),
        };
        let scopes = match self.namespaces.as_slice() {
            [] => vec![Scope::All],
            namespaces => namespaces.iter().cloned().map(Scope::Namespace).collect(),
        };
        let (mut tasks, mut feeds, mut synced) = (JoinSet::new(), BTreeMap::new(), Vec::new());
        for scope in scopes {
            let (feed, changed) = mpsc::channel(FEED);
            synced.push(shared.start(&scope, &feed, changed, &stop, &mut tasks));
            feeds.insert(scope, feed);
        }
        let health = self.health.clone();
        tasks.spawn(async move {
            if futures::future::join_all(synced).await.into_iter().all(|synced| synced) {
                health.synced();
            }
        });
        tasks.spawn(distribute(updates, feeds, stop));
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                // Without this task, jobs might be watched but not reconciled, and it would go unnoticed.
                tracing::error!(error = %error, "operator task panicked; this is a bug; exiting");
                tasks.shutdown().await;
                return false;
            }
        }
        true
    }
}

/// Sends each job with a new sample to the controller of its namespace.
async fn distribute(
    updates: impl Stream<Item = JobKey>,
    feeds: BTreeMap<Scope, mpsc::Sender<JobKey>>,
    stop: CancellationToken,
) {
    let mut updates = std::pin::pin!(updates);
    loop {
        let key = tokio::select! {
            key = updates.next() => key,
            () = stop.cancelled() => return,
        };
        let Some(key) = key else { return };
        let feed = feeds.get(&Scope::All).or_else(|| feeds.get(&Scope::Namespace(key.namespace.clone())));
        if let Some(feed) = feed {
            let _ = feed.try_send(key);
        }
    }
}

/// Converts Unix seconds to a timestamp of the API. A value out of range becomes the epoch.
#[allow(clippy::cast_possible_truncation, reason = "a float to integer cast saturates")]
fn timestamp(seconds: Seconds) -> Timestamp {
    Timestamp::from_microsecond((seconds.0 * 1e6) as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Converts a timestamp of the API to Unix seconds.
fn seconds(timestamp: Timestamp) -> Seconds {
    Seconds(timestamp.as_duration().as_secs_f64())
}
