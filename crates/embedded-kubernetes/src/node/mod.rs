//! A node that runs pods as processes of this machine, without images, containers or isolation.
//!
//! It is a client like any kubelet and works against any API server. [`Node::run`] maintains the Node object and its
//! lease ([`register`]), watches the pods that are bound to it, and starts a task for each pod ([`pod`]), which starts
//! one for each container ([`container`]). A container's process runs under a small supervisor ([`supervise`]), so
//! that it never outlives the node. A pod's status is computed by a pure function ([`status`]) from what the
//! containers' tasks have written to the [`board`].

mod address;
mod backoff;
mod board;
mod container;
mod environment;
mod expand;
mod facts;
mod images;
mod pod;
mod probe;
mod process;
mod register;
mod status;
pub mod supervise;
mod swap;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::address::Addresses;
use self::facts::Capacity;
pub use self::images::{Image, Images};
use self::pod::PodVersion;
use super::clock::Clock;
use super::logs::Logs;
use super::random::Random;

/// The longest time that pods have to end when the node stops, whatever their grace period.
pub const SHUTDOWN: Duration = Duration::from_secs(10);
/// The field manager of the node's writes.
const MANAGER: &str = "kubelet";
/// The variables that a process inherits from the node: what programs need to run at all.
const ENVIRONMENT: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];
/// The longest time that writing an event may take.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest note of an event that the API server accepts, bytes.
const NOTE_BYTES: usize = 1000;

/// The settings of a node.
#[derive(Debug)]
pub struct Settings {
    /// The name of the node.
    pub name: String,
    /// The command that each image stands for.
    pub images: Images,
    /// The folder of the pods' volumes and working directories. Only this user can read it.
    pub folder: PathBuf,
    /// Where containers' logs are written.
    pub logs: Logs,
    /// The program that has the hidden command [`supervise::COMMAND`].
    pub supervisor: PathBuf,
    /// The key of a taint that keeps out pods that do not ask for this node. `None`: the node accepts all pods.
    pub taint: Option<String>,
}

/// The state that all parts of the node share.
struct Context {
    client: Client,
    name: String,
    /// The wall clock at the precision of the API, whole seconds.
    clock: Clock,
    /// The wall clock and the monotonic clock at full precision.
    time: sluice_base::clock::Clock,
    images: Images,
    folder: PathBuf,
    logs: Logs,
    supervisor: PathBuf,
    taint: Option<String>,
    addresses: Addresses,
    capacity: Capacity,
    base_env: BTreeMap<String, String>,
    http: reqwest::Client,
    recorder: Recorder,
    stamps: AtomicU64,
}

/// An event about a pod.
#[derive(Debug)]
struct PodEvent {
    kind: EventType,
    reason: &'static str,
    text: String,
    /// The path of the part of the pod that the event is about.
    field: Option<String>,
}

impl Context {
    /// Reads an object. `None`: it does not exist. The error is for the pod's status.
    async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, String>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(|error| format!("failed to read {} {name}: {error}", K::kind(&())))
    }

    /// Publishes an event in the background. Nothing depends on it, so that a failure is only logged.
    fn publish_event(&self, pod: &Pod, event: PodEvent) {
        let mut text = event.text;
        text.truncate((0..=NOTE_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
        let published = Event {
            type_: event.kind,
            reason: event.reason.to_owned(),
            action: event.reason.to_owned(),
            note: Some(text),
            secondary: None,
        };
        let mut reference = pod.object_ref(&());
        reference.field_path = event.field;
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            if let Ok(Err(error)) = tokio::time::timeout(EVENT_TIMEOUT, recorder.publish(&published, &reference)).await
            {
                tracing::debug!(error = %error, reason = published.reason, "failed to publish an event");
            }
        });
    }

    /// Returns the current time as `metav1.MicroTime` is written.
    #[allow(clippy::cast_possible_truncation, reason = "microseconds of this era fit")]
    fn micro_time(&self) -> String {
        let now = Timestamp::from_microsecond((self.time.now().0 * 1e6) as i64).unwrap_or_default();
        now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }

    /// Returns a name that was not returned before.
    fn stamp(&self) -> String {
        let number = self.stamps.fetch_add(1, Ordering::Relaxed);
        format!("{}.{number}", self.clock.unix())
    }
}

