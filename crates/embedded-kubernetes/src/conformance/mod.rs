//! The rules of a Kubernetes API server that operators rely on. Each is a test that runs against this server in memory
//! or, if `CONFORMANCE_KUBECONFIG` names a kubeconfig, against the real server that it points to.
//!
//! The numbers F1, F2 and so on are those of the list of rules in the crate's README.md.

#![allow(clippy::needless_pass_by_value, reason = "bodies are written where they are sent: json!({…})")]

mod actors;
mod admission;
mod builtin;
mod deletion;
mod differential;
mod identity;
mod kubectl;
mod lists;
mod patches;
mod pods;
mod runtime;
mod subresources;
mod watches;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, BodyStream};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::api::{Options, Server};
use super::clock::Clock;
use super::controllers::{Controllers, Pace};
use super::service::InMemory;

/// A server, and a namespace for one test.
pub(super) struct Bed {
    pub(super) client: Client,
    pub(super) namespace: String,
    /// The embedded server. `None`: a real server is tested.
    server: Option<Server>,
    /// Stops the controllers when it is dropped.
    ends: Option<DropGuard>,
}

/// An answer: the code and the body.
pub(super) type Reply = (u16, Value);

const WIDGETS: &str = "/apis/example.test/v1/namespaces";

impl Bed {
    async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (client, server) = match real().await {
            Some(client) => (client, None),
            None => ours(),
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("conformance-{}-{number}", std::process::id());
        let bed = Self::with_client(client, server, namespace).await;
        bed.prepare().await;
        bed
    }

    async fn with_client(client: Client, server: Option<Server>, namespace: String) -> Self {
        let bed = Self { client, namespace, server, ends: None };
        bed.ok("POST", "/api/v1/namespaces", json!({"metadata": {"name": bed.namespace}})).await;
        bed
    }

    /// Creates a bed with controllers, and with a node without a kubelet. A real server has controllers and nodes
    /// already.
    async fn with_controllers() -> Self {
        let mut bed = Self::new().await;
        if let Some(server) = &bed.server {
            let cancel = CancellationToken::new();
            Controllers::start(server, Pace::default(), &cancel);
            bed.ends = Some(cancel.drop_guard());
            bed.ok("POST", "/api/v1/nodes", json!({"metadata": {"name": "idle"}})).await;
        }
        // The namespace is ready when its service account exists.
        bed.until(&bed.core("serviceaccounts"), "default", |account| !account.is_null()).await;
        bed
    }

    /// Waits until an object of a collection meets a condition, and returns it. A missing object is null.
    pub(super) async fn until(&self, collection: &str, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let selector = format!("fieldSelector=metadata.name%3D{name}");
        let list = self.get(&format!("{collection}?{selector}")).await;
        let mut watch = self.watch(collection, &format!("{selector}&resourceVersion={}", version(&list))).await;
        let mut object = list["items"][0].clone();
        while !is(&object) {
            let event = watch.next().await.expect("an event");
            object = if event["type"] == "DELETED" { Value::Null } else { event["object"].clone() };
        }
        object
    }

    /// Returns the embedded server, for rules that need its history dropped on demand. `None`: the test is skipped.
    pub(super) fn ours(&self) -> Option<&Server> {
        if self.server.is_none() {
            eprintln!("skipped: the test needs a history that it can drop");
        }
        self.server.as_ref()
    }

