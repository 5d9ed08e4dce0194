//! The API server: turns a request into an answer, without a network.
//!
//! There is one file for each kind of request. Shared parts: [`call`] is the parsed request, [`answer`] writes
//! answers, and [`prepare`] is what the server does to objects before it stores them.

mod access;
mod admission;
mod answer;
mod applying;
mod call;
mod change;
mod definitions;
mod delete;
mod discovery;
mod inside;
mod list;
mod logs;
mod openapi;
mod pod_security;
mod pods;
mod prepare;
mod read;
mod scale;
mod tables;
mod view;
mod watching;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use axum::body::Body;
use axum::http::{Request, Response};
use serde_json::{Value, json};

pub use access::User;
pub use inside::Actor;

use super::clock::Clock;
use super::kinds::{Registry, Resource};
use super::logs::Logs;
use super::random::Random;
use super::request::{self, Path};
use super::status::Status;
use super::store::{self, Store};
use answer::Answer;
use call::Call;

/// The version that the server reports, and whose behaviour it follows.
pub const VERSION: (&str, &str) = ("1", "34");

/// The settings of a server.
#[derive(Debug)]
pub struct Options {
    /// The clock of the server.
    pub clock: Clock,
    /// The seed of uids and generated names. `None`: a random seed.
    pub seed: Option<u64>,
    /// The number of changes of each resource that are kept for watches.
    pub history: usize,
    /// The users by their bearer token. Empty: every client is an administrator.
    pub tokens: Vec<(String, User)>,
    /// Where the node writes its containers' logs. `None`: no logs can be read.
    pub logs: Option<Logs>,
}

impl Options {
    /// Returns options with the default history, random names and no tokens.
    pub fn new(clock: Clock) -> Self {
        Self { clock, seed: None, history: store::HISTORY, tokens: Vec::new(), logs: None }
    }
}

/// An API server. Clones share its state.
#[derive(Debug, Clone)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    registry: RwLock<Arc<Registry>>,
    clock: Clock,
    random: Random,
    tokens: RwLock<Vec<(String, User)>>,
    logs: Option<Logs>,
    /// Locked while an object that a quota counts is admitted, and while a quota is recalculated.
    counting: Mutex<()>,
}

impl Server {
    /// Creates a server with the namespaces that every cluster has.
    pub fn new(options: Options) -> Self {
        let store = Store::new(options.history);
        Self::with_store(options, store)
    }

    /// Creates a server with the objects of a store. `options.history` has no effect, because the store has its own.
    pub fn with_store(options: Options, store: Store) -> Self {
        let server = Self(Arc::new(Inner {
            store,
            registry: RwLock::new(Arc::new(Registry::new(std::iter::empty()))),
            clock: options.clock,
            random: options.seed.map_or_else(Random::from_system, Random::seeded),
            tokens: RwLock::new(options.tokens),
            logs: options.logs,
            counting: Mutex::new(()),
        }));
        server.reload();
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            server.create_if_missing(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
        server
    }

    /// Creates an object on the server's own behalf, unless it already exists.
    fn create_if_missing(&self, object: &Value) {
        let registry = self.registry();
        let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        if let Some(kind) = registry.for_object(api_version, kind) {
            let call = Call::internal(kind, super::meta::namespace(object), super::meta::name(object));
            let options = call.write_options("CreateOptions");
            let _ = options.and_then(|options| write::create(self, &call, &options, object.clone()));
        }
    }

    /// Returns the store, for tests that inspect it directly and for compaction.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Returns the clock of the server.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Adds a user with a bearer token.
    pub fn admit(&self, token: &str, user: User) {
        self.0.tokens.write().unwrap_or_else(PoisonError::into_inner).push((token.to_owned(), user));
    }

    fn lock_quotas(&self) -> MutexGuard<'_, ()> {
        self.0.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn random(&self) -> &Random {
        &self.0.random
    }

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.0.registry.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rebuilds the registry from the `CustomResourceDefinitions`.
    fn reload(&self) {
        let resource = Resource::new("apiextensions.k8s.io", "customresourcedefinitions");
        let page = self.0.store.list(&resource, None, None, None);
        let definitions: Vec<_> = page.map(|page| page.objects).unwrap_or_default();
        let registry = Registry::new(definitions.iter().map(|(_, object)| &object.value));
        *self.0.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let accept = answer::Accept::from_headers(&parts.headers);
        let outcome = self.route(&parts, body, &accept).await;
        outcome.unwrap_or_else(|status| Answer::failure(&status)).into_response(&accept)
    }

    async fn route(
        &self,
        parts: &axum::http::request::Parts,
        body: Body,
        accept: &answer::Accept,
    ) -> Result<Answer, Status> {
        let path = request::parse_path(parts.uri.path());
        let user = access::authenticate(self, &parts.headers)?;
        access::authorize_path(&user, &path, parts.uri.path())?;
        match path {
            Path::Resource(path) => {
                let Some(call) = Call::read(self, parts, path, user, body, accept).await? else {
                    return Ok(Answer::no_such_path());
                };
                access::authorize(self, &call)?;
                let outcome = self.dispatch(call).await;
                // If the journal has failed, that is the cause, whatever the write reports.
                outcome.map_err(|status| self.0.store.failure().map_or(status, Status::internal))
            }
            other => discovery::answer(self, &other, parts, accept),
        }
    }

    async fn dispatch(&self, call: Call) -> Result<Answer, Status> {
        let method = call.method.as_str();
        let whole = call.path.name.is_empty();
        match (call.path.subresource.as_str(), method, whole) {
            ("", "GET" | "HEAD", _) if call.query.flag("watch") => watching::watch(self, &call),
            ("", "GET" | "HEAD", true) => list::list(self, &call).await,
            ("", "POST", true) => write::post(self, &call),
            ("" | "status", "PUT", false) => write::put(self, &call),
            ("" | "status", "PATCH", false) => write::patch(self, &call),
            ("" | "status", "GET" | "HEAD", false) => read::get(self, &call),
            ("", "DELETE", false) => delete::delete(self, &call),
            ("", "DELETE", true) if call.kind.delete_collection => delete::delete_collection(self, &call),
            ("scale", "GET" | "PUT" | "PATCH", false) => scale::scale(self, &call),
            ("finalize", "PUT", false) => write::finalize(self, &call),
            ("eviction", "POST", false) => pods::evict(self, &call),
            ("binding", "POST", false) => pods::bind(self, &call),
            ("log", "GET", false) => logs::log(self, &call),
            _ => Err(Status::method_not_allowed()),
        }
    }
}
