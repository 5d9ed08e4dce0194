//! A node that runs pods as processes of this machine: no images, no containers, no isolation.
//!
//! It is a client like any kubelet and works against any API server. [`Node::run`] keeps the Node and its lease
//! ([`register`]), watches the pods that are bound to it, and gives each a task ([`pod`]), which gives each container
//! one ([`container`]). A container's process runs under a small supervisor ([`supervise`]), so that it never outlives the
//! node. What a pod's status says is worked out in one pure place ([`status`]) from what the containers' tasks have
//! put on the [`board`].

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
use self::pod::Known;
use super::clock::Clock;
use super::logs::Logs;
use super::random::Random;

/// How long pods have to end when the node does, whatever they are promised.
pub const SHUTDOWN: Duration = Duration::from_secs(10);
/// The name under which the node writes.
const MANAGER: &str = "kubelet";
/// What a process gets of the node's own environment: what programs need to run at all.
const ENVIRONMENT: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];
/// How long an event may take to be written.
const EVENT: Duration = Duration::from_secs(5);
/// The API server refuses a longer note.
const NOTE_BYTES: usize = 1000;

/// How a node is made.
#[derive(Debug)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Which command stands for which image.
    pub images: Images,
    /// Where volumes and scratch folders of pods are. For this user's eyes only.
    pub folder: PathBuf,
    /// Where logs are written.
    pub logs: Logs,
    /// The program that has the hidden command [`supervise::COMMAND`].
    pub supervisor: PathBuf,
    /// The key of a taint that keeps pods away which do not ask for this node. `None`: everybody may come.
    pub taint: Option<String>,
}

/// What all parts of the node share.
struct Context {
    client: Client,
    name: String,
    /// For times as the API has them,
    clock: Clock,
    /// and for those that are finer.
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

/// Something to be said of a pod.
#[derive(Debug)]
struct Note {
    kind: EventType,
    reason: &'static str,
    text: String,
    /// The part of the pod that is meant.
    field: Option<String>,
}

impl Context {
    /// An object. `None`: there is none. The error is for the pod's status.
    async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, String>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(|error| format!("failed to read {} {name}: {error}", K::kind(&())))
    }

    /// Publishes an event in the background: a lost one fails nothing.
    fn say(&self, pod: &Pod, note: Note) {
        let mut text = note.text;
        text.truncate((0..=NOTE_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
        let event = Event {
            type_: note.kind,
            reason: note.reason.to_owned(),
            action: note.reason.to_owned(),
            note: Some(text),
            secondary: None,
        };
        let mut reference = pod.object_ref(&());
        reference.field_path = note.field;
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            if let Ok(Err(error)) = tokio::time::timeout(EVENT, recorder.publish(&event, &reference)).await {
                tracing::debug!(error = %error, reason = event.reason, "failed to publish an event");
            }
        });
    }

    /// Now, as `metav1.MicroTime` is written.
    #[allow(clippy::cast_possible_truncation, reason = "microseconds of this era fit")]
    fn micro_time(&self) -> String {
        let now = Timestamp::from_microsecond((self.time.now().0 * 1e6) as i64).unwrap_or_default();
        now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }

    /// A name that no other has had.
    fn stamp(&self) -> String {
        let number = self.stamps.fetch_add(1, Ordering::Relaxed);
        format!("{}.{number}", self.clock.unix())
    }
}

/// A node that has not been started.
pub struct Node(Arc<Context>);

impl Node {
    /// A node of the cluster that the client speaks to.
    pub fn new(settings: Settings, client: Client, time: sluice_base::clock::Clock) -> io::Result<Self> {
        for folder in [&settings.folder, settings.logs.folder()] {
            let failed = |error: io::Error| {
                io::Error::new(
                    error.kind(),
                    format!("failed to make the folder {}: {error}; give one that may be written", folder.display()),
                )
            };
            std::fs::create_dir_all(folder).map_err(failed)?;
            // Secrets are written there, and what containers say is nobody else's business.
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        // A probe asks the pod itself, follows it nowhere, and keeps no connection: one that is kept is one more that a
        // pod has to close before it can end.
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
            addresses: Addresses::from(Random::from_system().next()),
            capacity: register::capacity(),
            base_env,
            http,
            stamps: AtomicU64::new(0),
        })))
    }

    /// Runs until it is stopped: then all processes have ended, and the pods are left as they are in the cluster.
    pub async fn run(self, stop: CancellationToken) {
        let context = self.0;
        let registering = register::keep(&context);
        let mut pods =
            Pods { context: Arc::clone(&context), stop: stop.clone(), known: BTreeMap::new(), lives: JoinSet::new() };
        tokio::select! {
            () = registering => {}
            () = pods.follow() => {}
            () = stop.cancelled() => {}
        }
        while pods.lives.join_next().await.is_some() {}
    }
}

/// The pods of the node, by uid.
struct Pods {
    context: Arc<Context>,
    stop: CancellationToken,
    known: BTreeMap<String, watch::Sender<Known>>,
    lives: JoinSet<String>,
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
                Some(ended) = self.lives.join_next() => {
                    if let Ok(uid) = ended {
                        self.known.remove(&uid);
                    }
                }
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Apply(pod))) => drop(self.see(pod)),
                    Some(Ok(watcher::Event::InitApply(pod))) => listed.extend(self.see(pod)),
                    Some(Ok(watcher::Event::Delete(pod))) => self.gone(pod.metadata.uid.as_deref().unwrap_or_default()),
                    Some(Ok(watcher::Event::Init)) => listed.clear(),
                    Some(Ok(watcher::Event::InitDone)) => {
                        let gone: Vec<String> = self.known.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                        for uid in &gone {
                            self.gone(uid);
                        }
                    }
                    Some(Err(error)) => tracing::warn!(error = %error, "failed to watch pods; it is tried again"),
                    None => return,
                },
            }
        }
    }

    /// Takes a pod in, or what is new of it. Its uid.
    fn see(&mut self, pod: Pod) -> Option<String> {
        let uid = pod.metadata.uid.clone()?;
        let known = Known { pod: Arc::new(pod), gone: false };
        if let Some(sender) = self.known.get(&uid) {
            sender.send_replace(known);
        } else {
            let sender = watch::Sender::new(known);
            let life = pod::live(Arc::clone(&self.context), sender.subscribe(), self.stop.clone());
            self.known.insert(uid.clone(), sender);
            let ended = uid.clone();
            self.lives.spawn(async move {
                life.await;
                ended
            });
        }
        Some(uid)
    }

    fn gone(&self, uid: &str) {
        if let Some(sender) = self.known.get(uid) {
            sender.send_modify(|known| known.gone = true);
        }
    }
}