/// A node that has not been started.
pub struct Node(Arc<Context>);

impl Node {
    /// Creates a node of the cluster that `client` connects to.
    pub fn new(settings: Settings, client: Client, time: sluice_base::clock::Clock) -> io::Result<Self> {
        for folder in [&settings.folder, settings.logs.folder()] {
            let failed = |error: io::Error| {
                io::Error::new(
                    error.kind(),
                    format!(
                        "failed to create the folder {}: {error}; choose a folder that this user can write to",
                        folder.display()
                    ),
                )
            };
            std::fs::create_dir_all(folder).map_err(failed)?;
            // The folders hold Secrets and the output of containers: no other user may read them.
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        // A probe connects to the pod itself, without a proxy or redirects, and keeps no connection open: a pod would
        // have to close each open connection before it can end.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .user_agent(format!("kube-probe/{}.{}", super::api::VERSION.0, super::api::VERSION.1))
            .build()
            .map_err(io::Error::other)?;
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(settings.name.clone()) };
        let mut base_env: BTreeMap<String, String> =
            ENVIRONMENT.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect();
        base_env.entry("PATH".to_owned()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
        Ok(Self(Arc::new(Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            name: settings.name,
            clock: Clock::new(time.clone()),
            time,
            images: settings.images,
            folder: settings.folder,
            logs: settings.logs,
            supervisor: settings.supervisor,
            taint: settings.taint,
            addresses: Addresses::starting_at(Random::from_system().next()),
            capacity: register::capacity(),
            base_env,
            http,
            stamps: AtomicU64::new(0),
        })))
    }

    /// Runs until it is stopped. Then all processes have ended; the pods' objects stay in the cluster.
    pub async fn run(self, stop: CancellationToken) {
        let context = self.0;
        let registering = register::maintain(&context);
        let mut pods =
            Pods { context: Arc::clone(&context), stop: stop.clone(), known: BTreeMap::new(), tasks: JoinSet::new() };
        tokio::select! {
            () = registering => {}
            () = pods.follow() => {}
            () = stop.cancelled() => {}
        }
        while pods.tasks.join_next().await.is_some() {}
    }
}

/// The pods of the node by uid, and their tasks.
struct Pods {
    context: Arc<Context>,
    stop: CancellationToken,
    known: BTreeMap<String, watch::Sender<PodVersion>>,
    tasks: JoinSet<String>,
}

impl Pods {
    async fn follow(&mut self) {
        let api: Api<Pod> = Api::all(self.context.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.context.name));
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut listed = BTreeSet::new();
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => {
                    if let Ok(uid) = ended {
                        self.known.remove(&uid);
                    }
                }
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Apply(pod))) => drop(self.update(pod)),
                    Some(Ok(watcher::Event::InitApply(pod))) => listed.extend(self.update(pod)),
                    Some(Ok(watcher::Event::Delete(pod))) => self.mark_gone(pod.metadata.uid.as_deref().unwrap_or_default()),
                    Some(Ok(watcher::Event::Init)) => listed.clear(),
                    Some(Ok(watcher::Event::InitDone)) => {
                        let gone: Vec<String> = self.known.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                        for uid in &gone {
                            self.mark_gone(uid);
                        }
                    }
                    Some(Err(error)) => tracing::warn!(error = %error, "failed to watch pods; retrying"),
                    None => return,
                },
            }
        }
    }

    /// Takes in a version of a pod, and starts a task for a pod that is new. Returns the pod's uid.
    fn update(&mut self, pod: Pod) -> Option<String> {
        let uid = pod.metadata.uid.clone()?;
        let known = PodVersion { pod: Arc::new(pod), gone: false };
        if let Some(sender) = self.known.get(&uid) {
            sender.send_replace(known);
        } else {
            let sender = watch::Sender::new(known);
            let task = pod::run_pod(Arc::clone(&self.context), sender.subscribe(), self.stop.clone());
            self.known.insert(uid.clone(), sender);
            let ended = uid.clone();
            self.tasks.spawn(async move {
                task.await;
                ended
            });
        }
        Some(uid)
    }

    fn mark_gone(&self, uid: &str) {
        if let Some(sender) = self.known.get(uid) {
            sender.send_modify(|known| known.gone = true);
        }
    }
}
