//! The Kubernetes edge: observe -> validate -> decide -> build -> apply -> status.
//!
//! One controller for each watched namespace, or one for all. It reconciles a job when its object or workload changes,
//! and when the hub has a new sample of it.
//!
//! Architecture invariant: workers outlive the operator. Nothing here stops a worker because the operator stops.

mod apply;
mod context;
#[cfg(test)]
mod conversations;
mod error;
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
use crate::context::Jobs;
pub use crate::error::Error;
use crate::lease::{Elector, Leadership};
use crate::observe::claims::Claims;
use crate::observe::kinds::Kinds;
pub use crate::status::learned;
use crate::watch::{Scope, Shared};

/// Jobs with news that wait to be reconciled, for each watched namespace. One that finds no room comes with its next
/// sample.
const FEED: usize = 4096;

/// The operator, and everything that it is handed.
pub struct Operator {
    /// The API server.
    pub client: Client,
    /// Namespaces to watch; empty: all.
    pub namespaces: Vec<String>,
    /// Namespaces in which nothing is done for a job but to say so.
    pub excluded: BTreeSet<String>,
    /// Take part in a leader election; `None`: this process is alone.
    pub election: Option<Election>,
    /// The hub.
    pub signals: Arc<dyn Signals>,
    /// What /readyz answers from.
    pub health: Health,
    /// What /metrics answers from.
    pub metrics: Metrics,
    /// The clock.
    pub clock: Clock,
}

/// Where the leader election takes place.
#[derive(Debug, Clone)]
pub struct Election {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub lease: String,
    /// Who we are; must differ between processes.
    pub identity: String,
}

/// Why the operator stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// As told.
    AsTold,
    /// The lease was lost: the process must end, and start anew as a stand-by.
    LeaseLost,
    /// A part of it has failed, which is a fault of this program: the process must end, and start anew.
    Failed,
}

impl Operator {
    /// Runs until told to stop, or until the lease is lost. `updates` tells of jobs with a new sample.
    pub async fn run(
        mut self,
        updates: impl Stream<Item = JobKey> + Send + 'static,
        stop: CancellationToken,
    ) -> Stopped {
        self.client = watch::deadline::within_deadline(self.client);
        let Some(election) = self.election.clone() else {
            self.health.leading();
            let whole = self.lead(updates, Leadership::always(), "sluice", stop).await;
            return if whole { Stopped::AsTold } else { Stopped::Failed };
        };
        self.health.standing_by();
        let api = Api::<Lease>::namespaced(self.client.clone(), &election.namespace);
        let mut elector = Elector::new(api, &election.lease, &election.identity, self.clock.clone());
        if !elector.acquire(&stop).await {
            return Stopped::AsTold;
        }
        self.health.leading();
        let leadership = elector.leadership();
        // The controllers stop first and the lease is handed back after them, so that no write of ours follows it.
        let (stop_leading, hand_back) = (CancellationToken::new(), CancellationToken::new());
        let mut leading = std::pin::pin!(self.lead(updates, leadership, &election.identity, stop_leading.clone()));
        let mut holding = std::pin::pin!(elector.hold(&hand_back));
        tokio::select! {
            _ = &mut holding => {
                stop_leading.cancel();
                leading.await;
                Stopped::LeaseLost
            }
            () = stop.cancelled() => {
                stop_leading.cancel();
                // Reconciles under way may still write: the lease is renewed until they are done.
                let lost = tokio::select! {
                    _ = &mut leading => false,
                    _ = &mut holding => true,
                };
                if !lost {
                    hand_back.cancel();
                    holding.await;
                }
                Stopped::AsTold
            }
            // The controllers never end by themselves: a stand-by must take over.
            _ = &mut leading => {
                hand_back.cancel();
                holding.await;
                Stopped::Failed
            }
        }
    }

    /// `false`: a part has failed, and all have been ended.
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
            let (feed, news) = mpsc::channel(FEED);
            synced.push(shared.start(&scope, &feed, news, &stop, &mut tasks));
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
                // Without one of them jobs would be watched, and nothing done for them, and nobody would know.
                tracing::error!(error = %error, "a part of the operator has failed, which is a fault of this program: it ends");
                tasks.shutdown().await;
                return false;
            }
        }
        true
    }
}

/// Hands each job with a new sample to the controller of its namespace.
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

/// Unix seconds as the API's time; the epoch for what is no time at all.
#[allow(clippy::cast_possible_truncation, reason = "a float to integer cast saturates")]
fn timestamp(seconds: Seconds) -> Timestamp {
    Timestamp::from_microsecond((seconds.0 * 1e6) as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The API's time as Unix seconds.
fn seconds(timestamp: Timestamp) -> Seconds {
    Seconds(timestamp.as_duration().as_secs_f64())
}