    async fn prepare(&self) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let (code, answer) = self.call("POST", path, widgets()).await;
        assert!(code == 201 || code == 409, "{answer}");
        // The node of the test's pods. A real cluster soon deletes pods whose node does not exist.
        let node = json!({"metadata": {"name": "nowhere"}, "spec": {"unschedulable": true}});
        let (code, answer) = self.call("POST", "/api/v1/nodes", node).await;
        assert!(code == 201 || code == 409, "{answer}");
        self.soon(&self.widgets(), |code, _| code == 200).await;
    }

    /// Repeats a GET until the answer meets a condition, and returns it. A real server needs a moment until it serves
    /// a new definition.
    pub(super) async fn soon(&self, path: &str, is: impl Fn(u16, &Value) -> bool) -> Value {
        for _ in 0..100 {
            let (code, answer) = self.call("GET", path, Value::Null).await;
            if is(code, &answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{path} does not meet the condition");
    }

    pub(super) fn widgets(&self) -> String {
        format!("{WIDGETS}/{}/widgets", self.namespace)
    }

    pub(super) fn widget(&self, name: &str) -> String {
        format!("{}/{name}", self.widgets())
    }

    pub(super) fn core(&self, plural: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}", self.namespace)
    }

    pub(super) fn apps(&self, plural: &str) -> String {
        format!("/apis/apps/v1/namespaces/{}/{plural}", self.namespace)
    }

    /// Sends a request with a JSON body.
    pub(super) async fn call(&self, method: &str, path: &str, body: Value) -> Reply {
        self.call_as(method, path, "application/json", &body).await
    }

    /// Sends a merge patch.
    pub(super) async fn merge(&self, path: &str, changes: Value) -> Reply {
        self.call_as("PATCH", path, "application/merge-patch+json", &changes).await
    }

    pub(super) async fn call_as(&self, method: &str, path: &str, content_type: &str, body: &Value) -> Reply {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("user-agent", "conformance/1")
            .body(Body::from(body))
            .unwrap();
        let response = self.client.send(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
        (code, value)
    }

    /// Sends a request that must succeed.
    pub(super) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (code, value) = self.call(method, path, body).await;
        assert!(code < 300, "{method} {path}: {code} {value}");
        value
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.ok("GET", path, Value::Null).await
    }

    /// Creates a widget.
    pub(super) async fn create(&self, name: &str, spec: Value) -> Value {
        self.ok("POST", &self.widgets(), widget(name, spec)).await
    }

    /// Watches a collection. `query` follows `watch=1&`.
    pub(super) async fn watch(&self, path: &str, query: &str) -> Events {
        let request = http::Request::get(format!("{path}?watch=1&{query}")).body(Body::empty()).unwrap();
        let response = self.client.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Events { body: BodyStream::new(response.into_body()), buffer: Vec::new() }
    }
}

/// The events of a watch.
pub(super) struct Events {
    body: BodyStream<Body>,
    buffer: Vec<u8>,
}

impl Events {
    /// Returns the next event, or `None` at the end of the watch.
    pub(super) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.next()).await.expect("an event");
            match frame {
                Some(frame) => self.buffer.extend_from_slice(frame.unwrap().data_ref().unwrap()),
                None => return None,
            }
        }
    }

    /// Returns the type and the name of the next event.
    pub(super) async fn brief(&mut self) -> (String, String) {
        let event = self.next().await.expect("an event");
        (
            event["type"].as_str().unwrap().to_owned(),
            event["object"]["metadata"]["name"].as_str().unwrap_or("").to_owned(),
        )
    }
}

/// Returns a client of the real server, if one is configured.
async fn real() -> Option<Client> {
    let path = std::env::var("CONFORMANCE_KUBECONFIG").ok()?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Some(Client::try_from(config).unwrap())
}

/// Creates an embedded server and an in-memory client.
fn ours() -> (Client, Option<Server>) {
    let mut options = Options::new(Clock::new(sluice_base::clock::Clock::system()));
    options.seed = Some(7);
    options.history = 500;
    let server = Server::new(options);
    (Client::new(InMemory::new(server.clone()), "default"), Some(server))
}

pub(super) fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

pub(super) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().expect("a resource version").parse().unwrap()
}

pub(super) fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_default()
}

/// Returns the definition of a custom kind that uses all features of a definition.
fn widgets() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.test"},
        "spec": {
            "group": "example.test", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"}],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object",
                            "properties": {
                                "replicas": {"type": "integer", "minimum": 0, "default": 1},
                                "color": {"type": "string", "maxLength": 20},
                                "size": {"type": "integer"},
                                "parts": {
                                    "type": "array", "maxItems": 10,
                                    "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                                    "items": {"type": "object", "required": ["name"], "properties": {
                                        "name": {"type": "string"}, "count": {"type": "integer"}}},
                                },
                            },
                        },
                        "status": {"type": "object", "properties": {
                            "replicas": {"type": "integer"}, "selector": {"type": "string"},
                            "note": {"type": "string"}}},
                    },
                }},
            }],
        },
    })
}

/// Declares each function as a test that runs with its own bed; after `acting:` the bed has controllers.
macro_rules! conformance {
    (acting: $($(#[$attribute:meta])* $name:ident;)+) => {
        crate::conformance::conformance! { @with_controllers $($(#[$attribute])* $name;)+ }
    };
    (@$bed:ident $($(#[$attribute:meta])* $name:ident;)+) => {
        mod run {
            $(
                $(#[$attribute])*
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(&crate::conformance::Bed::$bed().await).await;
                }
            )+
        }
    };
    ($($(#[$attribute:meta])* $name:ident;)+) => {
        crate::conformance::conformance! { @new $($(#[$attribute])* $name;)+ }
    };
}
pub(super) use conformance;
