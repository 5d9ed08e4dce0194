//! Leader election, through [`Operator::run`]: only the leader reconciles and writes, and a lost lease ends the
//! process. The API server of these tests answers every read instead of following a script, because watches start in
//! any order.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body as Answer, Bytes};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::{Election, Operator, Stopped};
use super::*;
use crate::serve::Health;
use crate::serve::metrics::Metrics;
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_signals::{JobKey, JobSamples, Signals, WatchSpec};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/sluice/leases";

/// An API server with one job, its workload, and a lease.
#[derive(Default)]
struct Server {
    lease: Mutex<Value>,
    /// Writes to any object but the lease.
    writes: Mutex<Vec<String>>,
    /// Number of renewals of the lease.
    renewals: AtomicUsize,
}

impl Server {
    fn holder(&self) -> Value {
        self.lease.lock().unwrap()["spec"]["holderIdentity"].clone()
    }

    /// Gives the lease to another process.
    fn give_lease_to(&self, other: &str) {
        *self.lease.lock().unwrap() = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "sluice", "namespace": "sluice", "resourceVersion": "99"},
            "spec": {"holderIdentity": other, "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 4},
        });
    }

    fn answer(&self, method: &str, path: &str, query: &str, body: Value) -> (u16, Value) {
        let missing = (
            404,
            json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found"}),
        );
        let list = |items: Vec<Value>| (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}));
        let job = job(json!({}));
        if path.starts_with(LEASES) {
            let mut lease = self.lease.lock().unwrap();
            if method == "GET" {
                return if lease.is_null() { missing } else { (200, lease.clone()) };
            }
            self.renewals.fetch_add(1, Ordering::Relaxed);
            *lease = body;
            return (200, lease.clone());
        }
        if method != "GET" {
            if !path.starts_with("/apis/events.k8s.io") {
                self.writes.lock().unwrap().push(format!("{method} {path}"));
            }
            return (200, if path == STATUS { serde_json::to_value(&job).unwrap() } else { body });
        }
        assert!(!query.contains("watch=true"), "watches are answered by `Running::start`");
        match path {
            CONFIG_MAP => (200, config_map(&job).answer),
            "/apis/sluice.dev/v1alpha1/streamjobs" => list(vec![serde_json::to_value(&job).unwrap()]),
            "/apis/apps/v1/deployments" => list(vec![deployment(&job, 6, &["sluice/scale"])]),
            _ => list(Vec::new()),
        }
    }
}

/// Counts reconciles, each of which reads the samples once.
#[derive(Default)]
struct Reconciles(AtomicUsize);

impl Signals for Reconciles {
    fn watch(&self, _: &JobKey, _: WatchSpec) {}
    fn forget(&self, _: &JobKey) {}
    fn read(&self, _: &JobKey) -> Option<JobSamples> {
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }
}

struct Running {
    server: Arc<Server>,
    reconciles: Arc<Reconciles>,
    stop: CancellationToken,
    operator: JoinHandle<Stopped>,
}

impl Running {
    fn start(server: Server) -> Self {
        let (server, reconciles, stop) = (Arc::new(server), Arc::new(Reconciles::default()), CancellationToken::new());
        let answering = Arc::clone(&server);
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&answering);
            async move {
                let (method, uri) = (request.method().to_string(), request.uri().clone());
                let query = uri.query().unwrap_or_default().to_owned();
                if query.contains("watch=true") {
                    let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
                    return Ok::<_, std::convert::Infallible>(Response::new(Answer::from_stream(never)));
                }
                let bytes = request.into_body().collect().await.unwrap().to_bytes();
                let (status, answer) =
                    server.answer(&method, uri.path(), &query, serde_json::from_slice(&bytes).unwrap_or_default());
                Ok(Response::builder().status(status).body(Answer::from(answer.to_string())).unwrap())
            }
        });
        let operator = Operator {
            client: Client::new(service, "sluice"),
            namespaces: Vec::new(),
            excluded: BTreeSet::new(),
            election: Some(Election {
                namespace: "sluice".to_owned(),
                lease: "sluice".to_owned(),
                identity: "me".to_owned(),
            }),
            signals: Arc::clone(&reconciles) as Arc<dyn Signals>,
            health: Health::default(),
            metrics: Metrics::default(),
            clock: Clock::starting_at(Seconds(1_764_000_000.0)),
        };
        let operator = tokio::spawn(operator.run(futures::stream::pending(), stop.clone()));
        Self { server, reconciles, stop, operator }
    }

    fn reconciles(&self) -> usize {
        self.reconciles.0.load(Ordering::Relaxed)
    }

    fn writes(&self) -> Vec<String> {
        self.server.writes.lock().unwrap().clone()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn leader_reconciles_until_the_lease_is_lost() {
    let running = Running::start(Server::default());
    pass(5).await;
    assert_eq!(running.server.holder(), "me");
    assert_eq!(running.reconciles(), 1, "the controllers run while the lease is held");
    assert_eq!(running.writes(), [format!("PATCH {STATUS}")]);
    pass(60).await;
    assert_eq!(running.reconciles(), 5, "one reconcile each 15 s");
    let renewals = running.server.renewals.load(Ordering::Relaxed);
    assert!((30..=34).contains(&renewals), "one renewal each 2 s: {renewals}");

    running.server.give_lease_to("another");
    let reconciles = Arc::clone(&running.reconciles);
    let ended = tokio::time::timeout(Duration::from_secs(3), running.operator).await;
    assert_eq!(ended.expect("it ends with its next attempt to renew").unwrap(), Stopped::LeaseLost);
    let before = reconciles.0.load(Ordering::Relaxed);
    pass(60).await;
    assert_eq!(reconciles.0.load(Ordering::Relaxed), before, "no reconcile follows");
    assert_eq!(running.server.holder(), "another", "the lease of another process is not released");
}

#[tokio::test(start_paused = true)]
async fn stand_by_does_nothing_until_the_lease_has_expired() {
    let server = Server::default();
    server.give_lease_to("another");
    let running = Running::start(server);
    pass(14).await;
    assert_eq!((running.reconciles(), running.writes().len()), (0, 0));
    assert_eq!(running.server.holder(), "another");
    // The lease is read every 2 s, and expires after it was unchanged for 15 s.
    pass(4).await;
    assert_eq!(running.server.holder(), "me");
    assert_eq!(running.reconciles(), 1);
    assert_eq!(running.server.lease.lock().unwrap()["spec"]["leaseTransitions"], 5);
}

#[tokio::test(start_paused = true)]
async fn stopped_leader_releases_the_lease_last() {
    let running = Running::start(Server::default());
    pass(5).await;
    running.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), running.operator).await;
    assert_eq!(ended.expect("it ends").unwrap(), Stopped::Requested);
    assert_eq!(running.server.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn stopped_stand_by_leaves_the_lease_alone() {
    let server = Server::default();
    server.give_lease_to("another");
    let running = Running::start(server);
    pass(3).await;
    running.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), running.operator).await;
    assert_eq!(ended.expect("it ends").unwrap(), Stopped::Requested);
    assert_eq!((running.server.holder(), running.server.renewals.load(Ordering::Relaxed)), (json!("another"), 0));
}
